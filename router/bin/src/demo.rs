//! `ekiden demo`: three small origins with an id, a router in front, and a table that swaps while you watch.
//!
//! Everything in one process and on loopback. The origins are toys: one request at a time, one connection per thread.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ekiden_control::{AddressFlag, Options};
use ekiden_router::listen::Inherited;

use crate::cli::Demo;
use crate::signals::{Asked, Signals};
use crate::start::{Running, start};
use crate::{descriptors, exit, logging};

/// Time between two swaps.
const SWAP_EVERY: Duration = Duration::from_secs(3);

/// Runs the demo until Ctrl-C or `--seconds`.
pub(crate) fn demo(arguments: &Demo) -> ExitCode {
    logging::install();
    descriptors::raise_limit();
    let dir = std::env::temp_dir().join(format!("ekiden-demo-{}", std::process::id()));
    let played = play(arguments, &dir);
    // What cannot be removed is in the directory for temporary files, where it does no harm.
    let _left_for_the_system = std::fs::remove_dir_all(&dir);
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop { reason, code }) => {
            logging::say(format_args!("error: {reason}"));
            code
        }
    }
}

struct Stop {
    reason: String,
    code: ExitCode,
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop { reason: error.to_string(), code: exit::system() }
    }
}

fn play(arguments: &Demo, dir: &std::path::Path) -> Result<(), Stop> {
    let mut origins = Vec::new();
    for name in ["tokyo", "odawara", "hakone"] {
        origins.push((name, origin(name)?));
    }
    std::fs::create_dir_all(dir)?;
    let file = dir.join("demo.toml");
    std::fs::write(&file, configuration(arguments.port, &origins))?;
    let at = |offset: u16| {
        AddressFlag::At(ekiden_config::model::Address::Tcp(loopback(arguments.port.saturating_add(offset))))
    };
    let options = Options {
        file,
        telemetry: at(1),
        control: at(2),
        run_dir: Some(dir.join("state")),
        ..Options::default()
    };
    let loaded = ekiden_control::load(options)
        .map_err(|refused| Stop { reason: refused.to_string(), code: exit::invalid() })?;
    let running = start(loaded, Some(2), Inherited::default())
        .map_err(|failed| Stop { reason: failed.reason, code: failed.code })?;
    println!("{}", greeting(arguments.port));
    let end = arguments.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signal(Arc::clone(&stop));
    swap_until(end, &stop, arguments.port, &origins);
    let Running { router, control, telemetry } = running;
    control.stop();
    drop(telemetry);
    router.stop();
    Ok(())
}

/// Ends the demo in order on Ctrl-C and SIGTERM; without a runtime for signals they end it as they always do.
fn stop_on_signal(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let Ok(mut signals) = Signals::listen() else { return };
            while signals.next().await != Asked::End {}
            stop.store(true, Ordering::Release);
        });
    });
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn configuration(port: u16, origins: &[(&str, SocketAddr)]) -> String {
    let mut text = format!(
        "[listener.edge]\naddress = \"127.0.0.1:{port}\"\n\n[access_log]\nto = \"off\"\n\n[cluster.web]\n"
    );
    text.push_str("probe = { path = \"/healthz\" }\nbalance = \"round_robin\"\nendpoints = [\n");
    for (name, address) in origins.iter().take(2) {
        let _ = writeln!(text, "  {{ id = \"{name}\", address = \"{address}\" }},");
    }
    text.push_str("]\n\n[[route]]\ncluster = \"web\"\n");
    text
}

fn greeting(port: u16) -> String {
    let (telemetry, control) = (port.saturating_add(1), port.saturating_add(2));
    format!(
        "\nEkiden relays. Open or curl:\n\
         \x20 http://127.0.0.1:{port}/               an origin answers with its name; reload to see the next\n\
         \x20 http://127.0.0.1:{telemetry}/metrics        what the router did\n\
         \x20 http://127.0.0.1:{telemetry}/readyz?verbose what it is ready for\n\
         \x20 http://127.0.0.1:{control}/v1/table       the table in force\n\
         Every {} s a third origin joins or leaves; each swap below is one PUT or DELETE. Ctrl-C ends.\n",
        SWAP_EVERY.as_secs()
    )
}

/// Joins and removes the third origin through the control API, with requests flowing, and tells what came of it.
fn swap_until(end: Option<Instant>, stop: &AtomicBool, port: u16, origins: &[(&str, SocketAddr)]) {
    let Some((name, address)) = origins.last() else { return };
    let control = loopback(port.saturating_add(2));
    let path = format!("/v1/apps/default/clusters/web/endpoints/{name}");
    let mut joined = false;
    while end.is_none_or(|end| Instant::now() < end) && !stop.load(Ordering::Acquire) {
        let (method, body) = if joined {
            ("DELETE", String::new())
        } else {
            ("PUT", format!("{{\"address\": \"{address}\"}}"))
        };
        let answer = call(control, method, &path, &body).unwrap_or_else(|error| error.to_string());
        joined = !joined;
        println!("{method} {path} -> {}", answer.lines().last().unwrap_or("").trim());
        let (served, failed) = traffic(loopback(port), SWAP_EVERY.min(left(end)), stop);
        let counts: Vec<String> = served.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!("  {}; failed requests: {failed}", counts.join(", "));
    }
}

fn left(end: Option<Instant>) -> Duration {
    end.map_or(SWAP_EVERY, |end| end.saturating_duration_since(Instant::now()))
}

/// Requests the router, gently, for a while: how many each origin answered, and how many failed.
fn traffic(
    router: SocketAddr,
    time: Duration,
    stop: &AtomicBool,
) -> (std::collections::BTreeMap<String, u32>, u32) {
    let (mut served, mut failed) = (std::collections::BTreeMap::new(), 0);
    let end = Instant::now() + time;
    while Instant::now() < end && !stop.load(Ordering::Acquire) {
        match call(router, "GET", "/", "") {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => {
                let name = answer.lines().last().unwrap_or("").trim().to_owned();
                *served.entry(name).or_default() += 1;
            }
            Ok(_) | Err(_) => failed += 1,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    (served, failed)
}

fn call(to: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// An origin that answers every request with its name.
fn origin(name: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(loopback(0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_all(name, stream));
        }
    });
    Ok(address)
}

fn answer_all(name: &str, stream: TcpStream) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}\n", name.len() + 1)?;
        }
    }
}
