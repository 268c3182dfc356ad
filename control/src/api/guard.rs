//! Who may ask: requests made by this machine's own tools, and nothing that a browser or a proxy carried here.
//!
//! A Host that is not ours is DNS rebinding; an `Origin` is a web page; a forwarding field is a proxy that would
//! make strangers look local. All are refused before anything else is looked at.

use std::net::IpAddr;

use ekiden_config::model::Address;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use hyper::http::uri::Authority;
use hyper::{Request, header};

use super::ApiSettings;
use super::who::{Role, Tokens, Who};
use crate::problem::Problem;

/// How far the socket reaches that a request came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// A unix socket: its mode says who may ask.
    Socket,
    /// TCP on a loopback address: this machine.
    Machine,
    /// TCP on any other address. Who asks there says what he likes in `Host`.
    Network,
}

impl Reach {
    /// That of a bound address.
    pub(super) fn of(address: &Address) -> Self {
        match address {
            Address::Unix(_) => Reach::Socket,
            Address::Tcp(tcp) if tcp.ip().to_canonical().is_loopback() => Reach::Machine,
            Address::Tcp(_) => Reach::Network,
        }
    }
}

/// Fields that only a browser or a proxy adds.
const CARRIED: [&str; 4] = ["origin", "x-forwarded-for", "forwarded", "via"];

/// Lets a request through, as whom, or says why not.
pub(super) fn check<B>(settings: &ApiSettings, reach: Reach, request: &Request<B>) -> Result<Who, Problem> {
    check_host(settings, request)?;
    if let Some(field) = CARRIED.iter().find(|field| request.headers().contains_key(**field)) {
        let detail =
            format!("a request with the field {field:?} came through a browser or a proxy; ask directly");
        return Err(Problem::new(403, "carried_request", detail));
    }
    match &settings.tokens {
        Tokens::None if reach == Reach::Network => {
            let detail = "on an address that other machines may reach the API needs control.token_file; \
                          or serve it on a loopback address or a unix socket";
            Err(Problem::new(403, "token_required", detail))
        }
        Tokens::None if reach == Reach::Machine && settings.beside_app => {
            let detail = "with an inbound or outbound listener the API needs control.token_file on TCP; \
                          or serve it on a unix socket";
            Err(Problem::new(403, "token_required", detail))
        }
        Tokens::None => Ok(Who { name: "local".to_owned(), role: Role::Admin }),
        Tokens::Unusable => {
            Err(Problem::new(503, "token_unusable", "control.token_file holds no usable token; see the log"))
        }
        Tokens::Set(_) => check_token(request.headers(), &settings.tokens),
    }
}

fn check_host<B>(settings: &ApiSettings, request: &Request<B>) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Problem::new(403, "bad_host", detail));
    let mut fields = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (fields.next(), fields.next()) else {
        return refused("the request needs exactly one Host field");
    };
    let named = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    let allowed = |authority: &Authority| is_allowed(settings, authority);
    if !named.as_ref().is_some_and(allowed) || !request.uri().authority().is_none_or(allowed) {
        return refused("Host must be localhost, a loopback address or a name in control.hosts");
    }
    Ok(())
}

fn is_allowed(settings: &ApiSettings, authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host().to_ascii_lowercase();
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let host = host.strip_suffix('.').unwrap_or(&host);
    host == "localhost"
        || literal.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
        || settings
            .hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(host) || **known == *authority.as_str())
}

/// `Authorization: Bearer TOKEN`, compared in constant time.
fn check_token(fields: &HeaderMap, tokens: &Tokens) -> Result<Who, Problem> {
    let given = fields.get(AUTHORIZATION).map(header::HeaderValue::as_bytes).and_then(|value| {
        let (scheme, rest) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
    });
    match given.map(|given| tokens.holder(given)) {
        Some(Some(who)) => Ok(who.clone()),
        Some(None) => {
            Err(Problem::new(401, "wrong_token", "the bearer token is not one of control.token_file"))
        }
        None => {
            Err(Problem::new(401, "missing_token", "send a token of control.token_file as a bearer token"))
        }
    }
}
