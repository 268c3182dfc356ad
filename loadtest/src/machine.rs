//! What every reported figure names beside itself: machine, kernel, date, commit, command.

use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// Where and how a figure was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Processor model and core count.
    pub(crate) processor: String,
    /// Kernel release.
    pub(crate) kernel: String,
    /// Date, as asked for or of the system.
    pub(crate) date: String,
    /// Short commit, with `+changes` when the work tree differs from it.
    pub(crate) commit: String,
    /// The command line after the program.
    pub(crate) command: String,
}

impl Machine {
    /// Looks at this machine; `date` overrides the system's.
    pub(crate) fn look(date: Option<&str>) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown processor", |(_, model)| model.trim());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let mut commit = said("git", &["rev-parse", "--short", "HEAD"]);
        if !said("git", &["status", "--porcelain"]).is_empty() {
            commit += "+changes";
        }
        let args: Vec<String> = std::env::args().skip(1).collect();
        Self {
            processor: format!("{model}, {} cores", crate::launch::core_count()),
            kernel,
            date: date.map_or_else(|| said("date", &["-u", "+%F"]), str::to_owned),
            commit,
            command: format!("cargo run --release -p ekiden-loadtest -- {}", args.join(" ")),
        }
    }

    /// One line for a report.
    pub(crate) fn line(&self) -> String {
        let Self { processor, kernel, date, commit, command } = self;
        format!("{date}, commit {commit}; {processor}, Linux {kernel}; `{command}`")
    }

    /// For a JSON report.
    pub(crate) fn json(&self) -> Value {
        let Self { processor, kernel, date, commit, command } = self;
        json!({ "processor": processor, "kernel": kernel, "date": date, "commit": commit, "command": command })
    }
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(crate::results::package_dir()).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
