//! A request as an operation sees it: who asks, the names in its path, its query, its conditions and its body.

use std::collections::BTreeMap;

use ekiden_config::names::{AppName, ClusterName, EndpointId, NameError, RouteName};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, IF_MATCH, IF_NONE_MATCH};
use serde_json::Value;

use super::operations::{Captures, Operation};
use super::who::Who;
use crate::overlay::{ClusterKey, Key};
use crate::plane::IfMatch;
use crate::problem::Problem;

/// Most objects of one page.
pub(super) const PAGE_MAX: usize = 1000;

/// A request, read whole.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) who: Who,
    names: BTreeMap<&'static str, String>,
    query: BTreeMap<&'static str, String>,
    /// Values of parameters that may be repeated, in their order.
    lists: BTreeMap<&'static str, Vec<String>>,
    pub(super) conditions: Conditions,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// `If-Match` and `If-None-Match`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) matches: Option<IfMatch>,
    /// `If-None-Match: *`: only if there is nothing.
    pub(super) absent: bool,
}

impl Conditions {
    fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let bad = |detail: &str| Problem::new(400, "bad_condition", detail);
        let mut tags = Vec::new();
        for value in headers.get_all(IF_MATCH) {
            let value = value.to_str().map_err(|_| bad("If-Match is not a list of entity tags"))?;
            tags.extend(value.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned));
        }
        let quoted = |tag: &String| tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"');
        let matches = match tags.as_slice() {
            [] if headers.contains_key(IF_MATCH) => return Err(bad("If-Match is empty")),
            [] => None,
            [star] if star == "*" => Some(IfMatch::Any),
            all if all.iter().all(quoted) => Some(IfMatch::Tags(tags)),
            _ => return Err(bad("If-Match takes `*` or entity tags in quotes, as ETag gives them")),
        };
        let none = headers.get(IF_NONE_MATCH).map(|value| value.to_str().unwrap_or_default().trim());
        Ok(Self { matches, absent: none == Some("*") })
    }

    /// Judges what is there: its tag, if it is there.
    pub(super) fn check(&self, tag: Option<&str>) -> Result<(), Problem> {
        let holds = match (&self.matches, tag) {
            (None, _) => true,
            (Some(IfMatch::Any), tag) => tag.is_some(),
            (Some(IfMatch::Tags(wanted)), Some(tag)) => wanted.iter().any(|wanted| wanted == tag),
            (Some(IfMatch::Tags(_)), None) => false,
        };
        if holds && !(self.absent && tag.is_some()) {
            return Ok(());
        }
        Err(changed_meanwhile(tag))
    }
}

/// The condition of a request does not hold.
pub(crate) fn changed_meanwhile(tag: Option<&str>) -> Problem {
    let detail = match tag {
        Some(tag) => format!("it is at {tag} now, which is not what the request asked for; read it again"),
        None => "it is not there, and the request asked for one that is".to_owned(),
    };
    Problem::new(412, "precondition_failed", detail)
}

impl Ask {
    /// Reads what stands around a body; `query` is that of the target.
    pub(super) fn new(
        operation: &'static Operation,
        captures: &Captures<'_>,
        query: Option<&str>,
        headers: HeaderMap,
        who: Who,
    ) -> Result<Self, Problem> {
        let mut names = BTreeMap::new();
        for (name, segment) in captures {
            let text = decoded(segment, false).ok_or_else(|| {
                Problem::new(400, "bad_name", format!("the {name} {segment:?} is not percent-encoded UTF-8"))
            })?;
            names.insert(*name, text);
        }
        let (query, lists) = read_query(operation, query.unwrap_or_default())?;
        let conditions = Conditions::read(&headers)?;
        Ok(Self { who, names, query, lists, conditions, headers, body: Bytes::new() })
    }

    fn name<T>(&self, what: &str, make: impl Fn(&str) -> Result<T, NameError>) -> Result<T, Problem> {
        let text = self.names.get(what).map(String::as_str).unwrap_or_default();
        make(text).map_err(|error| Problem::new(400, "bad_name", format!("the {what} {text:?} {error}")))
    }

