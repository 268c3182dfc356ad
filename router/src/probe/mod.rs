//! Active checks of endpoints, on a thread of their own (never on a worker): the plug-in point [`Probe`], the
//! embedded HTTP, TCP and gRPC checks, and the [`Prober`] that runs one per endpoint and says what changed. On the same thread
//! evidence is judged and ejected endpoints are tried. What a row of verdicts means is core's `health`, what evidence means
//! its `ejection`; who may be picked is core's ready set.

use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::{Address, ProbeKind, Protocol};

use crate::tls::upstream::{OpenError, Secure, connect};

mod fake;
mod grpc;
mod hot;
mod http;
mod judge;
mod load;
mod prober;
mod ramp;
mod refresh;
mod shared;
mod suspects;
mod tcp;
#[cfg(test)]
mod tests;
mod trial;
mod tries;

pub use fake::FakeProbe;
pub use grpc::GrpcProbe;
pub use http::HttpProbe;
pub use prober::{Hooks, OnChange, Prober, Targets};
pub use suspects::Suspects;
pub use tcp::TcpProbe;

/// What one check found; an error is the reason in words for people.
pub type Verdict = Result<(), String>;

/// A check under way.
pub type Checking<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// One way to ask an endpoint whether it can serve.
///
/// Contract. Thread: called on the probe thread inside its tokio runtime, for many endpoints at once; never blocks it.
/// Deadline and cancel: the caller drops the future when the policy's timeout is over or the endpoint is removed;
/// whatever it opened closes with it. State: none between checks; each check opens a fresh connection. Bounds: reads
/// at most a stated amount, whatever the endpoint sends. Panic: counts as a failed check, nothing more. Errors: the
/// reason is one line of at most [`REASON_MAX`] bytes without control characters and names what was asked.
pub trait Probe: Send + Sync {
    /// Checks the endpoint once.
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a>;
}

/// Where an endpoint is, and how it is connected to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its address.
    pub address: Address,
    /// With which trust; none for a plain connection.
    pub secure: Option<Secure>,
    /// What is spoken.
    pub protocol: Protocol,
}

impl Target {
    /// One that is connected to without TLS.
    pub fn plain(address: Address) -> Self {
        Self { address, secure: None, protocol: Protocol::Http1 }
    }
}

/// Longest reason, in bytes.
pub const REASON_MAX: usize = 256;

/// Makes a probe for each kind a policy can name.
pub type Factory = Arc<dyn Fn(&ProbeKind) -> Arc<dyn Probe> + Send + Sync>;

/// The embedded probes.
pub fn embedded() -> Factory {
    Arc::new(|kind| match kind {
        ProbeKind::Http { path, host, status, body, send_proxy } => {
            let probe = HttpProbe::new(path.clone(), host.clone(), *status, body.clone());
            Arc::new(probe.with_proxy(*send_proxy))
        }
        ProbeKind::Tcp => Arc::new(TcpProbe),
        ProbeKind::Grpc { service, host } => Arc::new(GrpcProbe::new(service.clone(), host.clone())),
    })
}

/// Why there is no connection, for a person.
pub(crate) fn open_words(error: &OpenError) -> String {
    match error {
        OpenError::Connect(error) => io_words(error),
        OpenError::Http2(error) => one_line(&format!("no HTTP/2: {error}")),
        OpenError::Tls(error) => one_line(&format!("no TLS: {}", connect::words(error))),
    }
}

/// What an I/O error means to a person.
fn io_words(error: &std::io::Error) -> String {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => "connection refused".to_owned(),
        Kind::ConnectionReset => "connection reset".to_owned(),
        Kind::NotFound => "no such socket".to_owned(),
        Kind::PermissionDenied => "permission denied".to_owned(),
        Kind::UnexpectedEof => "the connection was closed before the answer ended".to_owned(),
        Kind::TimedOut => "connection timed out".to_owned(),
        Kind::HostUnreachable => "host unreachable".to_owned(),
        Kind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => one_line(&error.to_string()),
    }
}

/// A duration as people write it.
fn duration_words(duration: Duration) -> String {
    match u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) {
        ms if ms >= 1000 && ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

/// Text from outside made fit for a reason: control characters escaped, cut at [`REASON_MAX`] bytes.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
        if line.len() > REASON_MAX {
            line.truncate(line.floor_char_boundary(REASON_MAX - 3));
            line.push_str("...");
            break;
        }
    }
    line
}
