//! Sharding of a cluster: keys that can be read, and words that make sense together. Places no key.

use std::sync::Arc;

use super::Scope;
use super::key::Keys;
use crate::model::{
    Address, Endpoint, HotKeyPolicy, KeyPiece, ReplicaPick, ShardAlgorithm, ShardFallback, ShardKind,
    ShardPolicy,
};
use crate::raw::{Off, RawCluster, RawShard, Spanned, Word};
use crate::source::Span;

/// Endpoints up to which a search through all of them is quick.
const RENDEZVOUS_ADVISED: usize = 200;
/// Endpoints of nginx's ring: what numbers them there has 16 bits.
const KETAMA_MAX: usize = 65_535;
/// The bound of a cache that says nothing, in percent.
const BOUND_PERCENT: u32 = 125;
const KEYS: Keys<'_> = Keys {
    code: "bad_shard_key",
    of: "a shard",
    help: "write path, path:N, host, client, query, query:NAME, header:NAME, cookie:NAME, client_cert:PART, or several in braces: \
           \"{host}{path}\"",
    groups: None,
    api_key: false,
};

/// Reads how a cluster is sharded. `None` after a finding.
pub(super) fn shard(
    scope: &mut Scope<'_, '_>,
    cluster: &RawCluster,
    raw: &RawShard,
    endpoints: &[Arc<Endpoint>],
) -> Option<Arc<ShardPolicy>> {
    let before = scope.report.errors();
    let kind = raw.kind.as_ref().map_or(ShardKind::default(), |word| word.value.0);
    let by = raw.by.as_ref().and_then(|text| scope.accept(text.span, KEYS.pieces(&text.value)));
    let fallback = fallback(scope, raw.fallback.as_ref(), kind);
    let bound_percent = match raw.bound.as_ref().map(|bound| bound.value) {
        Some(Off::Set(factor)) => Some(factor.0),
        Some(Off::Off) => None,
        None => (kind == ShardKind::Cache).then_some(BOUND_PERCENT),
    };
    if kind == ShardKind::Store {
        strict(scope, cluster, raw);
    }
    algorithm(scope, raw, endpoints);
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    Some(Arc::new(ShardPolicy {
        by: by?,
        fallback: fallback?,
        algorithm: raw.algorithm.as_ref().map_or(ShardAlgorithm::default(), |word| word.value.0),
        kind,
        replicas: raw.replicas.and_then(|count| u8::try_from(count).ok()).unwrap_or(1),
        replica_pick: raw.replica_pick.map_or(ReplicaPick::default(), |word| word.0),
        bound_percent,
        hot_keys: match &raw.hot_keys {
            None => Some(HotKeyPolicy::default()),
            Some(Off::Off) => None,
            Some(Off::Set(raw)) => {
                let standard = HotKeyPolicy::default();
                let percent = raw.threshold.and_then(|percent| u32::try_from(percent).ok());
                Some(HotKeyPolicy {
                    threshold_percent: percent.unwrap_or(standard.threshold_percent),
                    show: raw.show_keys.unwrap_or(standard.show),
                })
            }
        },
    }))
}

fn fallback(
    scope: &mut Scope<'_, '_>,
    raw: Option<&Spanned<String>>,
    kind: ShardKind,
) -> Option<ShardFallback> {
    let Some(text) = raw else {
        return Some(match kind {
            ShardKind::Cache => ShardFallback::Balance,
            ShardKind::Store => ShardFallback::Refuse,
        });
    };
    match (text.value.as_str(), kind) {
        ("balance", ShardKind::Cache) => Some(ShardFallback::Balance),
        ("balance", ShardKind::Store) => {
            let message =
                "a store has one place for each key: no other endpoint can serve a request without one";
            let help = "write `fallback = \"refuse\"`, or another key such as `client`";
            scope.report.error_help(text.span, "store_fallback", message, help);
            None
        }
        ("refuse", _) => Some(ShardFallback::Refuse),
        (key, _) => {
            let pieces: Option<Vec<KeyPiece>> = scope.accept(text.span, KEYS.pieces(key));
            pieces.map(ShardFallback::Key)
        }
    }
}

/// What has no meaning where no other endpoint can serve a key.
fn strict(scope: &mut Scope<'_, '_>, cluster: &RawCluster, raw: &RawShard) {
    if let Some(Spanned { value: Off::Set(_), span }) = &raw.bound {
        let message =
            "a store cannot bound loads: what overflows would be served by an endpoint without the data";
        scope.report.error_help(*span, "store_bound", message, "leave `bound` out, or make it a cache");
    }
    let span = raw.kind.as_ref().map_or(raw.span, |kind: &Spanned<Word<ShardKind>>| kind.span);
    let mut without_meaning = |what: &str, span: Span| {
        let message =
            format!("`{what}` has no meaning in a store: each key has one place, whatever its state");
        scope.report.error_help(span, "no_meaning", message, format!("leave `{what}` out"));
    };
    if let Some(Off::Set(_)) = cluster.panic_threshold {
        without_meaning("panic_threshold", span);
    }
    if let Some(Off::Set(_)) = cluster.slow_start {
        without_meaning("slow_start", span);
    }
}

fn algorithm(scope: &mut Scope<'_, '_>, raw: &RawShard, endpoints: &[Arc<Endpoint>]) {
    let written = raw.algorithm.as_ref();
    let algorithm = written.map_or(ShardAlgorithm::default(), |word| word.value.0);
    let span = written.map_or(raw.span, |word| word.span);
    match algorithm {
        ShardAlgorithm::Rendezvous if endpoints.len() > RENDEZVOUS_ADVISED => {
            let message = format!("rendezvous looks at all {} endpoints for each request", endpoints.len());
            let help = "from some hundred endpoints on `algorithm = \"maglev\"` is faster; changing it moves most keys once";
            scope.report.warning(span, "large_rendezvous", message, help);
        }
        ShardAlgorithm::Ketama => {
            if let Some(other) = endpoints.iter().find(|one| matches!(one.address, Address::Unix(_))) {
                let message = format!("ketama hashes IP addresses, and `{}` is none", other.address);
                scope.report.error_help(span, "ketama_address", message, "use `ring`, which hashes ids");
            }
            if endpoints.len() > KETAMA_MAX {
                let message = format!("ketama takes {KETAMA_MAX} endpoints at most");
                scope.report.error_help(span, "list_too_long", message, "use `maglev`");
            }
        }
        ShardAlgorithm::Rendezvous | ShardAlgorithm::Ring | ShardAlgorithm::Maglev => {}
    }
}
