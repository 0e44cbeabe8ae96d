//! The same from closing lines ([`observe::line`](crate::observe::line)), wherever they were written or exported to.
//!
//! | what is read | time | machine |
//! |---|---|---|
//! | the host's own log, with `log.timestamps` | that of the record | none |
//! | other lines with a closing line in them, such as CSV | the last time before it, as RFC 3339 has it | none |
//! | JSON: objects, lists, or tables of columns and rows, as `az monitor` prints them | that of the record, else a member beside it | `cloud_RoleInstance` or `AppRoleInstance` |
//!
//! A process is known by its first line, `ready`, which says as well how many slots it has; where that is missing, the highest slot
//! that was used is taken for the last. What no function was asked is left out.

use super::{Receipt, Request, Source, Timeline};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead};
use std::time::SystemTime;

/// Requests that are drawn at the most, as many as a burst may have: the last ones.
const MOST: usize = 20_000;
/// What a closing line begins with.
const CLOSING: &str = " invocation: function=";
/// What the first line of a process has.
const READY: &str = ": ready ";
/// Where Azure tells the machine.
const MACHINES: [&str; 2] = ["cloud_RoleInstance", "AppRoleInstance"];
/// How a machine is called that nobody tells.
const NOWHERE: &str = "this log";

/// Something that was told, at a time in milliseconds since 1970.
struct Told {
    at: f64,
    machine: String,
    what: What,
}

enum What {
    /// A process is ready, with so many slots.
    Ready(Option<u64>),
    /// An invocation has ended.
    Ended(HashMap<String, String>),
}

/// Reads a log to its end.
///
/// # Errors
/// For a person: it cannot be read, or tells no invocation with its time.
pub fn read(input: impl BufRead) -> Result<Timeline, String> {
    let text = io::read_to_string(input).map_err(|error| format!("the log cannot be read: {error}"))?;
    let mut reading = Reading::default();
    match serde_json::from_str(&text) {
        Ok(document) => reading.document(&document),
        Err(_) => text.lines().for_each(|line| match serde_json::from_str(line) {
            Ok(document) => reading.document(&document),
            Err(_) => reading.line(line, None, NOWHERE),
        }),
    }
    let timeline = timeline(reading.told);
    if !timeline.requests.is_empty() {
        return Ok(timeline);
    }
    Err(match reading.timeless {
        0 => "the log has no closing line, which tells how an invocation ended: set log.requests to \"all\"".to_owned(),
        lines => format!(
            "the log has {lines} closing lines, and none has its time: set log.timestamps to true, or export them with their time"
        ),
    })
}

#[derive(Default)]
struct Reading {
    told: Vec<Told>,
    /// Closing lines without a time.
    timeless: usize,
}

impl Reading {
    fn document(&mut self, document: &Value) {
        match document {
            Value::Array(items) => items.iter().for_each(|item| self.document(item)),
            Value::Object(members) => {
                if let (Some(Value::Array(columns)), Some(Value::Array(rows))) =
                    (members.get("columns"), members.get("rows"))
                {
                    let names: Vec<&str> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
                    for row in rows.iter().filter_map(Value::as_array) {
                        self.record(&names.iter().copied().zip(row.iter().map(|cell| cell.as_str())).collect());
                    }
                    return;
                }
                self.record(&members.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect());
                members.values().for_each(|member| self.document(member));
            }
            _ => {}
        }
    }

    /// One record of an export: members by name, those that are no text without a value.
    fn record(&mut self, members: &BTreeMap<&str, Option<&str>>) {
        let texts = || members.values().flatten();
        let Some(line) = texts().find(|text| text.contains(CLOSING) || text.contains(READY)) else { return };
        let at = texts().find_map(|text| time(text));
        let machine = MACHINES.iter().find_map(|name| *members.get(name)?);
        self.line(line, at, machine.unwrap_or(NOWHERE));
    }

    /// One line, with the time that is told beside it, if any.
    fn line(&mut self, line: &str, beside: Option<f64>, machine: &str) {
        // CSV doubles the quotes.
        let line = if line.contains("=\"\"") { line.replace("\"\"", "\"") } else { line.to_owned() };
        let (before, what) = if let Some((before, rest)) = line.split_once(CLOSING) {
            (before, What::Ended(fields(&format!("function={rest}"))))
        } else if let Some((before, rest)) = line.split_once(READY) {
            (before, What::Ready(slots(&fields(rest), "pool")))
        } else {
            return;
        };
        let own = before.split([' ', ',', '"', '\t']).filter_map(time).next_back();
        match own.or(beside) {
            Some(at) => self.told.push(Told { at, machine: machine.to_owned(), what }),
            None => self.timeless += usize::from(matches!(what, What::Ended(_))),
        }
    }
}

