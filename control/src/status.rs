//! What control says about itself: one value, replaced whole, readable from any thread.
//!
//! Telemetry makes metrics and `/readyz` of it, the API answers it as `GET /v1/status`. Holds no secret.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::election::Leader;
use crate::tenure::Tenure;

/// Control's state at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Control's thread runs. When false the table in force goes on serving, unchanged.
    pub running: bool,
    /// What serves is not what the process file says: it is missing or invalid, and an older version is in force.
    pub stale: bool,
    /// Why, for people.
    pub stale_reason: Option<String>,
    /// The process file.
    pub file: String,
    /// The run directory; none when no place could be used (nothing is durable then).
    pub run_dir: Option<String>,
    /// Why the run directory cannot be used.
    pub run_dir_error: Option<String>,
    /// Hash of the texts in force.
    pub source_hash: String,
    /// Apps whose newest file was refused and which serve their last good version, or nothing if they had none.
    pub refused_apps: Vec<String>,
    /// The last reload.
    pub last_reload: Option<Reload>,
    /// Reloads since the start by result.
    pub reloads: ReloadCounts,
    /// Keys of the process file that changed since the start and need a restart.
    pub restart_needed: Vec<String>,
    /// The control API.
    pub api: ApiStatus,
    /// DNS names by name.
    pub dns: BTreeMap<String, NameStatus>,
    /// Sources of placements by name: `dns:NAME`, `push:APP/CLUSTER`, `procfile:APP/CLUSTER`. At most 1,000 of a kind.
    pub sources: BTreeMap<String, SourceStatus>,
    /// Guarded changes.
    pub guards: GuardCounts,
    /// Endpoints owned by the API, dormant ones too.
    pub api_endpoints: usize,
    /// Apps owned by the API.
    pub api_apps: usize,
    /// The newest revision of the store.
    pub store_revision: u64,
    /// Times that all of a store that is shared was read and built since the start; most changes of others are taken in one by one.
    pub store_reads: u64,
    /// Requests to the API refused since the start because too many came.
    pub api_rate_limited: u64,
    /// Watches refused since the start because too many were open.
    pub watches_refused: u64,
    /// Audit records since the start that are in memory only, because the file could not take them.
    pub audit_dropped: u64,
    /// Drain marks on endpoints that others own.
    pub drain_marks: usize,
    /// Size of the journal in bytes.
    pub journal_bytes: u64,
    /// Why the last mutation could not be made durable; none once one could.
    pub journal_error: Option<String>,
    /// Endpoints that refuse connects though their checks and marks call them ready, as `app/cluster/id`. At most 1,000.
    pub refusing_connects: BTreeMap<String, Refusing>,
    /// Observations of endpoints dropped since the start because too many waited.
    pub observations_dropped: u64,
    /// Mutations applied since the start.
    pub mutations: u64,
    /// Publishes since the start.
    pub publishes: u64,
    /// Times that control was stuck and began anew in this process, which went on serving.
    pub control_restarts: u64,
    /// Tables that a term of control published after it was stuck and made void; none of them was taken.
    pub void_publishes: u64,
    /// The generation of the last publish that every worker took.
    pub generation: u64,
    /// Parts of the last publish that the router refused, each with its reason.
    pub refused_parts: Vec<String>,
    /// When the last good table was saved, in milliseconds since the Unix epoch.
    pub last_good_unix_ms: Option<u64>,
    /// Why it could not be saved.
    pub last_good_error: Option<String>,
    /// Who leads, where several control processes share a store; none where the store is this process's own.
    pub election: Option<Election>,
    /// The link of a router whose control is another process.
    pub link: LinkStatus,
}

/// Who leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Election {
    /// This process does.
    pub leads: bool,
    /// Under this term; 0 while it does not lead.
    pub term: u64,
    /// Since when that is so, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// Who leads instead; none when nobody is known to.
    pub leader: Option<Leader>,
    /// Why this process does not lead.
    pub reason: Option<String>,
}

