//! The audit log: who asked for which change, and how it ended. Never what was in a body, never a token.
//!
//! One line of JSON each, in `audit.log` of the run directory, and the last ones in memory for `GET /v1/audit`. Written behind
//! the answer; what cannot be kept is counted and said loudly. Who is not let through is noted apart, and only so often in the
//! file: no stranger pushes out what others changed.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// File name inside the run directory.
const NAME: &str = "audit.log";
/// Size at which the file becomes `audit.log.1` and a new one is begun, in bytes.
const FILE_MAX: u64 = 16 << 20;
/// Records in memory.
const RECENT_MAX: usize = 1000;
/// Records of those who were not let through, in memory.
const REFUSALS_MAX: usize = 200;
/// Of these, so many a minute go to the file.
const REFUSALS_A_MINUTE: u64 = 60;
/// Records that may wait to be written.
const WAITING_MAX: usize = 10_000;

/// The log.
#[derive(Debug)]
pub(crate) struct Audit {
    recent: Mutex<Recent>,
    outlet: Option<SyncSender<String>>,
}

#[derive(Debug, Default)]
struct Recent {
    records: VecDeque<Value>,
    dropped: u64,
    refusals: VecDeque<Value>,
    /// Of this minute since the epoch, so many went to the file.
    written: (u64, u64),
    /// So many did not.
    unwritten: u64,
}

fn keep(records: &mut VecDeque<Value>, most: usize, record: Value) {
    if records.len() >= most {
        records.pop_front();
    }
    records.push_back(record);
}

impl Audit {
    /// Starts the log in a run directory; without one it is in memory only.
    pub(crate) fn start(dir: Option<&Path>) -> Self {
        let outlet = dir.and_then(|dir| {
            let (outlet, inlet) = sync_channel(WAITING_MAX);
            let path = dir.join(NAME);
            let started =
                thread::Builder::new().name("audit".to_owned()).spawn(move || write_all(&path, &inlet));
            match started {
                // Ends with the outlet.
                Ok(_) => Some(outlet),
                Err(error) => {
                    tracing::error!(%error, "the audit log is in memory only");
                    None
                }
            }
        });
        Self { recent: Mutex::default(), outlet }
    }

    /// Notes a change that was asked for; whether it may be written down too.
    pub(super) fn note(&self, record: Value) -> bool {
        let full = self.send(&record);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if full {
            recent.dropped += 1;
        }
        let dropped = recent.dropped;
        keep(&mut recent.records, RECENT_MAX, record);
        drop(recent);
        if full {
            tracing::error!(
                dropped,
                "the audit log cannot be written fast enough; a record is in memory only"
            );
        }
        !full
    }

    /// Whether there is no room for a record on its way to the file.
    fn send(&self, record: &Value) -> bool {
        self.outlet.as_ref().is_some_and(|outlet| outlet.try_send(format!("{record}\n")).is_err())
    }

    /// Notes who was not let through; false when the file should have it and cannot.
    pub(super) fn refused(&self, record: Value) -> bool {
        let minute = record.get("unix_ms").and_then(Value::as_u64).unwrap_or_default() / 60_000;
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.written.0 != minute {
            recent.written = (minute, 0);
        }
        let writes = recent.written.1 < REFUSALS_A_MINUTE;
        if writes {
            recent.written.1 += 1;
        } else {
            recent.unwritten += 1;
        }
        let full = writes && self.send(&record);
        recent.dropped += u64::from(full);
        keep(&mut recent.refusals, REFUSALS_MAX, record);
        !full
    }

    /// The last records, newest last.
    pub(super) fn recent(&self) -> Value {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "records": recent.records,
            "dropped": recent.dropped,
            "refusals": recent.refusals,
            "refusals_unwritten": recent.unwritten,
        })
    }
}

fn write_all(path: &PathBuf, inlet: &Receiver<String>) {
    let mut loud = true;
    while let Ok(line) = inlet.recv() {
        match append(path, &line) {
            Ok(()) => loud = true,
            Err(error) if loud => {
                loud = false;
                tracing::error!(%error, path = %path.display(), "the audit log cannot be written");
            }
            Err(_) => {}
        }
    }
}

fn append(path: &PathBuf, line: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > FILE_MAX) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_push_nothing_out() {
        let audit = Audit::start(None);
        audit.note(json!({ "who": "ann" }));
        for n in 0..10_000 {
            audit.refused(json!({ "unix_ms": 60_000 + n, "who": "nobody" }));
        }
        let recent = audit.recent();
        assert_eq!(recent["records"], json!([{ "who": "ann" }]));
        assert_eq!(recent["refusals"].as_array().unwrap().len(), REFUSALS_MAX);
        assert_eq!(recent["refusals_unwritten"], 10_000 - REFUSALS_A_MINUTE);
        audit.refused(json!({ "unix_ms": 120_000, "who": "nobody" }));
        assert_eq!(audit.recent()["refusals_unwritten"], 10_000 - REFUSALS_A_MINUTE, "another minute");
    }

    #[test]
    fn the_last_records_are_kept_and_all_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::start(Some(dir.path()));
        for number in 0..RECENT_MAX + 10 {
            assert!(audit.note(json!({ "n": number })));
        }
        let recent = audit.recent();
        assert_eq!(recent["records"].as_array().unwrap().len(), RECENT_MAX);
        assert_eq!((&recent["records"][0]["n"], &recent["dropped"]), (&json!(10), &json!(0)));
        let path = dir.path().join(NAME);
        fs::write(&path, vec![b'x'; FILE_MAX as usize + 1]).unwrap();
        append(&path, "{}\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().last(), Some("{}"));
        assert!(dir.path().join("audit.log.1").exists());
    }
}
