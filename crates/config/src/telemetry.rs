//! Where telemetry goes: OpenTelemetry's own variables (`OTEL_…`), and Application Insights.
//!
//! Names, defaults and meanings are those of OpenTelemetry's specification (Environment Variable Specification; OTLP Exporter
//! Configuration), where an empty variable counts as unset. The Functions host reads some of the same variables for itself, and its
//! default protocol is another one, so what cannot be used here is an objection: it is told at the start, and the app serves.
//!
//! Values of headers, endpoints and connection strings can be secrets. They are never repeated.

use super::file::MAX_SETTINGS;
use super::section::{APP_SETTINGS, Problem};
use super::{AppSettings, Role, azure_instance, file};
use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// The app setting with the address and key of Application Insights.
pub const INSIGHTS: &str = "APPLICATIONINSIGHTS_CONNECTION_STRING";

/// What a certificate in PEM begins with (RFC 7468, section 5.1).
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// For one batch with all its tries.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where telemetry goes, and how much of it. By default nowhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Spans of invocations.
    pub traces: Option<Collector>,
    /// The numbers that `/metrics` shows.
    pub metrics: Option<Collector>,
    /// Records of the log.
    pub logs: Option<Collector>,
    /// Application Insights, which gets spans.
    pub insights: Option<Insights>,
    /// Which traces are exported.
    pub sampler: Sampler,
    /// What sends all of it, as attributes.
    pub resource: Vec<(String, String)>,
    /// How spans are gathered.
    pub spans: Batches,
    /// How records of the log are gathered.
    pub records: Batches,
    /// How often metrics are sent.
    pub metrics_interval: Duration,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            traces: None,
            metrics: None,
            logs: None,
            insights: None,
            sampler: Sampler::default(),
            resource: Vec::new(),
            spans: Batches { delay: Duration::from_secs(5), ..Batches::default() },
            records: Batches::default(),
            metrics_interval: Duration::from_secs(60),
        }
    }
}

impl Telemetry {
    /// Which traces are exported, if any are.
    pub fn sampler(&self) -> Option<Sampler> {
        (self.traces.is_some() || self.insights.is_some()).then_some(self.sampler)
    }
}

/// Where one signal is sent, as OTLP over HTTP with protobuf.
#[derive(Clone, PartialEq, Eq)]
pub struct Collector {
    /// The whole URL.
    pub url: Url,
    /// What each request carries, credentials say.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// For one request.
    pub timeout: Duration,
    /// The certificates that are trusted, in PEM, in place of the system's.
    pub certificates: Option<Arc<[u8]>>,
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL can hold a password or a key.
        let mut shown = self.url.clone();
        let _ = shown.set_username("").and_then(|()| shown.set_password(None));
        shown.set_query(None);
        shown.fmt(f)
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collector({self})")
    }
}

/// A resource of Application Insights.
#[derive(Clone, PartialEq, Eq)]
pub struct Insights {
    /// Where it takes telemetry.
    pub to: Collector,
    /// The instrumentation key, which is a secret.
    pub key: String,
}

impl fmt::Debug for Insights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Insights({})", self.to)
    }
}

/// How one kind of telemetry is gathered before it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// How long the first of a batch waits.
    pub delay: Duration,
    /// How many may wait; more are dropped.
    pub queue: usize,
    /// How many leave together at the most.
    pub size: usize,
}

impl Default for Batches {
    fn default() -> Self {
        Self { delay: Duration::from_secs(1), queue: 2048, size: 512 }
    }
}

/// Decides which traces are exported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// A caller's decision counts, where there is one.
    pub follows_parent: bool,
    /// Of the other traces this share is exported, from 0 to 1.
    pub ratio: f64,
}

impl Default for Sampler {
    /// OpenTelemetry's default.
    fn default() -> Self {
        Self { follows_parent: true, ratio: 1.0 }
    }
}

impl Sampler {
    /// Whether a trace is exported, whose caller, if there is one, has made this decision.
    ///
    /// Everybody who samples the trace at the same ratio decides alike, because its id decides: by its last 56 bits, which W3C Trace
    /// Context (level 2) says are random, against the threshold of OpenTelemetry's probability sampling. Those above are not random
    /// in an id that comes from an invocation's UUID.
    pub fn samples(&self, trace_id: u128, parent: Option<bool>) -> bool {
        const VALUES: u64 = 1 << 56;
        if let Some(parent) = parent.filter(|_| self.follows_parent) {
            return parent;
        }
        let random = trace_id as u64 % VALUES;
        let threshold = ((1.0 - self.ratio) * VALUES as f64) as u64;
        random >= threshold
    }
}

