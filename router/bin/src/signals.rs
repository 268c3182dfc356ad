//! Signals as events: reload, end, end now. A write beyond a limit on the size of files is an error and not the end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    End,
}

/// The signals the process listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// SIGXFSZ, which ends a process that does not listen to it. Nobody waits for it: the write says what is wrong.
    _file_limit: Signal,
}

impl Signals {
    /// Starts listening. Inside a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_limit: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
        }
    }
}
