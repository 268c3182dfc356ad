//! Sharding as it comes into the Model, and what is found wrong with it.

use std::sync::Arc;

use super::*;
use crate::model::{
    HotKeyPolicy, KeyPart, KeyPiece, ReplicaPick, ShardAlgorithm, ShardFallback, ShardKind, ShardPolicy,
};

/// A cluster with these keys.
fn text(keys: &str) -> String {
    format!("{LISTENER}[cluster.c]\nendpoints = [\"1.1.1.1:1\"]\n{keys}\n")
}

fn shard(words: &str) -> ShardPolicy {
    let text = text(&format!("shard = {{ {words} }}"));
    let built = build_one(&toml(&text)).unwrap_or_else(|found| panic!("{text}\n{}", found[0]));
    assert_eq!(codes(&built.diagnostics), [""; 0]);
    let cluster = &built.model.apps.get("default").unwrap().clusters["c"];
    (**cluster.policy.shard.as_ref().unwrap()).clone()
}

#[test]
fn defaults_are_the_documented_ones() {
    let bare = shard("by = \"path\"");
    let want = ShardPolicy {
        by: vec![KeyPiece::Part(KeyPart::WholePath)],
        fallback: ShardFallback::Balance,
        algorithm: ShardAlgorithm::Rendezvous,
        kind: ShardKind::Cache,
        replicas: 1,
        replica_pick: ReplicaPick::Primary,
        bound_percent: Some(125),
        hot_keys: Some(HotKeyPolicy { threshold_percent: 50, show: false }),
    };
    assert_eq!(bare, want);
    let written = "by = \"path\", fallback = \"balance\", algorithm = \"rendezvous\", kind = \"cache\", replicas = 1, \
                   replica_pick = \"primary\", bound = 1.25, hot_keys = { threshold = 50, show_keys = false }";
    assert_eq!(shard(written), want);
    let store = shard("by = \"path\", kind = \"store\"");
    assert_eq!((store.fallback, store.bound_percent), (ShardFallback::Refuse, None));
    let other = shard("by = \"path\", bound = \"off\", hot_keys = \"off\", fallback = \"refuse\"");
    assert_eq!((other.bound_percent, other.hot_keys, other.fallback), (None, None, ShardFallback::Refuse));
    assert_eq!(shard("by = \"path\", bound = 2").bound_percent, Some(200));
    assert_eq!(shard("by = \"path\", kind = \"store\", bound = \"off\"").bound_percent, None);
}

#[test]
fn keys() {
    let part = |part| vec![KeyPiece::Part(part)];
    let by = |text: &str| shard(&format!("by = \"{text}\"")).by;
    assert_eq!(by("header:X-User"), part(KeyPart::Header("x-user".into())));
    assert_eq!(by("cookie:Session"), part(KeyPart::Cookie("Session".into())));
    assert_eq!(by("query:id"), part(KeyPart::Query("id".into())));
    assert_eq!(by("query"), part(KeyPart::WholeQuery));
    assert_eq!(by("path:2"), part(KeyPart::Path(2)));
    assert_eq!((by("host"), by("client")), (part(KeyPart::Host), part(KeyPart::Client)));
    assert_eq!(
        by("a/{host}:{path}!"),
        [
            KeyPiece::Text("a/".into()),
            KeyPiece::Part(KeyPart::Host),
            KeyPiece::Text(":".into()),
            KeyPiece::Part(KeyPart::WholePath),
            KeyPiece::Text("!".into()),
        ]
    );
    let fallback = shard("by = \"header:x\", fallback = \"client\", kind = \"store\"").fallback;
    assert_eq!(fallback, ShardFallback::Key(part(KeyPart::Client)));
}

#[test]
fn what_is_wrong() {
    for (keys, want) in [
        ("shard = {}", vec!["missing_key"]),
        ("shard = { by = \"group\" }", vec!["bad_shard_key"]),
        ("shard = { by = \"user\" }", vec!["bad_shard_key"]),
        ("shard = { by = \"{path\" }", vec!["bad_shard_key"]),
        ("shard = { by = \"{path}{path}\" }", vec!["bad_shard_key"]),
        ("shard = { by = \"path:0\" }", vec!["bad_shard_key"]),
        ("shard = { by = \"path\", fallback = \"no\" }", vec!["bad_shard_key"]),
        ("shard = { by = \"path\", bound = 1.0 }", vec!["out_of_range"]),
        ("shard = { by = \"path\", bound = 10.01 }", vec!["out_of_range"]),
        ("shard = { by = \"path\", bound = -1 }", vec!["out_of_range"]),
        ("shard = { by = \"path\", bound = \"1.25\" }", vec!["wrong_type"]),
        ("shard = { by = \"path\", replicas = 17 }", vec!["out_of_range"]),
        ("shard = { by = \"path\", hot_keys = { threshold = 5 } }", vec!["out_of_range"]),
        ("shard = { by = \"path\", algorithm = \"jump\" }", vec!["unknown_value"]),
        ("shard = { by = \"path\", kind = \"store\", bound = 1.25 }", vec!["store_bound"]),
        ("shard = { by = \"path\", kind = \"store\", fallback = \"balance\" }", vec!["store_fallback"]),
        ("panic_threshold = 50\nshard = { by = \"path\", kind = \"store\" }", vec!["no_meaning"]),
        ("slow_start = \"1s\"\nshard = { by = \"path\", kind = \"store\" }", vec!["no_meaning"]),
    ] {
        let found = build_one(&toml(&text(keys))).unwrap_err();
        assert_eq!(codes(&found), want, "{keys}");
        assert!(found.iter().all(|one| one.line >= 5), "{keys}: {}", found[0]);
    }
    let unix = format!(
        "{LISTENER}[cluster.c]\nendpoints = [\"unix:/run/a\"]\nshard = {{ by = \"path\", algorithm = \"ketama\" }}\n"
    );
    assert_eq!(codes(&build_one(&toml(&unix)).unwrap_err()), ["ketama_address"]);
}

#[test]
fn a_large_cluster_is_advised_to_take_maglev() {
    let of = |count: usize, algorithm: &str| {
        let all: Vec<String> = (1..=count).map(|port| format!("\"1.1.1.1:{port}\"")).collect();
        let text = format!(
            "{LISTENER}[cluster.c]\nendpoints = [{}]\nshard = {{ by = \"path\", algorithm = \"{algorithm}\" }}\n",
            all.join(", ")
        );
        codes(&build_one(&toml(&text)).unwrap().diagnostics)
    };
    assert_eq!(of(201, "rendezvous"), ["large_rendezvous"]);
    assert_eq!(of(200, "rendezvous"), [""; 0]);
    assert_eq!(of(201, "maglev"), [""; 0]);
}

#[test]
fn limits_take_the_same_parts() {
    let text = format!("{LISTENER}limit = [{{ rate = \"1/s\", key = \"{{host}}{{path}}{{query}}\" }}]\n");
    let built = build_one(&toml(&text)).unwrap();
    let limits: Arc<_> = built.model.listeners["edge"].rate_limits.clone().unwrap();
    assert_eq!(limits[0].key, [KeyPart::Host, KeyPart::WholePath, KeyPart::WholeQuery]);
}
