//! Bodies of the API: bounded, timed, JSON only, every member known.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use tokio::time::timeout;

use crate::address::parse_address;
use crate::plane::Put;
use crate::problem::Problem;

/// Largest body, in bytes.
const BODY_MAX: usize = 64 << 10;
/// Longest time for a whole body.
const BODY_WAIT: Duration = Duration::from_secs(5);
/// Longest zone, in bytes.
const ZONE_MAX: usize = 128;
/// Members of an endpoint.
const MEMBERS: [&str; 4] = ["address", "weight", "zone", "drain"];

/// Reads a body. An absent one is empty; one that is there must say `application/json`.
pub(super) async fn read(request: Request<Incoming>) -> Result<Bytes, Problem> {
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = "send bodies with Content-Type: application/json";
        return Err(Problem::new(415, "not_json_type", detail));
    }
    let too_large = || Problem::new(413, "body_too_large", format!("a body has at most {BODY_MAX} bytes"));
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(too_large());
    }
    match timeout(BODY_WAIT, Limited::new(body, BODY_MAX).collect()).await {
        Err(_) => Err(Problem::new(408, "body_timeout", "the body did not arrive in time")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(400, "bad_body", "the body could not be read")),
    }
}

/// Members of a JSON object, in order, repeated ones kept: a repeated member is refused, not guessed.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Reads the body of a PUT of an endpoint.
pub(super) fn parse_put(body: &[u8]) -> Result<Put, Problem> {
    if body.is_empty() {
        let detail = "send a body such as {\"address\": \"127.0.0.1:3002\"}";
        return Err(Problem::new(400, "missing_body", detail));
    }
    let members: Members = serde_json::from_slice(body)
        .map_err(|error| Problem::new(400, "bad_json", format!("the body is not a JSON object: {error}")))?;
    let mut put = Put::default();
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in &members.0 {
        if seen.contains(&name.as_str()) {
            return Err(Problem::at(
                400,
                "repeated_member",
                &pointer(name),
                format!("{name:?} stands there twice"),
            ));
        }
        seen.push(name);
        member(&mut put, name, value)?;
    }
    if seen.is_empty() {
        return Err(Problem::at(422, "missing_address", "/address", "an endpoint needs an \"address\""));
    }
    Ok(put)
}

/// A JSON pointer to a member (RFC 6901).
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn member(put: &mut Put, name: &str, value: &Value) -> Result<(), Problem> {
    let wrong =
        |what: &str| Err(Problem::at(422, "bad_value", &pointer(name), format!("{name:?} must be {what}")));
    match (name, value) {
        ("address", Value::String(text)) => match parse_address(text) {
            Ok(address) => put.address = Some(address),
            Err(error) => return Err(Problem::at(422, "bad_address", "/address", error)),
        },
        ("address", _) => return wrong("a text such as \"127.0.0.1:3002\""),
        ("weight", value) => match value.as_u64().and_then(|weight| u16::try_from(weight).ok()) {
            Some(weight @ 1..=1000) => put.weight = Some(weight),
            Some(_) | None => return wrong("a whole number from 1 to 1000"),
        },
        ("zone", Value::Null) => {}
        ("zone", Value::String(zone)) if zone.len() <= ZONE_MAX && !zone.chars().any(char::is_control) => {
            put.zone = Some(Arc::from(zone.as_str()));
        }
        ("zone", _) => return wrong("a text of at most 128 bytes without control characters"),
        ("drain", Value::Bool(drain)) => put.drain = Some(*drain),
        ("drain", _) => return wrong("true or false"),
        (_, _) => return Err(unknown(name)),
    }
    Ok(())
}

fn unknown(name: &str) -> Problem {
    let near =
        MEMBERS.iter().find(|known| strsim::damerau_levenshtein(known, &name.to_ascii_lowercase()) <= 2);
    let hint = match near {
        Some(known) => format!("did you mean {known:?}?"),
        None => format!("known are {}", MEMBERS.join(", ")),
    };
    Problem::at(
        422,
        "unknown_member",
        &pointer(name),
        format!("{name:?} is not a member of an endpoint; {hint}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_read_whole_or_refused_with_a_place() {
        let put = parse_put(br#"{"address":"127.0.0.1:3002","weight":3,"zone":"a","drain":true}"#).unwrap();
        assert_eq!(put.address, Some(parse_address("127.0.0.1:3002").unwrap()));
        assert_eq!((put.weight, put.zone.as_deref(), put.drain), (Some(3), Some("a"), Some(true)));

        let rows: [(&str, u16, &str, Option<&str>); 14] = [
            ("", 400, "missing_body", None),
            ("[]", 400, "bad_json", None),
            ("{", 400, "bad_json", None),
            ("{} {}", 400, "bad_json", None),
            ("{}", 422, "missing_address", Some("/address")),
            (r#"{"address":1}"#, 422, "bad_value", Some("/address")),
            (r#"{"address":"web:80"}"#, 422, "bad_address", Some("/address")),
            (
                r#"{"address":"127.0.0.1:1","address":"127.0.0.1:2"}"#,
                400,
                "repeated_member",
                Some("/address"),
            ),
            (r#"{"weight":0}"#, 422, "bad_value", Some("/weight")),
            (r#"{"weight":1001}"#, 422, "bad_value", Some("/weight")),
            (r#"{"weight":1.5}"#, 422, "bad_value", Some("/weight")),
            (r#"{"zone":"a\nb"}"#, 422, "bad_value", Some("/zone")),
            (r#"{"drain":"yes"}"#, 422, "bad_value", Some("/drain")),
            (r#"{"adress":"127.0.0.1:1"}"#, 422, "unknown_member", Some("/adress")),
        ];
        for (body, status, code, pointer) in rows {
            let problem = parse_put(body.as_bytes()).unwrap_err();
            assert_eq!(
                (problem.status, problem.code, problem.pointer.as_deref()),
                (status, code, pointer),
                "{body}"
            );
        }
        assert!(parse_put(br#"{"adress":"x"}"#).unwrap_err().detail.contains("did you mean \"address\"?"));
    }
}
