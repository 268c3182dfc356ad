//! Control's loop is stuck beside workers that serve: a fresh one takes its place, and what the stuck one does later comes to nothing.
//!
//! It is stuck in a read of its token file that does not come back, as from a disk that has gone away: a pipe that nobody writes to.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use ekiden_tests::{Ekiden, Etcd, Load, MIXED, Refused, Response, Served, Setup, Stamped, in_time, web};

const TOKEN: &str = "a-token-of-some-length";
const CONTROL: &str = "[control]\ntoken_file = \"token\"\nstuck_after = \"5s\"\n";

/// Puts a pipe in the place of a token file; the pipe can be written to under the name `pipe` when it is gone from there.
pub(crate) fn block(token: &Path) {
    let pipe = token.with_file_name("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let beside = token.with_file_name("beside");
    fs::hard_link(&pipe, &beside).unwrap();
    fs::rename(beside, token).unwrap();
}

/// Writes a token file as it should be.
pub(crate) fn write(token: &Path, text: &str) {
    let beside = token.with_file_name("beside");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, token).unwrap();
}

/// Lets whoever reads the pipe go on. There is a reader: opening it waits for one.
pub(crate) fn unblock(token: &Path, text: &str) {
    let mut pipe = fs::OpenOptions::new().write(true).open(token.with_file_name("pipe")).unwrap();
    pipe.write_all(text.as_bytes()).unwrap();
}

fn ask(router: &Ekiden, method: &str, path: &str, body: &str) -> Response {
    router.control_with(method, path, &format!("Authorization: Bearer {TOKEN}\r\n"), body)
}

fn wait_metric(router: &Ekiden, name: &str, least: f64) {
    in_time(&format!("{name} of {least}"), || (router.metric(name, &[]) >= least).then_some(()));
}

#[test]
fn a_stuck_loop_is_replaced_and_what_it_does_later_is_refused() {
    let (old, new) = (Stamped::start("old"), Stamped::start("new"));
    let text = format!("{CONTROL}{}", web(&[old.address], "", ""));
    let setup = Setup::new(text).top("drain_grace = \"0s\"").workers(2);
    let token = setup.dir().join("token");
    write(&token, TOKEN);
    let router = Ekiden::start(setup);
    // With a part that is refused, a reload publishes after it has read the token.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("[listener.busy]\naddress = \"{}\"\n", taken.local_addr().unwrap());
    router.rewrite(&format!("{}{busy}", router.setup().config()));
    in_time("the refusal of the busy listener", || {
        let status = ask(&router, "GET", "/v1/status", "").json();
        status["refused_parts"].to_string().contains("listener:busy").then_some(())
    });
    let load = Load::start(router.address(), 4, MIXED, Refused::Fails);
    load.serve_more(100);

    let restarts = router.metric("ekiden_control_restarts_total", &[]);
    block(&token);
    router.signal(libc::SIGHUP);
    router.wait_error("control's loop is stuck");
    load.serve_more(100);
    write(&token, TOKEN);
    wait_metric(&router, "ekiden_control_restarts_total", restarts + 1.0);
    router.wait_error("a fresh control runtime runs");

    // It answers at the same address, and what is changed through it takes effect and is durable.
    let put = format!("{{\"address\":\"{}\"}}", new.address);
    let path = Ekiden::endpoint_path("web", "api");
    let answer = in_time("an API that changes something", || {
        Some(ask(&router, "PUT", &path, &put)).filter(|answer| answer.status < 500)
    });
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    let before = new.requests();
    in_time("requests at the new endpoint", || (new.requests() > before).then_some(()));
    let status = ask(&router, "GET", "/v1/status", "").json();
    assert!(status["running"] == true && status["stale"] == false, "{status}");
    assert!(status["control_restarts"].as_u64().unwrap() >= 1, "{status}");

    // The stuck one goes on: it publishes its table, which does not have the endpoint.
    unblock(&token, TOKEN);
    wait_metric(&router, "ekiden_control_void_publishes_total", 1.0);
    router.wait_error("a table of a void term is refused");
    let before = new.requests();
    load.serve_more(100);
    assert!(new.requests() > before, "the table of the void term is in force");
    assert_eq!(ask(&router, "DELETE", &path, "").status, 200);
    assert_eq!(
        ask(&router, "GET", "/v1/status", "").json()["running"],
        true,
        "the old one says that it has ended"
    );
    let tally = load.stop();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.served);

    // What the fresh one wrote is what a restart finds, and the socket is free for it.
    assert!(matches!(ask(&router, "PUT", &path, &put).status, 200 | 201));
    let setup = router.kill();
    let router = Ekiden::start(setup);
    assert_eq!(ask(&router, "GET", &path, "").status, 200);
}

#[test]
fn one_that_leads_on_an_etcd_gives_its_lease_back_and_leads_anew() {
    let (old, new) = (Stamped::start("old"), Stamped::start("new"));
    let etcd = Etcd::start(1);
    let text = format!("{}{CONTROL}{}", etcd.table(""), web(&[old.address], "", ""));
    let setup = Setup::new(text).top("drain_grace = \"0s\"");
    let token = setup.dir().join("token");
    write(&token, TOKEN);
    let router = Ekiden::start(setup);
    let put = format!("{{\"address\":\"{}\"}}", new.address);
    let change = |id: &str| {
        let path = Ekiden::endpoint_path("web", id);
        in_time("a change", || (ask(&router, "PUT", &path, &put).status == 200).then_some(()));
    };
    change("one");
    let term = router.metric("ekiden_control_term", &[]);
    block(&token);
    router.signal(libc::SIGHUP);
    router.wait_error("control's loop is stuck");
    write(&token, TOKEN);
    router.wait_error("a fresh control runtime runs");
    change("two");
    in_time("a higher term", || (router.metric("ekiden_control_term", &[]) > term).then_some(()));
    unblock(&token, TOKEN);
    change("three");
    for id in ["one", "two", "three"] {
        assert_eq!(ask(&router, "GET", &Ekiden::endpoint_path("web", id), "").status, 200, "{id}");
    }
    let before = new.requests();
    in_time("requests at the new endpoints", || {
        assert_eq!(router.get("/").status, 200);
        (new.requests() > before).then_some(())
    });
}
