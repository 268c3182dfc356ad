//! Drives `openssl s_time`: one new connection after the other, each with a full TLS handshake and one small request. wrk,
//! which resumes sessions, is for the others.

use crate::failure::{Fallible, failure};
use crate::launch::{self, LOAD_CORE, Launch};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Runs it once, on the core of the load, for whole seconds, at least one. Gives the connections that were served and the
/// seconds they took.
pub(crate) fn run(
    to: SocketAddr,
    path: &str,
    body_len: usize,
    time: Duration,
    scratch: &Path,
) -> Fallible<(u64, f64)> {
    let program = launch::find_program("openssl");
    let program = program.ok_or_else(|| failure("openssl is not installed (apt install openssl)"))?;
    let seconds = time.as_secs().max(1);
    let mut launch = Launch::new("s_time", program, LOAD_CORE).args(["s_time", "-new", "-www", path]);
    launch = launch.arg("-time").arg(seconds.to_string()).arg("-connect").arg(to.to_string());
    let mut running = launch.start(scratch)?;
    running.wait(Duration::from_secs(seconds + 20))?;
    Ok((read(&running.printed(), body_len)?, seconds as f64))
}

fn read(text: &str, body_len: usize) -> Fallible<u64> {
    let line = text.lines().find_map(|line| {
        let (connections, rest) = line.split_once(" connections in ")?;
        let (_, bytes) = rest.split_once(" real seconds, ")?;
        Some((connections.parse::<u64>().ok()?, bytes.split(' ').next()?.parse::<usize>().ok()?))
    });
    let Some((connections, bytes)) = line else {
        let last = text.lines().rfind(|line| !line.is_empty()).unwrap_or("nothing");
        return Err(failure(format!("openssl s_time printed no count: {last}")));
    };
    if connections == 0 || bytes < body_len {
        return Err(failure(format!("{bytes} bytes of each of {connections} connections are too few")));
    }
    Ok(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_and_empty_answers_are_failures() {
        let said = "\n\n900 connections in 0.60s; 1500.00 connections/user sec, bytes read 100800\n\
            900 connections in 2 real seconds, 112 bytes read per connection\n";
        assert_eq!(read(said, 22).unwrap(), 900);
        assert!(read(said, 200).is_err());
        assert!(read(&said.replace("900", "0"), 22).is_err());
        assert!(read("unable to connect", 22).is_err());
    }
}
