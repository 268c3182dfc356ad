//! The one error of this tool: a sentence for the person who runs it.
//! It carries no kinds, because nothing here decides on them; a failed measurement stops the run or is counted.

use std::fmt;
use std::io;

/// A sentence that says what went wrong, shown to the person and never matched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

/// The result of every fallible function here.
pub(crate) type Fallible<T> = Result<T, Failure>;

impl Failure {
    /// Puts words before the sentence: what was being done.
    pub(crate) fn during(self, doing: &str) -> Self {
        Self(format!("{doing}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Self(io::Error::from(error).to_string())
    }
}

impl From<fmt::Error> for Failure {
    fn from(error: fmt::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<http::Error> for Failure {
    fn from(error: http::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// Makes a [`Failure`] from a sentence.
pub(crate) fn failure(words: impl Into<String>) -> Failure {
    Failure(words.into())
}
