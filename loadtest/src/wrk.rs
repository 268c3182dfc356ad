//! Drives `wrk` and reads what it counted. Every kind of error it knows makes the run a failure.

use crate::failure::{Fallible, failure};
use crate::launch::{self, LOAD_CORE, Launch};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Tells the summary on one line of its own; wrk's text for people is not parsed.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("SUMMARY %d %d %d %d %d %d %d %d %d\n", summary.requests, summary.bytes,
    summary.duration, e.connect, e.read, e.write, e.status, e.timeout, latency:percentile(99)))
end
"#;

/// One run of wrk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counted {
    /// Whole answers, none of them an error.
    pub(crate) requests: u64,
    /// Bytes read, heads included.
    pub(crate) bytes: u64,
    /// Length of the run.
    pub(crate) seconds: f64,
    /// 99th percentile of a closed loop in microseconds: for reading only.
    pub(crate) p99_us: u64,
}

/// What to drive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    /// The proxy.
    pub(crate) to: SocketAddr,
    /// Path of each request.
    pub(crate) path: &'a str,
    /// Bytes of each body, checked by the sum.
    pub(crate) body_len: usize,
    /// A new connection for every request.
    pub(crate) close: bool,
    /// Over TLS; the certificate is not verified.
    pub(crate) tls: bool,
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Length in whole or half seconds; wrk takes whole ones, see [`run`].
    pub(crate) time: Duration,
}

/// Runs wrk once, on the core of the load. wrk counts in whole seconds; a shorter time is made by ending it with
/// SIGINT, after which it still prints its summary.
pub(crate) fn run(load: &Load<'_>, scratch: &Path) -> Fallible<Counted> {
    let wrk = launch::find_program("wrk").ok_or_else(|| failure("wrk is not installed (apt install wrk)"))?;
    let script = scratch.join("summary.lua");
    fs::write(&script, SCRIPT)?;
    let mut launch = Launch::new("wrk", wrk, LOAD_CORE).args(["-t1", "--timeout", "10s"]);
    launch = launch.arg(format!("-c{}", load.connections)).arg("-s").arg(script);
    launch = launch.arg(format!("-d{}s", load.time.as_secs() + u64::from(load.time.subsec_nanos() > 0)));
    if load.close {
        launch = launch.args(["-H", "Connection: close"]);
    }
    let scheme = if load.tls { "https" } else { "http" };
    let mut running = launch.arg(format!("{scheme}://{}{}", load.to, load.path)).start(scratch)?;
    if load.time.subsec_nanos() > 0 {
        std::thread::sleep(load.time);
        running.signal(rustix::process::Signal::INT);
    }
    running.wait(load.time + Duration::from_secs(20))?;
    let counted = read(&running.printed())?;
    if counted.requests == 0 {
        return Err(failure("wrk got no answer at all"));
    }
    if counted.bytes < counted.requests * load.body_len as u64 {
        return Err(failure(format!("{} bytes are too few for {} answers", counted.bytes, counted.requests)));
    }
    Ok(counted)
}

fn read(text: &str) -> Fallible<Counted> {
    let line = text.lines().find_map(|line| line.strip_prefix("SUMMARY "));
    let numbers: Vec<u64> = line.unwrap_or("").split(' ').filter_map(|word| word.parse().ok()).collect();
    let [requests, bytes, micros, connect, read, write, status, timeout, p99_us] = numbers[..] else {
        return Err(failure(format!("wrk printed no summary:\n{text}")));
    };
    if connect + read + write + status + timeout > 0 {
        return Err(failure(format!(
            "wrk saw errors: connect {connect}, read {read}, write {write}, status {status}, timeout {timeout}"
        )));
    }
    Ok(Counted { requests, bytes, seconds: micros as f64 / 1e6, p99_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read_and_errors_are_failures() {
        let counted = read("Running\nSUMMARY 100 22000 500000 0 0 0 0 0 812\n").unwrap();
        assert_eq!(counted, Counted { requests: 100, bytes: 22_000, seconds: 0.5, p99_us: 812 });
        for at in 3..8 {
            let mut words = ["100", "1", "1", "0", "0", "0", "0", "0", "1"];
            words[at] = "2";
            let error = read(&format!("SUMMARY {}\n", words.join(" "))).unwrap_err();
            assert!(error.0.contains("2"), "{error}");
        }
        assert!(read("unable to connect").is_err());
    }
}
