//! The README's section on TLS, done as written: its blocks in their order, with free ports in place of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use ekiden_tests::{Ekiden, Run, Served, Setup, finished, free_port};

/// The fenced blocks of a section: language and text.
fn blocks(section: &str) -> Vec<(String, String)> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("README.md");
    let text = fs::read_to_string(readme).unwrap();
    let body = text.split(&format!("\n### {section}\n")).nth(1).unwrap().split("\n### ").next().unwrap();
    let pieces: Vec<&str> = body.split("```").collect();
    let fenced = pieces.iter().skip(1).step_by(2);
    fenced
        .filter_map(|block| block.split_once('\n'))
        .map(|(word, text)| (word.to_owned(), text.to_owned()))
        .collect()
}

#[test]
fn two_certificates_as_written() {
    let (https, plain) = (free_port(), free_port());
    let own = |text: &str| text.replace("8443", &https.to_string()).replace("8080", &plain.to_string());
    let blocks = blocks("TLS");
    let words: Vec<&str> = blocks.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words, ["sh", "toml", "sh", ""]);
    let setup = Setup::new("");
    let bash = |text: &str, dir: &Path| {
        let output = finished(Command::new("bash").args(["-euc", text]).current_dir(dir));
        assert!(output.status.success(), "{text}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    bash(&blocks[0].1, setup.dir());
    let router = Ekiden::start_with(setup, Run { text: Some(own(&blocks[1].1)), ..Run::default() });
    assert_eq!(bash(&own(&blocks[2].1), router.setup().dir()), own(&blocks[3].1));
}
