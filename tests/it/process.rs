//! The process as a supervisor, a shell and a person see it: signals, exit codes, sockets handed over, commands.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ekiden_tests::{
    Background, Client, Ekiden, Load, MIXED, Origin, Refused, Run, Served, Setup, Stamped, Tally, binary,
    finished, free_port, until, until_true, web,
};
use serde_json::Value;

/// An origin that answers `/held` once the gate opens, and everything else at once.
fn held() -> (Origin, Arc<AtomicBool>) {
    let gate = Arc::new(AtomicBool::new(false));
    let opens = Arc::clone(&gate);
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/held" {
                until_true("the gate", || opens.load(Ordering::Acquire));
            }
            conn.answer(&request, "done");
        }
    });
    (origin, gate)
}

/// A client whose request is at the origin and stays there.
fn in_flight(router: &Ekiden, origin: &Origin) -> Client {
    let mut client = router.client();
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    until_true("the request at the origin", || {
        (1..=origin.connections()).any(|number| origin.received(number).starts_with(b"GET /held"))
    });
    client
}

fn telemetry(router: &Ekiden, path: &str) -> u16 {
    Client::connect(router.telemetry).get("localhost", path).status
}

fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_then_ends() {
    let (origin, gate) = held();
    let setup =
        Setup::new(web(&[origin.address], "", "")).top("drain_grace = \"1s\"\ndrain_timeout = \"60s\"");
    let mut router = Ekiden::start(setup.workers(2));
    let mut client = in_flight(&router, &origin);
    let mut idle = router.client();
    assert_eq!(idle.get("a", "/").status, 200);

    let asked = Instant::now();
    router.terminate();
    until_true("/readyz to say 503", || router.readyz().0 == 503);
    assert!(asked.elapsed() < Duration::from_millis(800), "a balancer hears of the end only after the grace");
    assert_eq!(telemetry(&router, "/livez"), 200, "a supervisor would kill a process that is draining");
    let late = router.client().get("a", "/");
    assert_eq!(late.status, 200, "a client that came within the grace is turned away");
    assert!(late.says_close(), "a client is told to stay on a connection that ends soon: {late:?}");

    until_true("the listener to close", || refuses(router.address()));
    assert_eq!(idle.rest(), b"", "an idle connection is not simply closed");
    assert_eq!(router.has_ended(), None, "the process ends with a request in flight");
    assert_eq!(telemetry(&router, "/readyz"), 503);

    gate.store(true, Ordering::Release);
    let answer = client.response();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "done"),
        "the request in flight was not finished"
    );
    let freed = Instant::now();
    assert_eq!(router.wait().code(), Some(0), "an asked-for end is a failure to the supervisor");
    assert!(
        freed.elapsed() < Duration::from_secs(5),
        "nothing is in flight and the process waits for its drain timeout"
    );
}

#[test]
fn an_idle_process_ends_at_once() {
    let origin = Stamped::start("idle");
    for number in [libc::SIGTERM, libc::SIGINT] {
        let setup =
            Setup::new(web(&[origin.address], "", "")).top("drain_grace = \"0s\"\ndrain_timeout = \"60s\"");
        let mut router = Ekiden::start(setup);
        let mut client = router.client();
        assert_eq!(client.get("a", "/").status, 200);
        let asked = Instant::now();
        router.signal(number);
        assert_eq!(router.wait().code(), Some(0), "signal {number}");
        assert!(asked.elapsed() < Duration::from_secs(4), "idle, and it took {:?}", asked.elapsed());
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn a_second_sigterm_ends_now() {
    let (origin, _gate) = held();
    for grace in ["0s", "30s"] {
        let top = format!("drain_grace = \"{grace}\"\ndrain_timeout = \"60s\"");
        let mut router = Ekiden::start(Setup::new(web(&[origin.address], "", "")).top(&top));
        let mut client = in_flight(&router, &origin);
        router.terminate();
        until_true("the drain", || router.readyz().0 == 503);
        assert_eq!(router.has_ended(), None);
        let asked = Instant::now();
        router.terminate();
        router.wait();
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "the second SIGTERM is not heeded: {:?}",
            asked.elapsed()
        );
        client.rest();
    }
}

#[test]
fn the_drain_timeout_ends_what_does_not_end() {
    let (origin, _gate) = held();
    let top = "drain_grace = \"0s\"\ndrain_timeout = \"700ms\"";
    let mut router = Ekiden::start(Setup::new(web(&[origin.address], "", "")).top(top));
    let mut client = in_flight(&router, &origin);
    let asked = Instant::now();
    router.terminate();
    router.wait();
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(700), "a request in flight got only {took:?} of its 700 ms");
    assert!(took < Duration::from_secs(5), "a hung request holds the process for {took:?}");
    client.rest();
    let record = &router.records(1)[0];
    assert_ne!(record["code"], "complete", "a request that was cut is logged as complete: {record}");
}

