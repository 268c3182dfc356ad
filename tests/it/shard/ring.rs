//! `ekiden ring`: shares, what moves, where a key is; and that it says what the router does.

use std::fs;
use std::process::Command;

use ekiden_tests::{Served, Setup, binary, finished};

use super::{echoes, keyed, places, serve, text, who};

/// Exit code, standard output and standard error.
fn ring(file: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = finished(Command::new(binary()).args(["ring", file]).args(arguments));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn shares_moves_and_keys() {
    let echoes = echoes(&["one", "two", "three"]);
    let shard = "by = \"header:x-key\", bound = \"off\"";
    let setup =
        Setup::new(text(&places(&echoes), "", shard) + "[cluster.plain]\nendpoints = [\"127.0.0.1:1\"]\n");
    fs::write(setup.file(), setup.config()).unwrap();
    let file = setup.file();
    let file = file.to_str().unwrap();
    let (code, said, _) = ring(file, &["web", "--without", "two", "--key", "ann", "--key", "bob"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("rendezvous, cache, 3 endpoints, digest "), "{said}");
    let share = |id: &str| {
        let line = said.lines().find(|line| line.trim_start().starts_with(id) && line.contains("weight"));
        let words: Vec<&str> = line.unwrap_or_else(|| panic!("{id}: {said}")).split_whitespace().collect();
        words[3].parse::<f64>().unwrap()
    };
    assert!(["one", "two", "three"].iter().all(|id| (share(id) - 33.3).abs() < 2.0), "{said}");
    let moved = format!("without two: {:.2} % of the keys move with it, 0.00 % of others", share("two"));
    assert!(said.contains(&moved), "{said}");
    // What it says of keys, the router does.
    let router = serve(&echoes, "", shard);
    let digest = router.table()["apps"][0]["clusters"][0]["shard"]["digest"].as_str().unwrap().to_owned();
    assert!(said.contains(&digest), "{said}");
    for key in ["ann", "bob"] {
        let owner = who(&mut router.client(), &keyed(key));
        assert!(said.contains(&format!("key {key}: {owner}, then ")), "{key} {owner}: {said}");
    }
    for (arguments, words) in [
        (&["nobody"][..], "there is no cluster default/nobody"),
        (&["shop/web"], "there is no cluster shop/web"),
        (&["plain"], "has no `shard`"),
        (&["web", "--without", "four"], "there is no endpoint four"),
    ] {
        let (code, _, errors) = ring(file, arguments);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(words), "{errors}");
    }
    fs::write(file, "[[[").unwrap();
    assert_eq!(ring(file, &["web"]).0, Some(1));
}