/// Milliseconds since 1970.
fn time(text: &str) -> Option<f64> {
    let text = text.strip_suffix("+00:00").map_or_else(|| text.to_owned(), |time| format!("{time}Z"));
    let time = humantime::parse_rfc3339_weak(&text).ok().filter(|_| text.contains('T'))?;
    Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64() * 1e3)
}

/// Names and values of a record: `name=value`, the value in quotes where it may have spaces.
fn fields(text: &str) -> HashMap<String, String> {
    let (mut fields, mut rest) = (HashMap::new(), text);
    while let Some((name, value)) = rest.split_once('=') {
        let value = match value.strip_prefix('"') {
            Some(quoted) => {
                let (mut said, mut letters) = (String::new(), quoted.char_indices());
                let mut end = quoted.len();
                while let Some((at, letter)) = letters.next() {
                    match letter {
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        '\\' => said.extend(letters.next().map(|(_, letter)| letter)),
                        _ => said.push(letter),
                    }
                }
                rest = &quoted[end..];
                said
            }
            None => {
                let end = value.find([' ', '"', ',']).unwrap_or(value.len());
                rest = &value[end..];
                value[..end].to_owned()
            }
        };
        fields.insert(name.trim_start().to_owned(), value);
        if !rest.starts_with(' ') {
            break;
        }
    }
    fields
}

/// A number of slots, or of one of them.
fn slots(fields: &HashMap<String, String>, name: &str) -> Option<u64> {
    fields.get(name)?.parse::<u32>().ok().map(u64::from)
}

/// Milliseconds that an invocation took that ended `at`, and those of them that it waited for a slot. None where that cannot be.
fn times(ended: &HashMap<String, String>, at: f64) -> Option<(f64, f64)> {
    let number = |name: &str| ended.get(name).map_or(Some(0.0), |text| text.parse::<f64>().ok());
    let (total, queued) = (number("total_ms")?, number("queue_ms")?);
    (0.0 <= queued && queued <= total && total <= at).then_some((total, queued))
}

fn timeline(mut told: Vec<Told>) -> Timeline {
    told.sort_by(|one, other| one.at.total_cmp(&other.at));
    // By machine: how many processes there were, and the slots of each.
    let mut processes = HashMap::<String, u64>::new();
    let mut pools = HashMap::<(String, u64), u64>::new();
    let mut requests = Vec::new();
    for Told { at, machine, what } in told {
        let process = processes.entry(machine.clone()).or_insert(1);
        let ended = match what {
            What::Ready(pool) => {
                *process += u64::from(pools.keys().any(|(known, number)| (known, number) == (&machine, &*process)));
                pools.insert((machine, *process), pool.unwrap_or(0));
                continue;
            }
            What::Ended(ended) => ended,
        };
        if ended.get("function").is_none_or(|function| function == "-") {
            continue;
        }
        let Some((total, queued)) = times(&ended, at) else { continue };
        let outcome = ended.get("outcome").map_or("unknown", String::as_str);
        let why = ended.get("reason").map_or_else(|| outcome.to_owned(), |reason| format!("{outcome}: {reason}"));
        let whole = |name: &str| ended.get(name)?.parse::<u64>().ok();
        let receipt = slots(&ended, "slot").zip(whole("instance")).map(|(slot, instance)| {
            let pool = pools.entry((machine.clone(), *process)).or_insert(0);
            *pool = (*pool).max(slot + 1);
            Receipt {
                machine: machine.clone(),
                process: *process,
                threads: None,
                instance,
                slot,
                pool: 0,
                served: whole("served").unwrap_or(1),
                generation: whole("generation").unwrap_or(1),
                start: at - total + queued,
                end: at,
                on_azure: false,
                memory: 0.0,
                processors: 0,
            }
        });
        let fault = receipt.as_ref().filter(|_| outcome != "answered").map(|_| why.clone());
        requests.push(Request { sent: at - total, answered: at, receipt: receipt.ok_or(why), fault });
    }
    let left_out = requests.len().saturating_sub(MOST);
    requests.drain(..left_out);
    let begin = requests.iter().map(|request| request.sent).fold(f64::INFINITY, f64::min);
    let end = requests.iter().map(|request| request.answered).fold(begin, f64::max);
    for request in &mut requests {
        request.sent -= begin;
        request.answered -= begin;
        if let Ok(receipt) = &mut request.receipt {
            receipt.pool = pools.get(&(receipt.machine.clone(), receipt.process)).copied().unwrap_or(0);
        }
    }
    end_with_the_slot(&mut requests);
    requests.sort_by(|one, other| one.sent.total_cmp(&other.sent));
    Timeline { source: Source::Log { left_out }, total: (end - begin) / 1e3, requests }
}

