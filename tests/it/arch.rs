//! The shape of the workspace, held by its manifests: who may name whom, what may be in the tree, under which licence.
//!
//! Asks `cargo metadata` without a network. Says nothing about code.

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

/// Everything below a package in a normal build.
fn closure(package: &'static str) -> BTreeSet<&'static str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![package]);
    while let Some(next) = open.pop() {
        for name in dependencies(next, false) {
            if seen.insert(name) {
                open.push(name);
            }
        }
    }
    seen
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
        ("ekiden-control", vec!["ekiden-router", "ekiden-core", "httparse-relay"]),
        ("ekiden-router", vec!["ekiden-control", "hickory-resolver"]),
    ] {
        let below = closure(package);
        for name in never {
            assert!(!below.contains(name), "{package} reaches {name}");
        }
    }
    for package in ["ekiden-config", "ekiden-core"] {
        for file in sources(package) {
            let text = std::fs::read_to_string(&file).unwrap();
            for word in [
                "std::net::Tcp",
                "std::net::Udp",
                "std::os::unix::net",
                "Instant::now",
                "SystemTime::now",
                "std::fs::",
                "std::thread::spawn",
            ] {
                assert!(!text.contains(word), "{} names {word}", file.display());
            }
        }
    }
}

/// Source files of a package, without those of its tests.
fn sources(package: &str) -> Vec<PathBuf> {
    let manifest =
        packages().iter().find(|p| p["name"] == package).and_then(|p| p["manifest_path"].as_str()).unwrap();
    let mut files = Vec::new();
    let mut open = vec![Path::new(manifest).parent().unwrap().join("src")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
            if stem == "tests" || stem == "fixture" || stem.ends_with("_tests") {
                continue;
            }
            if path.is_dir() {
                open.push(path)
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path)
            }
        }
    }
    assert!(!files.is_empty());
    files
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

/// Crates that must not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "one crypto provider: aws-lc-rs"),
    ("openssl-sys", "one crypto provider: aws-lc-rs"),
    ("native-tls", "one crypto provider: aws-lc-rs"),
    ("boring", "one crypto provider: aws-lc-rs"),
    ("boring-sys", "one crypto provider: aws-lc-rs"),
    ("serde_yaml", "no longer kept"),
    ("serde_yml", "unsound and no longer kept"),
    ("yaml-rust", "no longer kept"),
    ("lazy_static", "std has LazyLock"),
    ("once_cell", "std has OnceLock"),
    ("async-std", "no longer kept"),
    ("atty", "no longer kept"),
    ("pingora-proxy", "measured beside us, never linked"),
    ("cmake", "the build needs a C compiler and no more"),
    ("prost-build", "the build needs no protoc"),
];

/// Banned crates that a dependency still brings, with the crates that may.
const TOLERATED: &[(&str, &[&str])] = &[("once_cell", &["*"])];

#[test]
fn banned_crates() {
    for (name, reason) in BANNED {
        if !packages().iter().any(|package| package["name"] == *name) {
            continue;
        }
        let tolerated = TOLERATED.iter().find(|(banned, _)| banned == name).map_or(&[][..], |(_, by)| by);
        for package in packages() {
            let user = package["name"].as_str().unwrap();
            let uses = dependencies(user, true).contains(name);
            let ours = user == "ekiden" || user.starts_with("ekiden-");
            let fine = !uses || (!ours && (tolerated.contains(&user) || tolerated.contains(&"*")));
            assert!(fine, "{user} depends on {name}, which is banned: {reason}");
        }
    }
}

#[test]
fn one_crypto_provider() {
    let providers = [
        "ring",
        "aws-lc-rs",
        "aws-lc-sys",
        "openssl-sys",
        "boring-sys",
        "mbedtls",
        "rustls-mbedcrypto-provider",
    ];
    let below = closure("ekiden");
    let found: BTreeSet<&str> = providers.into_iter().filter(|name| below.contains(name)).collect();
    for name in &found {
        assert!(name.starts_with("aws-lc"), "the binary links {name}; the one provider is aws-lc-rs");
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
