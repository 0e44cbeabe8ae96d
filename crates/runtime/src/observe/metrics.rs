//! What the host counts, over the life of the process. Whoever shows it takes all of it at once, as [`Family`] values.
//!
//! Names, units and attributes are OpenTelemetry's where its conventions have them (HTTP metrics; FaaS metrics), else they begin with
//! `flexwasm.`. Attributes are bounded by the configuration: functions, their routes, and words of this program. Nothing that a
//! client or a guest chooses is one. So a method is one of nine or `_OTHER`, and a status that [`CODES`] does not list has no attribute.
//!
//! A library's registry would be asked for each number of each request by name. Here every function has its numbers, which are
//! added to without a lock or an allocation, and both [`Family`]'s readers take the same ones.

use super::record::{Outcome, Ran, Record, Sink};
use crate::config::function_json::Trigger;
use crate::config::{Config, Function};
use http::{Method, StatusCode};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What a method is called that is none of [`METHODS`].
const OTHER: &str = "_OTHER";

/// The methods of HTTP (RFC 9110 and RFC 5789), as the conventions list them.
static METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// The statuses that are told apart: a guest may choose any number.
const CODES: [u16; 38] = [
    200, 201, 202, 203, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411,
    412, 413, 414, 415, 416, 422, 425, 428, 429, 431, 500, 501, 502, 503, 504,
];

/// Of durations of requests, in seconds, as the conventions advise.
const REQUESTS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Of waits for a slot, in seconds: most are none, and the longest is `queue.timeout`.
const WAITS: &[f64] = &[0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];
/// Of instantiations, in seconds: the usual ones take microseconds.
const INSTANTIATIONS: &[f64] =
    &[0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1, 1.0];
/// Of time on a thread, in seconds.
const TIMES: &[f64] = &[0.000_01, 0.000_1, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];
/// Of an instance's memory, in bytes, up to what a guest can have.
const MEMORIES: &[f64] = &[
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    134_217_728.0,
    268_435_456.0,
    536_870_912.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// One metric with all its points.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// As the conventions spell it, with dots.
    pub name: &'static str,
    /// As the conventions spell it: `s`, `By`, or a word in braces for what is counted.
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Its values.
    pub points: Points,
}

/// The values of a metric, each with its attributes.
#[derive(Debug, Clone, PartialEq)]
pub enum Points {
    /// Numbers that only grow.
    Totals(Vec<(Attributes, u64)>),
    /// Numbers as they are now.
    Levels(Vec<(Attributes, u64)>),
    /// How values are spread.
    Spreads(Vec<(Attributes, Spread)>),
}

/// Names and values.
pub type Attributes = Vec<(&'static str, Arc<str>)>;

/// How many values lie in which range.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// The upper bounds of all ranges but the last, which has none.
    pub bounds: &'static [f64],
    /// How many values each range has; one more than there are bounds.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: f64,
}

/// What of the host is counted elsewhere, now.
#[derive(Debug, Clone, Copy)]
pub struct Levels {
    /// Slots in all.
    pub slots: u32,
    /// Slots with an invocation.
    pub running: u32,
    /// Slots with an instance that waits for the next request.
    pub parked: u32,
    /// Invocations that wait.
    pub waiting: u32,
    /// Instances made so far.
    pub instances: u64,
    /// Bytes of memory of all guests.
    pub memory: u64,
}

/// Counts every invocation.
pub struct Metrics {
    functions: BTreeMap<Arc<str>, Arc<FunctionMetrics>>,
    /// Requests that no function has to do with.
    nobody: FunctionMetrics,
    /// Telemetry that was to be exported and was not, by signal.
    lost: Words,
}

impl Metrics {
    /// Nothing is counted yet for the functions of this configuration.
    pub fn new(config: &Config) -> Self {
        let functions = config.functions.iter();
        Self {
            functions: functions
                .map(|it| (Arc::clone(&it.name), Arc::new(FunctionMetrics::new(trigger(it)))))
                .collect(),
            nobody: FunctionMetrics::new("http"),
            lost: Words::default(),
        }
    }

    /// So much telemetry of this signal, a word of this program, could not be exported.
    pub fn lost(&self, signal: &'static str, count: u64) {
        self.lost.add(signal, count);
    }

