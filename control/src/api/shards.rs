//! Shards as `GET /v1/table` shows them: words, the digest of the map, and the keys asked for most. Counts nothing.

use ekiden_config::doors::{KeyStatus, ShardStatus};
use ekiden_config::model::{KeyPiece, ShardFallback, ShardPolicy};
use serde_json::{Value, json};

use super::limits;

/// The shards of a cluster. Without `live` the router has not seen them yet.
pub(super) fn view(words: &ShardPolicy, live: Option<&ShardStatus>) -> Value {
    let fallback = match &words.fallback {
        ShardFallback::Balance => json!("balance"),
        ShardFallback::Refuse => json!("refuse"),
        ShardFallback::Key(pieces) => json!(key(pieces)),
    };
    json!({
        "by": key(&words.by),
        "fallback": fallback,
        "algorithm": words.algorithm.word(),
        "kind": words.kind.word(),
        "replicas": words.replicas,
        "bound": words.bound_percent.map(|percent| f64::from(percent) / 100.0),
        "digest": live.map(|live| format!("{:016x}", live.digest)),
        "keys": live.map(|live| live.keys.iter().map(key_view).collect::<Vec<_>>()),
    })
}

fn key(pieces: &[KeyPiece]) -> String {
    if let [KeyPiece::Part(part)] = pieces {
        return limits::part(part);
    }
    let piece = |piece: &KeyPiece| match piece {
        KeyPiece::Text(text) => text.to_string(),
        KeyPiece::Part(part) => format!("{{{}}}", limits::part(part)),
    };
    pieces.iter().map(piece).collect()
}

fn key_view(key: &KeyStatus) -> Value {
    json!({
        "hash": format!("{:016x}", key.hash),
        "text": key.text,
        "share": f64::from(key.share_ppm) / 1e6,
        "hot": key.hot,
        "spread": key.spread,
    })
}
