//! Bodies of the API: bounded, timed, JSON only, every member known.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::document::document;
use ekiden_config::{Format, Source};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use tokio::time::timeout;

use super::operations;
use crate::address::parse_address;
use crate::plane::Put;
use crate::problem::Problem;
use crate::store::Standing;

/// Largest body of what is small, in bytes.
const BODY_MAX: usize = 64 << 10;
/// Largest body that holds words of apps, in bytes.
const SPEC_MAX: usize = 8 << 20;
/// Longest time for a whole body.
const BODY_WAIT: Duration = Duration::from_secs(5);
/// Longest release of a dyno, in bytes.
const RELEASE_MAX: usize = 128;
/// Longest zone, in bytes.
const ZONE_MAX: usize = 128;
/// Members of an endpoint.
const MEMBERS: [&str; 4] = ["address", "weight", "zone", "drain"];

/// Reads a body. An absent one is empty; one that is there must say that it is what the operation takes.
pub(super) async fn read(request: Request<Incoming>, wanted: operations::Body) -> Result<Bytes, Problem> {
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let is = |kind: &str| essence.eq_ignore_ascii_case(kind);
    let patch = matches!(wanted, operations::Body::Patch(_)) && is("application/merge-patch+json");
    // What a file is, its operation finds out.
    if wanted != operations::Body::File && !is("application/json") && !patch {
        let detail = "send bodies with Content-Type: application/json";
        return Err(Problem::new(415, "not_json_type", detail));
    }
    let most = match wanted {
        operations::Body::File
        | operations::Body::Json("AppBody" | "PartBody" | "PlacementsBody")
        | operations::Body::Patch("AppBody" | "PartBody") => SPEC_MAX,
        operations::Body::None | operations::Body::Json(_) | operations::Body::Patch(_) => BODY_MAX,
    };
    let too_large = || Problem::new(413, "body_too_large", format!("a body has at most {most} bytes here"));
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    match timeout(BODY_WAIT, Limited::new(body, most).collect()).await {
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

/// The body as an object whose members are among `known`, each once.
pub(super) fn object(body: &[u8], known: &[&str]) -> Result<Value, Problem> {
    if body.is_empty() {
        return Err(Problem::new(400, "missing_body", format!("send an object with {}", known.join(", "))));
    }
    let source = Source {
        file: "body".to_owned(),
        text: String::from_utf8(body.to_vec())
            .map_err(|_| Problem::new(400, "bad_json", "the body is not UTF-8 text"))?,
        format: Format::Json,
    };
    let value = document(&source).map_err(|found| {
        let first = found.first();
        let code =
            if first.is_some_and(|one| one.code == "duplicate_key") { "repeated_member" } else { "bad_json" };
        let words = first.map_or_else(String::new, |one| {
            format!("{} (line {}, column {})", one.message, one.line, one.column)
        });
        Problem::new(400, code, format!("the body is not a JSON object: {words}"))
    })?;
    let Some(members) = value.as_object() else {
        return Err(Problem::new(400, "bad_json", "the body is not a JSON object"));
    };
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(other) => {
            let detail = format!("{other:?} is not known here; known: {}", known.join(", "));
            Err(Problem::at(422, "unknown_member", &pointer(other), detail))
        }
        None => Ok(value),
    }
}

/// A JSON pointer to a member (RFC 6901).
pub(super) fn pointer(name: &str) -> String {
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

/// A dyno's body, checked: its release, address and state, and what an endpoint may have.
pub(super) fn dyno_put(body: &Value) -> Result<Put, Problem> {
    let mut put = Put::default();
    for (name, value) in body.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "release" | "state" | "cluster" => {}
            other => member(&mut put, other, value)?,
        }
    }
    let release = body.get("release").and_then(Value::as_str);
    let plain =
        |release: &&str| (1..=RELEASE_MAX).contains(&release.len()) && !release.chars().any(char::is_control);
    let release = release.filter(plain).ok_or_else(|| {
        let detail = format!("a dyno needs a \"release\": a text of 1 to {RELEASE_MAX} bytes");
        Problem::at(422, "bad_value", "/release", detail)
    })?;
    put.release = Some(Arc::from(release));
    match body.get("state").and_then(Value::as_str) {
        Some("starting") => put.standing = Standing::Starting,
        Some("ready") => {}
        Some("draining") => put.drain = Some(true),
        _ => {
            let detail = "a dyno needs a \"state\": starting, ready or draining; DELETE says that it is gone";
            return Err(Problem::at(422, "bad_value", "/state", detail));
        }
    }
    Ok(put)
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
