//! Looks at the files of certificates, ticket keys, authorities and identities, and has what changed loaded again. A thread of its own.
//!
//! Polling, as control looks at its files: one way covers atomic renames, symlink swaps of mounted volumes and network
//! file systems. A change counts once two looks [`SETTLE`] apart agree, so that a certificate and its key, replaced
//! one after the other, are read together.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::clients;
use super::files::{self, Mark};
use super::hub::Hub;
use super::tickets::{ROTATE_S, unix_s};
use super::upstream::Trusts;
use crate::entrance::keyring::Keyring;

/// Least time between looks.
const EVERY: Duration = Duration::from_millis(500);
/// Times a look takes that pass before the next, so that looking at very many files costs little of a core ...
const REST: u32 = 40;
/// ... and the most that passes, however long a look took.
const REST_MAX: Duration = Duration::from_secs(2);
/// Time between the two looks that must agree.
const SETTLE: Duration = Duration::from_millis(100);
/// Looks after which files that never rest are read all the same.
const RESTLESS_MAX: u32 = 50;

type Look = Vec<(PathBuf, Option<Mark>)>;

/// What the watch can be asked for.
#[derive(Debug)]
pub enum Ask {
    /// Load everything again.
    Reload,
}

/// The end at which a watch is asked. The watch ends when all of these are gone.
pub type Asking = Sender<Ask>;

/// Both ends of a watch's questions.
pub fn door() -> (Asking, Receiver<Ask>) {
    channel()
}

/// Watches until nobody can ask any more. Called on a thread of its own.
pub fn run(hub: &Hub, trusts: &Trusts, keyring: &Keyring, asked: &Receiver<Ask>) {
    let mut known = look(hub, trusts, keyring);
    let mut rotated_s = unix_s();
    let mut rest = EVERY;
    loop {
        match asked.recv_timeout(rest) {
            Ok(Ask::Reload) => {
                hub.refresh(true);
                trusts.refresh(true);
                keyring.refresh(true);
                known = look(hub, trusts, keyring);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let begun = Instant::now();
        let mut latest = look(hub, trusts, keyring);
        rest = (begun.elapsed() * REST).clamp(EVERY, REST_MAX);
        let due = unix_s().saturating_sub(rotated_s) >= ROTATE_S;
        if latest == known && !due {
            continue;
        }
        for _ in 0..RESTLESS_MAX {
            std::thread::sleep(SETTLE);
            let again = look(hub, trusts, keyring);
            let rests = again == latest;
            latest = again;
            if rests {
                break;
            }
        }
        hub.refresh(false);
        trusts.refresh(false);
        keyring.refresh(false);
        known = latest;
        if due {
            rotated_s = unix_s();
        }
    }
}

fn look(hub: &Hub, trusts: &Trusts, keyring: &Keyring) -> Look {
    let mut seen = trusts.look();
    seen.extend(keyring.look());
    for settings in hub.watched() {
        let (pairs, _) = files::pairs(hub.base(), &settings);
        for pair in pairs.into_values() {
            let marks = files::marks(&pair);
            seen.push((pair.cert, marks.0));
            seen.push((pair.key, marks.1));
        }
        if let Some(path) = settings.ticket_keys.as_ref().map(|path| hub.base().join(path)) {
            let mark = files::mark(&path);
            seen.push((path, mark));
        }
        if let Some(auth) = &settings.client_auth {
            let marks = clients::marks(hub.base(), auth);
            seen.push((auth.ca.clone(), marks.0));
            seen.extend(auth.crl.clone().map(|crl| (crl, marks.1)));
        }
    }
    seen
}
