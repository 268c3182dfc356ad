//! Starting without a usable file, and starting twice.

use std::fs;

use ekiden_control::{RunDirError, StartError, check};

use crate::bench::{Bench, SMALL, web};

#[test]
fn the_last_good_table_serves_when_the_file_cannot() {
    let mut bench = Bench::new(SMALL);
    let running = bench.start();
    running.put("extra", r#"{"address":"127.0.0.1:13001"}"#);
    running.control.stop();
    for (text, code) in [(Some("[listener.edge\n"), ""), (Some("  \n"), "empty_file"), (None, "missing_file")]
    {
        match text {
            Some(text) => fs::write(bench.at("ekiden.toml"), text).unwrap(),
            None => fs::remove_file(bench.at("ekiden.toml")).unwrap(),
        }
        assert!(check(&bench.at("ekiden.toml")).unwrap_err().iter().any(|found| found.is_error()));
        let loaded = bench.load().unwrap();
        assert!(loaded.stale().is_some());
        assert!(loaded.diagnostics().iter().any(|found| code.is_empty() || found.code == code));
        let running = bench.start();
        assert_eq!(web(&running.router.latest()).len(), 2, "with the API's endpoint");
        assert!(running.control.status().stale);
        running.control.stop();
        bench.options.strict = true;
        let refused = bench.load().unwrap_err();
        assert!(!refused.diagnostics.is_empty() && refused.note.unwrap().contains("--strict"));
        bench.options.strict = false;
    }
    // Mended while it serves: taken as any edit.
    let running = bench.start();
    bench.put("ekiden.toml", &SMALL.replace("13000", "13009"));
    running.router.wait("the mended file", |model| web(model)[0].contains("13009"));
    running.wait("not stale", |status| !status.stale);
    running.control.stop();
    // A table made from another path is not this one's.
    fs::write(bench.at("other.toml"), "").unwrap();
    bench.options.file = bench.at("other.toml");
    assert_eq!(bench.load().unwrap_err().note, None);
    // Damage of the saved table itself is said.
    bench.options.file = bench.at("ekiden.toml");
    fs::write(bench.at("ekiden.toml"), "").unwrap();
    fs::write(bench.at("run/last-good.json"), "{").unwrap();
    assert!(bench.load().unwrap_err().note.unwrap().contains("last-good.json"));
}

#[test]
fn a_run_directory_that_can_only_be_read_still_serves_what_it_holds() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    running.put("extra", r#"{"address":"127.0.0.1:13001"}"#);
    running.put("127.0.0.1:13000", r#"{"drain":true}"#);
    let served = ["127.0.0.1:13000 127.0.0.1:13000 drain", "extra 127.0.0.1:13001"];
    assert_eq!(web(&running.router.latest()), served);
    running.control.stop();
    // No lock can be taken: the directory cannot be used.
    fs::remove_file(bench.at("run/lock")).unwrap();
    fs::create_dir(bench.at("run/lock")).unwrap();
    let running = bench.start();
    assert!(running.control.status().run_dir_error.is_some());
    assert_eq!(web(&running.router.latest()), served, "an endpoint of the API stays in traffic");
    assert_eq!(running.put("b", r#"{"address":"127.0.0.1:13002"}"#).code(), "not_durable");
}

#[test]
fn a_journal_of_another_version_is_said_and_left_alone() {
    let bench = Bench::new(SMALL);
    fs::create_dir_all(bench.at("run")).unwrap();
    fs::write(bench.at("run/journal"), "EKIJRNL3 and more").unwrap();
    let running = bench.start();
    assert_eq!(running.router.count(), 1, "traffic is served");
    let status = running.control.status();
    assert!(status.run_dir_error.as_ref().unwrap().contains("written by another version"), "{status:?}");
    assert!(status.journal_error.as_ref().unwrap().contains("not served"), "{status:?}");
    running.control.stop();
    assert_eq!(fs::read_to_string(bench.at("run/journal")).unwrap(), "EKIJRNL3 and more");
}

#[test]
fn it_is_saved_while_running_and_not_only_at_the_end() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    running.wait("the first save", |status| status.last_good_unix_ms.is_some());
    bench.put("ekiden.toml", &SMALL.replace("13000", "13009"));
    crate::bench::until("the second save", || {
        let text = fs::read_to_string(bench.at("run/last-good.json")).ok()?;
        text.contains("13009").then_some(())
    });
    // A refused edit is never saved.
    bench.put("ekiden.toml", "broken!");
    running.wait("the refusal", |status| status.stale);
    running.control.stop();
    assert!(fs::read_to_string(bench.at("run/last-good.json")).unwrap().contains("13009"));
    assert!(!fs::read_to_string(bench.at("run/last-good.json")).unwrap().contains("broken!"));
}

#[test]
fn a_second_process_on_the_same_run_directory_gets_its_own_error() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    match bench.try_start() {
        Err(StartError::InUse(RunDirError::Locked { holder, .. })) => {
            assert_eq!(holder, Some(std::process::id()))
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("two at once"),
    }
    running.control.stop();
    bench.start();
}

#[test]
fn without_anything_to_serve_all_errors_are_told() {
    let bench =
        Bench::new("[listener.edge]\nadress = \"127.0.0.1:1\"\n[cluster.web]\nendpoints = [\"nope\"]\n");
    let refused = bench.load().unwrap_err();
    assert!(refused.diagnostics.len() >= 2, "{refused}");
    assert_eq!(refused.note, None);
}
