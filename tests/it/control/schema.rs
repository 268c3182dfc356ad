//! The OpenAPI document held against the running API by an outside tool, schemathesis: every answer has a status, a type and
//! a shape that the document states, bad requests are refused, and nothing is a 5xx.

use std::path::PathBuf;
use std::process::Command;

use ekiden_tests::{Ekiden, Served, Setup, Stamped, binary, cluster, web};

/// How to get it.
const INSTALL: &str = "run tests/run once, which installs it";
/// What is checked. Not that every body of the right shape is taken: the words of an app have rules beyond a shape.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,negative_data_rejection,unsupported_method";

fn schemathesis() -> PathBuf {
    let dir = std::env::var_os("EKIDEN_PYTHON").map(PathBuf::from).unwrap_or_else(|| {
        // The binary is TARGET/PROFILE/ekiden.
        let target = binary().parent().and_then(std::path::Path::parent).unwrap();
        target.join("tools/python/bin")
    });
    let path = dir.join("schemathesis");
    assert!(path.exists(), "{} is missing; {INSTALL}", path.display());
    path
}

#[test]
fn the_api_does_what_its_document_says() {
    let origin = Stamped::start("file");
    let text = format!("{}\n{}", web(&[origin.address], "", ""), cluster("many", &[origin.address], ""));
    let router = Ekiden::start(Setup::new(text));
    let address = router.control;
    let dir = router.setup().dir();
    let mut command = Command::new(schemathesis());
    command
        .current_dir(dir)
        .arg("run")
        .arg(format!("http://{address}/v1/openapi.json"))
        .args(["--url", &format!("http://{address}")])
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "15"])
        // A stream without end.
        .args(["--exclude-path", "/v1/watch"])
        .args([
            "--seed",
            "1",
            "--generation-deterministic",
            "--workers",
            "1",
            "--no-color",
            "--warnings",
            "off",
        ])
        .args(["--suppress-health-check", "all"]);
    // Some two thousand requests: as long as they take.
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(router.client().get("a", "/").text(), "file", "traffic does not care");
}
