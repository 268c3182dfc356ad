//! What the aside door says of one request that somebody describes: which rule takes it, why others do not, and where it would go
//! now. Words only; the router answers, from the table in force.

use std::net::IpAddr;
use std::sync::Arc;

use super::Generation;
use crate::names::{AppName, ClusterName, EndpointId, ListenerName, RouteName};

/// Rules that one explanation lists at most; more are counted.
pub const RULES_MAX: usize = 200;
/// Endpoints that one explanation lists at most, for each cluster; more are counted.
pub const EXPLAINED_ENDPOINTS_MAX: usize = 200;

/// A request that nobody has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `http://host/path?query`, `https://...`, or a path alone.
    pub url: String,
    /// The method token.
    pub method: String,
    /// Fields, in their order.
    pub headers: Vec<(String, String)>,
    /// The address of who asks.
    pub client: Option<IpAddr>,
    /// The listener that takes it; none lets the URL decide.
    pub listener: Option<ListenerName>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unexplained {
    /// The question is no request; says what is wrong with it.
    BadQuestion(String),
    /// There is no such listener, or none at all.
    NoListener(String),
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The table that says so.
    pub generation: Generation,
    /// The listener that would take it.
    pub listener: ListenerName,
    /// Why that one.
    pub listener_reason: String,
    /// The method.
    pub method: String,
    /// The host as it is matched.
    pub host: String,
    /// The path in normal form, as it is matched; empty when it has none.
    pub path: String,
    /// Who is taken for the client, after the fields of trusted proxies.
    pub client: Option<IpAddr>,
    /// The rule of the path's loose form, where the path has one.
    pub loose: Option<LooseReading>,
    /// What the request comes to.
    pub verdict: Finding,
    /// Rules in the order in which they are tried; those that are not tried at all come last.
    pub rules: Vec<RuleStory>,
    /// Rules that are not listed, because there are too many.
    pub rules_omitted: usize,
    /// Where it would go.
    pub destination: Option<Destination>,
}

/// What a request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// This route serves it.
    Route(AppName, RouteName),
    /// The route that this preflight asks about answers it.
    Preflight(AppName, RouteName),
    /// It is redirected to `https` before a route is looked for.
    Https(u16),
    /// It is refused, perhaps by a route.
    Refused {
        /// The route that refuses it.
        route: Option<(AppName, RouteName)>,
        /// As in `X-Router-Error` and CODES.md.
        code: &'static str,
        /// The status of the response.
        status: u16,
        /// For people.
        words: &'static str,
    },
}

/// How a path reads once slashes are merged and parameters cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LooseReading {
    /// The path.
    pub path: String,
    /// The rule that it selects.
    pub route: Option<(AppName, RouteName)>,
}

/// One rule, and what keeps it from the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleStory {
    /// Its app.
    pub app: AppName,
    /// Its name.
    pub route: RouteName,
    /// How it ended for the rule.
    pub standing: Standing,
    /// Its conditions, each with what was found.
    pub checks: Vec<Check>,
}

/// How the match ended for a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes the request.
    Taken,
    /// It would, but one before it does.
    Behind,
    /// A condition fails.
    Fails,
    /// It is for another host, or for a wider one than the one that decides.
    OtherHost,
    /// It does not apply to the listener.
    OtherListener,
}

impl Standing {
    /// One word for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Standing::Taken => "taken",
            Standing::Behind => "behind",
            Standing::Fails => "fails",
            Standing::OtherHost => "other_host",
            Standing::OtherListener => "other_listener",
        }
    }
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `listener`, `host`, `path`, `method`, `header`, `query`, `cookie`, `client_cert` or `claim`.
    pub of: &'static str,
    /// What the rule asks for.
    pub wanted: String,
    /// Whether the request has it.
    pub holds: bool,
}

/// Where a request would go.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// The cluster.
    pub cluster: ClusterName,
    /// Why that one, where the route names several.
    pub split: Option<String>,
    /// Who picks: a balance, or a key.
    pub picker: String,
    /// Where its key belongs; none where no key decides.
    pub key: Option<KeyStory>,
    /// The endpoint that gets it now, where that is certain.
    pub endpoint: Option<EndpointId>,
    /// What keeps it from every endpoint, or what chooses among them.
    pub reason: String,
    /// How requests without a key are shared out among groups of endpoints; empty where all are one group.
    pub groups: Vec<GroupStory>,
    /// The endpoints, in the order of their ids.
    pub endpoints: Vec<EndpointStory>,
    /// Endpoints that are not listed, because there are too many.
    pub endpoints_omitted: usize,
}

/// Where a key belongs.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyStory {
    /// The key.
    pub text: String,
    /// Its hash.
    pub hash: u64,
    /// How keys find their shards.
    pub algorithm: &'static str,
    /// Where it falls, from 0 to 1; none where keys have no place.
    pub position: Option<f64>,
    /// Its endpoints, the first the owner.
    pub order: Vec<EndpointId>,
    /// How many of them serve it now.
    pub replicas: usize,
}

/// One endpoint, and what speaks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointStory {
    /// Its id.
    pub id: EndpointId,
    /// Its address.
    pub address: String,
    /// As in [`super::EndpointStatus`].
    pub state: &'static str,
    /// Why it is in that state.
    pub reason: String,
    /// Requests it is serving now.
    pub in_flight: u32,
    /// Its weight.
    pub weight: u16,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Its priority.
    pub priority: u8,
    /// Whether it is one of those that this router sends to.
    pub in_subset: bool,
    /// It may get this request now.
    pub eligible: bool,
    /// What it gets of the requests without a key when all are equally busy; 0 when it may get none.
    pub share: f64,
}

/// A group of endpoints that a cluster's requests are shared out among: of one priority, and of one zone where zones count.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupStory {
    /// Its priority; 0 comes first.
    pub priority: u8,
    /// Its zone, where zones count and it has one.
    pub zone: Option<Arc<str>>,
    /// `local` or `spilled`, where zones count.
    pub kind: Option<&'static str>,
    /// Part of the requests that it gets now.
    pub share: f64,
    /// Its endpoints.
    pub endpoints: usize,
    /// Those of them that this router sends to now.
    pub ready: usize,
}
