//! The README's section on a fleet, done as written, with free ports in place of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use ekiden_tests::{Background, binary, finished, free_port, until};

use super::local;

#[test]
fn a_fleet_as_written() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("README.md");
    let text = fs::read_to_string(readme).unwrap();
    let body =
        text.split("\n### Many routers, one control\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let pieces: Vec<&str> = body.split("```").collect();
    let blocks: Vec<(&str, &str)> =
        pieces.iter().skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect();
    let words: Vec<&str> = blocks.iter().map(|(word, _)| *word).collect();
    assert_eq!(words, ["sh", "toml", "toml", "sh", "sh", ""]);
    let ports: Vec<(&str, u16)> =
        ["8080", "8090", "9903", "9911", "9912"].into_iter().map(|port| (port, free_port())).collect();
    let own = |text: &str| {
        ports.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, &new.to_string()))
    };
    let port = |wanted: &str| ports.iter().find(|(old, _)| *old == wanted).unwrap().1;
    let dir = tempfile::tempdir().unwrap();
    let (api, telemetry) = (local(free_port()), local(free_port()));
    // The command by its name, state in a place of its own, and control's default ports moved.
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(binary(), bin.join("ekiden")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let command = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(dir.path()).env("PATH", &path);
        command.env("XDG_STATE_HOME", dir.path().join("state")).env("EKIDEN_CONTROL", api.to_string());
        command
    };
    let bash = |text: &str| {
        let output = finished(&mut command("bash", &["-euc", text]));
        assert!(output.status.success(), "{text}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    bash(blocks[0].1);
    let moved = format!(
        "{}\n[telemetry]\naddress = \"{telemetry}\"\n[control]\naddress = \"{api}\"\n",
        own(blocks[1].1)
    );
    fs::write(dir.path().join("control.toml"), moved).unwrap();
    fs::write(dir.path().join("edge-1.toml"), own(blocks[2].1)).unwrap();
    // Background jobs of a shell would outlive a test that fails: each line is started by itself.
    let mut running = Vec::new();
    let starts = own(blocks[3].1);
    for line in starts.lines().filter(|line| !line.is_empty()) {
        match line.strip_suffix(" &") {
            None => drop(bash(line)),
            Some(start) => {
                let start = format!("exec {}", start.trim_end_matches(" > /dev/null"));
                running.push(Background::start(&mut command("bash", &["-euc", &start])));
            }
        }
    }
    assert_eq!(running.len(), 3);
    for telemetry in [port("9911"), port("9912")] {
        until("a router", || {
            let stream = std::net::TcpStream::connect(local(telemetry)).ok()?;
            let answer = ekiden_tests::Client::over(stream).get("localhost", "/readyz");
            (answer.status == 200).then_some(())
        });
    }
    // The router is ready with its first generation; the second one is that of the change.
    assert_eq!(bash(&own(blocks[4].1)), own(blocks[5].1));
}
