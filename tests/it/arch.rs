//! The shape of the workspace, held by its manifests: who may name whom, and under which licences the tree is.
//!
//! Asks `cargo metadata` and `cargo tree` without a network. Which crates are banned is held by `rules`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn metadata(extra: &[&str]) -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(extra)
        .current_dir(root());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The whole resolved graph, for this platform.
fn graph() -> &'static Value {
    static GRAPH: OnceLock<Value> = OnceLock::new();
    GRAPH.get_or_init(|| {
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        metadata(&["--filter-platform", &platform])
    })
}

fn packages() -> &'static Vec<Value> {
    graph()["packages"].as_array().unwrap()
}

fn name_of(id: &str) -> &'static str {
    packages()
        .iter()
        .find(|package| package["id"] == id)
        .and_then(|package| package["name"].as_str())
        .unwrap()
}

/// Names of what a package depends on in a normal build (`all`: also for its tests and its build).
fn dependencies(package: &str, all: bool) -> BTreeSet<&'static str> {
    let nodes = graph()["resolve"]["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| name_of(node["id"].as_str().unwrap()) == package);
    let node = node.unwrap_or_else(|| panic!("no package {package}"));
    let mut names = BTreeSet::new();
    for dependency in node["deps"].as_array().unwrap() {
        let kinds = dependency["dep_kinds"].as_array().unwrap();
        if all || kinds.iter().any(|kind| kind["kind"].is_null()) {
            names.insert(name_of(dependency["pkg"].as_str().unwrap()));
        }
    }
    names
}

/// Everything below a package in a normal build, with the features that are really on (`cargo metadata` also lists
/// optional crates that are off).
fn closure(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "tree",
        "--offline",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let output = command.args(["--package", package]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let names: BTreeSet<String> =
        text.lines().skip(1).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(!names.is_empty(), "nothing below {package}");
    names
}

#[test]
fn the_arrows_between_our_packages() {
    let arrows: &[(&str, &[&str])] = &[
        ("ekiden-config", &[]),
        ("ekiden-control", &["ekiden-config"]),
        ("ekiden-core", &["ekiden-config"]),
        ("ekiden-router", &["ekiden-config", "ekiden-core"]),
        ("ekiden", &["ekiden-config", "ekiden-control", "ekiden-core", "ekiden-router"]),
    ];
    for (package, allowed) in arrows {
        // Also for tests: a dev-dependency would be an arrow all the same.
        let ours: Vec<&str> = dependencies(package, true)
            .into_iter()
            .filter(|name| *name == "ekiden" || name.starts_with("ekiden-"))
            .collect();
        for name in &ours {
            assert!(
                allowed.contains(name),
                "{package} depends on {name}; DESIGN section 1 does not allow it"
            );
        }
    }
}

#[test]
fn what_a_package_never_reaches() {
    let io: &[&str] =
        &["tokio", "mio", "socket2", "hyper", "hyper-util", "async-std", "smol", "rustls", "h2", "async-io"];
    let entropy: &[&str] = &["getrandom", "rand", "fastrand", "uuid"];
    let clocks: &[&str] = &["time", "chrono", "quanta", "jiff"];
    for (package, never) in [
        ("ekiden-config", [io, entropy, clocks].concat()),
        ("ekiden-core", [io, entropy, clocks].concat()),
        ("ekiden-control", vec!["ekiden-router", "ekiden-core"]),
        ("ekiden-router", vec!["ekiden-control", "hickory-resolver"]),
    ] {
        let below = closure(package);
        for name in never {
            assert!(!below.contains(name), "{package} reaches {name}");
        }
    }
}

/// Licences that the project takes; any part of an `OR`, every part of an `AND`.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "0BSD",
    "Unlicense",
    "BSL-1.0",
    "CC0-1.0",
    "Apache-2.0 WITH LLVM-exception",
    "MPL-2.0",
];

/// Whether an SPDX expression can be met; `/` is the old way to write `OR`.
fn acceptable(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    let met = |term: &str| LICENCES.contains(&term.split_whitespace().collect::<Vec<_>>().join(" ").as_str());
    // Parentheses are read as absent: every `AND` part must have an acceptable alternative, which is no weaker.
    expression.split(" AND ").all(|part| part.split(" OR ").any(met))
}

#[test]
fn licences() {
    for (expression, verdict) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ("GPL-3.0", false),
        ("MIT AND GPL-3.0", false),
        ("", false),
    ] {
        assert_eq!(acceptable(expression), verdict, "{expression:?}");
    }
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or("");
        assert!(acceptable(licence), "{} {} is under {licence:?}", package["name"], package["version"]);
    }
}

#[test]
fn our_packages_take_their_lints_and_versions_from_the_workspace() {
    let members = graph()["workspace_members"].as_array().unwrap();
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in packages().iter().filter(|package| members.contains(&package["id"])) {
        let manifest = package["manifest_path"].as_str().unwrap();
        let text = std::fs::read_to_string(manifest).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{manifest} does not take the workspace's lints");
        assert!(
            text.contains("license.workspace = true"),
            "{manifest} does not take the workspace's licence"
        );
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap();
            versions.entry(name).or_default().insert(dependency["req"].as_str().unwrap_or("").to_owned());
        }
    }
    for (name, wanted) in versions {
        assert_eq!(wanted.len(), 1, "{name} is wanted in several versions: {wanted:?}");
    }
}
