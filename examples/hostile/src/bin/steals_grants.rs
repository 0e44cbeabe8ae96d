//! Stands in front of a guest that is granted variables, configuration, folders, servers and stores, and tries to use all of them.
//! Reports what it reached.

use hostile_guests::{send, status};
use test_guests::{IncomingRequest, ResponseOutparam, next, number, respond};

mod granted {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package hostile:granted;
            world imports {
                import wasi:config/store@0.2.0-rc.1;
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/store@0.2.0-draft2;
            }
        ",
        world: "hostile:granted/imports",
        generate_all,
    });
}
use granted::wasi::config::store as config;
use granted::wasi::keyvalue0_2_0_draft::store;
use granted::wasi::keyvalue0_2_0_draft2::store as store2;

const FOLDERS: [&str; 4] = ["/", ".", "/steals_grants", "steals_grants"];

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    // What cannot pass a request on may not stand in front of a guest.
    if request.path_with_query().unwrap_or_default().ends_with("?pass") {
        return next::handle(request, outparam);
    }
    let mut reached: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    reached.extend(config::get_all().into_iter().flatten().map(|(name, value)| format!("{name}={value}")));
    reached.extend(FOLDERS.iter().filter(|folder| std::fs::read_dir(folder).is_ok()).map(ToString::to_string));
    reached.extend(std::fs::read_to_string("/steals_grants/function.json"));
    let own = format!("127.0.0.1:{}", number(&request, "port").unwrap_or(80));
    let answered = send(&own, "/api/innocent").is_ok_and(|pending| status(&pending).is_some());
    reached.extend(answered.then_some(own));
    reached.extend(store::open("default").map(|_| "a store".to_owned()));
    reached.extend(store2::open("default").map(|_| "a store".to_owned()));
    let text = if reached.is_empty() { "nothing".to_owned() } else { reached.join("\n") };
    respond(outparam, 200, &[], text.as_bytes());
}

test_guests::guest!(handle);
