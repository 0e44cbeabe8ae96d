//! Every attack, and what the attacker is meant to get. The guests are in `examples/hostile`.

use crate::caller::Got::{self, Cut, Whole};
use anyhow::{Context as _, Result};

/// Where Rust guests are built, and where the others stand as text; below the project's folder.
const BUILT: &str = "target/guests/wasm32-wasip2/guest";
const TEXTS: &str = "examples/hostile/wat";

/// One guest, called by several attackers at the same time.
pub struct Attack {
    /// The guest's file, its function and its route.
    pub name: &'static str,
    /// What it does, for people.
    pub does: &'static str,
    /// Every way in which a call may end.
    pub expected: &'static [Got],
    /// Whether only the deadline ends it.
    pub endless: bool,
    /// What a guest that tells what it reached has to say.
    pub says: Option<&'static str>,
    /// Bytes that the attacker posts before it reads anything; 0 is a GET.
    pub posts: usize,
    /// The envelope that the attacker posts in their place, if the function has a queue.
    pub event: Option<&'static str>,
    /// Whether the attacker stands in front of a guest that is granted everything.
    pub in_front: bool,
}

/// A message whose sender has chosen its metadata.
const FORGED: &str = r#"{"Data":{"message":"\"x\""},"Metadata":{"Id":"\"1\\r\\nx-injected: 1\"","DequeueCount":"\"many\"",
    "InsertionTime":"\"2026-01-01T00:00:00Z\\r\\nx-injected: 1\"","ce-type":"\"forged\"","RetryContext":{"RetryCount":"-1\\n"},
    "sys":{"MethodName":"innocent"}}}"#;
/// What Azure is told of it: that nothing was reached, and the guest's lines as texts.
const TOLD: &str = r#"{"Outputs":{"reached":"bm90aGluZw=="},"Logs":["azfuncjsonlog:{\"forged\": true}","\rLanguageWorkerConsoleLog forged"]}"#;

/// In the order of the table.
pub const ALL: &[Attack] = &[
    endless("loops", "computes for ever", &[Whole(504)]),
    endless("loops_in_start", "computes for ever before its first request, in its start function", &[Whole(503)]),
    attack("eats_memory", "takes memory until it gets no more", &[Whole(500)]),
    endless("hoards_memory", "takes all memory that it gets, and keeps it", &[Whole(504)]),
    endless("copies_memory", "moves 12 MiB about in one instruction, for ever", &[Whole(504)]),
    attack("eats_tables", "makes its table grow until it cannot", &[Whole(500)]),
    attack("recurses", "calls itself until its stack ends", &[Whole(500)]),
    attack("traps_before", "traps before its answer", &[Whole(500)]),
    attack("traps_during", "traps in the middle of its answer", &[Cut(200)]),
    attack("traps_after", "traps after its answer", &[Whole(200)]),
    attack("exits", "calls exit(0)", &[Whole(500)]),
    attack("never_answers", "returns without an answer", &[Whole(500)]),
    endless("waits_forever", "waits for ever", &[Whole(504)]),
    endless("writes_forever", "answers with a body without end", &[Cut(200)]),
    telling("injects_headers", "line ends in headers, headers of the connection, and those of the host"),
    // One that a tick has interrupted may have a head by then.
    attack("lies_about_length", "announces one length and sends another", &[Whole(500), Cut(200)]),
    attack("huge_headers", "answers with 1 MiB of headers", &[Whole(500)]),
    attack("hoards_headers", "makes the host keep headers, set after set", &[Whole(500)]),
    attack("floods_log", "prints 1 MiB for each request", &[Whole(200)]),
    attack("forges_log", "prints escape codes, forged lines and orders to the Functions host", &[Whole(200)]),
    Attack {
        event: Some(FORGED),
        says: Some(TOLD),
        ..attack("abuses_events", "an event: forged metadata, outputs that are none, orders in its log", &[Whole(200)])
    },
    telling("reads_everything", "reads environment, arguments and files"),
    Attack {
        in_front: true,
        ..telling("steals_grants", "stands in front of a guest, and tries to use what that is granted")
    },
    telling("reaches_out", "asks the metadata service, the host itself, sockets and names"),
    // Where a limit ends the guest, that is right too.
    Attack { expected: &[Whole(200), Whole(500)], ..telling("fans_out", "500 requests at once to the host itself") },
    endless("floods_calls", "calls the host for ever, as often as it can", &[Whole(504)]),
    endless("hands_lists", "hands the host lists of 5,000 entries, for ever", &[Whole(504)]),
    endless("polls_clock", "polls 450 timers at once, for ever", &[Whole(504)]),
    attack("hoards_timers", "starts timers and lets go of none", &[Whole(500)]),
    attack("wants_random", "wants 16 EiB of random bytes", &[Whole(500)]),
    Attack {
        posts: 12 << 20,
        ..attack(
            "echo",
            "answers while it reads, for clients that read nothing before they have sent 12 MiB",
            &[Whole(200)],
        )
    },
    attack(
        "steals_token",
        "wants to see a token that the host adds: redirects, `Host`, smuggled headers, errors",
        &[Whole(200)],
    ),
    endless("floods_store", "fills its key-value store and calls it, for ever", &[Whole(504)]),
    endless("floods_random", "wants 64 KiB of random bytes, for ever", &[Whole(504)]),
];

const fn attack(name: &'static str, does: &'static str, expected: &'static [Got]) -> Attack {
    Attack { name, does, expected, endless: false, says: None, posts: 0, event: None, in_front: false }
}

const fn endless(name: &'static str, does: &'static str, expected: &'static [Got]) -> Attack {
    Attack { endless: true, ..attack(name, does, expected) }
}

/// An attack that ends in an answer with what it reached.
const fn telling(name: &'static str, does: &'static str) -> Attack {
    Attack { says: Some("nothing"), ..attack(name, does, &[Whole(200)]) }
}

impl Attack {
    /// Its component.
    pub fn guest(&self) -> Result<Vec<u8>> {
        let text = crate::root().join(TEXTS).join(self.name).with_extension("wat");
        if text.exists() {
            return wat::parse_file(&text).with_context(|| format!("cannot assemble {}", text.display()));
        }
        crate::app::read(&format!("{BUILT}/{}.wasm", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, TEXTS};
    use std::collections::BTreeSet;
    use std::fs;

    #[test]
    fn every_hostile_guest_has_its_attack() {
        let files = ["examples/hostile/src/bin", TEXTS].map(|folder| fs::read_dir(crate::root().join(folder)));
        let names = files.into_iter().flat_map(|files| files.expect("a folder of hostile guests")).map(|file| {
            let path = file.expect("an entry").path();
            path.file_stem().expect("a name").to_str().expect("plain").to_owned()
        });
        // Where the caller attacks, by what it posts, the guest is one of the tests.
        let attacks = ALL.iter().filter(|attack| attack.posts == 0).map(|attack| attack.name.to_owned());
        assert_eq!(names.collect::<BTreeSet<_>>(), attacks.collect::<BTreeSet<_>>());
    }
}
