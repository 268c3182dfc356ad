//! The seam of policies: steps that judge a request between match and pick, fixed when the table is compiled.
//!
//! Core judges and returns a value; the router performs it. A policy never waits, never does I/O and never keeps a
//! reference to the request. What a listener or a route lets in is compiled into [`admission`]'s steps, which are called by
//! type and judged first, then what [`entrance`] asks for before and after the rates of [`limit`]; of the open seam [`Policy`] there is no implementation yet beside the fake of
//! the tests.

pub mod admission;
pub mod cors;
pub mod entrance;
pub mod faults;
pub mod limit;
pub mod mirror;
mod nets;
pub(crate) mod text;

use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::HeaderEdits;
use ekiden_config::names::ClusterName;

use crate::table::Facts;

/// What a policy says of one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Go on with the next step.
    Pass,
    /// Answer now; nothing is sent upstream.
    Answer(FixedAnswer),
    /// Change the head and go on.
    Edit(HeadPatch),
    /// Ask another service first; its answer decides.
    Ask(Ask),
    /// Have the whole request body, up to this many bytes, before the next step; 413 beyond.
    Buffer(u64),
    /// Send the body through a stage of this name, which the router resolves when it takes the table.
    Stage(Arc<str>),
}

/// A response that a policy makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedAnswer {
    /// 200..=599.
    pub status: u16,
    /// Fields to send, name and value; framing fields are the router's.
    pub fields: Vec<(Arc<str>, Arc<str>)>,
    /// The body, at most 64 KiB.
    pub body: Arc<str>,
}

/// A change of the request head.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeadPatch {
    /// Field edits, in the order remove, set, add.
    pub fields: HeaderEdits,
    /// Replaces the path, in normal form; the query stays.
    pub path: Option<Arc<str>>,
}

/// A question to another service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Who is asked, inside the same app.
    pub cluster: ClusterName,
    /// Path and query of the subrequest, which is a GET.
    pub target: Arc<str>,
    /// Request fields that go along, by name in lower case.
    pub fields: Vec<Arc<str>>,
    /// How long an answer may take.
    pub deadline: Duration,
    /// What a missing answer means.
    pub fail: FailMode,
}

/// What a missing answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// The request goes on.
    Open,
    /// The request is refused.
    Closed,
}

/// One step of the policies of a route.
///
/// Contract. Thread: `judge` runs on workers, several at once. Blocking: it neither locks nor waits. Cancel: it has
/// no state between calls that a dropped exchange could leave behind. Panic: ends the one connection.
pub trait Policy: Send + Sync {
    /// A short stable word for logs and metrics.
    fn name(&self) -> &'static str;

    /// Judges a request by its facts at the time `now_ns` of the worker's monotonic clock.
    fn judge(&self, facts: &Facts<'_>, now_ns: u64) -> Verdict;
}

#[cfg(test)]
mod tests;
