//! The app on this machine, held to an instance of the plan.

use super::Finding;
use crate::app::check::{self, Checked};
use crate::config::section::Problem;
use crate::config::units::{spell_duration, spell_size};
use crate::config::{self, AppSettings, Circumstances, Config};
use crate::engine::room;
use crate::observe::machine::Machine;
use crate::package::{Package, executable};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Where `flexwasm package` puts it, below the app root.
pub const PACKAGE: &str = "dist/flexwasm.zip";

/// After which Azure's load balancer gives up an answer that has not begun (flex-deploy.md §3.5).
const LOAD_BALANCER: Duration = Duration::from_secs(230);

/// How often the Functions host was seen to hold a body of known length before the custom handler gets a byte (docs/azure.md).
const COPIES_OF_A_BODY: u64 = 4;

/// What the Functions host itself was seen to use after load (docs/azure.md).
const FUNCTIONS_HOST_MEMORY: u64 = 215_000_000;

/// The app setting with the bytes of the largest body that the Functions host takes in.
const BODY_LIMIT: &str = "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT";

/// The most requests that `deploy.sh` lets the platform send to one instance.
const MAX_PER_INSTANCE: u32 = 1000;

/// Examines the app in `root`, and the package of it, for instances that are like `given`.
pub async fn examine(root: &Path, settings: AppSettings, given: &Circumstances, machine: Arc<Machine>) -> Vec<Finding> {
    let mut findings = package(root, &settings, given);
    let body_limit = settings.get(BODY_LIMIT).cloned();
    let config = match config::load_as_deployed(root, settings, given) {
        Ok(config) => config,
        Err(problems) => {
            findings.extend(changes(problems));
            return findings;
        }
    };
    findings.extend(executable(root).err().into_iter().flat_map(changes));
    let functions = config.functions.len();
    findings.push(Finding::Fine(format!("configuration: functions {functions}, pool.size {}", config.pool_size)));
    findings.push(concurrency(&config));
    findings.extend(deadlines(&config));
    findings.extend(changes(config.objections.clone()));
    findings.extend(config.notes.iter().cloned().map(Finding::Note));
    findings.push(Finding::Note(crate::describe::residency(&config)));
    findings.extend(bodies(&config, body_limit.as_deref(), given.machine_memory));
    match check::run(config.clone(), machine).await {
        Err(why) => findings.push(Finding::Change(why)),
        Ok(checked) => {
            findings.extend(checked.broken.iter().cloned().map(Finding::Change));
            // What a pool needs depends on the guests.
            let Some(fit) = checked.fit else { return findings };
            findings.extend(memory(&config, &checked, given.machine_memory));
            findings.push(match room::check_defaults(config.pool_size, fit) {
                Ok(()) => {
                    Finding::Fine("address space: the pool fits into a process of Linux with its defaults".into())
                }
                Err(why) => Finding::Change(format!("with Linux's defaults {why}")),
            });
        }
    }
    findings
}

fn package(root: &Path, settings: &AppSettings, given: &Circumstances) -> Vec<Finding> {
    let zip = root.join(PACKAGE);
    if !zip.exists() {
        return vec![Finding::Note(format!("package: there is no {PACKAGE}; make it with `flexwasm package`"))];
    }
    let package = match Package::unpack(&zip) {
        Ok(package) => package,
        Err(problems) => return changes(problems),
    };
    if let Err(problems) = package.load(package.folder(), settings.clone(), given) {
        return changes(problems);
    }
    match &package.stale(root)[..] {
        [] => vec![Finding::Fine(format!("package: {PACKAGE} holds this app, and what Azure needs to start it"))],
        stale => {
            let stale = stale.join(", ");
            vec![Finding::Change(format!("package: {PACKAGE} is not of this app ({stale}): run `flexwasm package`"))]
        }
    }
}

fn changes(problems: Vec<Problem>) -> Vec<Finding> {
    problems.iter().map(|problem| Finding::Change(problem.to_string())).collect()
}

fn concurrency(config: &Config) -> Finding {
    let size = config.pool_size;
    if config.pool_size_by_memory {
        let key = "extensions.http.maxConcurrentRequests";
        Finding::Change(format!("host.json: {key} is not set: set it, so that deploy.sh can pass it to the platform"))
    } else if size > MAX_PER_INSTANCE {
        let remedy = format!("set it to at most {MAX_PER_INSTANCE}, and let the platform start more instances");
        Finding::Change(format!(
            "pool.size {size} is more than deploy.sh lets the platform send to one instance: {remedy}"
        ))
    } else {
        Finding::Fine(format!("concurrency: deploy.sh sets perInstanceConcurrency to {size}, as many as the pool has"))
    }
}

