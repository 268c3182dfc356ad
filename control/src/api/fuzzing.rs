//! Requests to the API: finding the operation and reading what stands around a body never panic; a body is an object of known members
//! or refused with a status of the client's.

use hyper::header::{HeaderMap, HeaderValue, IF_MATCH};
use serde_json::Value;

use super::operations::{Found, OPERATIONS, find};
use super::request::Ask;
use super::who::{Role, Who};
use super::{body, who};
use crate::desired::merge::merged;
use crate::problem::Problem;

/// Lines of the input are path, query, `If-Match` and what is left the body.
pub(crate) fn request(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (path, query, tags, body) = (part(), part(), part(), part());
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.extend(HeaderValue::from_bytes(tags).ok().map(|tags| (IF_MATCH, tags)));
    let methods: std::collections::BTreeSet<&str> = OPERATIONS.iter().map(|one| one.method).collect();
    for method in methods {
        let Found::One(operation, captures) = find(method, text(path)) else { continue };
        let who = Who { name: "fuzz".to_owned(), role: Role::Admin };
        match Ask::new(operation, &captures, Some(text(query)), headers.clone(), who) {
            Ok(ask) => names(&ask),
            Err(problem) => clients(&problem),
        }
    }
    bodies(body);
    let _tokens = who::parse(data);
}

fn names(ask: &Ask) {
    let _names = (ask.app(), ask.route(), ask.cluster(), ask.endpoint(), ask.dyno(), ask.number());
    if let Ok((id, kind)) = ask.dyno() {
        assert!(id.as_str().starts_with(&kind));
    }
    let _tag = ask.conditions.check(Some("\"1\""));
}

fn bodies(data: &[u8]) {
    let put = body::parse_put(data);
    if let Err(problem) = &put {
        clients(problem);
    }
    if let Ok(put) = put {
        assert!(put.weight.is_none_or(|weight| (1..=1000).contains(&weight)));
    }
    match body::object(data, &["address", "weight", "state", "release", "ttl_ms"]) {
        Ok(value) => {
            let _put = body::dyno_put(&value);
            let _placement = super::placements::placement(&value, "");
        }
        Err(problem) => clients(&problem),
    }
    if let Ok(value) = serde_json::from_slice::<Value>(data) {
        // A patch applied twice says what it said the first time.
        let once = merged(Value::Null, &value);
        assert_eq!(merged(once.clone(), &value), once);
    }
}

fn clients(problem: &Problem) {
    assert!((400..500).contains(&problem.status) && !problem.detail.is_empty(), "{problem:?}");
    let _text = problem.to_json();
}