#[test]
fn a_drain_under_load_fails_nothing() {
    let origin = Stamped::start("origin");
    let setup = Setup::new(web(&[origin.address], "", "")).top("drain_grace = \"500ms\"").workers(2);
    let mut router = Ekiden::start(setup);
    let load = Load::start(router.address(), 16, MIXED, Refused::Ends);
    load.serve_more(200);
    router.terminate();
    assert_eq!(router.wait().code(), Some(0));
    let Tally { served, failed } = load.join();
    assert!(failed.is_empty(), "an orderly end failed requests ({served} served): {failed:#?}");
}

/// A connection that the kernel has made is served; who comes after the end is refused. Nobody is reset in between.
#[test]
fn a_drain_resets_nobody_who_connects() {
    let origin = Stamped::start("origin");
    let setup = Setup::new(web(&[origin.address], "", "")).top("drain_grace = \"50ms\"").workers(2);
    let mut router = Ekiden::start(setup);
    let address = router.address();
    let clients: Vec<_> = (0..32).map(|_| thread::spawn(move || connect_until_refused(address))).collect();
    router.terminate();
    let failed: Vec<String> = clients.into_iter().filter_map(|client| client.join().unwrap()).collect();
    assert!(failed.is_empty(), "clients that were let in got no answer: {failed:#?}");
    assert_eq!(router.wait().code(), Some(0));
}

/// A request on a connection of its own, again and again, until nobody listens; else what went wrong.
fn connect_until_refused(address: SocketAddr) -> Option<String> {
    loop {
        let stream = match TcpStream::connect(address) {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return None,
            Err(error) => return Some(format!("connect: {error}")),
        };
        let mut client = Client::over(stream);
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        match client.read(false) {
            Ok(response) if response.status == 200 => {}
            other => return Some(format!("{other:?}")),
        }
    }
}

#[test]
fn a_second_process_on_the_same_address_is_told_so_and_harms_nothing() {
    let origin = Stamped::start("origin");
    let first = Ekiden::start(Setup::new(web(&[origin.address], "", "")).workers(2));
    let load = Load::start(first.address(), 8, MIXED, Refused::Fails);
    load.serve_more(50);
    let run = Run { text: Some(first.setup().config()), ..Run::default() };
    let mut second = Ekiden::spawn(Setup::new("").workers(2), run);
    assert_eq!(
        second.wait().code(),
        Some(3),
        "a supervisor cannot tell a taken address from a bad file: {}",
        second.errors()
    );
    second.wait_error(&first.address().to_string());
    load.serve_more(50);
    let failed = load.stop().failed;
    assert!(failed.is_empty(), "the second process took connections of the first: {failed:?}");
}

#[test]
fn a_run_directory_has_one_owner() {
    let origin = Stamped::start("origin");
    let first = Ekiden::start(Setup::new(web(&[origin.address], "", "")));
    let (file, dir) = (first.setup().dir().join("other.toml"), first.setup().dir().join("run"));
    let other = Setup::new(web(&[origin.address], "", ""));
    fs::write(&file, other.config()).unwrap();
    let mut command = Command::new(binary());
    command.arg("run").arg(file).args(["--telemetry", "off", "--control", "off", "--run-dir"]).arg(dir);
    let second = finished(&mut command);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(4), "two processes would write one journal: {said}");
    assert!(said.contains(&format!("pid {}", first.id())), "who holds it is not said: {said}");
    assert_eq!(first.get("/").status, 200, "the first goes on");
}

/// Binds, listens, hands the socket over as descriptor 3 and becomes the command.
const ACTIVATE: &str = "\
import os, socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('127.0.0.1', int(sys.argv[1])))
listener.listen(64)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')
os.execv(sys.argv[2], sys.argv[2:])
";

#[test]
fn inherited_sockets_are_served() {
    let origin = Stamped::start("origin");
    let setup = Setup::new(web(&[origin.address], "", "")).workers(2);
    let (address, port) = (setup.address(), setup.address().port().to_string());
    let wrapper = ["python3", "-c", ACTIVATE, &port].map(str::to_owned).to_vec();
    let mut router = Ekiden::spawn(setup, Run { wrapper, ..Run::default() });
    // The socket listens before the router runs: whoever comes now must be served all the same.
    let mut early =
        until("the service manager's socket", || TcpStream::connect(address).ok().map(Client::over));
    early.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(early.response().status, 200, "a client that came during the start is lost");
    until_true("readiness", || router.readyz().0 == 200);
    for _ in 0..20 {
        assert_eq!(router.get("/").status, 200);
    }
    router.terminate();
    assert_eq!(router.wait().code(), Some(0), "{}", router.errors());
}

