//! Fills its store until it takes no more, and goes on calling it for ever.

use test_guests::{IncomingRequest, ResponseOutparam};

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package hostile:store;
            world imports {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        world: "hostile:store/imports",
        generate_all,
    });
}
use bindings::wasi::keyvalue0_2_0_draft2::{atomics, batch, store};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    let bucket = store::open("default").expect("it is granted");
    let value = vec![b'x'; 256 << 10];
    let keys: Vec<String> = (0..1000).map(|key| format!("{key:0>64}")).collect();
    for round in 0..u64::MAX {
        // Whatever comes of it.
        let _ = bucket.set(&format!("large-{}", round % 1000), &value);
        let _ = batch::set_many(&bucket, &keys.iter().map(|key| (key.clone(), Vec::new())).collect::<Vec<_>>());
        let _ = batch::get_many(&bucket, &keys);
        let _ = bucket.list_keys(Some(&format!("large-{round}")));
        let _ = bucket.list_keys(Some(&"\u{10ffff}".repeat(100_000)));
        let _ = atomics::increment(&bucket, &keys[0].repeat(1000), i64::MAX);
    }
}

test_guests::guest!(handle);
