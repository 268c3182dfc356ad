//! The journal's file: opened and cut to its whole frames, appended to, rewritten. Blocking; used on the journal's own
//! thread only, after the open.
//!
//! Killed at any byte it reopens to the last acknowledged write: a torn tail is cut off; damage in the middle is reported,
//! the whole file is saved aside and what stands before the damage is kept.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::state::State;
use super::{StoreError, entry, frame, legacy};
use crate::clock::unix_ms;
use crate::files::{Fresh, sync_dir};

/// File name inside the run directory.
pub(super) const NAME: &str = "journal";
/// Below this size, in bytes, a journal is never rewritten.
const COMPACT_FLOOR: u64 = 64 << 10;
/// Rewritten when larger than this many times its live objects.
const COMPACT_FACTOR: u64 = 4;

/// Size from which the file has room ahead of what is written, in bytes: a write then changes no size, which the sync would have
/// to make durable too. It is zeros, which no frame begins with: a start after a kill cuts it off as it does a torn tail.
const AHEAD_FROM: u64 = 16 << 10;
/// Such room, in bytes, made anew when it is used up.
const AHEAD: usize = 64 << 10;

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Where its whole, readable entries lead.
    pub(super) state: State,
    /// Where those end, in bytes; 0 when the file must be written anew.
    whole: usize,
    /// What is wrong with the rest.
    damage: Option<String>,
    /// It must be rewritten before it is appended to.
    rewrite: bool,
}

impl Found {
    /// Where it leads when nothing is wrong with it.
    pub(super) fn whole(self) -> Option<State> {
        self.damage.is_none().then_some(self.state)
    }
}

/// Reads a file's bytes. Pure.
pub(super) fn read(bytes: &[u8]) -> Found {
    let split = frame::split(bytes);
    let mut found = Found { whole: split.whole, ..Found::default() };
    if split.tail == frame::Tail::Damaged {
        found.damage = Some(format!("damaged at byte {}", split.whole));
    }
    if split.legacy {
        let (objects, unreadable) = legacy::replay(&split);
        found.state.adopt(objects);
        found.damage = unreadable.or(found.damage);
        found.rewrite = true;
        return found;
    }
    for (payload, start) in split.payloads.iter().zip(&split.starts) {
        let taken = entry::decode(payload).and_then(|entry| found.state.replay(entry));
        if let Err(error) = taken {
            found.whole = *start;
            found.damage = Some(format!("not readable at byte {start}: {error}"));
            break;
        }
    }
    let missing = found.state.missing();
    if missing > 0 {
        let what =
            format!("cut off at byte {}: {missing} objects of its snapshot are not there", found.whole);
        found.damage = Some(what);
        // What is appended must not be taken for them.
        found.rewrite = true;
    }
    found
}

