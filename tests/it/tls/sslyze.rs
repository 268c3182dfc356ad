//! The default settings of TLS as `sslyze` sees them: what it scans for is not there, and Mozilla's recommendation is kept.
//!
//! `tests/run` installs it; without it this test fails and says how to have it.

use std::process::Command;

use ekiden_tests::{Authority, Ekiden, Kind, Life, Made, Served, finished};
use serde_json::Value;

use super::{HELLO, setup};
use crate::tunnel::websocket::tool;

/// The scan of a report without the certificates, whose keys are numbers of hundreds of digits.
const SCAN: &str = r#"
import json, sys
scan = json.load(open(sys.argv[1]))["server_scan_results"][0]["scan_result"]
del scan["certificate_info"]
print(json.dumps(scan))
"#;

/// What `sslyze` found of a server.
fn scanned(router: &Ekiden) -> (Value, String, bool) {
    let report = router.setup().dir().join("report.json");
    let mut command = Command::new(tool("sslyze"));
    command.args(["--sni", "a.test", "--mozilla_config", "intermediate", "--early_data", "--resum"]);
    command.arg("--certinfo_ca_file").arg(router.setup().dir().join("ca.pem"));
    command.arg("--json_out").arg(&report);
    let output = finished(command.arg(router.address().to_string()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(report.exists(), "{output:?}");
    let scan = finished(Command::new(tool("python")).args(["-c", SCAN]).arg(&report));
    (serde_json::from_slice(&scan.stdout).unwrap(), text, output.status.success())
}

/// The names of the cipher suites that a version accepts.
fn suites(scan: &Value, version: &str) -> Vec<String> {
    let accepted = scan[format!("{version}_cipher_suites")]["result"]["accepted_cipher_suites"].as_array();
    let name = |suite: &Value| suite["cipher_suite"]["name"].as_str().unwrap().to_owned();
    accepted.unwrap_or_else(|| panic!("{version}: {scan}")).iter().map(name).collect()
}

#[test]
fn sslyze_has_nothing_to_complain_of() {
    for kind in [Kind::Ecdsa, Kind::Rsa] {
        let authority = Authority::new();
        let setup = setup(HELLO, &["site"], "");
        std::fs::write(setup.dir().join("ca.pem"), &authority.pem).unwrap();
        // No longer than browsers take.
        let made: Made = authority.make_as(&["a.test"], kind, Life(-1, 80));
        made.write(setup.dir(), "site");
        let router = Ekiden::start(setup);
        let (scan, text, compliant) = scanned(&router);
        for old in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
            assert_eq!(suites(&scan, old), [""; 0], "{old}");
        }
        for new in ["tls_1_2", "tls_1_3"] {
            let weak = |name: &String| !(name.contains("GCM") || name.contains("CHACHA20"));
            let suites = suites(&scan, new);
            assert!(!suites.is_empty() && !suites.iter().any(weak), "{new}: {suites:?}");
        }
        let result = |check: &str| scan[check]["result"].clone();
        assert_eq!(result("heartbleed")["is_vulnerable_to_heartbleed"], false);
        assert_eq!(result("openssl_ccs_injection")["is_vulnerable_to_ccs_injection"], false);
        assert_eq!(result("tls_compression")["supports_compression"], false);
        assert_eq!(result("tls_1_3_early_data")["supports_early_data"], false);
        assert_eq!(result("tls_fallback_scsv")["supports_fallback_scsv"], true);
        assert_eq!(result("session_renegotiation")["is_vulnerable_to_client_renegotiation_dos"], false);
        let robot = result("robot")["robot_result"].as_str().unwrap_or_default().to_owned();
        assert!(robot.starts_with("NOT_VULNERABLE"), "{robot}");
        // All of the recommendation, or the words that say what is not kept.
        assert!(compliant, "{kind:?}: {text}");
    }
}
