//! The conformance suite `httpwg` (RFC 9113, 107 cases) against the built binary: nothing may fail.
//!
//! `tests/run` installs the suite; without it this test fails and says how to have it.

use std::path::PathBuf;
use std::process::Command;

use ekiden_tests::{Echo, Ekiden, Served, Setup, binary, finished, web};

/// Cases of the pinned version.
const CASES: usize = 107;
/// What is installed, and how.
const INSTALL: &str = "cargo install httpwg-cli --version 0.2.5 --locked --root TARGET/tools";

/// `EKIDEN_HTTPWG`, else where `tests/run` puts it: `tools/bin` of the target directory.
fn suite() -> PathBuf {
    if let Some(path) = std::env::var_os("EKIDEN_HTTPWG") {
        return PathBuf::from(path);
    }
    // The binary is TARGET/PROFILE/ekiden.
    let target = binary().parent().and_then(|profile| profile.parent()).unwrap();
    let path = target.join("tools/bin/httpwg");
    assert!(path.exists(), "{} is missing; {INSTALL}", path.display());
    path
}

#[test]
fn httpwg() {
    let echo = Echo::start("a");
    let router = Ekiden::start(Setup::new(web(&[echo.address], "", "")).listener("h2c = true"));
    let address = router.setup().address().to_string();
    let output = finished(Command::new(suite()).args(["-a", &address, "--frame-timeout", "3000"]));
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    let passed = text.lines().filter(|line| line.contains("Test passed")).count();
    let failed: Vec<&str> = text.lines().filter(|line| line.contains("Test failed")).collect();
    assert!(failed.is_empty() && output.status.success(), "{failed:#?}");
    assert_eq!(passed, CASES, "{text}");
    assert_eq!(router.get("/").status, 200, "it still serves");
}
