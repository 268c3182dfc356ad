//! The README's section on TLS to endpoints, done as written, with free ports in place of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use ekiden_tests::{Ekiden, Run, Served, Setup, finished, free_port};

#[test]
fn mutual_tls_as_written() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("README.md");
    let text = fs::read_to_string(readme).unwrap();
    let body = text.split("\n### TLS to endpoints\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let pieces: Vec<&str> = body.split("```").collect();
    let blocks: Vec<(&str, &str)> =
        pieces.iter().skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect();
    let words: Vec<&str> = blocks.iter().map(|(word, _)| *word).collect();
    assert_eq!(words, ["sh", "toml", "toml", "sh", ""]);
    let ports = [("8080", free_port()), ("8443", free_port())];
    let own = |text: &str| {
        ports.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, &new.to_string()))
    };
    let setup = Setup::new("");
    let bash = |text: &str, dir: &Path| {
        let output = finished(Command::new("bash").args(["-euc", text]).current_dir(dir));
        assert!(output.status.success(), "{text}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    bash(blocks[0].1, setup.dir());
    let ambassador = Setup::new("");
    for entry in fs::read_dir(setup.dir()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, ambassador.dir().join(path.file_name().unwrap())).unwrap();
    }
    let run = |text: &str| Run { text: Some(own(text)), ..Run::default() };
    let _inner = Ekiden::start_with(ambassador, run(blocks[2].1));
    let edge = Ekiden::start_with(setup, run(blocks[1].1));
    assert_eq!(bash(&own(blocks[3].1), edge.setup().dir()), own(blocks[4].1));
}
