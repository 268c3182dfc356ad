//! Drives `h2load` (of nghttp2): HTTP/2 over TLS, by ALPN. Every kind of error it knows makes the run a failure.

use crate::failure::{Fallible, failure};
use crate::launch::{self, LOAD_CORE, Launch};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Runs h2load once, on the core of the load, with so many streams at a time on each connection. Gives the whole answers
/// with status 2xx and the seconds they took. With `call` each request is one of gRPC with this body, and so must be the answer:
/// what a proxy answers by itself has the status 200 too, and no body.
pub(crate) fn run(
    to: SocketAddr,
    path: &str,
    (connections, streams): (usize, usize),
    call: Option<&[u8]>,
    time: Duration,
    scratch: &Path,
) -> Fallible<(u64, f64)> {
    let program = launch::find_program("h2load");
    let program = program.ok_or_else(|| failure("h2load is not installed (apt install nghttp2-client)"))?;
    let mut launch = Launch::new("h2load", program, LOAD_CORE).args(["-t1", "--npn-list=h2"]);
    launch = launch.arg(format!("-c{connections}")).arg(format!("-m{streams}"));
    if let Some(message) = call {
        let file = scratch.join("call.bin");
        std::fs::write(&file, message)?;
        launch = launch.arg("-d").arg(file);
        launch = launch.args(["-Hcontent-type: application/grpc", "-Hte: trailers"]);
    }
    launch = launch.arg(format!("-D{}ms", time.as_millis())).arg(format!("https://{to}{path}"));
    let mut running = launch.start(scratch)?;
    running.wait(time + Duration::from_secs(30))?;
    let printed = running.printed();
    let (good, seconds) = read(&printed, time)?;
    let wanted = call.map_or(0, |message| good * message.len() as u64);
    if wanted > 0 && body_bytes(&printed).is_none_or(|bytes| bytes < wanted) {
        return Err(failure(format!("h2load saw answers without a message:\n{printed}")));
    }
    Ok((good, seconds))
}

/// Bytes of all bodies: `traffic: 1.2MB (1234) total, 3KB (34) headers (space savings 9%), 4KB (45) data`.
fn body_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("traffic: "))?;
    let (_, data) = line.strip_suffix(") data")?.rsplit_once('(')?;
    data.parse().ok()
}

fn read(text: &str, time: Duration) -> Fallible<(u64, f64)> {
    if !text.contains("Application protocol: h2") {
        return Err(failure(format!("h2load did not speak HTTP/2:\n{text}")));
    }
    let line = text.lines().find_map(|line| line.strip_prefix("status codes: "));
    let counts: Vec<u64> =
        line.unwrap_or("").split(", ").filter_map(|part| part.split(' ').next()?.parse().ok()).collect();
    let [good, others @ ..] = &counts[..] else {
        return Err(failure(format!("h2load printed no status codes:\n{text}")));
    };
    let failed = text.lines().find_map(|line| line.strip_prefix("requests: "));
    let lost = failed.is_none_or(|line| !line.contains(" 0 failed, 0 errored, 0 timeout"));
    if *good == 0 || others.iter().any(|count| *count > 0) || lost {
        return Err(failure(format!("h2load saw errors:\n{text}")));
    }
    Ok((*good, time.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Application protocol: h2\n\
        requests: 812 total, 844 started, 812 done, 812 succeeded, 0 failed, 0 errored, 0 timeout\n\
        status codes: 812 2xx, 0 3xx, 0 4xx, 0 5xx\n";

    #[test]
    fn bodies_are_summed_up() {
        let line = "traffic: 1.2MB (1234) total, 3KB (34) headers (space savings 9%), 4KB (45) data\n";
        assert_eq!(body_bytes(line), Some(45));
        assert_eq!(body_bytes("traffic: none"), None);
    }

    #[test]
    fn answers_are_counted_and_errors_are_failures() {
        let second = Duration::from_secs(1);
        assert_eq!(read(SAID, second).unwrap(), (812, 1.0));
        let bad = [
            SAID.replace("h2\n", "http/1.1\n"),
            SAID.replace("0 5xx", "1 5xx"),
            SAID.replace("0 errored", "3 errored"),
            SAID.replace("812 2xx", "0 2xx"),
            "Application protocol: h2\n".to_owned(),
        ];
        for text in bad {
            assert!(read(&text, second).is_err(), "{text}");
        }
    }
}
