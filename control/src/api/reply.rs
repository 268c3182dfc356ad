//! Answers: a document with its status and head fields, or a problem.

use std::time::Duration;

use ekiden_config::doors::{Generation, Refusal, Ticket, Verdict};
use ekiden_config::names::AppName;
use hyper::header::{ETAG, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::Api;
use super::request::Ask;
use crate::overlay::ClusterKey;
use crate::plane::verdict;
use crate::problem::Problem;
use crate::store::Revision;

/// How long a mutation waits for all workers, of all routers that are connected, before it answers 202.
pub(super) const APPLY_WAIT: Duration = Duration::from_millis(1500);

/// A document.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) value: Value,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The revision that the request made, for the audit log.
    pub(super) revision: Option<Revision>,
}

/// An answer.
pub(super) type Answer = Result<Reply, Problem>;

impl Reply {
    pub(super) fn ok(value: Value) -> Self {
        Self { status: 200, value, headers: Vec::new(), revision: None }
    }

    /// Adds a head field. What is no value of one is left out.
    pub(super) fn header(&mut self, name: HeaderName, value: &str) {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    }

    pub(super) fn tag(&mut self, tag: &str) {
        self.header(ETAG, tag);
    }
}

pub(super) fn gone() -> Problem {
    Problem::new(503, "control_stopped", "control is stopping or failed; the table in force goes on serving")
}

/// One page of named views that stand in order of their names.
pub(super) fn page(ask: &Ask, word: &str, all: impl Iterator<Item = (String, Value)>) -> Reply {
    let (after, limit) = ask.page();
    let mut rest = all.filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
    let mut views = Vec::new();
    let mut last = None;
    for (name, view) in rest.by_ref().take(limit) {
        views.push(view);
        last = Some(name);
    }
    let next = last.filter(|_| rest.next().is_some());
    let mut value = Map::new();
    value.insert(word.to_owned(), Value::Array(views));
    value.insert("next".to_owned(), json!(next));
    Reply::ok(Value::Object(value))
}

/// A part of a table as the router names it when it refuses it: what a change is about.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// All of an app.
    App(AppName),
    /// A cluster, which an app as a whole is needed for.
    Cluster(ClusterKey),
    /// What routers that are elsewhere are told of by this key.
    Object(String),
}

impl Part {
    fn is(&self, refused: &str) -> bool {
        match self {
            Part::App(app) => {
                refused.strip_prefix("app:") == Some(app.as_str())
                    || refused
                        .strip_prefix("tls:")
                        .and_then(|place| place.split_once('/'))
                        .is_some_and(|(name, _)| name == app.as_str())
            }
            Part::Cluster(ClusterKey { app, cluster }) => {
                refused.strip_prefix("app:") == Some(app.as_str())
                    || refused.strip_prefix("tls:") == Some(&format!("{app}/{cluster}"))
            }
            Part::Object(key) => refused.strip_prefix("object:") == Some(key),
        }
    }
}

/// Waits until every worker has the table, or answers that it is on its way. `parts` are what must not be refused.
pub(super) async fn applied(api: &Api, ticket: &Ticket, parts: &[Part], mut more: Value) -> Answer {
    let ended = timeout(APPLY_WAIT, verdict(ticket)).await;
    let mut with = |generation: Option<Generation>, pending: bool| {
        let spread = generation.and_then(|generation| super::fleet::spread(api, generation.0));
        if let Some(members) = more.as_object_mut() {
            members.extend(spread.map(|spread| ("routers".to_owned(), spread)));
            members.insert("generation".to_owned(), json!(generation.map(|generation| generation.0)));
            if pending {
                members.insert("pending".to_owned(), json!(true));
            }
        }
        std::mem::take(&mut more)
    };
    match ended {
        // Before the router has numbered it, the next number is the best that can be said.
        Err(_) => {
            let generation = ticket.generation().unwrap_or(Generation(api.inspect.generation().0 + 1));
            Ok(Reply { status: 202, ..Reply::ok(with(Some(generation), true)) })
        }
        Ok(Verdict::Rejected { reason }) => {
            let detail = format!("the change is recorded, but the router did not take the table: {reason}");
            Err(Problem::new(503, "not_applied", detail))
        }
        Ok(Verdict::Applied { generation, refused }) => {
            match refused.iter().find(|refusal| parts.iter().any(|part| part.is(&refusal.part))) {
                Some(Refusal { part, reason }) => {
                    let detail = format!("the change is recorded, but the router refused {part}: {reason}");
                    Err(Problem::new(503, "not_applied", detail))
                }
                None => Ok(Reply::ok(with(Some(generation), false))),
            }
        }
    }
}
