//! Rules of the code and of what is built: what the resolved tree may hold, where `unsafe` may stand, what files are
//! called and how they begin, what lies at the top. Who may name whom is held by `arch`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates that are in no build of ours, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "one crypto provider, aws-lc-rs"),
    ("openssl-sys", "needs a system library"),
    ("native-tls", "needs a system library"),
    ("ring", "the provider is aws-lc-rs"),
    ("boring-sys", "the provider is aws-lc-rs"),
    ("prost-build", "needs protoc"),
    ("protobuf-codegen", "needs protoc"),
    ("protobuf-src", "builds protoc"),
    ("bindgen", "needs libclang"),
    ("serde_yaml", "no longer kept"),
];

/// At most one of these in the whole tree.
const CRYPTO_PROVIDERS: &[&str] =
    &["aws-lc-rs", "ring", "openssl", "boring", "mbedtls", "wolfssl", "rustls-rustcrypto"];

/// Heavy crates of which there is one version.
const ONE_VERSION: &[&str] = &[
    "tokio",
    "mio",
    "hyper",
    "hyper-util",
    "h2",
    "http",
    "http-body",
    "rustls",
    "bytes",
    "regex",
    "regex-automata",
    "socket2",
    "tracing",
    "serde_json",
];

/// What the binary may name beside our packages: a command line, signals, logging. No protocol, no data structure.
const BIN_MAY: &[&str] = &[
    "clap",
    "clap_complete",
    "libc",
    "mimalloc",
    "sd-notify",
    "serde_json",
    "tokio",
    "tracing",
    "tracing-subscriber",
];

/// Where our Rust files are.
const EVERYWHERE: &[&str] = &["config", "control", "router", "tests", "benches", "loadtest"];

/// Files that may hold `unsafe`, each for a system call or a trait that has no safe form.
const UNSAFE: &[&str] = &[
    "router/src/aside.rs",
    "router/src/listen.rs",
    "router/src/memory.rs",
    "router/src/router.rs",
    "router/bin/src/descriptors.rs",
    "tests/harness/process.rs",
    "tests/harness/live.rs",
    "tests/alloc/main.rs",
    "benches/memory.rs",
];

/// What stands at the top.
const TOP: &[&str] = &[
    "config",
    "control",
    "router",
    "tests",
    "benches",
    "loadtest",
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    ".ci",
    "clippy.toml",
    "rustfmt.toml",
    ".gitignore",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Packages of the tree with features resolved, for every system: name and version.
///
/// From `cargo tree` and not from `cargo metadata`, which also lists optional crates that nothing turns on. Offline
/// first; a machine that has only built has not fetched what other systems need.
fn built() -> BTreeSet<(String, String)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let tree = |offline: &[&str]| {
        let words = ["tree", "--locked", "--workspace", "--target", "all", "-e", "all", "--prefix", "none"];
        let output = Command::new(&cargo).args(words).args(offline).current_dir(root()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap()).ok_or(error)
    };
    let text =
        tree(&["--offline"]).or_else(|_| tree(&[])).unwrap_or_else(|error| panic!("cargo tree: {error}"));
    let packages: BTreeSet<_> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (name, version) = (words.next()?, words.next()?);
            version.starts_with('v').then(|| (name.to_owned(), version.to_owned()))
        })
        .collect();
    assert!(packages.len() > 50, "cargo tree told little: {text}");
    packages
}

#[test]
fn banned_crates_are_in_no_build() {
    let built = built();
    for (name, why) in BANNED {
        assert!(!built.iter().any(|(built, _)| built == name), "{name} is in the tree: {why}");
    }
}

/// `aws-lc-sys` names the crate for targets that `cc` cannot build; on ours it builds with a C compiler alone.
#[test]
fn a_rust_and_a_c_compiler_build_everything() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let words = [
        "tree",
        "--locked",
        "--offline",
        "--workspace",
        "-e",
        "normal,build,dev",
        "-i",
        "cmake",
        "--prefix",
        "depth",
    ];
    let output = Command::new(&cargo).args(words).args(["-f", " {p}"]).current_dir(root()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let callers: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix('1').filter(|rest| rest.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "cmake")
        .collect();
    assert!(callers.iter().all(|name| *name == "aws-lc-sys"), "who else runs cmake? {text}");
}

