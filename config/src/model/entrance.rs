//! What a request must show before a route serves it: words only. The router's core and the router act on them; nothing
//! here does.
//!
//! The order of the steps is fixed: what `allow` and `deny` say, CORS, rate limits, credentials, the authorizer.

use std::sync::Arc;
use std::time::Duration;

/// The steps of a route that stand between its match and its action. A step that is not written is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entrance {
    /// Pages of which other origins may read responses.
    pub cors: Option<Arc<Cors>>,
}

/// Cross-origin resource sharing (the Fetch standard).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages may read responses.
    pub origins: Origins,
    /// Methods allowed beside those that need no permission; `*` means all.
    pub methods: Vec<Arc<str>>,
    /// Request fields allowed beside those that need no permission, in lower case; `*` means all.
    pub headers: Vec<Arc<str>>,
    /// Response fields that pages may read beside those that need no permission, in lower case; `*` means all, and does not stand
    /// beside credentials.
    pub expose: Vec<Arc<str>>,
    /// Pages may send cookies and credentials.
    pub credentials: bool,
    /// How long a browser may keep the answer to a preflight; none leaves it to the browser.
    pub max_age: Option<Duration>,
}

/// Origins that are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All. Not with credentials.
    Any,
    /// Those that one of these matches. Not empty.
    Listed(Vec<OriginPattern>),
}

/// One origin, or those of all subdomains of a host. Texts are as browsers write them: lower case, no default port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// `scheme://host[:port]`.
    Exact(Arc<str>),
    /// `scheme://*.suffix[:port]`: one or more labels stand for the `*`.
    Subdomains {
        /// `scheme://`.
        scheme: Arc<str>,
        /// `.suffix[:port]`; the suffix has at least two labels.
        suffix: Arc<str>,
    },
}