    /// What is counted for a function of the configuration.
    pub fn of(&self, function: &str) -> Option<&Arc<FunctionMetrics>> {
        self.functions.get(function)
    }

    /// All of it, as it is now.
    pub fn families(&self, levels: Levels) -> Vec<Family> {
        let Levels { slots, running, parked, waiting, instances, memory } = levels;
        let one = |value: u64| vec![(Attributes::new(), value)];
        let state = |word: &str, count: u32| (vec![("state", word.into())], u64::from(count));
        let totals = |name, unit, help, points| Family { name, unit, help, points: Points::Totals(points) };
        let levels = |name, unit, help, points| Family { name, unit, help, points: Points::Levels(points) };
        let spreads = |name, unit, help, points| Family { name, unit, help, points: Points::Spreads(points) };
        vec![
            spreads(
                "http.server.request.duration",
                "s",
                "Duration of requests, from head to last byte.",
                self.requests(),
            ),
            levels(
                "http.server.active_requests",
                "{request}",
                "Requests that run or wait for a slot.",
                one(u64::from(running + waiting)),
            ),
            totals(
                "faas.invocations",
                "{invocation}",
                "Invocations that were answered.",
                self.totals(|it| &it.answered),
            ),
            totals("faas.errors", "{error}", "Invocations whose guest failed.", self.totals(|it| &it.faulted)),
            totals(
                "faas.timeouts",
                "{timeout}",
                "Invocations that took longer than they may.",
                self.totals(|it| &it.late),
            ),
            totals(
                "faas.coldstarts",
                "{coldstart}",
                "Invocations that were the first of this process.",
                self.totals(|it| &it.cold),
            ),
            spreads(
                "faas.invoke_duration",
                "s",
                "Duration of invocations without the wait for a slot.",
                self.spreads(|it| &it.invoke),
            ),
            spreads(
                "faas.init_duration",
                "s",
                "Duration of instantiations, for invocations with a new instance.",
                self.spreads(|it| &it.init),
            ),
            spreads("faas.cpu_usage", "s", "Time on a thread of invocations.", self.spreads(|it| &it.cpu)),
            spreads(
                "faas.mem_usage",
                "By",
                "Memory of instances at the end of invocations.",
                self.spreads(|it| &it.memory),
            ),
            levels(
                "flexwasm.pool.slots",
                "{slot}",
                "Slots of the pool.",
                vec![
                    state("running", running),
                    state("parked", parked),
                    state("free", slots.saturating_sub(running + parked)),
                ],
            ),
            levels("flexwasm.pool.limit", "{slot}", "Slots in all.", one(slots.into())),
            levels("flexwasm.queue.length", "{invocation}", "Invocations that wait for a slot.", one(waiting.into())),
            spreads(
                "flexwasm.queue.wait.duration",
                "s",
                "How long invocations waited for a slot.",
                self.spreads(|it| &it.wait),
            ),
            totals(
                "flexwasm.rejections",
                "{request}",
                "Requests that the host refused.",
                self.words("reason", |it| &it.refused),
            ),
            totals(
                "flexwasm.events.rejected",
                "{event}",
                "Events that their guest rejected for good.",
                self.totals(|it| &it.rejected),
            ),
            totals("flexwasm.instances.created", "{instance}", "Instances made.", one(instances)),
            spreads(
                "flexwasm.instance.instantiate.duration",
                "s",
                "How long it took to make or to take the instance of an invocation.",
                self.spreads(|it| &it.instantiate),
            ),
            totals("flexwasm.instance.faults", "{fault}", "Guests that failed.", self.words("kind", |it| &it.faults)),
            levels("flexwasm.guests.memory", "By", "Memory of all instances together.", one(memory)),
            totals(
                "flexwasm.swaps",
                "{swap}",
                "Guests that took another one's place.",
                self.words("outcome", |it| &it.swaps),
            ),
            totals(
                "flexwasm.telemetry.dropped",
                "{item}",
                "Spans, points of metrics and log records that could not be exported.",
                self.lost.read().into_iter().map(|(signal, count)| (vec![("signal", signal.into())], count)).collect(),
            ),
        ]
    }

    fn named(&self) -> impl Iterator<Item = (Attributes, &FunctionMetrics)> {
        self.functions
            .iter()
            .map(|(name, it)| (vec![("faas.name", Arc::clone(name)), ("faas.trigger", it.trigger.into())], &**it))
    }

