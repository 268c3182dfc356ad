//! The process's own log: to standard error, because standard output belongs to the access log.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Installs the log. `EKIDEN_LOG` filters it (`info` by default); text on a terminal, JSON elsewhere when
/// `EKIDEN_LOG_FORMAT=json`.
pub(crate) fn install() {
    // What the codec of HTTP/2 says comes at the rate of clients; what matters of it is counted and said by the router.
    let filter = EnvFilter::try_from_env("EKIDEN_LOG").unwrap_or_else(|_| EnvFilter::new("info,h2=off"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A reader of standard error that has gone away must not take threads with it.
        .log_internal_errors(false)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let json = std::env::var("EKIDEN_LOG_FORMAT").is_ok_and(|format| format == "json");
    // A log that was installed before (tests) stays.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}

/// Says something to the person who started the process. Nobody may be listening.
pub(crate) fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let _nobody_listens = writeln!(std::io::stderr(), "{text}");
}