#[test]
fn a_service_manager_is_told_of_start_and_end() {
    let (origin, setup) = (Stamped::start("origin"), Setup::new(""));
    let path = setup.dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(ekiden_tests::DEADLINE)).unwrap();
    let told = |what: &str| {
        let mut message = [0; 512];
        loop {
            let count = manager.recv(&mut message).unwrap_or_else(|error| panic!("no {what}: {error}"));
            if String::from_utf8_lossy(&message[..count]).lines().any(|line| line == what) {
                return;
            }
        }
    };
    let text = Some(setup.config_with(&web(&[origin.address], "", "")));
    let environment = vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())];
    let mut router = Ekiden::spawn(setup, Run { text, environment, ..Run::default() });
    told("READY=1");
    assert_eq!(router.get("/").status, 200, "systemd was told READY=1 before the router serves");
    // A reload right after READY=1 is what `systemctl reload` may do.
    router.signal(libc::SIGHUP);
    assert_eq!(router.get("/").status, 200);
    router.terminate();
    told("STOPPING=1");
    assert_eq!(router.wait().code(), Some(0), "{}", router.errors());
}

#[test]
fn busy_telemetry_and_control_addresses_do_not_stop_traffic() {
    let origin = Stamped::start("origin");
    let setup = Setup::new(web(&[origin.address], "", ""));
    fs::write(setup.file(), setup.config()).unwrap();
    let busy = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = busy.each_ref().map(|listener| listener.local_addr().unwrap().to_string());
    let mut command = Command::new(binary());
    command.arg("run").arg(setup.file()).args([
        "--workers",
        "1",
        "--telemetry",
        &addresses[0],
        "--control",
        &addresses[1],
    ]);
    let router = Background::start(command.arg("--run-dir").arg(setup.dir().join("run")));
    let ask =
        || TcpStream::connect(setup.address()).ok().map(|stream| Client::over(stream).get("a", "/").status);
    assert_eq!(until("the listener", ask), 200, "a busy telemetry or control port stops traffic");
    for address in &addresses {
        until_true(&format!("word of {address} on standard error"), || {
            router.errors().lines().any(|line| line.contains("ERROR") && line.contains(address.as_str()))
        });
    }
    drop(busy);
    for (address, path) in addresses.iter().zip(["/readyz", "/v1/status"]) {
        until_true(&format!("{path} on {address} once it is free"), || {
            TcpStream::connect(address).is_ok_and(|stream| {
                let mut client = Client::over(stream);
                client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
                client.read(false).is_ok_and(|response| response.status == 200)
            })
        });
    }
    assert_eq!(ask(), Some(200));
}

#[test]
fn telemetry_and_control_can_be_off() {
    let origin = Stamped::start("origin");
    let setup = Setup::new(web(&[origin.address], "", ""));
    fs::write(setup.file(), setup.config()).unwrap();
    let mut command = Command::new(binary());
    command.arg("run").arg(setup.file()).args(["--telemetry", "off", "--control", "off", "--run-dir"]);
    let mut router = Background::start(command.arg(setup.dir().join("run")));
    let ask =
        || TcpStream::connect(setup.address()).ok().map(|stream| Client::over(stream).get("a", "/").status);
    assert_eq!(until("the listener", ask), 200);
    let listening = Command::new("ss").args(["-Hltnp"]).output();
    if let Ok(listening) = listening {
        let text = String::from_utf8_lossy(&listening.stdout).into_owned();
        let own = text.lines().filter(|line| line.contains(&format!("pid={},", router.id())));
        let other = own.filter(|line| !line.contains(&setup.address().to_string())).count();
        assert_eq!(other, 0, "something listens although it is off:\n{text}");
    }
    router.signal(libc::SIGTERM);
    assert_eq!(router.wait().code(), Some(0));
}

const BAD: &str = "[listener.edge]\naddres = \"127.0.0.1:1\"\n[cluster.web]\nendpoints = [\"nonsense\"]\nbalance = \"p2\"\n\
                   [[route]]\ncluster = \"wbe\"\n";

