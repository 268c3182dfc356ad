//! Where access log lines go: the plug-in point [`AccessSink`], standard output, a file, and the fake for tests.
//! Does not format and does not queue; the ring in front of the log thread is the only queue.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for a non-blocking output that is full, per write.
const FULL_WAIT: Duration = Duration::from_secs(1);

/// A destination of access log lines.
///
/// Contract. Thread: called from the log thread only, one call at a time. Blocking: may block; while it does, workers
/// go on and their rings drop and count what does not fit. Errors: an error loses the lines of that call, which the
/// scribe counts; the next call is made all the same, so a sink recovers by itself. Cancel: never cancelled; process
/// end waits a bounded time for it. Panic: a panic ends the log thread, not traffic; do not.
pub trait AccessSink: Send {
    /// Takes one or more whole lines, each with its final `\n`.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;
    /// Hands on what it buffers itself. Called when the log is quiet and at the end.
    fn flush(&mut self) -> io::Result<()>;
    /// Opens its destination anew (after a rename by log rotation); on an error the old one stays in use.
    fn reopen(&mut self) -> io::Result<()>;
}

/// Writes everything, also to an output someone made non-blocking. `torn` tells whether an earlier write ended
/// inside a line; then this one begins with a line end, so that one fault costs one line and not two.
fn write_lines(out: &mut dyn Write, lines: &[u8], torn: &mut bool) -> io::Result<()> {
    let deadline = Instant::now() + FULL_WAIT;
    let mut left = lines;
    while !left.is_empty() {
        let next: &[u8] = if *torn { b"\n" } else { left };
        let wrote = match out.write(next) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => Ok(count),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                _ => Err(error),
            },
        };
        match wrote {
            Ok(_) if *torn => *torn = false,
            Ok(count) => left = left.get(count..).unwrap_or(&[]),
            Err(error) => {
                *torn = left.len() < lines.len();
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Standard output.
#[derive(Debug, Default)]
pub struct StdoutSink {
    torn: bool,
}

impl AccessSink for StdoutSink {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        write_lines(&mut io::stdout().lock(), lines, &mut self.torn)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush()
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that lines are appended to. Made when missing; its directory must exist.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    file: File,
    torn: bool,
}

fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened
        .map_err(|error| io::Error::new(error.kind(), format!("the access log {}: {error}", path.display())))
}

impl FileSink {
    /// Opens the file for appending.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: open(path)?, torn: false })
    }
}

impl AccessSink for FileSink {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        write_lines(&mut self.file, lines, &mut self.torn)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        self.torn = false;
        Ok(())
    }
}

/// The fake: keeps lines in memory and fails on demand. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemorySink {
    state: Arc<Mutex<MemoryState>>,
}

#[derive(Debug, Default)]
struct MemoryState {
    text: Vec<u8>,
    failing: bool,
    reopened: u32,
}

impl MemorySink {
    fn state(&self) -> std::sync::MutexGuard<'_, MemoryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything written so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.state().text).into_owned()
    }

    /// Makes every later write fail, or succeed again.
    pub fn set_failing(&self, failing: bool) {
        self.state().failing = failing;
    }

    /// How often it was opened anew.
    pub fn reopened(&self) -> u32 {
        self.state().reopened
    }
}

impl AccessSink for MemorySink {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.failing {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.text.extend_from_slice(lines);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.state().reopened += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, then fails; then takes everything.
    struct Tight {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Tight {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let take = bytes.len().min(self.room);
            if take == 0 {
                self.room = usize::MAX;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.taken.extend_from_slice(&bytes[..take]);
            self.room -= take;
            Ok(take)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_torn_line_does_not_spoil_the_next() {
        let mut out = Tight { room: 3, taken: Vec::new() };
        let mut torn = false;
        assert!(write_lines(&mut out, b"first\n", &mut torn).is_err());
        assert!(torn);
        write_lines(&mut out, b"second\n", &mut torn).unwrap();
        write_lines(&mut out, b"third\n", &mut torn).unwrap();
        assert_eq!(out.taken, b"fir\nsecond\nthird\n");
    }
}
