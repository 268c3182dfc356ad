//! A small disk that can be filled: a tmpfs, over a directory, for who may mount one.

use crate::failure::{Fallible, failure};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bytes of the disk.
const SIZE: u64 = 64 << 20;
const PIECE: usize = 64 << 10;

/// The disk. Taken away when dropped.
#[derive(Debug)]
pub(super) struct Disk(PathBuf);

impl Disk {
    /// Over a directory that is empty.
    pub(super) fn over(dir: &Path) -> Fallible<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "none"]).arg(dir);
        let done = mount.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
        if done { Ok(Self(dir.to_owned())) } else { Err(failure("no tmpfs can be mounted here")) }
    }

    /// Fills it to the last byte.
    pub(super) fn fill(&self) -> Fallible<()> {
        let mut ballast = OpenOptions::new().create(true).append(true).open(self.ballast())?;
        loop {
            match ballast.write_all(&[1; PIECE]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives the room back.
    pub(super) fn clear(&self) -> Fallible<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        let _nobody_to_tell = umount.arg("-l").arg(&self.0).stderr(Stdio::null()).status();
    }
}

/// Whether one can be had.
pub(super) fn may_mount() -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    Disk::over(dir.path()).map(drop).map_err(|error| format!("{error}; it takes the right to mount"))
}