    fn totals(&self, of: fn(&FunctionMetrics) -> &AtomicU64) -> Vec<(Attributes, u64)> {
        self.named().map(|(name, it)| (name, of(it).load(Relaxed))).collect()
    }

    fn spreads(&self, of: fn(&FunctionMetrics) -> &Histogram) -> Vec<(Attributes, Spread)> {
        self.named().map(|(name, it)| (name, of(it).read())).collect()
    }

    fn words(&self, attribute: &'static str, of: fn(&FunctionMetrics) -> &Words) -> Vec<(Attributes, u64)> {
        let all = [(Attributes::new(), &self.nobody)].into_iter().chain(self.named());
        all.flat_map(|(name, it)| {
            let counts = of(it).read();
            counts.into_iter().map(move |(word, count)| {
                let function = name.first().cloned().into_iter();
                (function.chain([(attribute, word.into())]).collect(), count)
            })
        })
        .collect()
    }

    fn requests(&self) -> Vec<(Attributes, Spread)> {
        let all = self.functions.values().map(|it| &**it).chain([&self.nobody]);
        all.flat_map(|it| {
            it.requests.iter().enumerate().flat_map(move |(method, codes)| {
                let used = codes.iter().enumerate().filter_map(|(code, place)| Some((code, place.get()?)));
                used.map(move |(code, histogram)| {
                    let mut attributes = Attributes::new();
                    let name = METHODS.get(method).map_or(OTHER, Method::as_str);
                    attributes.push(("http.request.method", name.into()));
                    attributes.extend(it.route.get().map(|route| ("http.route", Arc::clone(route))));
                    let code = CODES.get(code).map(|code| ("http.response.status_code", code.to_string().into()));
                    attributes.extend(code);
                    (attributes, histogram.read())
                })
            })
        })
        .collect()
    }
}

impl Sink for Metrics {
    fn take(&self, record: &Record) {
        let counts = record.function.as_ref().and_then(|name| self.of(name)).map_or(&self.nobody, |counts| counts);
        counts.take(record);
    }
}

/// What a method is called: one of nine, or `_OTHER`.
pub fn method(method: &Method) -> &'static str {
    METHODS.iter().find(|known| *known == method).map_or(OTHER, Method::as_str)
}

/// What calls a function, in a word of the conventions.
pub fn trigger(function: &Function) -> &'static str {
    match function.trigger {
        Trigger::Http { .. } => "http",
        _ => "other",
    }
}

/// What is counted for one function.
#[derive(Debug)]
pub struct FunctionMetrics {
    /// What calls it, in a word of the conventions.
    trigger: &'static str,
    /// The template of its route, once a request has named it.
    route: OnceLock<Arc<str>>,
    /// By method and status, made when there is the first.
    requests: [[OnceLock<Box<Histogram>>; CODES.len() + 1]; METHODS.len() + 1],
    answered: AtomicU64,
    faulted: AtomicU64,
    late: AtomicU64,
    cold: AtomicU64,
    rejected: AtomicU64,
    invoke: Histogram,
    init: Histogram,
    cpu: Histogram,
    memory: Histogram,
    wait: Histogram,
    instantiate: Histogram,
    refused: Words,
    faults: Words,
    swaps: Words,
}

impl FunctionMetrics {
    /// Nothing is counted yet of a function that this calls, in a word of the conventions.
    pub fn new(trigger: &'static str) -> Self {
        Self {
            trigger,
            route: OnceLock::new(),
            requests: [const { [const { OnceLock::new() }; CODES.len() + 1] }; METHODS.len() + 1],
            answered: AtomicU64::new(0),
            faulted: AtomicU64::new(0),
            late: AtomicU64::new(0),
            cold: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            invoke: Histogram::seconds(REQUESTS),
            init: Histogram::seconds(REQUESTS),
            cpu: Histogram::seconds(TIMES),
            memory: Histogram::new(MEMORIES, 1.0),
            wait: Histogram::seconds(WAITS),
            instantiate: Histogram::seconds(INSTANTIATIONS),
            refused: Words::default(),
            faults: Words::default(),
            swaps: Words::default(),
        }
    }

