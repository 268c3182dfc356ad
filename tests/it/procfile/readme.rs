//! The README's section on Procfiles, done as written, with a free port in place of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use ekiden_tests::{Background, binary, signal};

use super::{Place, patiently};

/// The fenced blocks of the section, with their languages.
fn blocks() -> Vec<(String, String)> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("README.md");
    let text = fs::read_to_string(readme).unwrap();
    let body = text.split("\n### A Procfile\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let parts = body.split("\n```").skip(1).step_by(2);
    parts
        .map(|part| part.split_once('\n').map(|(kind, text)| (kind.to_owned(), text.to_owned())).unwrap())
        .collect()
}

/// A shell in the directory, with `ekiden` in its path.
fn shell(place: &Place, script: &str) -> Command {
    let path = format!("{}:{}", place.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-euc", script]).current_dir(place.path()).env("PATH", path);
    place.with_state(&mut command);
    command
}

#[test]
fn a_procfile_as_written() {
    let place = Place::new("");
    fs::remove_file(place.file("Procfile")).unwrap();
    symlink(binary(), place.file("ekiden")).unwrap();
    let all = blocks();
    let kinds: Vec<&str> = all.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["sh", "", "sh", ""], "the section has other blocks than this test does");

    // The file and the run are one block, whose last line stays in the foreground.
    let (files, run) = all[0].1.trim_end().rsplit_once('\n').unwrap();
    assert!(shell(&place, files).status().unwrap().success());
    assert!(run.starts_with("ekiden run Procfile "), "{run}");
    let run = run.replacen("ekiden run", "exec ekiden run --telemetry off", 1);
    let mut router = Background::start(shell(&place, &run).env("PORT", place.port.to_string()));
    place.serves();
    patiently("a worker's line", || router.out().contains("worker.1   | ").then_some(()));

    let commands = all[2].1.replace("5000", &place.port.to_string());
    let mut commands = Background::start(&mut shell(&place, &commands));
    let said = place.end_of(&mut commands);
    assert_eq!(said.code, 0, "{} {}", said.out, said.errors);
    assert!(said.out.contains("web=5\n") && said.out.contains("v2: done: "), "{}", said.out);
    signal(router.id(), libc::SIGTERM);
    assert_eq!(place.end_of(&mut router).code, 0);
}