/// What is told beside the variables.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// Who started the process.
    pub role: Role,
    /// `telemetry.applicationInsights`.
    pub insights: bool,
    /// `telemetryMode` in host.json is `OpenTelemetry`: the Functions host exports by itself.
    pub host_exports: bool,
}

/// Reads the variables, and notes what cannot be used.
pub fn read(settings: &AppSettings, surroundings: Surroundings, objections: &mut Vec<Problem>) -> Telemetry {
    let Surroundings { role, insights, host_exports } = surroundings;
    let mut variables = Variables { settings, objections };
    if variables.flag("OTEL_SDK_DISABLED") {
        return Telemetry::default();
    }
    let under_host = role == Role::CustomHandler;
    // Application Insights in the Functions host sends the flag 0 for every trace (docs/azure.md).
    let flag_says_nothing = under_host && variables.get(INSIGHTS).is_some() && !host_exports;
    let sampler = variables.sampler();
    let default = Telemetry::default();
    Telemetry {
        traces: variables.collector("TRACES", "v1/traces"),
        metrics: variables.collector("METRICS", "v1/metrics"),
        logs: variables.collector("LOGS", "v1/logs"),
        insights: variables.insights(insights),
        sampler: Sampler { follows_parent: sampler.follows_parent && !flag_says_nothing, ..sampler },
        resource: variables.resource(),
        spans: variables.batches("BSP", default.spans),
        records: variables.batches("BLRP", default.records),
        metrics_interval: variables.millis("OTEL_METRIC_EXPORT_INTERVAL", default.metrics_interval),
    }
}

struct Variables<'a> {
    settings: &'a AppSettings,
    objections: &'a mut Vec<Problem>,
}

