//! Explains a request that nobody has sent: takes its text through the same judge, the same table and the same picks as one that
//! comes in, and tells what each says. Sends nothing and counts nothing. Never on a worker.
//!
//! Of credentials, a token is looked at where routes have conditions on its claims. Else credentials, certificates of clients, limits and overload are not judged: what they say hangs on files, on time and on what others send. The API shows
//! their words.

use std::net::IpAddr;
use std::sync::Arc;

use ekiden_config::doors::{
    Destination, Explanation, Finding, LooseReading, Question, RuleStory, Unexplained,
};
use ekiden_config::model::{Action, Address, Forward, Listener, ListenerProtocol, Role, SplitKey};
use ekiden_config::names::{AppName, RouteName};
use ekiden_core::claims::Shown;
use ekiden_core::cluster::ClusterTable;
use ekiden_core::cluster::explain::Keyed;
use ekiden_core::outcome::{Cause, Phase};
use ekiden_core::path;
use ekiden_core::policy::admission::{AdmissionSteps, Applicant};
use ekiden_core::policy::limit::Asked;
use ekiden_core::shard::request::{self, Found};
use ekiden_core::split::{self, Side};
use ekiden_core::stats::Counter;
use ekiden_core::table::{Facts, ListenerTable, Match, RouteEntry, Table, Target};

use crate::entrance::keyring::Keyring;
use crate::entrance::shown::ShownToken;
use crate::exchange::request_out::client_address;
use crate::exchange::run::{Decision, body_limit, head_rules};
use crate::exchange::{affinity, cors, secure};
use crate::head::{FieldId, Head};
use crate::wire::body::Framing;
use crate::wire::request::{RequestHead, TargetForm};
use crate::wire::scan::{Found as HeadEnd, Scan};

/// Longest question, in bytes: no listener takes a longer head by default.
const QUESTION_MAX: usize = 64 << 10;

/// What the question's request is, once it has been read.
struct Read<'t> {
    table: &'t Table,
    keyring: &'t Keyring,
    settings: &'t ListenerTable,
    request: RequestHead,
    client: Option<IpAddr>,
    head_bytes: u64,
}

/// What became of it.
struct Way {
    path: String,
    loose: Option<LooseReading>,
    verdict: Finding,
    rules: (Vec<RuleStory>, usize),
    destination: Option<Destination>,
}

/// Answers a question from a table.
///
/// # Errors
/// It is no request, or no listener would take it.
pub(crate) fn explain(
    table: &Table,
    keyring: &Keyring,
    question: &Question,
) -> Result<Explanation, Unexplained> {
    let url = Url::read(&question.url)?;
    let (settings, listener_reason) = choose_listener(table, question, &url)?;
    let text = head_text(question, &url)?;
    let mut request = RequestHead::default();
    let judged = judge(&mut request, text.as_bytes(), &settings.listener);
    let client = client_address(&settings.listener, &request.head, question.client);
    let read = Read { table, keyring, settings, request, client, head_bytes: text.len() as u64 };
    let way = match judged {
        Ok(()) => read.way(),
        Err(cause) => Way::refused(String::new(), cause, Phase::Head),
    };
    Ok(Explanation {
        generation: table.generation,
        listener: settings.listener.name.clone(),
        listener_reason,
        method: question.method.clone(),
        host: read.request.host.clone(),
        client,
        path: way.path,
        loose: way.loose,
        verdict: way.verdict,
        rules: way.rules.0,
        rules_omitted: way.rules.1,
        destination: way.destination,
    })
}

/// The head as it would stand on the wire.
fn head_text(question: &Question, url: &Url<'_>) -> Result<String, Unexplained> {
    let plain = |text: &str| !text.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    let Question { method, headers, .. } = question;
    let all_plain = headers.iter().all(|(name, value)| plain(name) && plain(value));
    if !plain(method) || method.contains(' ') || !all_plain {
        return Err(bad("a method or a field holds a line end or a zero octet".to_owned()));
    }
    let named = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    // A path alone is asked for as by clients that know no hosts.
    let version = if named || !url.authority.is_empty() { "1.1" } else { "1.0" };
    // What a tunnel is asked to is a host and a port.
    let target = if method == "CONNECT" { url.authority } else { &url.target };
    let mut text = format!("{method} {target} HTTP/{version}\r\n");
    if !named && !url.authority.is_empty() {
        text.push_str(&format!("Host: {}\r\n", url.authority));
    }
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text.push_str("\r\n");
    if text.len() > QUESTION_MAX {
        return Err(bad(format!("the request is {} bytes; at most {QUESTION_MAX} are read", text.len())));
    }
    Ok(text)
}

