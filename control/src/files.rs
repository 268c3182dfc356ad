//! Durable file replacement: what a reader finds is the old text or the new one, never a part.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Writes a file of mode 0600 beside `path`, syncs it, renames it over `path` and syncs the directory. Blocking.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(bytes))
}

/// As [`replace`], for what is too large to be in memory as a whole: `fill` writes it piece by piece. Blocking.
pub(crate) fn replace_with(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    Fresh::fill(path, fill)?.put()?;
    sync_dir(path)
}

/// A new version of a file, written and synced beside it.
#[derive(Debug)]
pub(crate) struct Fresh<'p> {
    path: &'p Path,
    beside: PathBuf,
    file: File,
}

impl<'p> Fresh<'p> {
    /// Writes the new version; the file itself is as it was. Blocking.
    pub(crate) fn write(path: &'p Path, bytes: &[u8]) -> io::Result<Self> {
        Self::fill(path, |file| file.write_all(bytes))
    }

    fn fill(path: &'p Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".new");
        let beside = path.with_file_name(name);
        // What a killed process left behind.
        let _ = fs::remove_file(&beside);
        let written = write_synced(&beside, fill);
        if written.is_err() {
            // Best effort: a half-written file on a full disk only makes matters worse.
            let _ = fs::remove_file(&beside);
        }
        Ok(Self { path, beside, file: written? })
    }

    /// Renames it into place and answers with the very file that stands there now, open for writing: to open the path again
    /// may fail, and whoever goes on with the old file writes to one that nobody finds. Durable once the directory is synced.
    pub(crate) fn put(self) -> io::Result<File> {
        let Self { path, beside, file } = self;
        // A process that ends may be slow to: its successor has made another file of that name, which is not ready.
        if !is_same(&file.metadata()?, &fs::symlink_metadata(&beside)?) {
            return Err(io::Error::other(format!("{} was replaced by another process", beside.display())));
        }
        if let Err(error) = fs::rename(&beside, path) {
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        Ok(file)
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn write_synced(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let mut file = OpenOptions::new().create_new(true).write(true).read(true).mode(0o600).open(path)?;
    fill(&mut file)?;
    file.sync_all()?;
    Ok(file)
}

/// Makes a created or renamed entry durable by syncing the directory that holds it.
pub(crate) fn sync_dir(entry: &Path) -> io::Result<()> {
    let dir = match entry.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_is_writing_is_not_put_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"old").unwrap();
        let late = Fresh::write(&path, b"late").unwrap();
        let fresh = Fresh::write(&path, b"fresh").unwrap();
        assert!(late.put().is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fresh.put().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"fresh");
        let gone = Fresh::write(&path, b"gone").unwrap();
        fs::remove_file(dir.path().join("file.new")).unwrap();
        assert!(gone.put().is_err());
        assert_eq!(fs::read(&path).unwrap(), b"fresh");
    }
}
