//! Writes transactions, one at a time, each on the condition that this process still leads and that nothing was written meanwhile.
//!
//! A transaction without an answer ends the tenure: nobody knows whether it is stored, and only who reads everything again may go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::gateway::{Failure, Gateway, Places};
use super::words::{Compared, Num, TxnAnswer, WRITES_MAX, is, nested, operation, put, read};
use super::{Reply, Shared, Tenure};
use crate::store::{KEY_MAX, Revision, StoreError, TXN_MAX, Txn, Write};

/// Longest time for one transaction.
const COMMIT_MAX: Duration = Duration::from_secs(8);
/// Tries of a transaction when others write under the prefix.
const TRIES_MAX: usize = 8;

/// Writes what comes, for ever.
pub(super) async fn write(shared: Arc<Shared>, places: Arc<Places>, mut inlet: Receiver<(Txn, Reply)>) {
    let mut gateway = Gateway::new(&places);
    let mut count = 0u64;
    while let Some((txn, reply)) = inlet.recv().await {
        count += 1;
        let end = match shared.tenure() {
            None => Err(shared.not_leading()),
            Some(tenure) => {
                let end = Writing { shared: &shared, gateway: &mut gateway, tenure: &tenure };
                let end = end.commit(&txn, count).await;
                if let Err(StoreError::Unknown(text)) = &end {
                    tenure.over.send_replace(Some(format!("etcd did not answer a change: {text}")));
                    // Nothing may follow it; the tenure is taken away behind this.
                    tenure.valid_ms.store(0, std::sync::atomic::Ordering::Release);
                }
                end
            }
        };
        // The asker may have gone away; the change stands all the same.
        let _ = reply.send(end);
    }
}

/// One transaction of a tenure.
pub(super) struct Writing<'w> {
    pub(super) shared: &'w Shared,
    pub(super) gateway: &'w mut Gateway,
    pub(super) tenure: &'w Tenure,
}

impl Writing<'_> {
    /// Writes it, or nothing. `count` tells transactions of a tenure apart.
    pub(super) async fn commit(self, txn: &Txn, count: u64) -> Result<Revision, StoreError> {
        let Writing { shared, gateway, tenure } = self;
        let deadline = Instant::now() + COMMIT_MAX;
        let mark = format!("{}-{count}", tenure.key);
        // A try without an answer may have been carried out, and what it wrote be written over since.
        let mut unanswered = false;
        for _ in 0..TRIES_MAX {
            let stamp = shared.known.borrow().stamp;
            let writes = judge(shared, txn)?;
            if writes.is_empty() {
                return Ok(shared.state().revision());
            }
            let body = body(shared, tenure, (stamp, &mark), &writes);
            let answer = gateway.call("/v3/kv/txn", &body, deadline).await;
            unanswered |= gateway.unanswered;
            let answer: TxnAnswer = match answer {
                Ok(answer) => answer,
                Err(Failure::Unavailable(text)) => return Err(StoreError::Unknown(text)),
                Err(Failure::Refused(text)) if unanswered => return Err(StoreError::Unknown(text)),
                Err(Failure::Refused(text)) => return Err(refused(text)),
            };
            if answer.succeeded {
                return seen(shared, answer.header.revision.0, deadline).await;
            }
            let there = answer.read(0);
            if let Some(written) = there.filter(|kv| kv.value.0 == stamp_words(&mark)) {
                // A try before this one was carried out, and its answer lost.
                return seen(shared, written.mod_revision.0, deadline).await;
            }
            if answer.read(1).is_none_or(|leader| leader.create_revision != Num(tenure.key)) {
                tenure.over.send_replace(Some("another process leads".to_owned()));
                let why = "another process leads".to_owned();
                return Err(if unanswered { StoreError::Unknown(why) } else { StoreError::NotLeading(why) });
            }
            // Somebody else wrote under the prefix, by hand for example: judged anew with that.
            seen(shared, there.map_or(0, |kv| kv.mod_revision.0), deadline).await?;
        }
        Err(StoreError::Failed("others write under the prefix of etcd all the time".to_owned()))
    }
}

/// Waits until the replica has a revision.
async fn seen(shared: &Shared, revision: u64, deadline: Instant) -> Result<Revision, StoreError> {
    let mut known = shared.known.subscribe();
    let left = deadline.saturating_duration_since(Instant::now());
    let seen = timeout(left, known.wait_for(|known| known.revision >= revision)).await;
    match seen {
        Ok(Ok(_)) => Ok(revision),
        Ok(Err(_)) | Err(_) => {
            Err(StoreError::Unknown(format!("revision {revision} was written and is not heard of")))
        }
    }
}

fn stamp_words(mark: &str) -> String {
    json!({ "by": mark }).to_string()
}

/// What is left to write once the conditions hold: deletions of nothing are none.
fn judge(shared: &Shared, txn: &Txn) -> Result<Vec<Write>, StoreError> {
    let state = shared.state();
    for (key, wanted) in &txn.when {
        let modified = state.objects().get(key).map_or(0, |object| object.modified);
        if modified != *wanted {
            return Err(StoreError::Conflict { key: Arc::clone(key), modified });
        }
    }
    let there = |write: &&Write| write.value.is_some() || state.objects().contains_key(&write.key);
    let writes: Vec<Write> = txn.writes.iter().filter(there).cloned().collect();
    drop(state);
    let size: usize =
        writes.iter().map(|one| one.key.len() + one.value.as_ref().map_or(0, |value| value.len())).sum();
    if writes.iter().any(|write| write.key.len() > KEY_MAX) {
        return Err(StoreError::TooLarge(format!("a key is longer than {KEY_MAX} bytes")));
    }
    if size > TXN_MAX || writes.len() > WRITES_MAX {
        let count = writes.len();
        return Err(StoreError::TooLarge(format!(
            "a change of {count} objects and {size} bytes is more than etcd takes at once; make it in parts"
        )));
    }
    let distinct: BTreeSet<&Arc<str>> = writes.iter().map(|write| &write.key).collect();
    if distinct.len() != writes.len() {
        return Err(StoreError::Failed("a key stands twice in a change".to_owned()));
    }
    Ok(writes)
}

fn body(shared: &Shared, tenure: &Tenure, (stamp, mark): (u64, &str), writes: &[Write]) -> Value {
    let keys = &shared.keys;
    let mut operations = vec![put(&keys.stamp, &stamp_words(mark))];
    operations.extend(writes.iter().map(|write| operation(&keys.objects, write)));
    json!({
        "compare": [
            is(&keys.leader, Compared::Created, tenure.key),
            is(&keys.stamp, Compared::Modified, stamp),
        ],
        "success": nested(operations),
        "failure": [read(&keys.stamp), read(&keys.leader)],
    })
}

/// What etcd says no to, in the store's words.
fn refused(text: String) -> StoreError {
    let has = |words: &str| text.contains(words);
    if has("too large") || has("larger than max") || has("too many operations") {
        StoreError::TooLarge(format!(
            "the change is larger than etcd takes at once (1.5 MiB unless its --max-request-bytes says otherwise): {text}"
        ))
    } else if has("database space exceeded") {
        StoreError::Full(text)
    } else {
        StoreError::Failed(text)
    }
}
