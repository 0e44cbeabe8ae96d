//! Does what its path says with its store `default`: `/…/OPERATION/KEY`, `times` as often as its query says.

use test_guests::{IncomingRequest, ResponseOutparam, number, respond};

mod draft {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:keyvalue;
            world imports {
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
            }
        ",
        world: "test:keyvalue/imports",
        generate_all,
    });
}
mod draft2 {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:keyvalue2;
            world imports {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        world: "test:keyvalue2/imports",
        generate_all,
    });
}
use draft::wasi::keyvalue0_2_0_draft::{atomics, batch, store};
use draft2::wasi::keyvalue0_2_0_draft2::{atomics as atomics2, batch as batch2, store as store2};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let path = request.path_with_query().unwrap_or_default();
    let mut parts = path.split('?').next().unwrap_or_default().rsplit('/');
    let (key, operation) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let text = match store::open("default") {
        Err(error) => format!("{error:?}"),
        Ok(bucket) => {
            (0..number(&request, "times").unwrap_or(1)).fold(String::new(), |_, _| act(&bucket, operation, key))
        }
    };
    respond(outparam, 200, &[], text.as_bytes());
}

fn act(bucket: &store::Bucket, operation: &str, key: &str) -> String {
    match operation {
        "increment" => format!("{:?}", atomics::increment(bucket, key, 1)),
        "get" => format!("{:?}", bucket.get(key)),
        "read" => bucket.get(key).map(|_| "read".to_owned()).unwrap_or_default(),
        "hoard" => hoard(key).unwrap_or_else(|error| format!("{error:?}")),
        _ => both(bucket).unwrap_or_else(|error| error),
    }
}

/// Looks at a large value again and again without replacing it, until it may not. Then it drops what it has and looks once more.
fn hoard(key: &str) -> Result<String, store2::Error> {
    let bucket = store2::open("default")?;
    bucket.set(key, &[0; 1 << 20])?;
    let mut seen = Vec::new();
    let why = loop {
        match atomics2::Cas::new(&bucket, key) {
            Ok(cas) => seen.push(cas),
            Err(why) => break why,
        }
    };
    let before = seen.len();
    drop(seen);
    let after = atomics2::Cas::new(&bucket, key).is_ok();
    Ok(format!("{before} {why:?} {after}"))
}

/// What one draft writes, the other reads.
fn both(bucket: &store::Bucket) -> Result<String, String> {
    let wrong = |error: store::Error| format!("{error:?}");
    let wrong2 = |error: store2::Error| format!("{error:?}");
    let bucket2 = store2::open("default").map_err(wrong2)?;
    bucket.set("a", b"1").map_err(wrong)?;
    batch2::set_many(&bucket2, &[("b".to_owned(), b"2".to_vec())]).map_err(wrong2)?;
    let mut told = vec![
        format!("{:?}", bucket2.get("a").map_err(wrong2)?),
        format!("{:?}", batch::get_many(bucket, &["a".to_owned(), "none".to_owned()]).map_err(wrong)?),
        format!("{:?}", batch2::get_many(&bucket2, &["b".to_owned(), "none".to_owned()]).map_err(wrong2)?),
        format!("{:?} {:?}", bucket.list_keys(None).map_err(wrong)?, bucket2.list_keys(None).map_err(wrong2)?),
        format!("{:?}", atomics2::increment(&bucket2, "a", -3).map_err(wrong2)?),
        format!("{:?} {:?}", bucket2.exists("a").map_err(wrong2)?, bucket.exists("none").map_err(wrong)?),
    ];
    let cas = atomics2::Cas::new(&bucket2, "b").map_err(wrong2)?;
    bucket.set("b", b"other").map_err(wrong)?;
    let Err(atomics2::CasError::CasFailed(cas)) = atomics2::swap(cas, b"lost") else {
        return Err("swapped".to_owned());
    };
    told.push(format!(
        "{:?}",
        cas.current().map_err(wrong2)?.map(|value| String::from_utf8_lossy(&value).into_owned())
    ));
    told.push(format!("{:?}", atomics2::swap(cas, b"won").is_ok()));
    batch::delete_many(bucket, &["a".to_owned()]).map_err(wrong)?;
    bucket2.delete("b").map_err(wrong2)?;
    told.push(format!("{:?}", bucket.list_keys(None).map_err(wrong)?.keys));
    Ok(told.join("\n"))
}

test_guests::guest!(handle);
