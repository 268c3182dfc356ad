//! From a request's head to an endpoint's address, by `ekiden-core`, in the order in which the router does it.
//!
//! Knows pingora's request head and nothing else of it. Does not change the path: what is matched is its normal form,
//! what is forwarded is what the client sent.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use ekiden_config::doors::Generation;
use ekiden_config::model::Address;
use ekiden_config::names::ListenerName;
use ekiden_config::{Format, HostOwners, Input, Source, build};
use ekiden_core::claims::Shown;
use ekiden_core::cluster::{Attempt, Pick};
use ekiden_core::host;
use ekiden_core::path;
use ekiden_core::split;
use ekiden_core::table::{Compiler, Facts, Fields, Match, Table};
use http::{HeaderMap, Version, header};
use pingora_http::RequestHeader;

/// Name of the only listener.
const LISTENER: &str = "edge";

/// Why a request has no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its host, its path or the way they may be read is not acceptable.
    Malformed,
    /// No route takes it.
    NoRoute,
    /// Routes would take it but for its method.
    Method,
    /// Its route leads to no cluster, or to one without an endpoint that may be picked.
    NoEndpoint,
}

impl Refused {
    /// The status to answer with.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::NoRoute => 404,
            Self::Method => 405,
            Self::NoEndpoint => 503,
        }
    }
}

/// One table and the listener that is served with it.
pub(crate) struct Router {
    table: Arc<Table>,
    listener: u32,
    merge_slashes: bool,
}

impl Router {
    /// Compiles the table of one listener, one route and one cluster of one endpoint.
    pub(crate) fn new(listen: SocketAddr, to: SocketAddr) -> Result<Self, Box<dyn Error>> {
        Self::from_text(format!(
            "[listener.{LISTENER}]\naddress = \"{listen}\"\n\n\
             [cluster.web]\nendpoints = [\"{to}\"]\n\n[[route]]\ncluster = \"web\"\n"
        ))
    }

    fn from_text(text: String) -> Result<Self, Box<dyn Error>> {
        let source = Source { file: "pingora-front.toml".to_owned(), text, format: Format::Toml };
        let input = Input { main: &source, apps: &[], previous: None, hosts: &HostOwners::default() };
        let built = build(input)
            .map_err(|findings| findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        let compiled = Compiler::new(1).compile(&built.model, Generation(1));
        if let Some(refusal) = compiled.refused.first() {
            return Err(format!("{}: {}", refusal.part, refusal.reason).into());
        }
        let table = compiled.table;
        let name = ListenerName::new(LISTENER).map_err(|error| format!("the listener's name {error}"))?;
        let listener = table.listener(&name).ok_or("the table has no such listener")?;
        let settings = table.listeners.get(listener as usize).ok_or("the table has no such listener")?;
        let merge_slashes = settings.listener.merge_slashes;
        Ok(Self { table, listener, merge_slashes })
    }

    /// Where a request goes. Called once per attempt; allocates only when host or path are not in normal form.
    pub(crate) fn endpoint(&self, head: &RequestHeader) -> Result<&Address, Refused> {
        let (mut host_scratch, mut path_scratch, mut loose_scratch) = Default::default();
        let path = match head.uri.path() {
            "*" => "*",
            raw => {
                path::normalize(raw, self.merge_slashes, &mut path_scratch).map_err(|_| Refused::Malformed)?
            }
        };
        let facts = Facts {
            host: host_of(head, &mut host_scratch)?,
            path,
            loose: path::loose(path, &mut loose_scratch),
            query: head.uri.query().unwrap_or(""),
            method: head.method.as_str(),
            fields: &HeadFields(&head.headers),
            client_cert: None,
            claims: Shown::Nothing,
        };
        let entry = match self.table.find(self.listener, &facts) {
            Match::Route(entry) => entry,
            Match::NotFound => return Err(Refused::NoRoute),
            Match::MethodNotAllowed(_) => return Err(Refused::Method),
            Match::Ambiguous => return Err(Refused::Malformed),
        };
        // The one route has one cluster, so that no key needs to be hashed.
        let slot = split::side(entry, 0).ok_or(Refused::NoEndpoint)?;
        let cluster = self.table.cluster(entry.app, slot).ok_or(Refused::NoEndpoint)?;
        match cluster.pick(Attempt::after(&[]), &mut || fastrand::u64(..)) {
            Pick::Endpoint(at) => cluster.endpoints.get(at as usize),
            Pick::NoneReady | Pick::NoEndpoints | Pick::Exhausted => None,
        }
        .map(|entry| &entry.endpoint.address)
        .ok_or(Refused::NoEndpoint)
    }
}

/// The host that is asked for: of an absolute-form target, else of `Host`, which HTTP/1.0 may leave out.
fn host_of<'a>(head: &'a RequestHeader, scratch: &'a mut String) -> Result<&'a str, Refused> {
    let field = match head.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => head.headers.get(header::HOST).map(|value| value.as_bytes()),
    };
    match field {
        Some(field) => Ok(host::host_of(field, scratch).map_err(|_| Refused::Malformed)?.host),
        None if head.version < Version::HTTP_11 => Ok(""),
        None => Err(Refused::Malformed),
    }
}

/// Header fields as matching sees them.
struct HeadFields<'a>(&'a HeaderMap);

impl Fields for HeadFields<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        for value in self.0.get_all(name) {
            if !visit(value.as_bytes()) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: &str = "127.0.0.1:9";

    fn head(method: &str, target: &str, host: Option<&str>) -> RequestHeader {
        let mut head = RequestHeader::build(method, target.as_bytes(), None).expect("a head");
        if let Some(host) = host {
            head.insert_header(header::HOST, host).expect("a host");
        }
        head
    }

    #[test]
    fn one_route_takes_every_sound_request() {
        let to: SocketAddr = TO.parse().expect("an address");
        let router = Router::new("127.0.0.1:8".parse().expect("an address"), to).expect("a router");
        let target = Address::Tcp(to);
        let table: &[(&str, Option<&str>, Result<&Address, Refused>)] = &[
            ("/", Some("a.example"), Ok(&target)),
            ("/x/../y%2Fz?q", Some("A.Example:80"), Ok(&target)),
            ("/", Some("a b"), Err(Refused::Malformed)),
            ("/", None, Err(Refused::Malformed)),
            ("/../x", Some("a"), Err(Refused::Malformed)),
        ];
        for (path, host, want) in table {
            assert_eq!(router.endpoint(&head("GET", path, *host)), *want, "{host:?} {path}");
        }
    }

    #[test]
    fn the_table_decides() {
        let text = format!(
            "[listener.{LISTENER}]\naddress = \"127.0.0.1:8\"\n\n[cluster.web]\nendpoints = [\"{TO}\"]\n\n\
             [cluster.none]\nendpoints = []\n\n\
             [[route]]\npath = \"/web\"\nmethods = [\"GET\"]\ncluster = \"web\"\n\n\
             [[route]]\npath = \"/none\"\ncluster = \"none\"\n"
        );
        let router = Router::from_text(text).unwrap_or_else(|error| panic!("{error}"));
        let target = Address::Tcp(TO.parse().expect("an address"));
        let table: &[(&str, &str, Result<&Address, Refused>)] = &[
            ("GET", "/web", Ok(&target)),
            ("POST", "/web", Err(Refused::Method)),
            ("GET", "/none", Err(Refused::NoEndpoint)),
            ("GET", "/elsewhere", Err(Refused::NoRoute)),
        ];
        for (method, path, want) in table {
            assert_eq!(router.endpoint(&head(method, path, Some("a"))), *want, "{method} {path}");
        }
    }
}
