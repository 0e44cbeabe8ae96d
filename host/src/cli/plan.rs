//! `flexwasm plan`.

use super::output::{Ended, print};
use crate::plan::{self, Load};
use crate::timeline::log;
use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

/// Seconds that a guest computes, unless told otherwise.
const CPU: f64 = 0.001;

/// The most that an option may say, which keeps every result a number.
const MOST: f64 = 1e9;

const AFTER_HELP: &str = "\
Rate and latency are averages. Requests are taken to arrive independently of each other; where yours come in bursts, let a log tell: \
--from-log takes what `flexwasm timeline` takes. \
docs/cost.md has the formulas, the prices and their date.

Examples:
  flexwasm plan --rps 100 --latency 0.2 --cpu 0.005 --memory 16
  flexwasm plan --from-log flexwasm.log";

/// Tell how many instances a load needs on the Flex Consumption plan, what to set, and what it costs a month
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Plan {
    /// Requests a second, on average
    #[arg(long, value_name = "R", value_parser = positive, required_unless_present = "from_log", conflicts_with = "from_log")]
    rps: Option<f64>,
    /// Seconds that a request takes, on average
    #[arg(long, value_name = "S", value_parser = positive, required_unless_present = "from_log", conflicts_with = "from_log")]
    latency: Option<f64>,
    /// MB of memory that a guest takes for a request
    #[arg(long, value_name = "MB", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=4096))]
    memory: u64,
    /// Seconds of the latency that a guest computes, with a core of its own [default: 0.001]
    #[arg(long, value_name = "S", value_parser = positive)]
    cpu: Option<f64>,
    /// Measure rate, latency and bursts from the log of a host
    #[arg(long, value_name = "FILE")]
    from_log: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && *number <= MOST);
    number.ok_or_else(|| "write a number above 0, such as 0.5".to_owned())
}

impl Plan {
    /// Prints a line for each size of instance, and what to do for the cheapest.
    pub fn run(self) -> Result<ExitCode, Ended> {
        let arrivals = match &self.from_log {
            Some(file) => {
                let log = File::open(file)
                    .map_err(|error| format!("{} cannot be read ({error}): name the file of a log", file.display()))?;
                plan::arrivals(&log::read(BufReader::new(log))?)
            }
            None => Vec::new(),
        };
        let averages = self.rps.zip(self.latency).or_else(|| plan::averages(&arrivals));
        let (rate, latency) = averages.ok_or_else(|| {
            "no request of this log ran for any time: give --rps and --latency in its place".to_owned()
        })?;
        if let Some(cpu) = self.cpu.filter(|cpu| *cpu > latency) {
            return Err(Ended::Wrong(format!(
                "--cpu {cpu} is more than the latency of {latency} s, of which it is a part: give at most that"
            )));
        }
        let load = Load { rate, latency, cpu: self.cpu.unwrap_or(CPU.min(latency)), memory: self.memory << 20 };
        let plans = plan::plans(&load, &arrivals);
        let fitting = plans.iter().filter_map(|(_, plan)| plan.as_ref().ok());
        let Some(cheapest) = fitting.min_by(|one, other| one.dollars.total_cmp(&other.dollars)) else {
            let whys: Vec<_> =
                plans.iter().filter_map(|(size, plan)| Some(format!("{size} MB: {}", plan.as_ref().err()?))).collect();
            return Err(Ended::Failed(format!(
                "no size of instance does for this load ({}): divide it among several apps, or lower --memory or --cpu",
                whys.join("; ")
            )));
        };
        let mut text = format!(
            "{rate:.2} requests a second of {latency:.3} s: {:.1} at the same time on average, {} at the peak\n\n\
             instance  at once  instances  memory of guests  billed seconds a month    $ a month\n",
            rate * latency,
            cheapest.peak
        );
        for (size, plan) in &plans {
            const ENDLESS: &str = "a string takes everything";
            match plan {
                Ok(plan::Plan { at_once, instances, guests, billed, dollars, .. }) => writeln!(
                    text,
                    "{size:>5} MB {at_once:>8} {instances:>10} {:>14} MB {billed:>23.0} {dollars:>12.2}",
                    guests >> 20
                )
                .expect(ENDLESS),
                Err(why) => writeln!(text, "{size:>5} MB does not do: {why}").expect(ENDLESS),
            }
        }
        let plan::Plan { size, at_once, instances, .. } = cheapest;
        // What deploy.sh allows unless told otherwise.
        let more = if *instances > 100 { format!(" --max-instances {instances}") } else { String::new() };
        write!(
            text,
            "\nIn host.json, which sets pool.size and perInstanceConcurrency:\n\n  \
             \"extensions\": {{ \"http\": {{ \"maxConcurrentRequests\": {at_once} }} }}\n\nThen:\n\n  \
             ./deploy.sh --instance-memory {size}{more}\n"
        )
        .expect("a string takes everything");
        print(format_args!("{text}"))?;
        Ok(ExitCode::SUCCESS)
    }
}
