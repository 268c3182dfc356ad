//! Newtypes for names that appear in configuration, table, logs and metrics.
//!
//! Each is a cheap-to-clone string with a checked alphabet, so that a name can stand unescaped in a metric
//! label, a URL path segment and a log field. Does not resolve names; that is `validate`.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
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

/// Checks the alphabet and the length.
fn check(text: &str, allowed: fn(char) -> bool) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_MAX {
        return Err(NameError::TooLong);
    }
    match text.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(NameError::BadCharacter(c)),
        None => Ok(()),
    }
}

macro_rules! shown {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $allowed:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks the alphabet and the length and makes the name. Called by `validate` and by the API.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text, $allowed)?;
                Ok(Self(Arc::from(text)))
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

        shown!($type);
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
/// An endpoint, unique inside its cluster; by default its address as written. Visible ASCII without `"\?#%`.
///
/// There may be a million, each with an id of its own: those that are no longer than an address of IPv4 have no text elsewhere, so that
/// to clone one touches no counter that others write.
#[derive(Clone)]
pub struct EndpointId(IdText);

#[derive(Clone)]
enum IdText {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Arc<str>),
}

/// Longest id that has no text elsewhere, in bytes; an address of IPv4 with its port has 21.
const SHORT_MAX: usize = 22;
const _: () = assert!(size_of::<EndpointId>() == 24);

impl EndpointId {
    /// Checks the alphabet and the length and makes the id. Called by `validate` and by the API.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check(text, endpoint)?;
        let mut bytes = [0; SHORT_MAX];
        let short = bytes.get_mut(..text.len()).zip(u8::try_from(text.len()).ok());
        let Some((place, length)) = short else { return Ok(Self(IdText::Long(Arc::from(text)))) };
        place.copy_from_slice(text.as_bytes());
        Ok(Self(IdText::Short { length, bytes }))
    }

    /// The id as bytes of ASCII, which costs less than the text.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            IdText::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            IdText::Long(text) => text.as_bytes(),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Always ASCII.
            IdText::Short { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            IdText::Long(text) => text,
        }
    }
}

shown!(EndpointId);

impl PartialEq for EndpointId {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for EndpointId {}

impl PartialOrd for EndpointId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As texts are ordered, which is by their bytes.
impl Ord for EndpointId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// As texts are, for maps that are asked for one.
impl Hash for EndpointId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    #[test]
    fn ids_of_any_length_are_texts() {
        let long = "a".repeat(NAME_MAX);
        let texts = [
            "a",
            "10.0.0.1:80",
            "255.255.255.255:65535",
            "b/255.255.255.255:65535",
            "[2001:db8::1]:80",
            &long,
        ];
        let ids = || texts.iter().map(|text| EndpointId::new(text).unwrap());
        for (id, text) in ids().zip(texts) {
            assert_eq!(
                (id.as_str(), id.to_string().as_str(), format!("{id:?}")),
                (text, text, format!("{text:?}"))
            );
            for (other, beside) in ids().zip(texts) {
                assert_eq!((id == other, id.cmp(&other)), (text == beside, text.cmp(beside)));
            }
        }
        let (hashed, sorted): (HashMap<_, _>, BTreeMap<_, _>) =
            (ids().zip(texts).collect(), ids().zip(texts).collect());
        for text in texts {
            assert_eq!((hashed.get(text), sorted.get(text)), (Some(&text), Some(&text)));
        }
        assert_eq!(EndpointId::new("a\"b").unwrap_err(), NameError::BadCharacter('"'));
        assert_eq!(EndpointId::new(&"a".repeat(NAME_MAX + 1)).unwrap_err(), NameError::TooLong);
    }
}