#[test]
fn one_crypto_provider_and_one_version_of_what_is_heavy() {
    let built = built();
    let names = built.iter().map(|(name, _)| name.as_str());
    let providers: BTreeSet<_> = names.filter(|name| CRYPTO_PROVIDERS.contains(name)).collect();
    assert!(providers.len() <= 1, "more than one crypto stack: {providers:?}");
    for heavy in ONE_VERSION {
        let versions: Vec<_> =
            built.iter().filter(|(name, _)| name == heavy).map(|(_, version)| version).collect();
        assert!(versions.len() <= 1, "{heavy} is built more than once: {versions:?}");
    }
}

#[test]
fn the_binary_only_joins() {
    let manifest = fs::read_to_string(root().join("router/bin/Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    for line in section.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let name = line.split(['.', ' ', '=']).next().unwrap();
        assert!(
            name.starts_with("ekiden-") || BIN_MAY.contains(&name),
            "ekiden names {name}: logic belongs in a plane"
        );
    }
}

/// Core takes time and chance as arguments; config does no I/O.
#[test]
fn pure_packages_ask_nothing_of_the_system() {
    let io: &[&str] =
        &["std::fs", "std::env", "std::process", "std::thread", "TcpStream", "TcpListener", "UdpSocket"];
    let clock: &[&str] = &["Instant::now", "SystemTime", "RandomState"];
    for (below, barred) in [("config/src", io.to_vec()), ("router/core/src", [io, clock].concat())] {
        for path in sources(&[below]) {
            let shown = path.display().to_string();
            if shown.contains("tests") || shown.ends_with("fixture.rs") {
                continue;
            }
            let text = fs::read_to_string(root().join(&path)).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap();
                let found = barred.iter().find(|barred| line.contains(**barred));
                assert!(found.is_none(), "{shown}:{}: {found:?}", number + 1);
            }
        }
    }
}

/// Rust files below these directories, relative to the top.
fn sources(below: &[&str]) -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> = below.iter().map(PathBuf::from).collect();
    let mut found = Vec::new();
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(root().join(&directory));
        for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if entry.file_name() != "target" {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty());
    found.sort();
    found
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in sources(EVERYWHERE) {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let first = text.lines().next().unwrap_or("");
        assert!(first.starts_with("//! ") && first.len() > 20, "{} begins with {first:?}", path.display());
    }
}

#[test]
fn names_say_what_a_file_holds() {
    let empty = ["helper", "helpers", "util", "utils", "common", "misc", "manager", "managers"];
    for path in sources(EVERYWHERE) {
        for part in path.with_extension("").components() {
            let part = part.as_os_str().to_string_lossy().into_owned();
            let bad = part.split(['_', '-']).find(|word| empty.contains(word));
            assert!(bad.is_none(), "{}: {bad:?} names nothing", path.display());
        }
    }
}

#[test]
fn every_library_denies_panics() {
    for library in ["config", "control", "router/core", "router"] {
        let text = fs::read_to_string(root().join(library).join("src/lib.rs")).unwrap();
        let squeezed: String = text.split_whitespace().collect();
        let lints = "deny(clippy::unwrap_used,clippy::expect_used,clippy::panic,clippy::indexing_slicing)";
        assert!(squeezed.contains(lints), "{library}/src/lib.rs does not deny panics");
    }
}

#[test]
fn unsafe_stands_only_where_it_is_allowed() {
    let is_unsafe = |line: &str| {
        let code = line.split("//").next().unwrap_or("");
        code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    };
    for path in sources(EVERYWHERE) {
        // These hold the word in texts only.
        if path.ends_with("it/rules.rs") || path.ends_with("it/arch.rs") {
            continue;
        }
        let source = fs::read_to_string(root().join(&path)).unwrap();
        if source.lines().any(is_unsafe) {
            let allowed = UNSAFE.iter().any(|allowed| path == Path::new(allowed));
            assert!(allowed, "unsafe in {}", path.display());
            assert!(source.contains("SAFETY:"), "{} does not say why it is sound", path.display());
        }
    }
}

#[test]
fn the_top_level_holds_what_it_should() {
    let aside = [".git", ".cargo", "target"];
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !aside.contains(&name.as_str()) {
            there.insert(name);
        }
    }
    assert_eq!(there, TOP.iter().map(|name| (*name).to_owned()).collect());
}
