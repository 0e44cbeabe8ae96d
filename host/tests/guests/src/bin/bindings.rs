//! Does with the function's bindings what each line of its request's body says, and prints what came of it. `answer TEXT` is its answer.

use test_guests::function::{Error, Value, get_trigger, input, metadata, set, set_messages};
use test_guests::{IncomingRequest, ResponseOutparam, read, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let mut wanted = Vec::new();
    read(&request, |chunk| {
        wanted.extend_from_slice(chunk);
        true
    });
    let wanted = String::from_utf8(wanted).expect("lines");
    let mut answer = "";
    for line in wanted.lines() {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let done = match what {
            "trigger" => {
                println!("{:?}", get_trigger().map(|trigger| (trigger.name, trigger.kind)));
                metadata().iter().for_each(|(name, value)| println!("{name}: {value:?}"));
                Ok(())
            }
            "input" => input(name).map(|value| println!("{value:?}")),
            "null" => set(name, &Value::Null),
            "text" => set(name, &Value::Text(value.to_owned())),
            "json" => set(name, &Value::Json(value.to_owned())),
            "zeros" => set(name, &Value::Bytes(vec![0; value.parse().expect("a number")])),
            "messages" => {
                let messages: Vec<_> = value.split(' ').map(|text| Value::Text(text.to_owned())).collect();
                set_messages(name, &messages)
            }
            _ => {
                answer = rest;
                Ok(())
            }
        };
        match done {
            Ok(()) => {}
            Err(Error::UnknownName(words)) => println!("unknown name: {words}"),
            Err(Error::WrongKind(words)) => println!("wrong kind: {words}"),
            Err(Error::SetTwice(words)) => println!("set twice: {words}"),
            Err(Error::TooLarge(words)) => println!("too large: {words}"),
        }
    }
    respond(outparam, 200, &[], answer.as_bytes());
}

test_guests::guest!(handle);
