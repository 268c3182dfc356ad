//! Newtypes for names that appear in configuration, table, logs and metrics.
//!
//! Each is a cheap-to-clone shared string with a checked alphabet, so that a name can stand unescaped in a metric
//! label, a URL path segment and a log field. Does not resolve names; that is `validate`.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest accepted name, in bytes.
pub const NAME_MAX: usize = 128;

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// The text is longer than [`NAME_MAX`] bytes (or the type's own bound).
    TooLong,
    /// A character outside the type's alphabet; carries the first such character.
    BadCharacter(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => write!(f, "is empty"),
            NameError::TooLong => write!(f, "is longer than {NAME_MAX} bytes"),
            NameError::BadCharacter(c) => write!(f, "holds the character {c:?}, which names may not"),
        }
    }
}

impl std::error::Error for NameError {}

fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn endpoint(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '?' | '#' | '%')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $allowed:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks the alphabet and the length and makes the name. Called by `validate` and by the API.
            pub fn new(text: &str) -> Result<Self, NameError> {
                if text.is_empty() {
                    return Err(NameError::Empty);
                }
                if text.len() > NAME_MAX {
                    return Err(NameError::TooLong);
                }
                match text.chars().find(|c| !$allowed(*c)) {
                    Some(c) => Err(NameError::BadCharacter(c)),
                    None => Ok(Self(Arc::from(text))),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text itself, shared.
            pub fn text(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// An app: owner of routes and clusters, the unit of rejection. `[A-Za-z0-9_.-]{1,128}`.
    AppName, plain
);
name!(
    /// A cluster, unique inside its app. `[A-Za-z0-9_.-]{1,128}`.
    ClusterName, plain
);
name!(
    /// A listener, unique in the process. `[A-Za-z0-9_.-]{1,128}`.
    ListenerName, plain
);
name!(
    /// A route, unique inside its app; made from its position when not written. `[A-Za-z0-9_.-]{1,128}`.
    RouteName, plain
);
name!(
    /// An endpoint, unique inside its cluster; by default its address as written. Visible ASCII without `"\?#%`.
    EndpointId, endpoint
);

name!(
    /// An entry of the process's authorities or identities. `[A-Za-z0-9_.-]{1,128}`.
    TrustName, plain
);

impl AppName {
    /// The app formed by the top-level routes and clusters of the process file.
    pub fn default_app() -> Self {
        Self(Arc::from("default"))
    }
}
