//! CORS on its way: finds the route of a preflight, answers it, and gives every response of the route the fields that pages of
//! other origins need. What the fields say is core's (`core::policy::cors`).
//!
//! A preflight asks about another request, so it is judged as that one: by the route that would serve the method it asks for,
//! and by what that route lets in. Credentials are not asked for, since browsers send none with it.

use std::sync::Arc;

use ekiden_core::claims::Shown;
use ekiden_core::outcome::Cause;
use ekiden_core::policy::cors::{Asked, CorsSteps};
use ekiden_core::policy::entrance::{Ruling, Step};
use ekiden_core::table::{Facts, Match, RouteEntry, Table};

use crate::exchange::answer::Answer;
use crate::exchange::downstream::Downstream;
use crate::exchange::run::{end_answered, may_keep, send_answer};
use crate::exchange::{After, Workspace};
use crate::head::Head;
use crate::worker::connection::Connection;

const ORIGIN: &[u8] = b"origin";
const METHOD: &[u8] = b"access-control-request-method";
const HEADERS: &[u8] = b"access-control-request-headers";

/// The origin of a request, kept while its route has CORS: the route may edit the field away.
#[derive(Debug, Default)]
pub struct CorsNote {
    state: State,
    origin: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The route has no CORS.
    #[default]
    Off,
    /// Nobody of another origin may read the response.
    Closed,
    /// Pages of the origin may.
    Open,
    /// The same, of the answer to a preflight.
    Preflight,
}

impl CorsNote {
    /// Forgets. Called before a request.
    pub fn clear(&mut self) {
        self.state = State::Off;
    }

    /// Whether the route has CORS.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.state != State::Off
    }

    /// Notes who asks, and whether its pages may read the response.
    pub fn take(&mut self, steps: &CorsSteps, head: &Head) {
        self.state = State::Closed;
        self.origin.clear();
        if !steps.varies() {
            // Said to everyone: a cache must not give a page what was kept for no page (Fetch, "CORS protocol and HTTP caches").
            self.state = State::Open;
        } else if let Some(origin) = only(head, ORIGIN)
            && steps.allows(origin)
        {
            self.origin.push_str(origin);
            self.state = State::Open;
        }
    }

    /// Gives `field` the fields of a response of the router's own.
    pub fn put(&self, entry: Option<&RouteEntry>, mut field: impl FnMut(&[u8], &[u8])) {
        let Some(steps) = steps_of(entry).filter(|_| self.is_on()) else { return };
        if steps.varies() {
            field(b"Vary", b"Origin");
        }
        if matches!(self.state, State::Open | State::Preflight) {
            steps.each_field(&self.origin, &mut |name, value| field(name.as_bytes(), value.as_bytes()));
            if let Some(names) = steps.expose().filter(|_| self.state == State::Open) {
                field(b"Access-Control-Expose-Headers", names.as_bytes());
            }
        }
    }

    /// Puts the fields in place of those that the endpoint sent.
    pub fn replace_in(&self, entry: Option<&RouteEntry>, head: &mut Head) {
        head.retain(|_, name| !is_cors(name));
        let told = head
            .get_all(b"vary")
            .flat_map(crate::head::tokens)
            .any(|token| token == b"*" || token.eq_ignore_ascii_case(ORIGIN));
        self.put(entry, |name, value| {
            if !(told && name == b"Vary") {
                head.append(name, value);
            }
        });
    }
}

fn steps_of(entry: Option<&RouteEntry>) -> Option<&CorsSteps> {
    entry?.entrance.as_ref()?.cors.as_ref()
}

/// Whether a response field says who may read.
pub fn is_cors(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"access-control-";
    name.get(..PREFIX.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX))
}

/// The one value of a field; none when it is not there, or more than once.
fn only<'h>(head: &'h Head, name: &'h [u8]) -> Option<&'h str> {
    let mut values = head.get_all(name);
    let value = std::str::from_utf8(values.next()?).ok()?;
    values.next().is_none().then_some(value)
}

/// The route that a preflight asks about, where that route has CORS, and the method that it asks for. Anything else is a request
/// like others.
#[cold]
pub fn preflight<'t>(
    table: &'t Table,
    index: u32,
    facts: &Facts<'_>,
    head: &Head,
) -> Option<(&'t Arc<RouteEntry>, String)> {
    only(head, ORIGIN)?;
    let method = only(head, METHOD).filter(|method| http::Method::from_bytes(method.as_bytes()).is_ok())?;
    let open = |claims| match table.find(index, &Facts { method, claims, ..*facts }) {
        Match::Route(entry) if steps_of(Some(entry)).is_some() => Some((entry, method.to_owned())),
        Match::Route(_) | Match::NotFound | Match::MethodNotAllowed(_) | Match::Ambiguous => None,
    };
    // Browsers send no token with it. Where only who has one is kept from other origins, all others are not.
    open(Shown::Any).or_else(|| if table.asks_claims() { open(Shown::Nothing) } else { None })
}

/// Answers a preflight that the route lets in.
///
/// # Errors
/// [`Cause::CorsDenied`]: nothing has been written.
pub async fn answer<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
) -> Result<After, Cause> {
    let worker = std::rc::Rc::clone(&connection.worker);
    let Some(entry) = ws.route.clone() else { return Err(Cause::CorsDenied) };
    let Some(steps) = steps_of(Some(&entry)).filter(|_| ws.cors.state == State::Open) else {
        worker.shard.rulings.count(Step::Preflight, Ruling::Refused);
        return Err(Cause::CorsDenied);
    };
    worker.shard.rulings.count(Step::Preflight, Ruling::Allowed);
    ws.cors.state = State::Preflight;
    let keep = may_keep(&worker, ws);
    let mut fields: Vec<(&'static str, String)> = Vec::new();
    let asked = Asked {
        method: only(&ws.request.head, METHOD).unwrap_or(""),
        headers: only(&ws.request.head, HEADERS),
    };
    steps.each_preflight_field(asked, &mut |name, value| fields.push((name, value.to_owned())));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let found = Answer { status: 204, fields: &fields, content_type: "", body: "" };
    let cause = send_answer(connection, ws, &found, keep).await;
    Ok(end_answered(&worker, ws, cause, keep))
}