/// That they are below `functionTimeout` is a condition of every configuration.
fn deadlines(config: &Config) -> Vec<Finding> {
    let finding = |function: &config::Function| {
        let (name, timeout) = (&function.name, spell_duration(function.limits.timeout));
        if function.limits.timeout < LOAD_BALANCER {
            return Finding::Fine(format!("deadline of {name}: {timeout}, below functionTimeout and Azure's 230 s"));
        }
        let remedy = "only answers that have begun by then get through; else set limits.timeout below 230s";
        Finding::Note(format!(
            "deadline of {name}: {timeout}, but Azure's load balancer gives up after 230 s: {remedy}"
        ))
    };
    config.functions.iter().map(finding).collect()
}

/// Bodies before they come to us: `limit` is what the app settings say about them, if they do.
fn bodies(config: &Config, limit: Option<&str>, instance: u64) -> Vec<Finding> {
    let largest = config.functions.iter().map(|function| function.limits.request_body).max().unwrap_or(0);
    let (spelled, remedy) = (spell_size(largest), format!("set it to {largest}, as deploy.sh does"));
    let mut findings = Vec::new();
    let taken = match limit.map(str::parse::<u64>) {
        None => largest,
        Some(Ok(limit)) if limit == largest => limit,
        Some(Ok(limit)) if limit < largest => {
            findings.push(Finding::Note(format!(
                "{BODY_LIMIT} {limit}: the Functions host refuses bodies that limits.requestBody ({spelled}) allows: {remedy}, or lower that"
            )));
            limit
        }
        Some(Ok(limit)) => {
            findings.push(Finding::Change(format!(
                "{BODY_LIMIT} {limit}: the Functions host takes bodies into memory that limits.requestBody ({spelled}) refuses: {remedy}"
            )));
            limit
        }
        Some(Err(_)) => return vec![Finding::Change(format!("{BODY_LIMIT} is not a number of bytes: {remedy}"))],
    };
    let free = instance.saturating_sub(config.total_memory).saturating_sub(FUNCTIONS_HOST_MEMORY);
    let fitting = free / COPIES_OF_A_BODY.saturating_mul(taken).max(1);
    let most = spell_size((free / COPIES_OF_A_BODY) >> 20 << 20);
    findings.push(if fitting == 0 {
        Finding::Note(format!(
            "bodies: the Functions host holds one of {} four times, which does not fit beside limits.totalMemory: send large ones chunked, \
             or set limits.requestBody to at most {most}",
            spell_size(taken)
        ))
    } else {
        Finding::Fine(format!(
            "bodies: {fitting} of {} at once fit into the Functions host, which holds each four times",
            spell_size(taken)
        ))
    });
    findings
}

fn memory(config: &Config, checked: &Checked, instance: u64) -> Vec<Finding> {
    let (total, pool) = (config.total_memory, u64::from(config.pool_size));
    let spelled = |bytes: u64| spell_size(bytes >> 20 << 20);
    let (all, whole) = (spelled(total), spelled(instance));
    // The Functions host and this process's own memory need the rest.
    if total > (instance / 4 * 3).min(instance.saturating_sub(config::BESIDE_GUESTS)) {
        let most = spelled((instance / 10 * 6).min(instance.saturating_sub(config::BESIDE_GUESTS)));
        return vec![Finding::Change(format!(
            "memory: limits.totalMemory is {all} of an instance's {whole}, and Azure ends a process that leaves too little: set \
             at most {most}, or take larger instances with deploy.sh --instance-memory"
        ))];
    }
    let fitting = total.checked_div(checked.initial_memory).unwrap_or(pool);
    if fitting < pool {
        return vec![Finding::Change(format!(
            "memory: of {pool} instances only {fitting} fit into limits.totalMemory ({all}) even when they start, the others \
             wait: set pool.size to {fitting}, or take larger instances with deploy.sh --instance-memory"
        ))];
    }
    let mut findings = vec![Finding::Fine(format!(
        "memory: {pool} instances start within limits.totalMemory, {all} of an instance's {whole}"
    ))];
    let largest = config.functions.iter().map(|function| function.limits.memory).max().unwrap_or(0);
    let greedy = total.checked_div(largest).unwrap_or(pool);
    if greedy < pool {
        findings.push(Finding::Note(format!(
            "memory: guests that take all of limits.memory ({}) leave room for {greedy} of them: lower it for functions that you do not trust",
            spell_size(largest)
        )));
    }
    findings
}
