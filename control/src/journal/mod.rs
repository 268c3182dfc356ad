//! The journal: API endpoints and drain marks, durable before they are acknowledged.
//!
//! An append-only file of checksummed frames. One [`Journal::append`] is one write and one `fdatasync` for all
//! mutations that were waiting (group commit). Killed at any byte it reopens to the last acknowledged write: a torn
//! tail is cut off; damage in the middle is reported, the whole file is saved aside and what stands before the
//! damage is kept. Blocking: called on threads that may block, never on the control loop.

mod frame;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub(crate) use record::Record;

use crate::clock::unix_ms;
use crate::files::{replace, sync_dir};
use crate::overlay::{Key, Overlay};

/// File name inside the run directory.
const NAME: &str = "journal";
/// Below this size, in bytes, a journal is never rewritten.
const COMPACT_FLOOR: u64 = 64 << 10;
/// Rewritten when larger than this many times its live records.
const COMPACT_FACTOR: u64 = 4;

/// Why nothing was written. After an error the file holds what it held before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JournalError {
    /// The disk or the quota is full.
    Full(String),
    /// Anything else; the text names the file.
    Failed(String),
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes known to be durable; everything behind them is cut off before the next write.
    len: u64,
    live: Live,
    /// A write failed half-way: the file is rewritten before it is trusted again.
    broken: bool,
    #[cfg(test)]
    fault: Option<i32>,
}

/// What opening found.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Ready for appends.
    pub(crate) journal: Journal,
    /// The state its records lead to.
    pub(crate) overlay: Overlay,
    /// Something a person must hear: damage, and where the old file was saved.
    pub(crate) loud: Option<String>,
}

impl Journal {
    /// Opens or makes the journal of a run directory and replays it. The caller holds the directory's lock.
    pub(crate) fn open(dir: &Path) -> io::Result<Opened> {
        let path = dir.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let split = frame::split(&bytes);
        let (mut overlay, mut live) = (Overlay::default(), Live::default());
        let mut whole = split.whole;
        let mut damage = (split.tail == frame::Tail::Damaged).then(|| format!("damaged at byte {whole}"));
        for (payload, start) in split.payloads.iter().zip(&split.starts) {
            match Record::decode(payload) {
                Ok(record) => {
                    live.remember(&record, payload);
                    overlay.apply(&record);
                }
                Err(error) => {
                    whole = *start;
                    damage = Some(format!("record at byte {start} cannot be read: {error}"));
                    break;
                }
            }
        }
        let loud = damage.map(|what| {
            let aside = dir.join(format!("journal.damaged-{}", unix_ms()));
            let saved = match fs::copy(&path, &aside) {
                Ok(_) => format!("a copy is kept at {}", aside.display()),
                Err(error) => format!("and it could not be copied aside: {error}"),
            };
            format!(
                "{} is {what}; the records before that are in force, the rest is ignored; {saved}",
                path.display()
            )
        });
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&path)?;
        let mut journal = Journal {
            path,
            file,
            len: whole as u64,
            live,
            broken: false,
            #[cfg(test)]
            fault: None,
        };
        journal.settle(bytes.len() as u64)?;
        Ok(Opened { journal, overlay, loud })
    }

    /// Cuts a torn tail off and makes sure that the header stands.
    fn settle(&mut self, found: u64) -> io::Result<()> {
        if found != self.len {
            self.file.set_len(self.len)?;
        }
        if self.len == 0 {
            self.file.write_all(frame::HEADER)?;
            self.len = frame::HEADER.len() as u64;
        }
        self.file.sync_all()?;
        sync_dir(&self.path)
    }

    /// Writes the records and returns when they are durable: all of them, or none.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let mut payloads = Vec::with_capacity(records.len());
        let mut block = Vec::new();
        for record in records {
            let payload = record.encode().map_err(|error| JournalError::Failed(error.to_string()))?;
            if payload.len() > frame::PAYLOAD_MAX {
                return Err(JournalError::Failed(format!("a record of {} bytes is too long", payload.len())));
            }
            frame::push(&mut block, &payload);
            payloads.push(payload);
        }
        if self.broken {
            self.compact().map_err(|error| self.error(&error))?;
        }
        if let Err(error) = self.write(&block) {
            // Whatever part of the block got to the file must not come back at the next start.
            self.broken =
                self.file.set_len(self.len).and_then(|()| self.file.sync_all()).is_err() || self.broken;
            return Err(self.error(&error));
        }
        self.len += block.len() as u64;
        for (record, payload) in records.iter().zip(&payloads) {
            self.live.remember(record, payload);
        }
        Ok(())
    }

    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(code) = self.fault.take() {
            self.file.write_all(block.get(..block.len() / 2).unwrap_or_default())?;
            return Err(io::Error::from_raw_os_error(code));
        }
        self.file.write_all(block)?;
        if let Err(error) = self.file.sync_data() {
            // After a failed sync the kernel may have dropped the pages: only a rewrite is to be trusted.
            self.broken = true;
            return Err(error);
        }
        Ok(())
    }

    /// Whether rewriting would shrink the file enough to be worth it.
    pub(crate) fn wants_compaction(&self) -> bool {
        self.len > COMPACT_FLOOR && self.len > COMPACT_FACTOR * self.live.bytes
    }

    /// Rewrites the file with its live records only: a new file, synced, then renamed over the old.
    pub(crate) fn compact(&mut self) -> io::Result<()> {
        let mut block = frame::HEADER.to_vec();
        for payload in self.live.payloads.values() {
            frame::push(&mut block, payload);
        }
        replace(&self.path, &block)?;
        self.file = OpenOptions::new().append(true).read(true).open(&self.path)?;
        self.len = block.len() as u64;
        self.broken = false;
        Ok(())
    }

    /// Size of the file, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    fn error(&self, error: &io::Error) -> JournalError {
        let text = format!("{}: {error}", self.path.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                JournalError::Full(text)
            }
            _ => JournalError::Failed(text),
        }
    }
}

/// What a rewrite would hold: the newest payload per endpoint, marks apart from endpoints.
#[derive(Debug, Default)]
struct Live {
    payloads: BTreeMap<(Key, bool), Vec<u8>>,
    /// Their size as frames.
    bytes: u64,
}

impl Live {
    fn remember(&mut self, record: &Record, payload: &[u8]) {
        let (slot, kept) = match record {
            Record::Put(key, _) => ((key.clone(), false), true),
            Record::Delete(key) => ((key.clone(), false), false),
            Record::Mark(key, _) => ((key.clone(), true), true),
            Record::Unmark(key) => ((key.clone(), true), false),
        };
        let before =
            if kept { self.payloads.insert(slot, payload.to_vec()) } else { self.payloads.remove(&slot) };
        self.bytes -= before.map_or(0, |old| frame::size(&old));
        self.bytes += if kept { frame::size(payload) } else { 0 };
    }
}
