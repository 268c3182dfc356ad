//! The commands that ask a running process: what they print, and how they end.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

use ekiden_tests::{Ekiden, Served, Stamped, binary, free_port};
use serde_json::Value;

use super::one;

fn run(router: &Ekiden, arguments: &[&str]) -> (i32, String, String) {
    let control = router.control.to_string();
    let output: Output =
        Command::new(binary()).args(arguments).args(["--control", &control]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_file_is_compared_applied_scaled_and_rolled_back() {
    let (_file, router) = one();
    let (first, second) = (Stamped::start("first"), Stamped::start("second"));
    let file = router.setup().dir().join("shop.toml");
    let text = |origin: &Stamped| {
        format!(
            "[cluster.web]\nendpoints = [\"{}\"]\n[[route]]\nhost = \"shop.example\"\ncluster = \"web\"\n",
            origin.address
        )
    };
    fs::write(&file, text(&first)).unwrap();
    let path = file.to_str().unwrap();
    let (code, out, _) = run(&router, &["diff", path]);
    assert_eq!(code, 8, "{out}");
    assert!(out.starts_with("+ /apps/shop {"), "{out}");
    let (code, out, errors) = run(&router, &["apply", path]);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    assert!(out.ends_with("shop is at version 1\n"), "{out}");
    assert_eq!(run(&router, &["diff", path]), (0, "nothing differs\n".to_owned(), String::new()));
    let asked = || router.client().get("shop.example", "/").text();
    assert_eq!(asked(), "first");

    fs::write(&file, text(&second)).unwrap();
    let (code, out, _) = run(&router, &["apply", path, "--json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["versions"]["shop"]), (0, &2.into()));
    assert_eq!(asked(), "second");
    let (code, out, _) = run(&router, &["rollback", "shop"]);
    assert_eq!(code, 0, "{out}");
    assert_eq!(asked(), "first");
    let (_, out, _) = run(&router, &["versions", "shop"]);
    assert!(out.contains("3        local  rollback to 1"), "{out}");

    let (code, out, _) = run(&router, &["set", "shop", "body_limit=1024", "cluster.web.balance=round_robin"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("+ /apps/shop/body_limit 1024"), "{out}");
    let (_, out, _) = run(&router, &["get", "apps"]);
    assert!(out.lines().any(|line| line.starts_with("shop     api    4")), "{out}");
    assert_eq!(run(&router, &["scale", "shop", "web=3", "worker=1"]).1, "web=3\nworker=1\n");
    assert_eq!(run(&router, &["scale", "shop"]).1, "web=3\nworker=1\n");
    let (_, out, _) = run(&router, &["releases", "shop", "--create", "--description", "the first"]);
    assert_eq!(out, "release 1 of shop is v1\n");
    assert!(run(&router, &["releases", "shop"]).1.contains("the first"));

    let endpoint = format!("shop/web/{}", first.address);
    let (code, out, _) = run(&router, &["drain", &endpoint]);
    assert_eq!(code, 0, "{out}");
    assert_eq!(router.client().get("shop.example", "/").status, 503, "the only one is draining");
    assert_eq!(run(&router, &["drain", &endpoint, "--undo"]).0, 0);
    assert_eq!(asked(), "first");
}

/// Answers one request each with these, and gives back what was asked.
fn answering(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = thread::spawn(move || {
        let one = |answer: &String| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                asked.extend_from_slice(&byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            // The body stays unread: closing at once could reset what was written.
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
            String::from_utf8(asked).unwrap().to_ascii_lowercase()
        };
        answers.iter().map(one).collect()
    });
    (address, serving)
}

fn answer(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn ended(arguments: &[&str], control: &str) -> (i32, String) {
    let output = Command::new(binary()).args(arguments).args(["--control", control]).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_not_every_worker_has_is_not_called_done() {
    let pending = answer("202 Accepted", "", r#"{"generation":2,"pending":true}"#);
    let (control, serving) = answering(vec![pending]);
    let (code, out) = ended(&["drain", "shop/web/a"], &control);
    assert_eq!((code, out.as_str()), (9, "shop/web/a: pending: not every worker has it yet\n"));
    serving.join().unwrap();
}

#[test]
fn the_version_before_is_that_before_the_one_that_was_read() {
    let read = answer("200 OK", "ETag: \"7\"\r\n", r#"{"version":3}"#);
    let (control, serving) = answering(vec![read, answer("200 OK", "", r#"{"changed":false}"#)]);
    assert_eq!(ended(&["rollback", "shop"], &control).0, 0);
    let asked = serving.join().unwrap();
    assert!(asked[1].starts_with("post ") && asked[1].contains("if-match: \"7\"\r\n"), "{asked:?}");
}

#[test]
fn what_is_refused_says_where_and_ends_with_its_own_code() {
    let (_file, router) = one();
    let file = router.setup().dir().join("shop.yaml");
    let path = file.to_str().unwrap();
    fs::write(&file, "route:\n  - host: shop.example\n    cluster: none\n").unwrap();
    let (code, out, errors) = run(&router, &["apply", path]);
    assert_eq!((code, out.as_str()), (6, ""), "{errors}");
    assert!(errors.starts_with("error[invalid_app]: ") && errors.contains("at /route/0/cluster"), "{errors}");
    let (code, out, _) = run(&router, &["apply", path, "--json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, document["code"].as_str()), (6, Some("invalid_app")));
    // One app's file names no others: they are not deleted for that.
    let (code, _, errors) = run(&router, &["apply", path, "--prune"]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("would delete every other app"), "{errors}");
    let (code, _, errors) = run(&router, &["set", "default", "body_limit=1"]);
    assert_eq!(code, 6);
    assert!(errors.starts_with("error[owned_by_file]"), "{errors}");
    for usage in
        [&["scale", "default", "web"][..], &["drain", "web"], &["rollback", "default"], &["set", "a", "b"]]
    {
        let (code, _, errors) = run(&router, usage);
        assert_eq!(code, 2, "{usage:?}: {errors}");
        assert!(errors.starts_with("error: "), "{errors}");
    }
    let nobody = format!("127.0.0.1:{}", free_port());
    let output = Command::new(binary()).args(["get", "apps", "--control", &nobody]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--control names another address"));
}