    pub(super) fn app(&self) -> Result<AppName, Problem> {
        self.name("app", AppName::new)
    }

    pub(super) fn route(&self) -> Result<RouteName, Problem> {
        self.name("route", RouteName::new)
    }

    pub(super) fn cluster(&self) -> Result<ClusterName, Problem> {
        self.name("cluster", ClusterName::new)
    }

    pub(super) fn place(&self) -> Result<ClusterKey, Problem> {
        Ok(ClusterKey { app: self.app()?, cluster: self.cluster()? })
    }

    pub(super) fn endpoint(&self) -> Result<Key, Problem> {
        let ClusterKey { app, cluster } = self.place()?;
        Ok(Key { app, cluster, id: self.name("id", EndpointId::new)? })
    }

    /// A dyno's name, such as `web.1`: its id, and its process type.
    pub(super) fn dyno(&self) -> Result<(EndpointId, String), Problem> {
        let text = self.names.get("dyno").map(String::as_str).unwrap_or_default();
        let bad = || {
            let detail = format!("{text:?} is no dyno: write TYPE.NUMBER, such as web.1");
            Problem::new(400, "bad_name", detail)
        };
        let (kind, number) = text.rsplit_once('.').ok_or_else(bad)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let numbered = number.len() <= 9
            && !number.starts_with('0')
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit());
        if !numbered || !kind.starts_with(|c: char| c.is_ascii_alphabetic()) || !kind.chars().all(plain) {
            return Err(bad());
        }
        Ok((EndpointId::new(text).map_err(|_| bad())?, kind.to_owned()))
    }

    pub(super) fn number(&self) -> Result<u64, Problem> {
        let text = self.names.get("number").map(String::as_str).unwrap_or_default();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or_else(|| {
            Problem::new(400, "bad_number", format!("{text:?} is not the number of a version or release"))
        })
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|value| value != "false")
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// The values of a parameter that may be repeated.
    pub(super) fn list(&self, name: &str) -> &[String] {
        self.lists.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// The page that is asked for: behind what, and how many.
    pub(super) fn page(&self) -> (Option<&str>, usize) {
        let limit = self.count("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE_MAX);
        (self.text("after"), limit)
    }

    /// The body as a JSON object whose members are among `known`.
    pub(super) fn members(&self, known: &[&str]) -> Result<Value, Problem> {
        super::body::object(&self.body, known)
    }
}

/// Parameters that stand once, and those that may be repeated.
type Query = (BTreeMap<&'static str, String>, BTreeMap<&'static str, Vec<String>>);

/// Reads a query. What an operation does not know is refused: `?dryrun=true` must not change anything.
fn read_query(operation: &'static Operation, query: &str) -> Result<Query, Problem> {
    let mut all = BTreeMap::new();
    let mut lists: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let bad = |code, detail: String| Err(Problem::new(400, code, detail));
        let (Some(name), Some(value)) = (decoded(name, true), decoded(value, true)) else {
            return bad("bad_query", "the query is not percent-encoded UTF-8".to_owned());
        };
        let Some(known) = operation.query.iter().find(|known| known.name == name) else {
            let names: Vec<&str> = operation.query.iter().map(|known| known.name).collect();
            let hint = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return bad("unknown_parameter", format!("{name:?} is no parameter here; known: {hint}"));
        };
        if known.kind == "array" {
            lists.entry(known.name).or_default().push(value);
            continue;
        }
        let fits = match known.kind {
            "boolean" => matches!(value.as_str(), "true" | "false" | ""),
            "integer" if known.name == "limit" => {
                value.parse().is_ok_and(|n: usize| (1..=PAGE_MAX).contains(&n))
            }
            "integer" => value.parse::<u64>().is_ok(),
            _ => true,
        };
        if !fits {
            return bad("bad_parameter", format!("{name}={value:?}: {}", known.words));
        }
        if all.insert(known.name, value).is_some() {
            return bad("bad_parameter", format!("{name} stands there twice"));
        }
    }
    Ok((all, lists))
}

/// Percent-decoding; `None` for a broken escape or text that is not UTF-8.
fn decoded(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}