impl<'a> Variables<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.settings.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    /// The variable of one signal, else that of all of them.
    fn of_signal(&self, signal: &str, name: &str) -> Option<(String, &'a str)> {
        let own = format!("OTEL_EXPORTER_OTLP_{signal}_{name}");
        let all = format!("OTEL_EXPORTER_OTLP_{name}");
        [own, all].into_iter().find_map(|variable| self.get(&variable).map(|text| (variable, text)))
    }

    /// Notes a variable that cannot be used, once. `shown` is its value, if that is no secret.
    fn wrong(&mut self, variable: &str, shown: Option<&str>, remedy: impl Into<String>) {
        let value = shown.map(|shown| format!("{shown:?}"));
        let problem = Problem { file: APP_SETTINGS.to_owned(), key: variable.to_owned(), value, remedy: remedy.into() };
        if !self.objections.contains(&problem) {
            self.objections.push(problem);
        }
    }

    fn flag(&mut self, name: &str) -> bool {
        let Some(text) = self.get(name) else { return false };
        let is = |word| text.eq_ignore_ascii_case(word);
        if !is("true") && !is("false") {
            self.wrong(name, Some(text), "must be true or false; it counts as false");
        }
        is("true")
    }

    fn number<T: FromStr>(&mut self, name: &str, default: T, fits: fn(&T) -> bool, words: &str) -> T {
        let Some(text) = self.get(name) else { return default };
        text.parse().ok().filter(fits).unwrap_or_else(|| {
            self.wrong(name, Some(text), words);
            default
        })
    }

    fn millis(&mut self, name: &str, default: Duration) -> Duration {
        let most = 24 * 60 * 60 * 1000;
        let default = u64::try_from(default.as_millis()).unwrap_or(most);
        let words = format!("must be a number of milliseconds from 1 to {most}; {default} is used");
        Duration::from_millis(self.number(name, default, |millis| (1..=24 * 60 * 60 * 1000).contains(millis), &words))
    }

    fn count(&mut self, name: &str, default: usize) -> usize {
        let words = format!("must be a whole number from 1 to 1000000; {default} is used");
        self.number(name, default, |count| (1..=1_000_000).contains(count), &words)
    }

    /// The variables of one of the specification's batch processors.
    fn batches(&mut self, processor: &str, default: Batches) -> Batches {
        let name = |what: &str| format!("OTEL_{processor}_{what}");
        let queue = self.count(&name("MAX_QUEUE_SIZE"), default.queue);
        Batches {
            delay: self.millis(&name("SCHEDULE_DELAY"), default.delay),
            queue,
            size: self.count(&name("MAX_EXPORT_BATCH_SIZE"), default.size.min(queue)).min(queue),
        }
    }

    /// Where one signal goes.
    fn collector(&mut self, signal: &str, path: &str) -> Option<Collector> {
        let exporter = format!("OTEL_{signal}_EXPORTER");
        let wanted = match self.get(&exporter) {
            None | Some("otlp") => true,
            Some("none") => false,
            Some(other) => {
                self.wrong(&exporter, Some(other), "must be \"otlp\" or \"none\"; nothing is sent");
                false
            }
        };
        let (variable, text) = self.of_signal(signal, "ENDPOINT").filter(|_| wanted)?;
        let protocol = self.of_signal(signal, "PROTOCOL");
        if let Some((name, protocol)) = protocol.as_ref().filter(|(_, protocol)| *protocol != "http/protobuf") {
            let remedy = format!(
                "flexwasm speaks \"http/protobuf\" only, whose port is 4318: set {name} to that, or OTEL_TRACES_EXPORTER, \
                 OTEL_METRICS_EXPORTER and OTEL_LOGS_EXPORTER to \"none\"; nothing is sent"
            );
            self.wrong(name, Some(protocol), remedy);
            return None;
        }
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(mut url) = url else {
            self.wrong(&variable, None, "must be a URL such as http://127.0.0.1:4318; nothing is sent");
            return None;
        };
        if url.port() == Some(4317) && protocol.is_none() {
            let remedy = "has the port of OTLP over gRPC, which flexwasm does not speak: name the port of OTLP over HTTP, 4318, or \
                          set OTEL_EXPORTER_OTLP_PROTOCOL to \"http/protobuf\" if this is it; nothing is sent";
            self.wrong(&variable, None, remedy);
            return None;
        }
        if variable == "OTEL_EXPORTER_OTLP_ENDPOINT" {
            let base = format!("{}/{path}", url.path().trim_end_matches('/'));
            url.set_path(&base);
        }
        if let Some((name, compression)) = self.of_signal(signal, "COMPRESSION").filter(|(_, text)| *text != "none") {
            self.wrong(&name, Some(compression), "must be \"none\"; telemetry is sent as it is");
        }
        let timeout =
            self.of_signal(signal, "TIMEOUT").map_or("OTEL_EXPORTER_OTLP_TIMEOUT".to_owned(), |(name, _)| name);
        let timeout = self.millis(&timeout, DEFAULT_TIMEOUT);
        let certificates = self.certificates(signal)?;
        Some(Collector { url, headers: self.headers(signal), timeout, certificates })
    }

    /// Whom to trust; none where the file cannot be used, and then nobody is.
    fn certificates(&mut self, signal: &str) -> Option<Option<Arc<[u8]>>> {
        let Some((variable, path)) = self.of_signal(signal, "CERTIFICATE") else { return Some(None) };
        let why = match file::read(Path::new(path), MAX_SETTINGS) {
            Ok(text) if text.windows(BEGIN.len()).any(|part| part == BEGIN) => return Some(Some(text.into())),
            Ok(_) => "holds none".to_owned(),
            Err(why) => why.to_string(),
        };
        let remedy = format!("must name a file with certificates in PEM, and this one {why}; nothing is sent");
        self.wrong(&variable, Some(path), remedy);
        None
    }

    /// `name=value,name=value`, the values per cent encoded, as W3C Baggage has it.
    fn headers(&mut self, signal: &str) -> Vec<(HeaderName, HeaderValue)> {
        let Some((variable, text)) = self.of_signal(signal, "HEADERS") else { return Vec::new() };
        let mut headers = Vec::new();
        for (index, pair) in text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or_default();
            let name = name.trim();
            let header = HeaderName::try_from(name).ok().zip(decode(value.trim()).and_then(|value| {
                let mut value = HeaderValue::try_from(value).ok()?;
                value.set_sensitive(true);
                Some(value)
            }));
            match header {
                Some(header) => headers.push(header),
                None => {
                    // Without a name, the pair may be the secret itself.
                    let which =
                        if name.is_empty() { format!("pair {}", index + 1) } else { format!("the value of {name}") };
                    let remedy =
                        format!("{which} cannot be read and is left out: write name=value, with per cent escapes");
                    self.wrong(&variable, None, remedy);
                }
            }
        }
        headers
    }

    fn sampler(&mut self) -> Sampler {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        const SAMPLERS: [(&str, f64); 3] = [("always_on", 1.0), ("always_off", 0.0), ("traceidratio", f64::NAN)];
        let Some(text) = self.get(NAME) else { return Sampler::default() };
        let (follows_parent, name) = match text.strip_prefix("parentbased_") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let Some((_, ratio)) = SAMPLERS.iter().find(|(known, _)| *known == name) else {
            let remedy = "must be \"always_on\", \"always_off\" or \"traceidratio\", each also with \"parentbased_\" in front; \
                          \"parentbased_always_on\" is used";
            self.wrong(NAME, Some(text), remedy);
            return Sampler::default();
        };
        let ratio = if ratio.is_nan() {
            let words = "must be a number from 0 to 1, such as 0.01; 1 is used";
            self.number("OTEL_TRACES_SAMPLER_ARG", 1.0, |ratio| (0.0..=1.0).contains(ratio), words)
        } else {
            *ratio
        };
        Sampler { follows_parent, ratio }
    }

    /// Reads `Name=value;Name=value` (Connection strings in Application Insights), names in any case.
    fn insights(&mut self, wanted: bool) -> Option<Insights> {
        let text = self.get(INSIGHTS).filter(|_| wanted)?;
        let find = |key: &str| {
            let mut pairs = text.split(';').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(key));
            found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
        };
        let endpoint = find("IngestionEndpoint").map(str::to_owned);
        let suffixed = || find("EndpointSuffix").map(|suffix| format!("https://dc.{suffix}"));
        let endpoint = endpoint.or_else(suffixed).unwrap_or_else(|| "https://dc.services.visualstudio.com".to_owned());
        let url = Url::parse(&format!("{}/v2.1/track", endpoint.trim_end_matches('/')));
        let url = url.ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some((key, url)) = find("InstrumentationKey").zip(url) else {
            let remedy = "must have an InstrumentationKey, and what it names as an endpoint must be a URL, as in \
                          InstrumentationKey=…;IngestionEndpoint=https://…; nothing is sent";
            self.wrong(INSIGHTS, None, remedy);
            return None;
        };
        let (key, timeout) = (key.to_owned(), DEFAULT_TIMEOUT);
        Some(Insights { to: Collector { url, headers: Vec::new(), timeout, certificates: None }, key })
    }

    /// The attributes that the Functions host has, and those that the owner adds (Resource SDK of the specification).
    fn resource(&mut self) -> Vec<(String, String)> {
        let get = |name| self.get(name).map(str::to_owned);
        let site = get("WEBSITE_SITE_NAME");
        let on_azure = |value: &str| site.as_ref().map(|_| value.to_owned());
        let attributes = [
            ("service.name", get("OTEL_SERVICE_NAME").or_else(|| site.clone()).or(Some("flexwasm".to_owned()))),
            ("cloud.provider", on_azure("azure")),
            ("cloud.platform", on_azure("azure_functions")),
            ("cloud.region", get("REGION_NAME")),
            ("cloud.resource_id", self.resource_id()),
            ("faas.instance", azure_instance(self.settings)),
        ];
        let mut resource: Vec<_> =
            attributes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
        for pair in self.get(NAME).into_iter().flat_map(|text| text.split(',')) {
            let attribute = pair.split_once('=').and_then(|(name, value)| Some((name.trim(), decode(value.trim())?)));
            let Some((name, value)) = attribute.filter(|(name, _)| !name.is_empty()) else {
                self.wrong(NAME, None, "must be name=value,name=value, with per cent escapes; the rest is used");
                continue;
            };
            match resource.iter_mut().find(|(known, _)| known == name) {
                Some(_) if name == "service.name" && self.get("OTEL_SERVICE_NAME").is_some() => {}
                Some((_, known)) => *known = value,
                None => resource.push((name.to_owned(), value)),
            }
        }
        resource
    }
}

