//! What a request must show before a route serves it: words only. The router's core and the router act on them; nothing
//! here does.
//!
//! The order of the steps is fixed: what `allow` and `deny` say, CORS, rate limits, credentials, the authorizer. Where routes have
//! conditions on claims, a signature is looked at before there is a route, and limits by client are met before that.

use std::sync::Arc;
use std::time::Duration;

use crate::names::{ClusterName, TrustName};

/// The steps of a route that stand between its match and its action. A step that is not written is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entrance {
    /// Pages of which other origins may read responses.
    pub cors: Option<Arc<Cors>>,
    /// Credentials, of which a request must have one.
    pub auth: Option<Arc<Auth>>,
    /// A service that is asked, last of all.
    pub authorizer: Option<Arc<Authorizer>>,
}

/// A service that says whether a request is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorizer {
    /// Who is asked, inside the same app.
    pub cluster: ClusterName,
    /// Path and query of the question: a GET without a body, or a POST with that of the request.
    pub path: Arc<str>,
    /// The question is a call of `envoy.service.auth.v3.Authorization/Check`, and has no path.
    pub grpc: bool,
    /// What of the body goes along; none means nothing.
    pub body: Option<AuthorizerBody>,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// A question without an answer lets the request in.
    pub fail_open: bool,
    /// Request fields that go along, in lower case; none means all that go to endpoints.
    pub headers: Option<Vec<Arc<str>>>,
    /// Fields of an answer that go to the endpoint with the request, as written.
    pub returns: Vec<Arc<str>>,
}

/// What of a request's body is shown to an authorizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorizerBody {
    /// Bytes at most.
    pub max: u32,
    /// The beginning of a longer one is shown; else its request is refused.
    pub partial: bool,
}

/// Credentials that are taken. At least one kind; a request is let in by the kind that it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Names and passwords (RFC 7617): an entry of `TrustSources::users`.
    pub users: Option<TrustName>,
    /// Keys of programs.
    pub api_keys: Option<ApiKeys>,
    /// Signed tokens.
    pub tokens: Option<Tokens>,
    /// What clients are told that they are to log in to.
    pub realm: Arc<str>,
    /// The request field that tells the endpoint who it is: the user, the id of the API key, or the subject of the token. As
    /// written.
    pub id_header: Option<Arc<str>>,
    /// The endpoint does not get the credentials.
    pub hide_credentials: bool,
}

/// Where keys of programs stand in a request, and which ones are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeys {
    /// An entry of `TrustSources::api_keys`.
    pub keys: TrustName,
    /// The request field, in lower case.
    pub header: Arc<str>,
    /// A query parameter that is looked at when the field is not there.
    pub query: Option<Arc<str>>,
}

/// Issuers whose tokens routes with conditions on claims may look at, in one app. The router tries no more on one request.
pub const CLAIM_ISSUERS_MAX: usize = 4;

/// Signed tokens (RFC 7519), sent as `Authorization: Bearer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// An entry of `TrustSources::issuers`.
    pub issuer: TrustName,
    /// Request fields that tell the endpoint what the token says: the name as written, and the claim.
    pub claims: Vec<(Arc<str>, Arc<str>)>,
    /// Claims that must have, or hold, one of these values.
    pub require: Vec<(Arc<str>, Vec<Arc<str>>)>,
}

impl Entrance {
    /// Names of request fields that the steps may set, as written: a client's own are taken away first.
    pub fn set_fields(&self) -> impl Iterator<Item = &Arc<str>> {
        self.auth
            .iter()
            .flat_map(|auth| {
                let claims = auth.tokens.iter().flat_map(|tokens| tokens.claims.iter().map(|(name, _)| name));
                auth.id_header.iter().chain(claims)
            })
            .chain(self.authorizer.iter().flat_map(|authorizer| &authorizer.returns))
    }
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
