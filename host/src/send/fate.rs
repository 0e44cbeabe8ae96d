//! What becomes of an event whose invocation failed. docs/events.md has the table.

use super::envelope::Function;
use crate::config::member;
use serde_json::Value;

/// How often the Functions host gives out a message or a blob, where `host.json` does not say it.
const TRIES: u32 = 5;

/// How often an event may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// How often a queue message or a blob is given out.
    tries: u32,
    /// `retry.maxRetryCount` of `function.json`, if it has a policy; -1 for no end.
    retries: Option<i64>,
}

impl Attempts {
    /// Reads what `host.json` and `function.json` say about the function's trigger.
    pub fn read(function: &Function, host_json: &Value, function_json: &Value) -> Self {
        let path: &[&str] = match &*function.kind() {
            "blobtrigger" => &["extensions", "blobs", "poisonBlobThreshold"],
            _ => &["extensions", "queues", "maxDequeueCount"],
        };
        let tries = path.iter().try_fold(host_json, |value, key| member(value, key)).and_then(Value::as_u64);
        let tries = tries.and_then(|tries| u32::try_from(tries).ok()).filter(|tries| *tries > 0).unwrap_or(TRIES);
        let retries = member(function_json, "retry").and_then(|retry| member(retry, "maxRetryCount"));
        Self { tries, retries: retries.and_then(Value::as_i64) }
    }

    /// The dequeue count of the run with this number, which counts from 1, and its retry count and their most where there is a policy:
    /// the policy's retries come within each time that a message is given out.
    pub fn of(self, run: u32) -> (u32, Option<(u32, i64)>) {
        let Some(most) = self.retries else { return (run, None) };
        let Some(each) = u32::try_from(most).ok().and_then(|most| most.checked_add(1)) else {
            return (1, Some((run - 1, most)));
        };
        ((run - 1) / each + 1, Some(((run - 1) % each, most)))
    }

    /// What Azure would do after this run has failed.
    pub fn after_failure(self, function: &Function, run: u32) -> String {
        let (tries, (count, retry)) = (self.tries, self.of(run));
        if let Some((retry, most)) = retry
            && (most < 0 || i64::from(retry) < most)
        {
            let of = if most < 0 { "without end".to_owned() } else { format!("of {most}") };
            return format!("run again by its retry policy: retry {} {of}", retry + 1);
        }
        let queue = function.says("queueName").unwrap_or_default();
        match &*function.kind() {
            "queuetrigger" if queue.ends_with("-poison") => {
                "leave the message in its queue and give it out again after 10 minutes, without end: a queue that ends in -poison has \
                 no poison queue"
                    .to_owned()
            }
            "queuetrigger" | "blobtrigger" if count < tries => {
                format!("run again: try {} of {tries}", count + 1)
            }
            "queuetrigger" => format!("move the message to {queue}-poison, after {tries} tries"),
            "blobtrigger" => format!("write a message to webjobs-blobtrigger-poison, after {tries} tries"),
            "servicebustrigger" => {
                "give the message back to Service Bus, which gives it out again, and moves it to the dead-letter queue when its maximum \
                 delivery count is reached"
                    .to_owned()
            }
            "eventhubtrigger" | "cosmosdbtrigger" => {
                "go on behind the event, which is lost: only a retry policy in function.json runs it again".to_owned()
            }
            "timertrigger" => "do nothing until the schedule's next time".to_owned(),
            "eventgridtrigger" => "answer 500 to Event Grid, which sends the event again".to_owned(),
            "httptrigger" => "answer 500 to the caller".to_owned(),
            kind => format!("do what the extension of {kind} does with a failed invocation"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn after(host: Value, retry: Value, kind: &str, run: u32) -> String {
        let bindings = [json!({"type": kind, "name": "in", "queueName": "jobs"})];
        let function = Function::new("f", &bindings).expect("a trigger");
        Attempts::read(&function, &host, &json!({ "retry": retry })).after_failure(&function, run)
    }

    #[test]
    fn retries_of_a_policy_come_within_each_try() {
        let policy = json!({"strategy": "fixedDelay", "maxRetryCount": 2});
        let runs = [
            (1, "run again by its retry policy: retry 1 of 2"),
            (3, "run again: try 2 of 5"),
            (14, "run again by its retry policy: retry 2 of 2"),
            (15, "move the message to jobs-poison, after 5 tries"),
        ];
        for (run, expected) in runs {
            assert_eq!(after(json!({}), policy.clone(), "queueTrigger", run), expected, "{run}");
        }
        let without_end = after(json!({}), json!({"maxRetryCount": -1}), "eventHubTrigger", 9);
        assert_eq!(without_end, "run again by its retry policy: retry 9 without end");
    }

    #[test]
    fn what_is_lost_is_called_lost() {
        let two = json!({"extensions": {"queues": {"maxDequeueCount": 2}, "blobs": {"poisonBlobThreshold": 1}}});
        assert_eq!(after(two.clone(), Value::Null, "queueTrigger", 1), "run again: try 2 of 2");
        assert_eq!(
            after(two.clone(), Value::Null, "queueTrigger", 2),
            "move the message to jobs-poison, after 2 tries"
        );
        assert!(after(two, Value::Null, "blobTrigger", 1).contains("webjobs-blobtrigger-poison"));
        for kind in ["eventHubTrigger", "cosmosDBTrigger"] {
            assert!(after(json!({}), Value::Null, kind, 1).contains("lost"), "{kind}");
        }
    }
}