impl Variables<'_> {
    /// What Azure calls the app. The owner's variable begins with the subscription.
    fn resource_id(&self) -> Option<String> {
        let subscription = self.get("WEBSITE_OWNER_NAME")?.split('+').next()?;
        let (group, site) = (self.get("WEBSITE_RESOURCE_GROUP")?, self.get("WEBSITE_SITE_NAME")?);
        Some(format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Web/sites/{site}"))
    }
}

/// Text with per cent escapes; none where an escape is broken.
fn decode(text: &str) -> Option<String> {
    let mut escapes = text.split('%').skip(1);
    let whole = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    let sound = escapes.all(whole);
    percent_decode_str(text).decode_utf8().ok().filter(|_| sound).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    fn read_as(role: Role, variables: &[(&str, &str)]) -> (Telemetry, Vec<String>) {
        let settings = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut objections = Vec::new();
        let surroundings = Surroundings { role, insights: true, host_exports: false };
        let telemetry = read(&settings, surroundings, &mut objections);
        (telemetry, objections.iter().map(ToString::to_string).collect())
    }

    fn read_alone(variables: &[(&str, &str)]) -> (Telemetry, Vec<String>) {
        read_as(Role::StandAlone, variables)
    }

    fn url(collector: Option<&Collector>) -> &str {
        collector.map_or("", |collector| collector.url.as_str())
    }

    #[test]
    fn the_paths_of_endpoints() {
        let base = |base: &str| {
            let (telemetry, said) = read_alone(&[("OTEL_EXPORTER_OTLP_ENDPOINT", base)]);
            assert_eq!(said, [""; 0]);
            url(telemetry.traces.as_ref()).to_owned()
        };
        assert_eq!(base("http://127.0.0.1:4318"), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(base("http://127.0.0.1:4318/"), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(base("http://127.0.0.1:4318/base"), "http://127.0.0.1:4318/base/v1/traces");
        assert_eq!(base("https://a.example/base/"), "https://a.example/base/v1/traces");
        assert_eq!(base(""), "");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/my/path");
        let (telemetry, _) = read_alone(&[ENDPOINT, own]);
        assert_eq!(url(telemetry.traces.as_ref()), "http://127.0.0.1:4318/my/path");
        assert_eq!(url(telemetry.metrics.as_ref()), "http://127.0.0.1:4318/v1/metrics");
        let (telemetry, _) = read_alone(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318")]);
        assert_eq!((url(telemetry.traces.as_ref()), telemetry.metrics), ("http://127.0.0.1:4318/", None));
        let (telemetry, _) = read_alone(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]);
        assert_eq!((telemetry.traces, url(telemetry.logs.as_ref())), (None, "http://127.0.0.1:4318/v1/logs"));
    }

    #[test]
    fn what_cannot_be_used_is_named_once_with_a_remedy() {
        for (variable, value, words) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "= \"grpc\": flexwasm speaks \"http/protobuf\" only"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "= \"http/json\": flexwasm speaks"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317", ": has the port of OTLP over gRPC"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318", ": must be a URL such as"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://SECRET", ": must be a URL such as"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "= \"soon\": must be a number of milliseconds"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "= \"gzip\": must be \"none\""),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,SECRET", ": pair 2 cannot be read"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "key=SECRET%zz", ": the value of key cannot be read"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/file", "= \"/no/file\": must name a file with certificates in PEM"),
            (
                "OTEL_EXPORTER_OTLP_CERTIFICATE",
                "/dev/null",
                "= \"/dev/null\": must name a file with certificates in PEM",
            ),
            ("OTEL_TRACES_EXPORTER", "console", "= \"console\": must be \"otlp\" or \"none\""),
            ("OTEL_LOGS_EXPORTER", "console", "= \"console\": must be \"otlp\" or \"none\""),
            ("OTEL_BLRP_SCHEDULE_DELAY", "soon", "= \"soon\": must be a number of milliseconds"),
            ("OTEL_TRACES_SAMPLER", "some", "= \"some\": must be \"always_on\""),
            ("OTEL_SDK_DISABLED", "yes", "= \"yes\": must be true or false"),
            ("OTEL_BSP_SCHEDULE_DELAY", "0", "= \"0\": must be a number of milliseconds"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "= \"-1\": must be a whole number"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a", ": must be name=value"),
            (INSIGHTS, "IngestionEndpoint=https://SECRET", ": must have an InstrumentationKey,"),
        ] {
            let (_, said) = read_alone(&[ENDPOINT, (variable, value)]);
            assert!(
                said.len() == 1 && said[0].contains(&format!("app settings: {variable} {words}").replace(" :", ":")),
                "{said:?}"
            );
            assert!(!said[0].contains("SECRET"), "{said:?}");
        }
        let ratio = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")];
        assert!(read_alone(&ratio).1[0].contains("OTEL_TRACES_SAMPLER_ARG = \"2\": must be a number from 0 to 1"));
        // Nobody has asked for anything.
        assert_eq!(read_alone(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), (read_alone(&[]).0, vec![]));
        assert_eq!(read_alone(&[ENDPOINT, ("OTEL_SDK_DISABLED", "True")]), (Telemetry::default(), vec![]));
    }

    #[test]
    fn a_signal_may_trust_others_than_the_rest() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&file, BEGIN).expect("written");
        let own = ("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", file.path().to_str().expect("text"));
        let (telemetry, said) = read_alone(&[ENDPOINT, own]);
        let trusted = |collector: Option<Collector>| collector.expect("on").certificates;
        assert_eq!((trusted(telemetry.logs).as_deref(), trusted(telemetry.traces)), (Some(BEGIN), None));
        assert_eq!(said, [""; 0]);
    }

    #[test]
    fn headers_are_split_once_and_decoded() {
        let text = "authorization=Basic%20dXNlcjpwYXNz==, b = 2 ,c=x=y";
        let (telemetry, said) = read_alone(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", text)]);
        let headers = telemetry.traces.expect("on").headers;
        let read: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        assert_eq!(read, [("authorization", "Basic dXNlcjpwYXNz=="), ("b", "2"), ("c", "x=y")]);
        assert_eq!(said, [""; 0]);
        let secret = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:SECRET@a.example/?key=SECRET")];
        assert!(!format!("{:?}", read_alone(&secret).0).contains("SECRET"));
    }

    #[test]
    fn under_the_functions_host_flags_may_say_nothing() {
        let key = (INSIGHTS, "InstrumentationKey=0");
        let (telemetry, _) = read_as(Role::CustomHandler, &[ENDPOINT, key]);
        assert!(!telemetry.sampler.follows_parent);
        let (telemetry, _) = read_as(Role::CustomHandler, &[ENDPOINT]);
        assert!(telemetry.sampler.follows_parent);
        let (telemetry, _) = read_alone(&[ENDPOINT, key]);
        assert!(telemetry.sampler.follows_parent);
    }

    #[test]
    fn the_resource_is_the_functions_hosts_and_the_owners() {
        let resource = |variables: &[(&str, &str)]| read_alone(variables).0.resource;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(resource(&[]), [pair("service.name", "flexwasm")]);
        let azure = [("WEBSITE_SITE_NAME", "app"), ("REGION_NAME", "westeurope"), ("CONTAINER_NAME", "1-2")];
        let expected = [
            pair("service.name", "app"),
            pair("cloud.provider", "azure"),
            pair("cloud.platform", "azure_functions"),
            pair("cloud.region", "westeurope"),
            pair("faas.instance", "1-2"),
        ];
        assert_eq!(resource(&azure), expected);
        let own = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=own,team=a%20b");
        assert_eq!(resource(&[own]), [pair("service.name", "own"), pair("team", "a b")]);
        let named = ("OTEL_SERVICE_NAME", "named");
        assert_eq!(resource(&[own, named]), [pair("service.name", "named"), pair("team", "a b")]);
    }

    /// Bytes that look random and are the same in each run.
    fn spread(seed: u64) -> [u8; 16] {
        let mix =
            |value: u64| value.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let (high, low) = (mix(seed + 1), mix(mix(seed + 1)));
        (u128::from(high) << 64 | u128::from(low ^ (low >> 29))).to_be_bytes()
    }

    #[test]
    fn a_ratio_decides_by_the_trace_and_a_parent_before_it() {
        let ratio = |ratio| Sampler { follows_parent: true, ratio };
        let ids = || (0..4000_u64).map(|n| uuid::Builder::from_random_bytes(spread(n)).into_uuid().as_u128());
        let share = |sampler: Sampler| ids().filter(|id| sampler.samples(*id, None)).count();
        assert_eq!([ratio(0.0), ratio(1.0)].map(share), [0, 4000]);
        assert!((900..1100).contains(&share(ratio(0.25))), "{}", share(ratio(0.25)));
        // Whoever samples more of them samples these too.
        assert!(ids().all(|id| !ratio(0.1).samples(id, None) || ratio(0.2).samples(id, None)));
        assert!(ratio(0.0).samples(1, Some(true)) && !ratio(1.0).samples(1, Some(false)));
        let own = Sampler { follows_parent: false, ratio: 0.0 };
        assert!(!own.samples(1, Some(true)));
    }
}