fn judge(request: &mut RequestHead, head: &[u8], listener: &Listener) -> Result<(), Cause> {
    let (bounds, rules) = head_rules(listener);
    match Scan::default().look(head, &bounds)? {
        HeadEnd::Head(end) => request.parse(head.get(..end).unwrap_or(head), rules),
        HeadEnd::More => Err(Cause::RequestLineMalformed),
    }
}

fn bad(why: String) -> Unexplained {
    Unexplained::BadQuestion(why)
}

/// A URL, in its parts.
struct Url<'q> {
    secure: Option<bool>,
    authority: &'q str,
    port: Option<u16>,
    target: String,
}

impl<'q> Url<'q> {
    fn read(text: &'q str) -> Result<Self, Unexplained> {
        let text = text.split('#').next().unwrap_or(text);
        if !text.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
            return Err(bad(
                "the URL holds a space, a control byte or a byte outside ASCII: percent-encode it".to_owned(),
            ));
        }
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let (secure, rest) = if lower.starts_with("http://") {
            (Some(false), text.get(7..))
        } else if lower.starts_with("https://") {
            (Some(true), text.get(8..))
        } else if text.starts_with('/') || text == "*" {
            return Ok(Self { secure: None, authority: "", port: None, target: text.to_owned() });
        } else {
            return Err(bad(format!(
                "{text:?} is no URL: write http://HOST/PATH, https://HOST/PATH or /PATH"
            )));
        };
        let rest = rest.unwrap_or("");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains('@') {
            return Err(bad(format!("{text:?} has no host, or a user in front of it")));
        }
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { secure, authority, port, target: format!("{slash}{target}") })
    }
}