/// A slot is free before the closing line of its request is written, so the next one in it may have begun by then.
fn end_with_the_slot(requests: &mut [Request]) {
    let mut receipts: Vec<&mut Receipt> = requests.iter_mut().filter_map(|it| it.receipt.as_mut().ok()).collect();
    receipts.sort_by(|one, other| {
        let place = |it: &Receipt| (it.machine.clone(), it.process, it.slot);
        place(one).cmp(&place(other)).then(one.start.total_cmp(&other.start))
    });
    let mut rest = &mut receipts[..];
    while let [first, others @ ..] = rest {
        if let Some(next) = others.first()
            && (&next.machine, next.process, next.slot) == (&first.machine, first.process, first.slot)
        {
            first.end = first.end.min(next.start);
        }
        rest = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LINE: &str = "invocation: function=x id=i method=GET path=\"/api/a b\" outcome=\"answered\" status=200 instance=7 slot=3 \
                        served=2 generation=4 digest=ab instantiate_ms=0.100 head_ms=1.000 queue_ms=250.000 total_ms=1250.000 sent_bytes=8";

    fn of(text: &str) -> Result<Timeline, String> {
        read(text.as_bytes())
    }

    #[test]
    fn a_line_becomes_a_bar_with_its_wait() {
        let failed = LINE
            .replace("\"answered\"", "\"faulted\" reason=\"said \\\"no\\\", and left\"")
            .replace("slot=3", "slot=0");
        let refused =
            "invocation: function=x id=i outcome=\"refused\" reason=\"full\" status=503 queue_ms=0.000 total_ms=1.000";
        let nobody =
            "invocation: function=- id=- outcome=\"refused\" reason=\"no function\" queue_ms=0.000 total_ms=9000.000";
        let timeline = of(&format!(
            "2026-11-29T05:00:00.000000Z  INFO flexwasm::app: ready version=\"0.1.0\" pool=9 functions=1\n\
             2026-11-29T05:00:02.250000Z  INFO {LINE}\n2026-11-29T05:00:03.250000Z ERROR {failed}\n\
             2026-11-29T05:00:03.300000Z  WARN {refused}\n2026-11-29T05:00:03.300000Z  WARN {nobody}\nsomething else\n\
             2026-11-29T05:00:09.000000Z  INFO flexwasm::app: ready version=\"0.1.0\" pool=9 functions=1\n\
             2026-11-29T05:00:10.000000Z  INFO {LINE}\n"
        ))
        .expect("a timeline");
        let [first, second, third, last] = &timeline.requests[..] else { panic!("{}", timeline.requests.len()) };
        assert_eq!((first.sent, first.answered), (0.0, 1250.0));
        let spans = timeline.spans();
        let span = spans[0].expect("it ran");
        assert!((span.start - 250.0).abs() < 0.01 && (span.end - 1250.0).abs() < 0.01, "{span:?}");
        let receipt = first.receipt.as_ref().expect("it ran");
        assert_eq!((receipt.slot, receipt.pool, receipt.instance, receipt.served), (3, 9, 7, 2));
        assert_eq!(second.fault.as_deref(), Some("faulted: said \"no\", and left"));
        assert_eq!(third.receipt, Err("refused: full".to_owned()));
        assert_eq!(last.receipt.as_ref().map(|receipt| receipt.process), Ok(2));
        let facts = timeline.facts();
        assert_eq!((facts.requests, facts.failed, facts.processes, facts.capacity, facts.threads), (4, 2, 2, 18, 0));
        assert!((timeline.serial() - 3.0).abs() < 0.01);
    }

    #[test]
    fn a_slot_runs_one_request_at_a_time() {
        let second = LINE.replace("queue_ms=250.000 total_ms=1250.000", "queue_ms=0.000 total_ms=500.000");
        let log = format!("2026-11-29T05:00:02.250Z INFO {LINE}\n2026-11-29T05:00:02.700Z INFO {second}\n");
        let timeline = of(&log).expect("a timeline");
        assert_eq!(timeline.facts().peak, 1);
        assert!((timeline.spans()[0].expect("it ran").end - 1200.0).abs() < 0.01);
    }

    #[test]
    fn exports_of_azure_are_read_as_they_are() {
        let (late, early) = ("2026-11-29T05:00:02.2500000Z", "2026-11-29T05:00:01Z");
        let line = format!("INFO {LINE}");
        let list = json!([
            { "timestamp": late, "message": line, "cloud_RoleInstance": "b", "itemCount": 1 },
            { "TimeGenerated": "2026-11-29T05:00:01+00:00", "Message": line, "AppRoleInstance": "a" },
        ]);
        let columns = json!([{ "name": "timestamp" }, { "name": "message" }, { "name": "cloud_RoleInstance" }]);
        let table =
            json!({ "tables": [{ "name": "x", "columns": columns, "rows": [[late, line, "b"], [early, line, "a"]] }] });
        for export in [
            list.to_string(),
            table.to_string(),
            list.to_string().replace("},{", "}\n{").trim_matches(['[', ']']).to_owned(),
        ] {
            let timeline = of(&export).expect("a timeline");
            let machines: Vec<_> =
                timeline.requests.iter().map(|request| request.receipt.as_ref().map(|it| &*it.machine)).collect();
            assert_eq!(machines, [Ok("a"), Ok("b")], "{export}");
            assert!((timeline.total - 2.5).abs() < 0.01, "{}", timeline.total);
        }
        let csv = format!("\"{early}\",\"{}\",1\n", line.replace('"', "\"\""));
        assert_eq!(of(&csv).expect("a timeline").requests[0].answered, 1250.0);
    }

    #[test]
    fn of_a_long_log_the_last_requests_are_drawn() {
        let lines = (0..MOST + 5).map(|second| {
            format!("2026-11-29T{:02}:{:02}:{:02}Z INFO {LINE}\n", second / 3600, second / 60 % 60, second % 60)
        });
        let timeline = of(&lines.collect::<String>()).expect("a timeline");
        assert_eq!((timeline.requests.len(), timeline.source), (MOST, Source::Log { left_out: 5 }));
        assert!((timeline.total - (MOST as f64 + 0.25)).abs() < 0.01, "{}", timeline.total);
    }

    #[test]
    fn a_line_that_cannot_be_is_left_out() {
        let times = "queue_ms=250.000 total_ms=1250.000";
        let bad = [
            "queue_ms=2000.000 total_ms=1250.000",
            "queue_ms=250.000 total_",
            "queue_ms=NaN total_ms=NaN",
            "queue_ms=0.000 total_ms=NaN",
            "queue_ms=-1 total_ms=1",
            "queue_ms=-2 total_ms=-1",
            "queue_ms=0.000 total_ms=1e300",
            "queue_ms=inf total_ms=inf",
            "queue_ms=0.000 total_ms=1e999",
            "queue_ms=0.000 total_ms=much",
        ];
        let line = |text: &str| format!("2026-11-29T05:00:02.250Z INFO {}\n", LINE.replace(times, text));
        for text in bad {
            // Alone, and twice among others.
            assert!(of(&line(text)).is_err_and(|why| why.contains("no closing line")), "{text}");
            let timeline = of(&[line(text), line(text), line(times)].concat()).expect("a timeline");
            assert_eq!((timeline.requests.len(), timeline.facts().peak), (1, 1), "{text}");
        }
        let huge = LINE.replace("slot=3", &format!("slot={}", u64::MAX));
        let of_huge = of(&format!(
            "2026-11-29T05:00:00Z INFO x: ready pool={}\n2026-11-29T05:00:02Z INFO {huge}\n2026-11-29T05:00:02Z INFO {LINE}\n",
            u64::MAX
        ));
        assert_eq!(of_huge.expect("a timeline").facts().capacity, 4);
        let nobody = LINE.replace("function=x", "function=-");
        assert!(of(&format!("2026-11-29T05:00:02Z INFO {nobody}\n")).is_err());
    }

    #[test]
    fn requests_that_took_no_time_are_drawn() {
        let none = LINE.replace("queue_ms=250.000 total_ms=1250.000", "queue_ms=0.000 total_ms=0.000");
        let timeline = of(&format!("2026-11-29T05:00:02Z INFO {none}\n").repeat(3)).expect("a timeline");
        assert_eq!((timeline.requests.len(), timeline.facts().peak), (3, 0));
    }

    #[test]
    fn what_is_no_log_says_what_to_do() {
        let why = |text: &str| of(text).err().expect("a reason");
        assert!(why("hello\n").contains("set log.requests to \"all\""));
        assert!(why(&format!("INFO {LINE}\n")).contains("set log.timestamps to true"));
        assert!(of("\u{0}").is_err() && of("[[[{\"a\": []}]]]").is_err());
    }
}
