//! Watches a loop: one that is silent for long is stuck, and somebody is told, who may put another one in its place. On a thread of its
//! own, so that nothing that holds the loop up holds this up.
//!
//! Counts its own looks and not time: a process that was stopped and goes on is not stuck.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time between two looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest wait for the end of its thread.
const ENDING_MAX: Duration = Duration::from_secs(2);

/// What a loop says that it lives by. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

/// What follows a loop that is stuck.
pub(crate) enum After {
    /// Another loop is in its place.
    Watch(Pulse),
    /// None could be put there yet: it is asked for again at the next look.
    Again,
    /// Nothing.
    Done,
}

impl Pulse {
    /// Said at least every [`LOOK_EVERY`] or so.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Dropping it ends the watching, and waits a while for whoever is being told.
#[derive(Debug)]
pub(crate) struct Watchdog {
    running: Option<Sender<()>>,
    thread: JoinHandle<()>,
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.running = None;
        let until = Instant::now() + ENDING_MAX;
        while !self.thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What was seen so far.
struct Looks {
    last: u64,
    /// Looks in a row at which nothing was new.
    silent: u32,
}

impl Looks {
    /// One more; how many in a row saw nothing new.
    fn at(&mut self, now: u64) -> u32 {
        self.silent = if now == self.last { self.silent.saturating_add(1) } else { 0 };
        self.last = now;
        self.silent
    }
}

/// How many looks in a row make so long a silence.
pub(crate) fn looks_in(silence: Duration) -> u32 {
    let looks = silence.as_millis().div_ceil(LOOK_EVERY.as_millis().max(1));
    u32::try_from(looks).unwrap_or(u32::MAX)
}

/// Calls `stuck` when nothing is heard at so many looks in a row. Error: the system gave no thread.
pub(crate) fn watch_over(
    pulse: Pulse,
    (every, most): (Duration, u32),
    mut stuck: impl FnMut() -> After + Send + 'static,
) -> io::Result<Watchdog> {
    let (running, ended) = channel::<()>();
    let thread = thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        let pause = || matches!(ended.recv_timeout(every), Err(RecvTimeoutError::Timeout));
        let mut pulse = pulse;
        loop {
            let mut looks = Looks { last: pulse.0.load(Ordering::Relaxed), silent: 0 };
            while looks.at(pulse.0.load(Ordering::Relaxed)) <= most {
                if !pause() {
                    return;
                }
            }
            pulse = loop {
                match stuck() {
                    After::Watch(next) => break next,
                    After::Again if pause() => {}
                    After::Again | After::Done => return,
                }
            };
        }
    })?;
    Ok(Watchdog { running: Some(running), thread })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_looks_in_a_row_count() {
        let mut looks = Looks { last: 0, silent: 0 };
        let seen: Vec<u32> = [0, 0, 1, 1, 1, 2, 7, 7].into_iter().map(|now| looks.at(now)).collect();
        assert_eq!(seen, [1, 2, 0, 1, 2, 0, 0, 1]);
    }

    #[test]
    fn who_is_silent_is_told_of_and_who_ends_is_not() {
        let (tell, told) = channel();
        let every = Duration::from_millis(1);
        let ends = |tell: Sender<()>| {
            move || {
                tell.send(()).unwrap();
                After::Done
            }
        };
        let dog = watch_over(Pulse::default(), (every, 3), ends(tell)).unwrap();
        told.recv().unwrap();
        drop(dog);
        let (tell, told) = channel::<()>();
        let hour = Duration::from_secs(3600);
        drop(watch_over(Pulse::default(), (hour, 3), ends(tell)).unwrap());
        told.recv().unwrap_err();
    }

    #[test]
    fn who_comes_after_one_that_was_stuck_is_watched_too() {
        let (tell, told) = channel();
        let mut calls = 0;
        let dog = watch_over(Pulse::default(), (Duration::from_millis(1), 3), move || {
            calls += 1;
            tell.send(calls).unwrap();
            match calls {
                1 => After::Again,
                2 | 3 => After::Watch(Pulse::default()),
                _ => After::Done,
            }
        });
        assert_eq!(told.iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
        drop(dog);
        assert_eq!((looks_in(Duration::from_secs(30)), looks_in(Duration::from_millis(2_500))), (30, 3));
    }
}
