//! Entries of the journal: what one frame holds, as JSON. A transaction, the head of a snapshot, or one of its objects.
//!
//! The words here are a promise to every later version: a journal written today must be read after an upgrade.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Object, Revision, Write};

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A transaction.
    Txn(Revision, Vec<Write>),
    /// So many objects follow, as of this revision.
    Snapshot(Revision, usize),
    /// One of them.
    Object(Object),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    #[serde(borrow)]
    Txn(TxnLine<'a>),
    Snapshot {
        revision: Revision,
        objects: usize,
    },
    #[serde(borrow)]
    Object(ObjectLine<'a>),
}

#[derive(Serialize, Deserialize)]
struct TxnLine<'a> {
    revision: Revision,
    #[serde(borrow)]
    writes: Vec<WriteLine<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WriteLine<'a> {
    key: String,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
struct ObjectLine<'a> {
    key: String,
    created: Revision,
    modified: Revision,
    #[serde(borrow)]
    value: &'a RawValue,
}

fn raw(text: &str) -> Result<&RawValue, String> {
    serde_json::from_str(text).map_err(|error| format!("a value is not JSON: {error}"))
}

/// Bytes of a transaction. Errors: a value that is no JSON document.
pub(super) fn of_txn(revision: Revision, writes: &[Write]) -> Result<Vec<u8>, String> {
    let line =
        |write: &'_ Write| -> Result<(), String> { write.value.as_deref().map(raw).transpose().map(drop) };
    writes.iter().try_for_each(line)?;
    let mut lines = Vec::with_capacity(writes.len());
    for write in writes {
        let value = write.value.as_deref().map(raw).transpose()?;
        lines.push(WriteLine { key: write.key.to_string(), value });
    }
    encode(&Line::Txn(TxnLine { revision, writes: lines }))
}

/// Bytes of the head of a snapshot.
pub(super) fn of_snapshot(revision: Revision, objects: usize) -> Result<Vec<u8>, String> {
    encode(&Line::Snapshot { revision, objects })
}

/// Bytes of one object of a snapshot.
pub(super) fn of_object(object: &Object) -> Result<Vec<u8>, String> {
    encode(&Line::Object(ObjectLine {
        key: object.key.to_string(),
        created: object.created,
        modified: object.modified,
        value: raw(&object.value)?,
    }))
}

fn encode(line: &Line<'_>) -> Result<Vec<u8>, String> {
    serde_json::to_vec(line).map_err(|error| error.to_string())
}

/// Reads a frame back; the error says what is wrong with it.
pub(super) fn decode(payload: &[u8]) -> Result<Entry, String> {
    let line: Line<'_> = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    Ok(match line {
        Line::Txn(TxnLine { revision, writes }) => {
            let writes = writes.into_iter().map(|write| Write {
                key: Arc::from(write.key),
                value: write.value.map(|value| Arc::from(value.get())),
            });
            Entry::Txn(revision, writes.collect())
        }
        Line::Snapshot { revision, objects } => Entry::Snapshot(revision, objects),
        Line::Object(line) => Entry::Object(Object {
            key: Arc::from(line.key),
            value: Arc::from(line.value.get()),
            created: line.created,
            modified: line.modified,
        }),
    })
}
