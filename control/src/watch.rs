//! Watching by looking: every half second (less often where a look takes long, among thousands of files) the file, the
//! apps directory and its entries are asked for their inode, size and times; only a difference makes anyone read them.
//!
//! Polling and not inotify: one way covers atomic renames, symlink swaps (`..data` of mounted ConfigMaps), editors
//! of every habit and network file systems, needs no re-arming when an inode is replaced, and cannot overflow. The
//! cost is one `stat` per file and look, off the workers. A change counts once two looks [`SETTLE`] apart agree.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time;

use crate::sources::{apps_path, is_app_file};

/// Shortest and longest time between looks.
const EVERY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// Of the time, one part in so many goes to looking.
const LOOKING_PART: u32 = 500;
/// Time between the two looks that must agree.
const SETTLE: Duration = Duration::from_millis(100);
/// Looks after which a file that never rests is read all the same.
const RESTLESS_MAX: u32 = 50;

/// What one look saw: who is there, and which version of each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Look(Vec<(PathBuf, Option<Mark>)>);

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn mark(path: &Path) -> Option<Mark> {
    // Follows links: a swapped link shows as another inode.
    let meta = fs::metadata(path).ok()?;
    Some(Mark {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

/// Looks at the file and, if there is one, at the apps directory. Blocking.
pub(crate) fn look(file: &Path, apps_dir: Option<&Path>) -> Look {
    let mut seen = vec![(file.to_owned(), mark(file))];
    if let Some(dir) = apps_dir.map(|dir| apps_path(file, dir)) {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<_> = entries.filter(|path| is_app_file(path)).collect();
        files.sort();
        // The directory itself only counts as present or absent: editors' temporary files touch its times.
        let present = mark(&dir).map(|mark| Mark { modified: (0, 0), changed: (0, 0), size: 0, ..mark });
        seen.push((dir, present));
        seen.extend(files.into_iter().map(|path| {
            let mark = mark(&path);
            (path, mark)
        }));
    }
    Look(seen)
}

/// Looks for ever; sends one message per settled change. Ends when the receiver is gone. `apps_dir` follows the
/// table in force.
pub(crate) async fn watch(
    file: PathBuf,
    apps_dir: watch::Receiver<Option<PathBuf>>,
    first: Look,
    changed: mpsc::Sender<()>,
) {
    let mut known = first;
    let mut rest = EVERY.0;
    let seen = async || {
        let (file, dir) = (file.clone(), apps_dir.borrow().clone());
        // A look that panicked or was cancelled is no look; the next one comes.
        let look = move || {
            let began = Instant::now();
            (look(&file, dir.as_deref()), began.elapsed())
        };
        tokio::task::spawn_blocking(look).await.ok()
    };
    loop {
        time::sleep(rest).await;
        let Some((mut latest, took)) = seen().await else { continue };
        rest = (took * LOOKING_PART).clamp(EVERY.0, EVERY.1);
        if latest == known {
            continue;
        }
        for _ in 0..RESTLESS_MAX {
            time::sleep(SETTLE).await;
            let Some((again, _)) = seen().await else { continue };
            let rests = again == latest;
            latest = again;
            if rests {
                break;
            }
        }
        known = latest;
        if changed.send(()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn sees_edits_renames_link_swaps_and_removal() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("v1")).unwrap();
        fs::create_dir(at("v2")).unwrap();
        fs::write(at("v1/ekiden.toml"), "a").unwrap();
        fs::write(at("v2/ekiden.toml"), "a").unwrap();
        symlink(at("v1"), at("..data")).unwrap();
        symlink(at("..data/ekiden.toml"), at("linked.toml")).unwrap();
        fs::write(at("plain.toml"), "a").unwrap();
        fs::create_dir(at("apps.d")).unwrap();

        let (linked, plain) = (at("linked.toml"), at("plain.toml"));
        let apps = PathBuf::from("apps.d");
        let see = || (look(&linked, None), look(&plain, Some(&apps)));
        let first = see();
        assert_eq!(first, see());
        // The swap of a mounted ConfigMap: same text, same size, another inode.
        symlink(at("v2"), at("fresh")).unwrap();
        fs::rename(at("fresh"), at("..data")).unwrap();
        let second = see();
        assert_ne!(first.0, second.0);
        // An editor's rename.
        fs::write(at("plain.toml.tmp"), "a").unwrap();
        fs::rename(at("plain.toml.tmp"), &plain).unwrap();
        let third = see();
        assert_ne!(second.1, third.1);
        // App files come, and files that are none do not count.
        fs::write(at("apps.d/web.toml"), "").unwrap();
        let fourth = see();
        assert_ne!(third.1, fourth.1);
        fs::write(at("apps.d/.web.toml.swp"), "").unwrap();
        fs::write(at("apps.d/web.toml~"), "").unwrap();
        assert_eq!(fourth.1, see().1);
        fs::remove_file(&plain).unwrap();
        assert_ne!(fourth.1, see().1);
    }
}
