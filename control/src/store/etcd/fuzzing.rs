//! Answers of etcd's gateway: reading never panics.

use serde_json::from_slice;

use super::words::{Failed, Kept, Lease, Nothing, Range, Token, TxnAnswer, WatchLine};

pub(crate) fn answers(data: &[u8]) {
    let _read = (from_slice::<Range>(data), from_slice::<WatchLine>(data), from_slice::<Failed>(data));
    let _read = (from_slice::<Lease>(data), from_slice::<Kept>(data), from_slice::<Token>(data));
    let _read = from_slice::<Nothing>(data);
    if let Ok(answer) = from_slice::<TxnAnswer>(data) {
        assert!(answer.read(answer.responses.len()).is_none());
    }
}
