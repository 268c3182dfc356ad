//! A copy of what etcd has, in the run directory: what a start serves when etcd does not answer. Never written back to it.
//!
//! The file has the journal's format: one snapshot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Shared;
use crate::files;
use crate::store::state::State;
use crate::store::{disk, entry, frame};

/// File name inside the run directory.
const NAME: &str = "etcd-copy";
/// Changes within this time are written together.
const GATHER: Duration = Duration::from_millis(500);
/// Shortest time between two writes.
const EVERY: Duration = Duration::from_secs(5);

/// Reads it; none when there is none, or none that is whole.
pub(super) fn read(dir: &Path) -> Option<State> {
    let bytes = fs::read(dir.join(NAME)).ok()?;
    let state = disk::read(&bytes).whole()?;
    (state.revision() > 0).then_some(state)
}

/// Writes it when something has changed, for ever.
pub(super) async fn keep(shared: Arc<Shared>, dir: PathBuf) {
    let mut newest = shared.newest.subscribe();
    while newest.changed().await.is_ok() {
        sleep(GATHER).await;
        newest.borrow_and_update();
        if !shared.known.borrow().loaded {
            continue;
        }
        let (state, path) = (shared.state().clone(), dir.join(NAME));
        let written = spawn_blocking(move || write(&state, &path)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "what etcd has could not be copied to the run directory");
        }
        sleep(EVERY).await;
    }
}

fn write(state: &State, path: &Path) -> io::Result<()> {
    let mut block = frame::HEADER.to_vec();
    let head = entry::of_snapshot(state.revision(), state.objects().len());
    frame::push(&mut block, &head.map_err(io::Error::other)?);
    for object in state.objects().values() {
        frame::push(&mut block, &entry::of_object(object).map_err(io::Error::other)?);
    }
    files::replace(path, &block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Write;

    #[test]
    fn a_copy_is_read_back_and_half_of_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_none());
        let mut state = State::default();
        let put = |key: &str, value: &str| Write { key: Arc::from(key), value: Some(Arc::from(value)) };
        state.apply(7, vec![put("apps/a", "{}"), put("apps/b", "[1]")]);
        state.apply(9, vec![put("apps/a", "2")]);
        write(&state, &dir.path().join(NAME)).unwrap();
        let found = read(dir.path()).unwrap();
        assert_eq!((found.objects(), found.revision()), (state.objects(), 9));
        let bytes = fs::read(dir.path().join(NAME)).unwrap();
        fs::write(dir.path().join(NAME), &bytes[..bytes.len() - 3]).unwrap();
        assert!(read(dir.path()).is_none());
    }
}
