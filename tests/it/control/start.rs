//! Starting when the file is bad: the last good table made from the same path, loudly, unless forbidden.

use std::fs;

use ekiden_tests::{Ekiden, Run, Served, Setup, Stamped, until_true, web};

use super::one;

/// A setup whose run directory holds a last good table with one endpoint of the API.
fn ran_once() -> (Stamped, Stamped, Setup) {
    let (origin, router) = one();
    let joined = Stamped::start("api");
    router.put("web", "joined", joined.address);
    until_true("the last good table", || router.setup().dir().join("run/last-good.json").exists());
    // A crash, not an end: nothing is written any more.
    router.signal(libc::SIGKILL);
    (origin, joined, router.stop())
}

fn keep() -> Run {
    Run { keep_file: true, ..Run::default() }
}

#[test]
fn a_bad_or_missing_file_is_stood_in_for() {
    let (_origin, _joined, mut setup) = ran_once();
    for (what, text) in
        [("bad", Some("[listener.edge]\nadress = 1\n")), ("empty", Some("")), ("missing", None)]
    {
        match text {
            Some(text) => fs::write(setup.file(), text).unwrap(),
            None => fs::remove_file(setup.file()).unwrap(),
        }
        let router = Ekiden::start_with(setup, keep());
        assert_eq!(
            super::who(&router, "/", 50),
            ["api", "file"],
            "{what}: a reboot with a bad file is an outage"
        );
        let (status, said) = router.readyz();
        assert!(status == 200 && said.contains("stale table"), "{what}: /readyz says {status} {said}");
        assert_eq!(router.metric("ekiden_table_stale", &[]), 1.0, "{what}: alerts do not fire");
        assert_eq!(router.table()["stale"], true, "{what}");
        router.wait_error("STALE");
        if what == "bad" {
            router.wait_error("did you mean `address`?");
        }
        router.rewrite(&router.setup().config());
        until_true("the mended file", || router.readyz().1.trim() == "ready");
        assert_eq!(router.metric("ekiden_table_stale", &[]), 0.0);
        router.signal(libc::SIGKILL);
        setup = router.stop();
    }
}

#[test]
fn strict_forbids_it() {
    let (_origin, _joined, setup) = ran_once();
    fs::write(setup.file(), "[listener.edge]\nadress = 1\n").unwrap();
    let mut router = Ekiden::spawn(setup, Run { arguments: vec!["--strict".to_owned()], ..keep() });
    assert_eq!(router.wait().code(), Some(1), "--strict served something");
    router.wait_error("did you mean `address`?");
    router.wait_error("--strict");
}

#[test]
fn a_table_of_another_file_does_not_stand_in() {
    let (_origin, _joined, setup) = ran_once();
    let other = setup.dir().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("ekiden.toml"), "").unwrap();
    let mut command = std::process::Command::new(ekiden_tests::binary());
    command.arg("run").arg(other.join("ekiden.toml")).args([
        "--telemetry",
        "off",
        "--control",
        "off",
        "--run-dir",
    ]);
    let output = ekiden_tests::finished(command.arg(setup.dir().join("run")));
    assert_eq!(output.status.code(), Some(1), "the table of another file is served");
}

#[test]
fn a_damaged_last_good_table_is_not_believed() {
    let (origin, _joined, setup) = ran_once();
    let saved = setup.dir().join("run/last-good.json");
    let text = fs::read(&saved).unwrap();
    fs::write(&saved, &text[..text.len() / 2]).unwrap();
    // A good file serves whatever lies in the run directory.
    let router = Ekiden::start(setup);
    assert_eq!(super::who(&router, "/", 50), ["api", "file"]);
    router.signal(libc::SIGKILL);
    let setup = router.stop();
    fs::write(&saved, &text[..text.len() / 2]).unwrap();
    fs::write(setup.file(), "").unwrap();
    let mut router = Ekiden::spawn(setup, keep());
    assert_eq!(router.wait().code(), Some(1), "half a table is served: {}", router.errors());
    drop(origin);
}

#[test]
fn state_is_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_origin, _joined, setup) = ran_once();
    let mode = |path: &str| fs::metadata(setup.dir().join(path)).unwrap().permissions().mode() & 0o077;
    for path in ["run", "run/journal", "run/last-good.json"] {
        assert_eq!(mode(path), 0, "{path} can be read by others");
    }
}

#[test]
fn beside_an_app_the_api_is_a_private_socket() {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    let origin = Stamped::start("app");
    let setup =
        Setup::new(web(&[origin.address], "", "listeners = [\"edge\"]")).listener("role = \"inbound\"");
    fs::write(setup.file(), setup.config()).unwrap();
    let mut command = std::process::Command::new(ekiden_tests::binary());
    command
        .arg("run")
        .arg(setup.file())
        .args(["--telemetry", "off", "--run-dir"])
        .arg(setup.dir().join("run"));
    let _router = ekiden_tests::Background::start(&mut command);
    let socket = setup.dir().join("run/control.sock");
    let mut stream = ekiden_tests::until("the socket", || UnixStream::connect(&socket).ok());
    let mode = fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "other users of the pod can change the table");
    stream.write_all(b"GET /v1/table HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn beside_an_app_tcp_needs_a_token() {
    let origin = Stamped::start("app");
    let text = web(&[origin.address], "", "listeners = [\"edge\"]");
    let router = Ekiden::start(Setup::new(text).listener("role = \"inbound\""));
    let answer = router.control("GET", "/v1/table", "");
    assert_eq!(
        super::problem(&answer),
        (403, "token_required".to_owned()),
        "the app can change its own mesh"
    );
}