/// The bytes of the journal in a run directory; none when there is none. A format of another version is an error.
pub(super) fn bytes(dir: &Path) -> io::Result<Vec<u8>> {
    let path = dir.join(NAME);
    match fs::read(&path) {
        Ok(bytes) => match frame::foreign(&bytes) {
            None => Ok(bytes),
            Some(digit) => Err(io::Error::other(format!(
                "{} was written by another version of ekiden (format {digit}; this one reads 1 and 2) and is left as it is; \
                 start that version again, or move the file away to begin without what it holds",
                path.display()
            ))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Copies a damaged file; durable on return.
fn copy_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = path.with_file_name(format!("{NAME}.damaged-{}", unix_ms()));
    let copied = fs::copy(path, &aside).and_then(|_| File::open(&aside)?.sync_all());
    if copied.is_err() {
        // Half a copy is of no use, and the disk may be full.
        let _ = fs::remove_file(&aside);
    }
    copied?;
    sync_dir(&aside)?;
    Ok(aside)
}

/// An open file.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    file: File,
    /// Bytes known to be durable; everything behind them is cut off before the next write.
    len: u64,
    /// Bytes that the file has: those, and the room ahead.
    room: u64,
    /// A write failed half-way: the file is rewritten before it is trusted again.
    pub(super) broken: bool,
    #[cfg(test)]
    pub(super) fault: Option<i32>,
    /// Of the sync of the directory, after the rename of a rewrite.
    #[cfg(test)]
    pub(super) dir_fault: Option<i32>,
}

impl Disk {
    /// Opens or makes the journal of a run directory. Answers with its state and something a person must hear, if there
    /// is. The caller holds the directory's lock.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, State, Option<String>)> {
        Self::open_with(dir, copy_aside)
    }

    /// As [`Disk::open`], with what keeps a copy of a damaged file.
    pub(super) fn open_with(
        dir: &Path,
        copy: impl Fn(&Path) -> io::Result<PathBuf>,
    ) -> io::Result<(Self, State, Option<String>)> {
        let path = dir.join(NAME);
        let bytes = bytes(dir)?;
        let found = read(&bytes);
        let loud = found.damage.map(|what| {
            let place = path.display();
            // What is cut off below is gone for ever: not without a copy.
            let aside = copy(&path).map_err(|error| {
                let text =
                    format!("{place} is {what} and is left as it is: it could not be copied aside: {error}");
                io::Error::new(error.kind(), text)
            })?;
            let aside = aside.display();
            Ok::<_, io::Error>(format!(
                "{place} is {what}; what stands before that is in force, the rest is ignored; a copy is kept at {aside}"
            ))
        });
        let loud = loud.transpose()?;
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).read(true).mode(0o600).open(&path)?;
        let mut disk = Disk {
            path,
            file,
            len: found.whole as u64,
            room: found.whole as u64,
            broken: false,
            #[cfg(test)]
            fault: None,
            #[cfg(test)]
            dir_fault: None,
        };
        if found.rewrite {
            disk.rewrite(&found.state)?;
        } else {
            disk.settle(bytes.len() as u64)?;
        }
        Ok((disk, found.state, loud))
    }

    /// Cuts a torn tail off and makes sure that the header stands.
    fn settle(&mut self, found: u64) -> io::Result<()> {
        if found != self.len {
            self.file.set_len(self.len)?;
        }
        if self.len == 0 {
            self.file.write_all_at(frame::HEADER, 0)?;
            self.len = frame::HEADER.len() as u64;
        }
        self.room = self.len;
        self.file.sync_all()?;
        sync_dir(&self.path)
    }

    /// Appends frames and returns when they are durable: all of them, or none. `state` is what the file holds before.
    pub(super) fn append(&mut self, block: &[u8], state: &State) -> Result<(), StoreError> {
        if self.broken {
            self.rewrite(state).map_err(|error| self.error(&error))?;
        }
        if let Err(error) = self.write(block) {
            // Whatever part of the block got to the file must not come back at the next start.
            self.broken = self.cut().and_then(|()| self.file.sync_all()).is_err() || self.broken;
            return Err(self.error(&error));
        }
        self.len += block.len() as u64;
        Ok(())
    }

    /// Cuts off what stands behind the durable bytes.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.room = self.len;
        Ok(())
    }

    /// Makes room behind a block that is written, where there is none.
    fn make_room(&mut self, block: usize) -> io::Result<()> {
        let end = self.len + block as u64;
        if end <= self.room {
            return Ok(());
        }
        self.room = end;
        if end >= AHEAD_FROM {
            if self.file.write_all_at(&[0; AHEAD], end).is_err() {
                // On a full disk there is none, and the block is there all the same.
                return self.file.set_len(end);
            }
            self.room += AHEAD as u64;
        }
        Ok(())
    }

    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(code) = self.fault.take() {
            self.file.write_all_at(block.get(..block.len() / 2).unwrap_or_default(), self.len)?;
            return Err(io::Error::from_raw_os_error(code));
        }
        self.file.write_all_at(block, self.len)?;
        self.make_room(block.len())?;
        if let Err(error) = self.file.sync_data() {
            // After a failed sync the kernel may have dropped the pages: only a rewrite is to be trusted.
            self.broken = true;
            return Err(error);
        }
        Ok(())
    }

    /// Whether rewriting would shrink the file enough to be worth it.
    pub(super) fn wants_rewrite(&self, state: &State) -> bool {
        self.len > COMPACT_FLOOR && self.len > COMPACT_FACTOR * state.live_bytes()
    }

    /// Rewrites the file as a snapshot: a new file, synced, then renamed over the old. When it fails before the rename, all is
    /// as it was; from the rename on, what is appended goes to the new file, and not before that is known to be the one that a
    /// restart finds.
    pub(super) fn rewrite(&mut self, state: &State) -> io::Result<()> {
        let mut block = frame::HEADER.to_vec();
        if state.revision() > 0 {
            let head = entry::of_snapshot(state.revision(), state.objects().len());
            frame::push(&mut block, &head.map_err(io::Error::other)?);
        }
        for object in state.objects().values() {
            frame::push(&mut block, &entry::of_object(object).map_err(io::Error::other)?);
        }
        let fresh = Fresh::write(&self.path, &block)?;
        self.broken = true;
        self.file = fresh.put()?;
        self.len = block.len() as u64;
        self.room = self.len;
        self.sync_dir()?;
        self.broken = false;
        Ok(())
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(code) = self.dir_fault.take() {
            return Err(io::Error::from_raw_os_error(code));
        }
        sync_dir(&self.path)
    }

    /// Size of what is written, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    fn error(&self, error: &io::Error) -> StoreError {
        let text = format!("{}: {error}", self.path.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StoreError::Full(text)
            }
            _ => StoreError::Failed(text),
        }
    }
}

impl Drop for Disk {
    /// An end that is none of a kill leaves no room behind.
    fn drop(&mut self) {
        if self.room > self.len {
            // The next start would do it.
            let _ = self.cut();
        }
    }
}
