//! Where and when figures were taken.

use serde::Serialize;
use std::process::Command;
use std::{fmt, fs};

#[derive(Serialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub memory_gb: f64,
    pub kernel: String,
    pub rustc: String,
    /// UTC, such as 2026-11-22.
    pub date: String,
}

impl fmt::Display for Machine {
    /// A table in Markdown.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, memory_gb, kernel, rustc, date } = self;
        write!(
            out,
            "| machine | |\n|---|---|\n| processor | {processors} × {processor} |\n| memory | {memory_gb} GB |\n"
        )?;
        write!(out, "| kernel | {kernel} |\n| compiler | {rustc} |\n| date | {date} |\n")
    }
}

impl Machine {
    /// What cannot be read is empty.
    pub fn read() -> Self {
        let value = |path: &str, name: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let said = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().ok();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
        };
        let memory = value("/proc/meminfo", "MemTotal");
        let memory_kib: f64 = memory.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
        Self {
            processor: value("/proc/cpuinfo", "model name"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gb: (memory_kib / 1024.0 / 1024.0 * 10.0).round() / 10.0,
            kernel: format!("Linux {}", said("uname", &["-r"])),
            rustc: said("rustc", &["--version"]),
            date: said("date", &["--utc", "+%Y-%m-%d"]),
        }
    }
}
