//! What the authorizer of a run is asked and says, and what may therefore reach an endpoint: no request that it has not let in, and
//! no word of its own that it has not said.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::message::{self, Message};

/// Routes whose requests are let in by the authorizer alone.
const GUARDED: &[&str] = &["guarded", "shown", CALLED];
/// The one of them whose authorizer is asked by a call of gRPC.
const CALLED: &str = "called";
/// The route that goes on without an answer.
const LENIENT: &str = "lenient";
/// Most of a body that a question shows.
pub(super) const SHOWN_MOST: usize = 8 << 10;
/// Where it is asked.
pub(super) const PATH: &str = "/may";

/// Where it is called.
const CALL: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Requests that were let in, by their tags.
#[derive(Debug, Default)]
pub(super) struct Verdicts(RefCell<BTreeSet<String>>);

/// The route and the tag of a path.
fn parts(path: &str) -> (&str, &str) {
    let mut parts = path.split('/').skip(1);
    (parts.next().unwrap_or(""), parts.next().unwrap_or(""))
}

impl Verdicts {
    /// The authorizer lets a request in.
    pub(super) fn allow(&self, tag: &str) {
        self.0.borrow_mut().insert(tag.to_owned());
    }

    /// Whom a question is about, if it is one that the router may ask.
    pub(super) fn question(request: &Message) -> Result<String, String> {
        let wrong = |what: &str| Err(format!("at the authorizer: {what}: {:?}", request.head));
        let (route, tag) = parts(request.field("X-Forwarded-Uri").unwrap_or(""));
        if request.path() != PATH || request.field("Host") != Some("sim.test") {
            return wrong("no question");
        }
        if !(GUARDED.contains(&route) || route == LENIENT) || route == CALLED || !tag.starts_with('c') {
            return wrong("nobody sent what it asks about");
        }
        if request.field("X-May").is_some() {
            return wrong("a field of the client that only the authorizer may set");
        }
        let shows = request.head.starts_with("POST ");
        if shows != request.field("X-Envoy-Auth-Partial-Body").is_some() || (shows && route != "shown") {
            return wrong("a body where none is shown");
        }
        if request.body.len() > SHOWN_MOST || request.body != message::body(tag, request.body.len()) {
            return wrong("the body is of another");
        }
        Ok(tag.to_owned())
    }

    /// Whom a call is about, if it is one that the router may make. Its message is not decoded: it holds the path as it is.
    pub(super) fn call(request: &Message) -> Result<String, String> {
        let wrong = |what: &str| Err(format!("at the authorizer of gRPC: {what}: {:?}", request.head));
        if request.path() != CALL || request.field("content-type") != Some("application/grpc") {
            return wrong("no call");
        }
        let text = String::from_utf8_lossy(&request.body);
        if text.contains("forged") {
            return wrong("a field of the client that only the authorizer may set");
        }
        let tag = text.split_once(&format!("/{CALLED}/")).map_or("", |(_, rest)| rest);
        let tag: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect();
        if !tag.starts_with('c') { wrong("nobody sent what it asks about") } else { Ok(tag) }
    }

    /// Judges what reached an endpoint.
    pub(super) fn judge(&self, request: &Message) -> Result<(), String> {
        let (route, tag) = parts(request.path());
        let guarded = GUARDED.contains(&route);
        if !guarded && route != LENIENT {
            return Ok(());
        }
        let allowed = self.0.borrow().contains(tag);
        if guarded && !allowed {
            return Err(format!("at the endpoint: {tag} was not let in"));
        }
        match request.field("X-May") {
            Some(said) if allowed && said == tag => Ok(()),
            None if !guarded => Ok(()),
            other => {
                Err(format!("at the endpoint: {tag} comes with what the authorizer did not say: {other:?}"))
            }
        }
    }
}
