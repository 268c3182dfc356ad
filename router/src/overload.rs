//! How near the process is to its ceilings of memory and open files: looked at by a thread of its own, told to workers as levels.
//!
//! Not started when neither ceiling is configured. Core says what a level refuses; the workers' own delay is theirs
//! (`worker::strain`).

use std::fs;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use ekiden_config::model::OverloadPolicy;
use ekiden_core::overload::level::Level;

use crate::shared::Shared;
use crate::telemetry::Nearness;

/// Time between looks: a tenth of a second at some MB/ms of allocation is little of a sensible ceiling.
const EVERY: Duration = Duration::from_millis(100);
/// Least time between requests for free memory to be given back to the system.
const TRIM_EVERY: Duration = Duration::from_secs(1);

/// One ceiling: what is used of it, and the level that this is.
#[derive(Debug, Default)]
pub struct Strain {
    used: AtomicU64,
    ceiling: AtomicU64,
    level: AtomicU8,
}

impl Strain {
    /// The level now. Any thread.
    pub fn level(&self) -> Level {
        Level::new(self.level.load(Ordering::Relaxed))
    }

    /// What is used and the ceiling; both 0 where there is none.
    pub fn used(&self) -> (u64, u64) {
        (self.used.load(Ordering::Relaxed), self.ceiling.load(Ordering::Relaxed))
    }

    fn take(&self, used: u64, ceiling: u64) -> bool {
        let before = self.level();
        let level = before.next(used, ceiling);
        self.used.store(used, Ordering::Relaxed);
        self.ceiling.store(ceiling, Ordering::Relaxed);
        self.level.store(level.number(), Ordering::Relaxed);
        level != before
    }
}

/// The ceilings of a process.
#[derive(Debug, Default)]
pub struct Ceilings {
    policy: OnceLock<OverloadPolicy>,
    /// Resident bytes.
    pub memory: Strain,
    /// Open files.
    pub descriptors: Strain,
}

impl Ceilings {
    /// Sets what is configured. Called once, before workers start.
    pub fn configure(&self, policy: OverloadPolicy) {
        self.policy.get_or_init(|| policy);
    }

    /// What is configured.
    pub fn policy(&self) -> OverloadPolicy {
        self.policy.get().copied().unwrap_or_default()
    }

    /// Whether anything is to be watched by [`watch`].
    pub fn are_set(&self) -> bool {
        let policy = self.policy();
        policy.memory.is_some() || policy.descriptors.is_some()
    }

    /// How near memory and open files are. Any thread.
    pub fn nearness(&self) -> [Nearness; 2] {
        [&self.memory, &self.descriptors].map(|strain| {
            let (used, ceiling) = strain.used();
            Nearness { used, ceiling, level: strain.level().number() }
        })
    }

    fn look(&self, files_most: u64) {
        let policy = self.policy();
        if let (Some(ceiling), Some(used)) = (policy.memory, resident_bytes())
            && self.memory.take(used, ceiling)
        {
            tell("memory", self.memory.level(), used, ceiling);
        }
        if let (Some(percent), Some(used)) = (policy.descriptors, open_files()) {
            let ceiling = files_most.saturating_mul(u64::from(percent)) / 100;
            if self.descriptors.take(used, ceiling) {
                tell("descriptors", self.descriptors.level(), used, ceiling);
            }
        }
    }
}

fn tell(resource: &str, level: Level, used: u64, ceiling: u64) {
    let level = level.number();
    if level > 0 {
        tracing::warn!(
            resource,
            level,
            used,
            ceiling,
            "near a ceiling: requests of low priority are refused"
        );
    } else {
        tracing::info!(resource, level, used, ceiling, "below the ceiling again");
    }
}

/// Looks until the router is no more. Called on a thread of its own. `files_most` is the limit of open files.
pub fn watch(shared: &Weak<Shared>, files_most: u64) {
    let mut trimmed: Option<Instant> = None;
    while let Some(shared) = shared.upgrade() {
        shared.ceilings.look(files_most);
        let is_due = trimmed.is_none_or(|at| at.elapsed() >= TRIM_EVERY);
        if shared.ceilings.memory.level() > Level::NONE && is_due {
            shared.trim_heap();
            trimmed = Some(Instant::now());
        }
        drop(shared);
        thread::sleep(EVERY);
    }
}

/// Resident memory of this process. `VmRSS` and not the pages of `statm`, because it needs no page size.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Open files of this process. Linux tells the number as the size of the directory since 6.2; before, its entries are counted.
fn open_files() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        let files = open_files().unwrap();
        let _held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close files meanwhile.
        assert!(open_files().unwrap() + 20 > files && open_files().unwrap() > 50);
    }

    #[test]
    fn what_is_not_configured_has_no_level() {
        let ceilings = Ceilings::default();
        ceilings.look(1);
        assert!(!ceilings.are_set());
        assert_eq!((ceilings.memory.level(), ceilings.memory.used()), (Level::NONE, (0, 0)));
        let ceilings = Ceilings::default();
        ceilings.configure(OverloadPolicy { memory: Some(1), descriptors: Some(100), lag: None });
        ceilings.look(1);
        assert_eq!((ceilings.memory.level(), ceilings.descriptors.level()), (Level::ALL, Level::ALL));
    }
}