/// The listener that would take the request, and why that one.
fn choose_listener<'t>(
    table: &'t Table,
    question: &Question,
    url: &Url<'_>,
) -> Result<(&'t ListenerTable, String), Unexplained> {
    let all = || table.listeners.iter().filter(|one| one.listener.protocol == ListenerProtocol::Http);
    let names = || all().map(|one| one.listener.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = &question.listener {
        let found = all().find(|one| one.listener.name == *name);
        let none =
            || Unexplained::NoListener(format!("there is no HTTP listener {name}; there are: {}", names()));
        return Ok((found.ok_or_else(none)?, "as asked".to_owned()));
    }
    let port_of = |one: &ListenerTable| match &one.listener.address {
        Address::Tcp(address) => Some(address.port()),
        Address::Unix(_) => None,
    };
    if let Some(port) = url.port
        && let Some(found) = all().find(|one| port_of(one) == Some(port))
    {
        return Ok((found, format!("the URL's port is {port}")));
    }
    let edge = |one: &&Arc<ListenerTable>| one.listener.role == Role::Edge;
    let fits =
        |one: &&Arc<ListenerTable>| url.secure.is_none_or(|secure| one.listener.tls.is_some() == secure);
    if let Some(found) = all().filter(edge).find(fits) {
        let what = match url.secure {
            Some(true) => "the first of role edge with TLS",
            Some(false) => "the first of role edge without TLS",
            None => "the first of role edge",
        };
        return Ok((found, what.to_owned()));
    }
    match all().find(edge).or_else(|| all().next()) {
        Some(found) => Ok((found, "no other is nearer to the URL".to_owned())),
        None => Err(Unexplained::NoListener("there is no HTTP listener".to_owned())),
    }
}

impl Way {
    fn refused(path: String, cause: Cause, phase: Phase) -> Self {
        Self {
            path,
            loose: None,
            verdict: refused(cause, phase, None),
            rules: (Vec::new(), 0),
            destination: None,
        }
    }
}

fn names(entry: &RouteEntry) -> (AppName, RouteName) {
    (entry.app_name.clone(), entry.route.name.clone())
}

fn refused(cause: Cause, phase: Phase, entry: Option<&RouteEntry>) -> Finding {
    let outcome = cause.at(phase);
    Finding::Refused {
        route: entry.map(names),
        code: outcome.code(),
        status: outcome.status(),
        words: outcome.words(),
    }
}

impl Read<'_> {
    /// The way of the request, in the order of `exchange::run`.
    fn way(&self) -> Way {
        let listener = &self.settings.listener;
        // A listener takes no fields away.
        if let Some(steps) = &self.settings.admission
            && let Err(cause) = self.admit(steps, None, &self.request.head)
        {
            return Way::refused(String::new(), cause, Phase::Match);
        }
        if let Some(port) = listener.redirect_https {
            match secure::decide(&self.request, port) {
                Some(Decision::Refuse(cause, _)) => return Way::refused(String::new(), cause, Phase::Match),
                Some(_) => {
                    let way = Way::refused(String::new(), Cause::Complete, Phase::Match);
                    return Way { verdict: Finding::Https(port), ..way };
                }
                None => {}
            }
        }
        let mut scratch = String::new();
        let raw = if self.request.form == TargetForm::Asterisk { "/" } else { self.request.raw_path() };
        let Ok(normal) = path::normalize(raw, listener.merge_slashes, &mut scratch) else {
            return Way::refused(String::new(), Cause::PathIllegal, Phase::Match);
        };
        let mut loose = String::new();
        // Keys that are not known are not asked for, nothing is paid and nothing counted.
        let nobody = Counter::new();
        let token = ShownToken::new(self.keyring, &self.request.head, (), &nobody);
        let facts = Facts {
            host: &self.request.host,
            path: normal,
            loose: path::loose(normal, &mut loose),
            query: self.request.query().unwrap_or(""),
            method: self.request.method(),
            fields: &self.request.head,
            // A question shows no certificate.
            client_cert: None,
            claims: Shown::Token(&token),
        };
        self.matched(&facts)
    }

    fn matched(&self, facts: &Facts<'_>) -> Way {
        let Some(index) = self.table.listener(&self.settings.listener.name) else {
            return Way::refused(facts.path.to_owned(), Cause::NoRoute, Phase::Match);
        };
        let preflight = if facts.method == "OPTIONS" {
            cors::preflight(self.table, index, facts, &self.request.head)
        } else {
            None
        };
        let (facts, is_preflight) = match &preflight {
            // It is judged as the request that it asks about.
            Some((_, method)) => (&Facts { method, claims: Shown::Any, ..*facts }, true),
            None => (facts, false),
        };
        let (verdict, entry) = match self.table.find(index, facts) {
            Match::Route(entry) => match self.let_in(entry, facts.method) {
                Ok(_) if is_preflight => {
                    let (app, route) = names(entry);
                    (Finding::Preflight(app, route), None)
                }
                Ok(left) => {
                    let (app, route) = names(entry);
                    (Finding::Route(app, route), Some((entry, left)))
                }
                Err(cause) => (refused(cause, Phase::Match, Some(entry)), None),
            },
            // No route allows it.
            Match::NotFound | Match::MethodNotAllowed(_) if self.request.is_connect => {
                (refused(Cause::MethodRefused, Phase::Match, None), None)
            }
            Match::NotFound => (refused(Cause::NoRoute, Phase::Match, None), None),
            Match::MethodNotAllowed(_) => (refused(Cause::MethodNotAllowed, Phase::Match, None), None),
            Match::Ambiguous => (refused(Cause::PathAmbiguous, Phase::Match, None), None),
        };
        Way {
            path: facts.path.to_owned(),
            loose: self.table.loose_reading(index, facts),
            verdict,
            rules: self.table.stories(index, facts),
            destination: entry.and_then(|(entry, left)| {
                let head = left.as_ref().unwrap_or(&self.request.head);
                self.destination(entry, facts, head)
            }),
        }
    }

    /// What a route lets in, as far as the head alone says; the head that is left, where the route takes fields away.
    fn let_in(&self, entry: &RouteEntry, method: &str) -> Result<Option<Head>, Cause> {
        let mut left = None;
        // What only its own steps may set is taken away first, as on the way of a request.
        if let Some(steps) = entry.entrance.as_ref().filter(|steps| steps.sets_any()) {
            left = without(&self.request.head, |_, name| steps.sets(name));
        }
        if let Some(steps) = &entry.admission {
            let next = self.admit(steps, Some(method), left.as_ref().unwrap_or(&self.request.head))?;
            left = next.or(left);
        }
        let has_port = || self.request.port.is_some_and(|port| entry.route.connect.contains(&port));
        if self.request.is_connect && !(has_port() && matches!(entry.target, Target::Clusters(_))) {
            return Err(Cause::MethodRefused);
        }
        match (self.request.framing, body_limit(&self.settings.listener, entry)) {
            (Framing::Length(length), Some(limit)) if length > limit => Err(Cause::BodyTooLarge),
            _ => Ok(left),
        }
    }

    /// The head that is left, where the steps take fields away.
    fn admit(
        &self,
        steps: &AdmissionSteps,
        method: Option<&str>,
        head: &Head,
    ) -> Result<Option<Head>, Cause> {
        let request = &self.request;
        steps.judge(&Applicant {
            client: self.client,
            host: &request.host,
            method: method.unwrap_or_else(|| request.method()),
            has_body: request.framing != Framing::None,
            head_bytes: self.head_bytes,
            field_count: request.field_count,
            fields: head,
        })?;
        let Some(filter) = steps.fields() else { return Ok(None) };
        let left = without(head, |id, name| !(id.is_kept_by_policy() || filter.takes(name)));
        if left.is_some() && filter.refuses() { Err(Cause::FieldDenied) } else { Ok(left) }
    }

    /// The endpoint that the client's mark names.
    fn marked(&self, cluster: &ClusterTable, head: &Head) -> Option<u32> {
        let policy = cluster.cluster.policy.affinity.as_ref()?;
        let keys = self.keyring.affinity_keys(policy.key.as_ref(), &cluster.app)?;
        let place = (&cluster.app, &cluster.cluster.name);
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
        let found = affinity::read_head(head, &policy.carrier, |text| keys.open(place, text, now_s));
        cluster.marks()?.find(found.mark?.mark.endpoint)
    }

    fn destination(&self, entry: &RouteEntry, facts: &Facts<'_>, head: &Head) -> Option<Destination> {
        let (Target::Clusters(sides), Action::Forward(forward)) = (&entry.target, &entry.route.action) else {
            return None;
        };
        let (slot, split) = match sides.as_slice() {
            [only] => (Some(only.slot), None),
            _ => {
                let hash = split::key_hash(forward, head, self.client);
                (split::side(entry, hash), Some(split_words(sides, forward)))
            }
        };
        let cluster = self.table.cluster(entry.app, slot?)?;
        let mut text = Vec::new();
        let keyed = match cluster.shards() {
            None => self.marked(cluster, head).map_or(Keyed::No, Keyed::Marked),
            Some(shards) => {
                let asked = Asked {
                    client: self.client,
                    host: facts.host,
                    method: facts.method,
                    path: facts.path,
                    query: facts.query,
                    fields: head,
                    api_key: None,
                    client_cert: None,
                };
                match request::read(&shards.words, &asked, &mut text) {
                    Found::Key => Keyed::Key(&text),
                    Found::Balance => Keyed::No,
                    Found::Refuse => Keyed::Refused,
                }
            }
        };
        Some(Destination { split, ..cluster.explain(keyed) })
    }
}

/// A head without the fields that are taken away; none when there are no such fields.
fn without(head: &Head, takes_away: impl Fn(FieldId, &[u8]) -> bool) -> Option<Head> {
    if !head.iter().any(|(id, name, _)| takes_away(id, name)) {
        return None;
    }
    let mut left = Head::default();
    for (_, name, value) in head.iter().filter(|(id, name, _)| !takes_away(*id, name)) {
        left.append(name, value);
    }
    Some(left)
}

fn split_words(sides: &[Side], forward: &Forward) -> String {
    let by = match &forward.split {
        SplitKey::Client => "the client's address".to_owned(),
        SplitKey::Header(name) => format!("the header {name}, else the client's address"),
        SplitKey::Cookie(name) => format!("the cookie {name}, else the client's address"),
    };
    let all: Vec<String> = sides.iter().map(|side| format!("{} {}", side.cluster, side.weight)).collect();
    format!("by {by}, among {}", all.join(", "))
}
