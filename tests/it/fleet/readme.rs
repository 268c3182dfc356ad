//! The README's sections on fleets, done as written, with free ports in place of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use ekiden_tests::{Background, binary, finished, free_port, in_time, until};
use tempfile::TempDir;

use super::local;

/// A section of the README in a directory of its own.
struct Recipe {
    /// Words and texts of its blocks.
    blocks: Vec<(String, String)>,
    ports: Vec<(&'static str, u16)>,
    dir: TempDir,
    api: std::net::SocketAddr,
}

impl Recipe {
    fn new(heading: &str, words: &[&str], ports: &[&'static str]) -> Self {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("README.md");
        let text = fs::read_to_string(readme).unwrap();
        let body = text.split(&format!("\n### {heading}\n")).nth(1).unwrap().split("\n### ").next().unwrap();
        let pieces: Vec<&str> = body.split("```").collect();
        let blocks = pieces.iter().skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
        let blocks: Vec<(String, String)> =
            blocks.map(|(word, text)| (word.to_owned(), text.to_owned())).collect();
        let found: Vec<&str> = blocks.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(found, words);
        let dir = tempfile::tempdir().unwrap();
        // The command by its name, state in a place of its own, and control's default ports moved.
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(binary(), bin.join("ekiden")).unwrap();
        let ports = ports.iter().map(|port| (*port, free_port())).collect();
        Self { blocks, ports, dir, api: local(free_port()) }
    }

    /// A block with the ports of this test.
    fn text(&self, block: usize) -> String {
        // In two steps: a new port may hold the digits of an old one.
        let mark = |at: usize| format!("\u{1}{at}\u{2}");
        let ports = || self.ports.iter().enumerate();
        let marked =
            ports().fold(self.blocks[block].1.clone(), |text, (at, (old, _))| text.replace(old, &mark(at)));
        ports().fold(marked, |text, (at, (_, new))| text.replace(&mark(at), &new.to_string()))
    }

    fn port(&self, wanted: &str) -> u16 {
        self.ports.iter().find(|(old, _)| *old == wanted).unwrap().1
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn command(&self, text: &str) -> Command {
        let path = format!("{}:{}", self.dir.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-euc", text]).current_dir(self.dir.path()).env("PATH", &path);
        command
            .env("XDG_STATE_HOME", self.dir.path().join("state"))
            .env("EKIDEN_CONTROL", self.api.to_string());
        command
    }

    fn bash(&self, text: &str) -> String {
        let output = finished(&mut self.command(text));
        assert!(output.status.success(), "{text}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Does a block; background jobs of a shell would outlive a test that fails, so each line is started by itself.
    fn start(&self, block: usize) -> Vec<Background> {
        let mut running = Vec::new();
        for line in self.text(block).lines().filter(|line| !line.is_empty()) {
            match line.strip_suffix(" &") {
                None => drop(self.bash(line)),
                Some(start) => {
                    let start = format!("exec {}", start.trim_end_matches(" > /dev/null"));
                    running.push(Background::start(&mut self.command(&start)));
                }
            }
        }
        running
    }

    fn wait_ready(&self, telemetry: &str) {
        until("a router", || {
            let stream = std::net::TcpStream::connect(local(self.port(telemetry))).ok()?;
            let answer = ekiden_tests::Client::over(stream).get("localhost", "/readyz");
            (answer.status == 200).then_some(())
        });
    }
}

#[test]
fn a_fleet_as_written() {
    let words = ["sh", "toml", "toml", "sh", "sh", ""];
    let recipe = Recipe::new("Many routers, one control", &words, &["8080", "8090", "9903", "9911", "9912"]);
    let (api, telemetry) = (recipe.api, local(free_port()));
    recipe.bash(&recipe.blocks[0].1);
    let moved = format!(
        "{}\n[telemetry]\naddress = \"{telemetry}\"\n[control]\naddress = \"{api}\"\n",
        recipe.text(1)
    );
    recipe.write("control.toml", &moved);
    recipe.write("edge-1.toml", &recipe.text(2));
    let running = recipe.start(3);
    assert_eq!(running.len(), 3);
    recipe.wait_ready("9911");
    recipe.wait_ready("9912");
    // The router is ready with its first generation; the second one is that of the change.
    assert_eq!(recipe.bash(&recipe.text(4)), recipe.text(5));
}

#[test]
fn several_controls_as_written() {
    let words = ["sh", "toml", "toml", "sh", "sh", ""];
    let ports = ["2379", "2380", "9913", "9914", "9921", "9922", "9931", "9932", "8100", "9941"];
    let recipe = Recipe::new("Several controls, one etcd", &words, &ports);
    let _etcd = recipe.start(0);
    in_time("etcd", || std::net::TcpStream::connect(local(recipe.port("2379"))).ok());
    recipe.write("control-1.toml", &recipe.text(1));
    recipe.write("edge.toml", &recipe.text(2));
    let running = recipe.start(3);
    assert_eq!(running.len(), 3);
    recipe.wait_ready("9941");
    // Takes the end of a lease.
    let mut steps = Background::start(&mut recipe.command(&recipe.text(4)));
    let status = in_time("the recipe", || steps.ended());
    in_time("its words", || steps.is_heard().then_some(()));
    assert!(status.success(), "{}", steps.errors());
    assert_eq!(steps.out(), recipe.text(5));
}

#[test]
fn some_apps_for_some_routers_as_written() {
    let words = ["sh", "toml", "toml", "sh", "sh", ""];
    let ports = ["8080", "8090", "9903", "9911", "9912", "8110", "9919"];
    let mut recipe = Recipe::new("Many routers, one control", &words, &ports);
    let more = Recipe::new("Some apps for some routers", &["toml", "sh", "sh", ""], &[]);
    recipe.blocks.extend(more.blocks);
    let (api, telemetry) = (recipe.api, local(free_port()));
    recipe.bash(&recipe.blocks[0].1);
    let without =
        recipe.text(1).lines().filter(|line| !line.starts_with("routers")).collect::<Vec<_>>().join("\n");
    let moved = format!(
        "{without}\n[telemetry]\naddress = \"{telemetry}\"\n[control]\naddress = \"{api}\"\n{}",
        recipe.text(6)
    );
    recipe.write("control.toml", &moved);
    recipe.write("edge-1.toml", &recipe.text(2));
    let _running = (recipe.start(3), recipe.start(7));
    ["9911", "9912", "9919"].iter().for_each(|telemetry| recipe.wait_ready(telemetry));
    recipe.bash(&recipe.text(4));
    assert_eq!(recipe.bash(&recipe.text(8)), recipe.text(9));
}

#[test]
fn endpoints_in_etcd_as_written() {
    let recipe = Recipe::new("Endpoints in etcd", &["sh", "toml", "sh", "sh", ""], &["2389", "2390", "8120"]);
    let _etcd = recipe.start(0);
    in_time("etcd", || std::net::TcpStream::connect(local(recipe.port("2389"))).ok());
    let (api, telemetry) = (recipe.api, local(free_port()));
    let moved = format!(
        "{}\n[telemetry]\naddress = \"{telemetry}\"\n[control]\naddress = \"{api}\"\n",
        recipe.text(1)
    );
    recipe.write("ekiden.toml", &moved);
    let _router = recipe.start(2);
    in_time("the API", || std::net::TcpStream::connect(api).ok());
    assert_eq!(recipe.bash(&recipe.text(3)), recipe.text(4));
}