/// The link of a router to its control.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// Control is another process; false where it is this one, and nothing below counts.
    pub remote: bool,
    /// Where control is, or may be.
    pub control: String,
    /// Whether it is there.
    pub connected: bool,
    /// Since when that is so, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// When it was heard last, in milliseconds since the Unix epoch; 0 for never.
    pub heard_unix_ms: u64,
    /// The highest term of a control that this router has had a table of.
    pub term: u64,
    /// The generation of that term.
    pub generation: u64,
    /// Links since the start.
    pub links: u64,
    /// Those that began with everything.
    pub snapshots: u64,
    /// Tries that failed and links that ended.
    pub failures: u64,
    /// Why the last of these.
    pub error: Option<String>,
}

/// How a reload went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reload {
    /// The process file was accepted.
    pub ok: bool,
    /// When, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// What changed, in one line, or that nothing was taken.
    pub summary: String,
    /// Every error and warning, rendered with its source line. At most 100.
    pub diagnostics: Vec<String>,
}

/// Reloads by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReloadCounts {
    /// The process file was accepted, with or without a change.
    pub accepted: u64,
    /// Accepted, but at least one app was refused. Counted in `accepted` too.
    pub partial: u64,
    /// The process file was refused.
    pub refused: u64,
}

/// Where the control API is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ApiStatus {
    /// Where it should be served; none means off.
    pub wanted: Option<String>,
    /// Where it is served now; with port 0 the real port.
    pub bound: Option<String>,
    /// Why it is not served, or why it refuses every request.
    pub error: Option<String>,
}

/// An endpoint that refuses connects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Refusing {
    /// Since when the router sends nothing there, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// What it met.
    pub reason: String,
}

/// A DNS name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NameStatus {
    /// The addresses in force.
    pub addresses: Vec<String>,
    /// Why the last question failed.
    pub error: Option<String>,
    /// Since when it fails, in milliseconds since the Unix epoch.
    pub failing_since_unix_ms: Option<u64>,
}

/// Guarded changes: those that are watched, and those since the start by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GuardCounts {
    /// Apps that are watched now.
    pub watching: usize,
    /// The change stays: it made nothing worse.
    pub kept: u64,
    /// The app went back.
    pub rolled_back: u64,
    /// The change stays: too few requests came.
    pub not_judged: u64,
    /// Another change came first.
    pub superseded: u64,
    /// The app should have gone back, and could not.
    pub failed: u64,
}

/// A source of placements.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    /// `live`; `silent` when its leases are over and `failing` when it cannot be asked, which both leave its part as it is; `held` when
    /// it took away too much at once, which is kept.
    pub state: &'static str,
    /// Endpoints or records of it that are in force.
    pub endpoints: usize,
    /// What is kept though the source has it no longer.
    pub held: Vec<String>,
    /// Until when.
    pub held_until_unix_ms: Option<u64>,
    /// Endpoints whose own lease is over while the source was heard.
    pub expired: Vec<String>,
    /// Why it cannot be asked.
    pub error: Option<String>,
    /// When it was heard last.
    pub heard_unix_ms: Option<u64>,
}

/// Shared place of the newest [`Status`]. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatusCell {
    status: Arc<Mutex<Arc<Status>>>,
    /// Who writes by this hold; none for the process itself.
    tenure: Option<Tenure>,
}

impl StatusCell {
    /// A hold on the same for one term of control: once that is void, what it says is not heard.
    pub(crate) fn of(&self, tenure: &Tenure) -> Self {
        Self { status: Arc::clone(&self.status), tenure: Some(tenure.clone()) }
    }

    /// The newest value.
    pub(crate) fn read(&self) -> Arc<Status> {
        Arc::clone(&self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the value; readers keep what they have.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        let mut current = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if self.tenure.as_ref().is_none_or(Tenure::counts) {
            change(Arc::make_mut(&mut current));
        }
    }
}
