//! The shard key of a request: the text that a cluster's words make of it. Does not hash and does not place.

use ekiden_config::model::{KeyPart, KeyPiece, ShardFallback, ShardKind, ShardPolicy};

use crate::policy::limit::Asked;
use crate::policy::text;

/// What the words say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Its key is in the buffer.
    Key,
    /// It has none, and goes where `balance` says.
    Balance,
    /// It has none, and is refused.
    Refuse,
}

/// Whether the client's address is part of a key, so that it is looked for only then.
pub fn asks_client(words: &ShardPolicy) -> bool {
    let fallback = match &words.fallback {
        ShardFallback::Key(pieces) => pieces.as_slice(),
        ShardFallback::Balance | ShardFallback::Refuse => &[],
    };
    words.by.iter().chain(fallback).any(|piece| *piece == KeyPiece::Part(KeyPart::Client))
}

/// Writes a request's key into a buffer, which is emptied before. Allocates only while the buffer grows.
pub fn read(words: &ShardPolicy, asked: &Asked<'_>, into: &mut Vec<u8>) -> Found {
    if write(&words.by, asked, into) {
        return Found::Key;
    }
    match (&words.fallback, words.kind) {
        (ShardFallback::Key(pieces), _) if write(pieces, asked, into) => Found::Key,
        (ShardFallback::Balance, _) | (ShardFallback::Key(_), ShardKind::Cache) => Found::Balance,
        (ShardFallback::Refuse, _) | (ShardFallback::Key(_), ShardKind::Store) => Found::Refuse,
    }
}

/// False when the request lacks a part.
fn write(pieces: &[KeyPiece], asked: &Asked<'_>, into: &mut Vec<u8>) -> bool {
    into.clear();
    pieces.iter().all(|piece| match piece {
        KeyPiece::Text(text) => {
            into.extend_from_slice(text.as_bytes());
            true
        }
        KeyPiece::Part(part) => text::each_run(part, asked, &mut |run| into.extend_from_slice(run)),
    })
}
