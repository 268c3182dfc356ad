//! The README's sections on placements from elsewhere, holds and guarded changes, done as written, with free ports in place of its
//! own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use ekiden_tests::{Ekiden, Served, Setup, Stamped, binary, finished};

/// The fenced blocks of a section, with their languages.
fn blocks(section: &str) -> Vec<(String, String)> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("README.md");
    let text = fs::read_to_string(readme).unwrap();
    let body = text.split(&format!("\n### {section}\n")).nth(1).unwrap().split("\n### ").next().unwrap();
    let parts = body.split("\n```").skip(1).step_by(2);
    parts
        .map(|part| part.split_once('\n').map(|(kind, text)| (kind.to_owned(), text.to_owned())).unwrap())
        .collect()
}

/// Runs a script beside the router, with `ekiden` in its path: its exit code, and what it prints.
fn bash(router: &Ekiden, script: &str) -> (Option<i32>, String) {
    let dir = router.setup().dir();
    let _there_already = symlink(binary(), dir.join("ekiden"));
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let script = script.replace("127.0.0.1:9902", &router.control.to_string());
    let mut command = Command::new("bash");
    command.args(["-euc", &script]).current_dir(dir).env("PATH", path);
    let output = finished(command.env("EKIDEN_CONTROL", router.control.to_string()));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.stderr.is_empty(), "{script}: {output:?}");
    (output.status.code(), said)
}

#[test]
fn placements_from_elsewhere_as_written() {
    let text = "[cluster.web]\nendpoints = []\n[[route]]\ncluster = \"web\"\n";
    let router = Ekiden::start(Setup::new(text.to_owned()));
    let all = blocks("Placements from elsewhere");
    let kinds: Vec<&str> = all.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["sh", "sh", ""], "the section has other blocks than this test does");
    let whole = bash(&router, &all[0].1);
    assert!(whole.1.contains("\"source\":\"push:default/web\""), "{whole:?}");
    let address = all[0].1.lines().next().unwrap();
    let (code, said) = bash(&router, &format!("{address}\n{}", all[1].1));
    assert_eq!(code, Some(0), "{said}");
    let table: String =
        said.lines().filter(|line| !line.starts_with('{')).map(|line| format!("{line}\n")).collect();
    assert_eq!(table.trim_end(), all[2].1.trim_end());
}

#[test]
fn a_hold_and_a_guarded_change_as_written() {
    let origin = Stamped::start("shop");
    let router = Ekiden::start(Setup::new("[[route]]\nrespond = { body = \"default\" }\n".to_owned()));
    let apps = blocks("Apps by API");
    let (file, apply) = apps[0].1.split_once("ekiden diff").unwrap();
    assert!(apply.contains("ekiden apply shop.toml"), "{apply}");
    let file = file.replace("127.0.0.1:3001", &origin.address.to_string());
    let guarded = blocks("Guarded changes");
    assert_eq!(guarded.len(), 1);
    // Nobody asks for it, and nobody waits a minute for that.
    let (code, said) = bash(&router, &format!("{file}\n{}", guarded[0].1.replace("60s", "1s")));
    assert_eq!((code, said.contains("shop: not judged: ")), (Some(0), true), "{said}");
    let held = blocks("Hold an app");
    assert_eq!(held.len(), 1);
    let (code, said) = bash(&router, &held[0].1);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("shop is held: 5000 requests wait at most, 20000 ms each\n"), "{said}");
    assert!(said.ends_with("shop goes on\n"), "{said}");
    assert_eq!(router.client().get("shop.example", "/").text(), "shop");
}