    /// An instance has answered a request.
    pub fn used(&self, cpu: Duration, memory: u64) {
        self.cpu.add(nanos(cpu));
        self.memory.add(memory);
    }

    /// A guest took another one's place, or did not; `outcome` is one word.
    pub fn swapped(&self, outcome: &'static str) {
        self.swaps.add(outcome, 1);
    }

    fn take(&self, record: &Record) {
        if let Some(route) = &record.route {
            self.route.get_or_init(|| Arc::clone(route));
        }
        let method = METHODS.iter().position(|known| known == record.known_method()).unwrap_or(METHODS.len());
        let code = record.status.map_or(0, |status| StatusCode::as_u16(&status));
        let code = CODES.binary_search(&code).unwrap_or(CODES.len());
        let place = &self.requests[method][code];
        place.get_or_init(|| Box::new(Histogram::seconds(REQUESTS))).add(nanos(record.total));

        match &record.outcome {
            Outcome::Answered if record.ran.is_some() => count(&self.answered),
            Outcome::Rejected(_) => {
                count(&self.answered);
                count(&self.rejected);
            }
            Outcome::Faulted(_) => {
                count(&self.faulted);
                self.faults.add(record.kind.unwrap_or("other"), 1);
            }
            Outcome::Stalled(_) => {
                count(&self.faulted);
                self.faults.add("stalled", 1);
            }
            Outcome::Deadline(_) => count(&self.late),
            Outcome::Refused(_) => self.refused.add(record.kind.unwrap_or("other"), 1),
            // A client that left and a drain say nothing of the guest.
            Outcome::Answered | Outcome::ClientGone | Outcome::CutOff => {}
        }
        if record.ran.is_some() || !record.queued.is_zero() {
            self.wait.add(nanos(record.queued));
        }
        let Some(Ran { served, instantiate, .. }) = record.ran else { return };
        self.invoke.add(nanos(record.total.saturating_sub(record.queued)));
        self.instantiate.add(nanos(instantiate));
        if served == 1 {
            self.init.add(nanos(instantiate));
        }
        if record.is_cold() {
            count(&self.cold);
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Whole nanoseconds; centuries are cut.
fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

/// Counts values by range.
#[derive(Debug)]
struct Histogram {
    bounds: &'static [f64],
    /// What one of what is added is, as the bounds count.
    scale: f64,
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64], scale: f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, scale, counts, sum: AtomicU64::new(0) }
    }

    /// What is added are nanoseconds.
    fn seconds(bounds: &'static [f64]) -> Self {
        Self::new(bounds, 1e-9)
    }

