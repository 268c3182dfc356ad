//! What dynos say, on standard output: each line with the name of its dyno in front, coloured on a terminal only.
//!
//! Lines go over a bounded queue to a thread of their own. A reader that does not read costs lines, which are counted, and never
//! stops a dyno.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Lines that may wait to be written.
const WAITING_MAX: usize = 4096;
/// Longest line, in bytes; a longer one is cut into several.
const LINE_MAX: usize = 16 << 10;
/// Colours of names, one after the other (ANSI): cyan, yellow, green, magenta, blue, red.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
/// Names are padded to this many characters.
const NAME_WIDE: usize = 10;

/// Takes lines. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    queue: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    colour: bool,
}

impl Lines {
    /// Starts the thread that writes. It ends when all that take lines are gone; the receiver hears of that.
    pub(super) fn start(colour: bool) -> io::Result<(Self, Receiver<()>)> {
        let (queue, lines) = sync_channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        let (ended, written) = sync_channel(1);
        let work = move || {
            write(&lines, &counted);
            // Nobody waits when the process goes on.
            let _ = ended.send(());
        };
        thread::Builder::new().name("dyno-lines".to_owned()).spawn(work)?;
        Ok((Self { queue, dropped, colour }, written))
    }

    /// Lines dropped so far because nobody read them fast enough.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// What stands in front of a dyno's lines; `place` chooses the colour.
    pub(super) fn prefix(&self, name: &str, place: usize) -> Vec<u8> {
        match COLOURS.get(place % COLOURS.len()).filter(|_| self.colour) {
            Some(colour) => format!("\x1b[{colour}m{name:<NAME_WIDE$} |\x1b[0m ").into_bytes(),
            None => format!("{name:<NAME_WIDE$} | ").into_bytes(),
        }
    }

    /// One line of a dyno.
    pub(super) fn say(&self, prefix: &[u8], line: &[u8]) {
        let mut whole = Vec::with_capacity(prefix.len() + line.len() + 1);
        whole.extend_from_slice(prefix);
        whole.extend_from_slice(line);
        whole.push(b'\n');
        if self.queue.try_send(whole).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says all that comes out of a pipe, line by line, until it is closed.
    pub(super) async fn follow(self, prefix: Vec<u8>, mut pipe: impl AsyncRead + Unpin) {
        let mut held = Vec::new();
        let mut piece = vec![0; 8 << 10];
        loop {
            let count = pipe.read(&mut piece).await.unwrap_or(0);
            held.extend_from_slice(piece.get(..count).unwrap_or_default());
            let rest = cut(&held, |line| self.say(&prefix, line));
            held.drain(..rest);
            if count == 0 {
                if !held.is_empty() {
                    self.say(&prefix, &held);
                }
                return;
            }
        }
    }
}

/// Hands out whole lines, and pieces of [`LINE_MAX`] of longer ones; answers how much of the bytes that was.
fn cut(held: &[u8], mut say: impl FnMut(&[u8])) -> usize {
    let mut done = 0;
    loop {
        let rest = held.get(done..).unwrap_or_default();
        match rest.iter().take(LINE_MAX).position(|byte| *byte == b'\n') {
            Some(end) => {
                let line = rest.get(..end).unwrap_or_default();
                say(line.strip_suffix(b"\r").unwrap_or(line));
                done += end + 1;
            }
            None if rest.len() >= LINE_MAX => {
                say(rest.get(..LINE_MAX).unwrap_or_default());
                done += LINE_MAX;
            }
            None => return done,
        }
    }
}

fn write(lines: &Receiver<Vec<u8>>, dropped: &AtomicU64) {
    let mut told = 0;
    while let Ok(line) = lines.recv() {
        let lost = dropped.load(Ordering::Relaxed);
        let mut out = io::stdout().lock();
        // Nobody may be listening.
        let _ = out.write_all(&line);
        if lost > told {
            let _ = writeln!(out, "ekiden: {} lines of dynos were dropped", lost - told);
            told = lost;
        }
        let _ = out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_of(text: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let mut lines = Vec::new();
        let done = cut(text, |line| lines.push(line.to_vec()));
        (lines, done)
    }

    #[test]
    fn lines_are_whole_or_cut_at_the_bound() {
        assert_eq!(cut_of(b"a\r\n\nbc\nrest"), (vec![b"a".to_vec(), Vec::new(), b"bc".to_vec()], 7));
        let long = vec![b'x'; LINE_MAX + 3];
        assert_eq!(cut_of(&long), (vec![vec![b'x'; LINE_MAX]], LINE_MAX));
    }

    #[test]
    fn names_are_coloured_on_a_terminal_only() {
        let lines = |colour| Lines { queue: sync_channel(1).0, dropped: Arc::default(), colour };
        assert_eq!(lines(false).prefix("web.1", 0), b"web.1      | ");
        assert_eq!(lines(true).prefix("web.1", 7), b"\x1b[33mweb.1      |\x1b[0m ");
    }
}
