//! A run directory on a disk that is full: no change that was acknowledged is lost, none is acknowledged that is, traffic goes on, and
//! writes are taken again without a restart once there is room.
//!
//! The disk is a small tmpfs where this user may mount one, so that writes fail with ENOSPC as they do on any disk; elsewhere the size
//! of files is bounded (EFBIG).

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use ekiden_tests::{Ekiden, Run, Served, Setup, Stamped, until_true, web};
use tempfile::TempDir;

use super::problem;

/// Bytes of the disk.
const SIZE: u64 = 1 << 20;
/// Bytes of one page: what tmpfs gives at a time.
const PAGE: u64 = 4096;
/// Endpoints, so that the journal's snapshot needs several pages.
const ENDPOINTS: usize = 40;
/// Changes that fill the journal several times.
const CHANGES: u32 = 2_000;
/// Length from which the journal is written anew.
const REWRITE: u64 = 64 << 10;

fn done(command: &str, arguments: &[&str]) -> bool {
    Command::new(command).args(arguments).output().unwrap().status.success()
}

/// The disk of a run directory.
struct Disk {
    dir: TempDir,
    /// It is a file system of its own.
    mounted: bool,
}

impl Disk {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let options = format!("size={SIZE}");
        let mounted = done("mount", &["-t", "tmpfs", "-o", &options, "none", dir.path().to_str().unwrap()]);
        Self { dir, mounted }
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }

    fn journal(&self) -> u64 {
        fs::metadata(self.dir.path().join("journal")).map_or(0, |found| found.len())
    }

    /// Leaves room for so many pages and no more; none at all where it is no file system of its own.
    fn fill(&self, router: &Ekiden, pages: u64) {
        if !self.mounted {
            limit(router, "0");
            return;
        }
        let mut ballast = OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        while ballast.write_all(&[1; PAGE as usize]).is_ok() {}
        let length = ballast.metadata().unwrap().len().next_multiple_of(PAGE);
        ballast.set_len(length.saturating_sub(pages * PAGE)).unwrap();
    }

    /// Takes away what fills it.
    fn clear(&self, router: &Ekiden) {
        if self.mounted {
            fs::remove_file(self.ballast()).unwrap();
        } else {
            limit(router, "unlimited");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            done("umount", &["-l", self.dir.path().to_str().unwrap()]);
        }
    }
}

/// Bounds the size of files that the process writes.
fn limit(router: &Ekiden, bytes: &str) {
    let (id, most) = (router.id().to_string(), format!("--fsize={bytes}:unlimited"));
    assert!(done("prlimit", &["--pid", &id, &most]));
}

/// What was asked of the API, and what it acknowledged.
#[derive(Default)]
struct Asked {
    next: u32,
    /// Weight by endpoint, as it was acknowledged last.
    acknowledged: BTreeMap<String, u32>,
    refused: u32,
}

impl Asked {
    /// Changes the weight of the next endpoint; true when it was acknowledged.
    fn change(&mut self, router: &Ekiden) -> bool {
        self.next += 1;
        let id = format!("endpoint-{:03}", self.next as usize % ENDPOINTS);
        let weight = self.next % 999 + 1;
        let body =
            format!("{{\"address\":\"127.0.0.1:1\",\"weight\":{weight},\"zone\":\"{}\"}}", "z".repeat(100));
        let answer = router.control("PUT", &Ekiden::endpoint_path("spare", &id), &body);
        match answer.status {
            200 => {
                self.acknowledged.insert(id, weight);
                true
            }
            _ => {
                assert_eq!(problem(&answer), (507, "storage_full".to_owned()));
                self.refused += 1;
                false
            }
        }
    }

    /// Changes until one is refused: however long each takes, there is not room for many.
    fn until_refused(&mut self, router: &Ekiden) {
        assert!((0..CHANGES).any(|_| !self.change(router)), "none is refused");
    }

    /// What is in force is what was acknowledged.
    fn check(&self, router: &Ekiden) {
        let told = router.control("GET", "/v1/apps/default/clusters/spare/endpoints", "").json();
        let all = told["endpoints"].as_array().unwrap();
        let found: BTreeMap<String, u32> = all
            .iter()
            .filter(|one| one["owner"] == "api")
            .map(|one| (one["id"].as_str().unwrap().to_owned(), one["weight"].as_u64().unwrap() as u32))
            .collect();
        assert_eq!(found, self.acknowledged);
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_room_is_enough_to_go_on() {
    let origin = Stamped::start("file");
    let text = web(&[origin.address], "", "") + "[cluster.spare]\nendpoints = [\"127.0.0.1:9\"]\n";
    let setup = Setup::new(text).top("drain_grace = \"0s\"");
    let disk = Disk::new();
    symlink(disk.dir.path(), setup.dir().join("run")).unwrap();
    let router = Ekiden::start(setup);
    let mut asked = Asked::default();
    // Until the journal is soon written anew.
    while disk.journal() < REWRITE - PAGE || asked.acknowledged.len() < ENDPOINTS {
        assert!(asked.change(&router) && asked.next < CHANGES);
    }
    // Room for some changes, and for no snapshot of the journal.
    disk.fill(&router, 2);
    asked.until_refused(&router);
    if disk.mounted && disk.journal() > REWRITE {
        router.wait_error("the journal could not be rewritten");
    }
    // No room at all. What is in force is still read, and served.
    disk.fill(&router, 0);
    asked.until_refused(&router);
    asked.check(&router);
    assert_eq!(router.client().get("a", "/").text(), "file");
    // The same process goes on where there is room.
    disk.clear(&router);
    until_true("a change that is taken", || asked.change(&router));
    asked.check(&router);
    // Full again, and killed: what a restart finds is what was acknowledged, also where there is no room to start in.
    disk.fill(&router, 0);
    asked.until_refused(&router);
    router.signal(libc::SIGKILL);
    let setup = router.stop();
    let router = Ekiden::start_with(setup, Run { keep_file: true, ..Run::default() });
    asked.check(&router);
    assert_eq!(router.client().get("a", "/").text(), "file");
    if disk.mounted {
        asked.until_refused(&router);
        disk.clear(&router);
    }
    until_true("a change that is taken", || asked.change(&router));
    asked.check(&router);
    assert!(asked.refused >= 3);
}