    fn add(&self, value: u64) {
        let scaled = value as f64 * self.scale;
        // A value that is a bound belongs below it.
        let range = self.bounds.partition_point(|bound| *bound < scaled);
        self.counts[range].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    fn read(&self) -> Spread {
        let counts = self.counts.iter().map(|count| count.load(Relaxed)).collect();
        Spread { bounds: self.bounds, counts, sum: self.sum.load(Relaxed) as f64 * self.scale }
    }
}

/// Counts what is rare, by a word of this program.
#[derive(Debug, Default)]
struct Words(Mutex<BTreeMap<&'static str, u64>>);

impl Words {
    fn add(&self, word: &'static str, count: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(word).or_default() += count;
    }

    fn read(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::digest::Digest;

    fn record(method: &str, status: u16, outcome: Outcome) -> Record {
        let request = http::Request::builder().method(method).uri("/api/x").body(()).expect("a request");
        let mut record = Record::new(&request.into_parts().0);
        (record.status, record.outcome) = (StatusCode::from_u16(status).ok(), outcome);
        record
    }

    fn ran(instance: u64) -> Ran {
        let instantiate = Duration::from_micros(30);
        Ran { instance, slot: 0, served: 1, generation: 1, digest: Digest::of(b""), instantiate, head: Duration::ZERO }
    }

    fn metrics() -> Metrics {
        let function = Arc::new(FunctionMetrics::new("http"));
        let functions = BTreeMap::from([(Arc::from("one"), function)]);
        Metrics { functions, nobody: FunctionMetrics::new("http"), lost: Words::default() }
    }

    fn family(metrics: &Metrics, name: &str) -> Points {
        let levels = Levels { slots: 4, running: 1, parked: 2, waiting: 3, instances: 5, memory: 6 };
        let found = metrics.families(levels).into_iter().find(|family| family.name == name);
        found.unwrap_or_else(|| panic!("no {name}")).points
    }

    fn total(metrics: &Metrics, name: &str) -> u64 {
        match family(metrics, name) {
            Points::Totals(points) | Points::Levels(points) => points.iter().map(|(_, value)| value).sum(),
            Points::Spreads(points) => points.iter().flat_map(|(_, spread)| spread.counts.iter()).sum(),
        }
    }

    #[test]
    fn each_outcome_is_counted_where_it_belongs() {
        let metrics = metrics();
        let take = |outcome, kind, ran| {
            let mut record = record("GET", 200, outcome);
            (record.function, record.kind, record.ran) = (Some("one".into()), kind, ran);
            metrics.take(&record);
        };
        take(Outcome::Answered, None, Some(ran(1)));
        take(Outcome::Answered, None, Some(ran(2)));
        take(Outcome::Faulted("it broke".to_owned()), Some("trap"), None);
        take(Outcome::Deadline("late".to_owned()), Some("deadline"), None);
        take(Outcome::Refused("full".to_owned()), Some("queue-full"), None);
        take(Outcome::Rejected("no order".to_owned()), None, Some(ran(2)));
        take(Outcome::Stalled("both wait".to_owned()), None, Some(ran(2)));
        take(Outcome::ClientGone, None, Some(ran(2)));
        let names = [
            "faas.invocations",
            "faas.errors",
            "faas.timeouts",
            "faas.coldstarts",
            "flexwasm.rejections",
            "flexwasm.events.rejected",
        ];
        assert_eq!(names.map(|name| total(&metrics, name)), [3, 2, 1, 1, 1, 1]);
        let spreads = [
            "http.server.request.duration",
            "faas.invoke_duration",
            "faas.init_duration",
            "flexwasm.queue.wait.duration",
        ];
        assert_eq!(spreads.map(|name| total(&metrics, name)), [8, 5, 5, 5]);
        let Points::Totals(faults) = family(&metrics, "flexwasm.instance.faults") else { panic!("totals") };
        let kind = |word: &'static str| (vec![("faas.name", "one".into()), ("kind", word.into())], 1);
        assert_eq!(faults, [kind("stalled"), kind("trap")]);
        let Points::Levels(slots) = family(&metrics, "flexwasm.pool.slots") else { panic!("levels") };
        assert_eq!(slots.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [1, 2, 1]);
    }

    #[test]
    fn what_strangers_choose_makes_no_series() {
        let metrics = metrics();
        for number in 0..1000_u16 {
            let mut record = record(&format!("METHOD{number}"), 100 + number % 900, Outcome::Answered);
            record.function = (number % 2 == 0).then(|| "one".into());
            metrics.take(&record);
        }
        let Points::Spreads(points) = family(&metrics, "http.server.request.duration") else { panic!("spreads") };
        assert!(points.len() <= 2 * (CODES.len() + 1), "{}", points.len());
        assert!(points.iter().all(|(attributes, _)| attributes[0] == ("http.request.method", OTHER.into())));
        assert_eq!(total(&metrics, "http.server.request.duration"), 1000);
        assert!(CODES.is_sorted());
    }

    #[test]
    fn a_spread_has_seconds_in_ranges_of_seconds() {
        let histogram = Histogram::seconds(REQUESTS);
        for _ in 0..100 {
            histogram.add(30_000_000);
        }
        for _ in 0..10 {
            histogram.add(700_000_000);
        }
        // On the bound, and beyond all of them.
        histogram.add(5_000_000);
        histogram.add(11_000_000_000);
        let Spread { counts, sum, .. } = histogram.read();
        assert_eq!(counts, [1, 0, 0, 100, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 1]);
        assert!((sum - 21.005).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn methods_have_their_names() {
        for (method, name) in METHODS.iter().map(|known| (known.as_str(), known.as_str())).chain([("BREW", OTHER)]) {
            let metrics = metrics();
            metrics.take(&record(method, 200, Outcome::Answered));
            let Points::Spreads(points) = family(&metrics, "http.server.request.duration") else { panic!("spreads") };
            assert_eq!(points[0].0[0], ("http.request.method", name.into()));
        }
    }
}
