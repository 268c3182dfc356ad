//! Every key that can be written, with its documentation, default and bounds. The only list of keys.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::read::Raw;
use super::shape::Shape;

mod app;
mod cluster;
mod control;
mod entrance;
mod listener;
mod process;
mod route;
mod secrets;
mod words;

pub(crate) use app::*;
pub(crate) use cluster::*;
pub(crate) use control::*;
pub(crate) use entrance::*;
pub(crate) use listener::*;
pub(crate) use process::*;
pub(crate) use route::*;
pub(crate) use secrets::*;
pub(crate) use words::*;

/// Title of an app file in errors.
pub(crate) const APP_FILE: &str = "an app file";

const NAME: u64 = 128;
/// Networks in one list.
const NETS: u64 = 1000;
/// Limits in one list.
const LIMITS: u64 = 8;
/// Most of a rate, a burst or a cost.
const RATE: u64 = 1_000_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// Whether a key belongs to the process file.
pub(crate) fn is_process_key(key: &str) -> bool {
    match RawProcess::shape(RawProcess::BOUND) {
        Shape::Table(table) => table.keys.iter().any(|known| known.key == key),
        _ => false,
    }
}

/// Whether a key belongs to an app, in whatever file it stands.
pub(crate) fn is_app_key(key: &str) -> bool {
    /// The shape of an app is large, and documents of many apps are looked at key by key.
    static KEYS: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| match RawApp::shape(RawApp::BOUND) {
        Shape::Table(table) => table.keys.iter().map(|known| known.key).collect(),
        _ => BTreeSet::new(),
    });
    KEYS.contains(key)
}