fn run_with(text: Option<&str>) -> (Option<i32>, String) {
    let setup = Setup::new("");
    if let Some(text) = text {
        fs::write(setup.file(), text).unwrap();
    }
    let mut command = Command::new(binary());
    command.arg("run").arg(setup.file()).args(["--telemetry", "off", "--control", "off", "--run-dir"]);
    let output = finished(command.arg(setup.dir().join("run")));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_configuration_that_cannot_serve_ends_with_1_and_all_errors() {
    let (code, said) = run_with(Some(BAD));
    assert_eq!(code, Some(1), "{said}");
    for word in [
        "did you mean `address`?",
        "nonsense",
        "did you mean \"p2c\"?",
        "did you mean `web`?",
        ":2:",
        ":4:",
        ":5:",
        ":7:",
    ] {
        assert!(said.contains(word), "one run does not tell {word:?}:\n{said}");
    }
    for (what, text) in [("empty", Some("")), ("missing", None), ("no TOML", Some("[[["))] {
        let (code, said) = run_with(text);
        assert_eq!(code, Some(1), "{what}: {said}");
        assert!(said.contains("ekiden.toml"), "{what}: which file is not said: {said}");
    }
}

fn ekiden(arguments: &[&str]) -> (Option<i32>, String) {
    let output = finished(Command::new(binary()).args(arguments));
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn check_tells_every_error_and_exits_with_it() {
    let (good, bad) = (Setup::new(web(&[SocketAddr::from(([127, 0, 0, 1], 3000))], "", "")), Setup::new(""));
    fs::write(good.file(), good.config()).unwrap();
    fs::write(bad.file(), BAD).unwrap();
    let (good, bad) = (good.file(), bad.file());
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let (code, said) = ekiden(&["check", good]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = ekiden(&["check", bad]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("did you mean `address`?")
            && said.contains("did you mean `web`?")
            && said.contains("^"),
        "{said}"
    );

    let (code, said) = ekiden(&["check", good, "--format", "json"]);
    assert_eq!((code, serde_json::from_str(&said).ok()), (Some(0), Some(Value::Array(Vec::new()))), "{said}");
    let (code, said) = ekiden(&["check", bad, "--format", "json"]);
    let all: Vec<Value> = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(code, Some(1));
    assert!(all.len() >= 4, "an editor sees only some errors: {said}");
    for found in &all {
        let is_placed = found["line"].as_u64() > Some(0) && found["column"].as_u64() > Some(0);
        assert!(
            is_placed && found["code"].is_string() && found["file"].is_string(),
            "an editor cannot show {found}"
        );
    }
}

#[test]
fn small_commands_print_what_scripts_read() {
    let (code, said) = ekiden(&["schema"]);
    let schema: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(code, Some(0));
    assert!(
        schema["$schema"].is_string() && schema["properties"]["listener"].is_object(),
        "no use to an editor"
    );

    let (code, said) = ekiden(&["version", "--json"]);
    let version: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, version["name"].as_str()), (Some(0), Some("ekiden")));
    let number = version["version"].as_str().unwrap();
    assert_eq!(ekiden(&["version"]), (Some(0), format!("ekiden {number}\n")));
    assert_eq!(ekiden(&["--version"]), (Some(0), format!("ekiden {number}\n")));

    let (code, script) = ekiden(&["completions", "bash"]);
    assert_eq!(code, Some(0));
    assert!(script.contains("_ekiden()") && script.contains("--run-dir"), "{script}");
    let syntax = finished(Command::new("bash").args(["-n", "-c", &script]));
    assert!(syntax.status.success(), "bash does not read it: {}", String::from_utf8_lossy(&syntax.stderr));

    for command in ["--help", "run --help", "check --help"] {
        let (code, said) = ekiden(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(code, Some(0), "{command}");
        assert!(said.contains("Examples:"), "{command} shows no example");
    }
    assert_eq!(ekiden(&["run", "x.toml", "--wrokers", "2"]).0, Some(2), "wrong usage has no code of its own");
}

#[test]
fn the_demo_shows_swaps_and_ends() {
    let port = until("three free ports in a row", || {
        let first = free_port();
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        (free(first + 1) && free(first + 2)).then_some(first)
    });
    let (code, said) = ekiden(&["demo", "--port", &port.to_string(), "--seconds", "12"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("http://127.0.0.1:{port}/")), "no URL to open: {said}");
    for line in [
        "PUT /v1/apps/default",
        "DELETE /v1/apps/default",
        "{\"generation\":2}",
        "{\"generation\":3}",
        "hakone ",
    ] {
        assert!(said.contains(line), "no {line:?} in: {said}");
    }
    let counts: Vec<&str> = said.lines().filter(|line| line.contains("failed requests")).collect();
    assert!(counts.len() >= 2 && counts.iter().all(|line| line.ends_with("failed requests: 0")), "{said}");
}
