//! This API as an OpenAPI 3.1 document, made of the table of operations; the shapes of bodies and answers stand here.
//!
//! `GET /v1/openapi.json`, and what `schemathesis` holds against the running API.

use serde_json::{Map, Value, json};

use super::explain;
use super::operations::{Body, OPERATIONS, Operation, Parameter, What};
use crate::desired::{HOLD_MAX, HOLD_WAIT_MAX_MS};

/// Problems that every operation may answer with.
const ANYWHERE: [u16; 8] = [400, 401, 403, 405, 408, 429, 500, 503];

/// The document.
pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(operation.method.to_ascii_lowercase(), described(operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ekiden control API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What runs where, and what serves. Refusals are RFC 9457 problems with a stable `code`; a refused change changes nothing.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:9902" }],
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

/// A name for programs: `put_app`, `list_versions`.
fn id(operation: &Operation) -> String {
    let words = operation.path.trim_start_matches("/v1/").replace(['{', '}'], "").replace(['/', '.'], "_");
    format!("{}_{words}", operation.method.to_ascii_lowercase())
}

fn described(operation: &Operation) -> Value {
    let names = operation.path.split('/').filter_map(|step| step.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names.map(path_parameter).collect();
    parameters.extend(operation.query.iter().map(query_parameter));
    if operation.method != "GET" {
        parameters.push(header(
            "Idempotency-Key",
            json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$" }),
        ));
    }
    if operation.bad.contains(&412) {
        parameters.push(header("If-Match", json!({ "type": "string", "pattern": "^(\\*|\"[!#-~]*\")$" })));
    }
    let mut responses = Map::new();
    for status in operation.good {
        responses.insert(status.to_string(), good(operation));
    }
    for status in operation.bad.iter().chain(&ANYWHERE) {
        responses.insert(status.to_string(), problem());
    }
    let mut described = json!({
        "operationId": id(operation),
        "summary": operation.words,
        "description": format!("Needs the role `{}`.", operation.role.word()),
        "parameters": parameters,
        "responses": responses,
    });
    if let (Some(members), Some(body)) = (described.as_object_mut(), body(operation.body)) {
        members.insert("requestBody".to_owned(), body);
    }
    described
}

fn path_parameter(name: &str) -> Value {
    let schema = match name {
        "number" => json!({ "type": "integer", "minimum": 0 }),
        "dyno" => {
            json!({ "type": "string", "minLength": 3, "maxLength": 128, "pattern": "^[A-Za-z][A-Za-z0-9_-]*\\.[1-9][0-9]{0,8}$" })
        }
        "id" => {
            json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!$&-,.-\\[\\]-~-]+$" })
        }
        _ => json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z0-9_.-]+$" }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

fn query_parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.name {
        "url" => json!({ "type": "string", "pattern": "^([Hh][Tt][Tt][Pp][Ss]?://|/|\\*$)" }),
        "header" => json!({
            "type": "array",
            "maxItems": explain::HEADERS_MAX,
            "items": { "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\\t -~]*$" },
        }),
        "method" => json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" }),
        "client" => json!({ "anyOf": [
            { "type": "string", "format": "ipv4" },
            { "type": "string", "format": "ipv6" },
        ] }),
        "listener" => json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]+$", "maxLength": 128 }),
        "guard" => json!({ "type": "string", "pattern": "^([1-9][0-9]{0,2}s|[1-9]m|1h)$" }),
        "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 1000 }),
        _ if parameter.kind == "integer" => json!({ "type": "integer", "minimum": 0 }),
        _ => json!({ "type": parameter.kind }),
    };
    let required = parameter.name == "url";
    json!({
        "name": parameter.name,
        "in": "query",
        "required": required,
        "description": parameter.words,
        "schema": schema,
    })
}

fn header(name: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "header", "schema": schema })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn good(operation: &Operation) -> Value {
    let schema = reference(operation.answer);
    let content = match operation.what {
        What::Watch => json!({
            "application/x-ndjson": { "schema": schema },
            "text/event-stream": { "schema": { "type": "string" } },
        }),
        _ => json!({ "application/json": { "schema": schema } }),
    };
    json!({ "description": "Done as asked.", "content": content })
}

fn problem() -> Value {
    json!({
        "description": "Not done; `code` and `detail` say why.",
        "content": { "application/problem+json": { "schema": reference("Problem") } },
    })
}

fn body(body: Body) -> Option<Value> {
    let content = match body {
        Body::None => return None,
        Body::Json(schema) => json!({ "application/json": { "schema": reference(schema) } }),
        Body::Patch(schema) => json!({
            "application/merge-patch+json": { "schema": reference(schema) },
            "application/json": { "schema": reference(schema) },
        }),
        Body::File => json!({
            "application/json": { "schema": { "type": "object" } },
            "application/toml": { "schema": { "type": "string" } },
            "application/yaml": { "schema": { "type": "string" } },
        }),
    };
    Some(json!({ "required": true, "content": content }))
}

/// An object with these members, all of which are there.
fn object(members: Value) -> Value {
    let names: Vec<String> =
        members.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    json!({ "type": "object", "properties": members, "required": names })
}

/// As [`object`], with members that may be there.
fn object_and(members: Value, more: Value) -> Value {
    let mut object = object(members);
    let members = object.get_mut("properties").and_then(Value::as_object_mut);
    if let (Some(members), Value::Object(more)) = (members, more) {
        members.extend(more);
    }
    object
}

/// As [`object`] for bodies: nothing else may be there.
fn body_object(members: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": members, "required": required, "additionalProperties": false })
}

fn page(word: &str, item: Value) -> Value {
    object(json!({ word: { "type": "array", "items": item }, "next": { "type": ["string", "null"] } }))
}

fn schemas() -> Value {
    let (text, number, any) = (json!({ "type": "string" }), json!({ "type": "integer" }), json!({}));
    let (maybe_text, maybe_number) =
        (json!({ "type": ["string", "null"] }), json!({ "type": ["integer", "null"] }));
    let (list, map, flag) =
        (json!({ "type": "array" }), json!({ "type": "object" }), json!({ "type": "boolean" }));
    let mut all = body_schemas();
    let views = json!({
        "Problem": object(json!({ "type": text, "title": text, "status": number, "code": text, "detail": text, "request_id": text })),
        "Apps": {
            "allOf": [page("apps", object(json!({
                "name": text, "owner": { "enum": ["api", "file"] }, "version": maybe_number, "routes": number,
                "clusters": list, "refused": flag,
            }))), object(json!({ "generation": number }))],
        },
        "App": object(json!({
            "name": text, "owner": text, "adopted": flag, "version": maybe_number, "spec": any, "routes": list,
            "clusters": list, "generation": number,
        })),
        "Parts": object(json!({ "next": maybe_text })),
        "PartView": object(json!({ "app": text, "name": text, "owner": text, "version": maybe_number, "spec": any })),
        "Changed": object(json!({ "generation": maybe_number })),
        "Done": object(json!({ "generation": maybe_number })),
        "Endpoints": object(json!({ "endpoints": list, "dormant": list, "generation": number })),
        "Endpoint": object(json!({ "id": text, "address": text, "weight": number, "drain": flag, "owner": text, "state": text, "generation": number })),
        "Dynos": page("dynos", reference("Dyno")),
        "Dyno": object(json!({ "name": text, "type": text, "cluster": text, "release": text, "address": maybe_text, "state": { "enum": ["starting", "ready", "draining", "stopping", "waiting"] } })),
        "Versions": page("versions", object(json!({ "version": number, "unix_ms": number, "by": text, "why": text }))),
        "Version": object(json!({ "version": number, "unix_ms": number, "by": text, "why": text, "spec": any })),
        "Changes": object(
            json!({ "from": number, "to": number, "changes": list, "changes_omitted": number }),
        ),
        "Releases": page("releases", reference("Release")),
        "Release": object_and(
            json!({ "app": text, "release": number, "name": text, "description": text, "unix_ms": number, "by": text }),
            json!({ "refused": text }),
        ),
        "Rollout": object_and(json!({
            "app": text, "release": number, "name": text,
            "state": { "enum": ["waiting", "starting", "shifting", "guarding", "draining", "done", "failed", "superseded"] },
            "reason": text, "began_unix_ms": maybe_number, "ended_unix_ms": maybe_number, "late": list,
        }), json!({ "after": maybe_number })),
        "Formation": object(json!({ "app": text, "processes": map })),
        "Maintenance": object(json!({ "app": text, "on": flag, "page": maybe_text, "generation": maybe_number })),
        "Hosts": page("hosts", object(json!({ "host": text, "app": text }))),
        "Event": object(json!({ "type": { "enum": ["put", "delete", "bookmark", "gone"] }, "revision": number })),
        "Audit": object(
            json!({ "records": list, "dropped": number, "refusals": list, "refusals_unwritten": number }),
        ),
        "Table": object(json!({ "generation": number, "stale": flag, "listeners": list, "apps": list, "dormant": list })),
        "Explanation": object(json!({
            "generation": number, "listener": object(json!({ "name": text, "reason": text })),
            "request": object(json!({ "method": text, "host": text, "path": text, "client": maybe_text })),
            "verdict": object(json!({ "kind": { "enum": ["route", "preflight", "https", "refused"] }, "words": text })),
            "rules": list, "rules_omitted": number, "policies": { "type": ["object", "null"] },
            "destination": { "type": ["object", "null"] },
        })),
        "Status": map,
        "OpenApi": map,
    });
    for more in [views, fleet_schemas(), moving_schemas()] {
        if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
            all.extend(more);
        }
    }
    all
}

/// What moves by itself: sources of placements, holds and guards.
fn moving_schemas() -> Value {
    let (text, number) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let (maybe_text, maybe_number) =
        (json!({ "type": ["string", "null"] }), json!({ "type": ["integer", "null"] }));
    let (list, flag) = (json!({ "type": "array" }), json!({ "type": "boolean" }));
    json!({
        "Placements": object(json!({
            "source": text, "ttl_ms": maybe_number, "placements": list, "held": list, "held_until_unix_ms": maybe_number,
            "heard_unix_ms": maybe_number, "state": { "enum": ["none", "live", "silent", "held"] },
        })),
        "Pushed": object(json!({ "source": text, "generation": maybe_number })),
        "Sources": page("sources", object(json!({
            "name": text, "state": { "enum": ["live", "silent", "failing", "held"] }, "endpoints": number, "held": list,
            "held_until_unix_ms": maybe_number, "expired": list, "error": maybe_text, "heard_unix_ms": maybe_number,
            "heard_ms_ago": maybe_number,
        }))),
        "Hold": object(json!({ "app": text, "on": flag, "max": maybe_number, "wait_ms": maybe_number, "generation": maybe_number })),
        "Guard": object(json!({
            "app": text, "state": { "enum": ["none", "watching", "kept", "rolled_back", "not_judged", "superseded", "failed"] },
            "reason": text, "version": maybe_number, "back_to": maybe_number, "until_unix_ms": maybe_number,
        })),
    })
}

fn fleet_schemas() -> Value {
    let (text, number) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let (maybe_text, maybe_number) =
        (json!({ "type": ["string", "null"] }), json!({ "type": ["integer", "null"] }));
    let (list, map, flag) =
        (json!({ "type": "array" }), json!({ "type": "object" }), json!({ "type": "boolean" }));
    json!({
        "Routers": {
            "allOf": [page("routers", reference("Router")), object(json!({
                "generation": number, "term": number, "connected": number, "behind": number,
            }))],
        },
        "Router": object(json!({
            "name": text, "connected": flag, "since_unix_ms": number, "address": text, "identity": maybe_text,
            "software": text, "generation": maybe_number, "generation_since_unix_ms": maybe_number,
            "began_with": { "enum": ["snapshot", "delta"] }, "links": number, "refused": list,
            "apps": { "type": ["array", "null"], "items": text }, "refusing_connects": map, "last_error": maybe_text,
        })),
    })
}

fn ttl_schema() -> Value {
    json!({ "type": ["integer", "null"], "minimum": 1_000, "maximum": 86_400_000 })
}

fn placement_schema(with_id: bool) -> Value {
    let text = json!({ "type": ["string", "null"], "maxLength": 128 });
    let mut members = json!({
        "address": { "type": "string", "description": "`IP:PORT` or `unix:/path`." },
        "weight": { "type": ["integer", "null"], "minimum": 1, "maximum": 1000 },
        "zone": text,
        "priority": { "type": ["integer", "null"], "minimum": 0, "maximum": 7 },
        "release": text,
        "state": { "enum": ["starting", "ready", "draining", null] },
        "ttl_ms": ttl_schema(),
    });
    if let (true, Some(members)) = (with_id, members.as_object_mut()) {
        members.insert(
            "id".to_owned(),
            json!({
                "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!$&-,.-\\[\\]-~-]+$",
            }),
        );
    }
    let required: &[&str] = if with_id { &["id", "address"] } else { &["address"] };
    body_object(members, required)
}

fn body_schemas() -> Value {
    let text = json!({ "type": "string", "maxLength": 1024 });
    let placement = |id: bool| placement_schema(id);
    let spec = json!({ "type": "object", "description": "The words of an app file: see REFERENCE.md and `ekiden schema`." });
    json!({
        "AppBody": body_object(json!({ "spec": spec }), &["spec"]),
        "PartBody": body_object(json!({ "spec": spec }), &["spec"]),
        "EndpointBody": body_object(json!({
            "address": { "type": "string", "description": "`IP:PORT` or `unix:/path`." },
            "weight": { "type": "integer", "minimum": 1, "maximum": 1000 },
            "zone": { "type": ["string", "null"], "maxLength": 128 },
            "priority": { "type": "integer", "minimum": 0, "maximum": 7 },
            "drain": { "type": "boolean" },
        }), &[]),
        "DynoBody": body_object(json!({
            "release": { "type": "string", "minLength": 1, "maxLength": 128 },
            "address": { "type": "string", "description": "`IP:PORT` or `unix:/path`." },
            "state": { "enum": ["starting", "ready", "draining"] },
            "cluster": { "type": ["string", "null"], "description": "The process type unless given." },
            "weight": { "type": ["integer", "null"], "minimum": 1, "maximum": 1000 },
            "zone": { "type": ["string", "null"], "maxLength": 128 },
            "priority": { "type": ["integer", "null"], "minimum": 0, "maximum": 7 },
        }), &[]),
        "PlacementsBody": body_object(json!({
            "ttl_ms": ttl_schema(),
            "placements": { "type": "array", "maxItems": 10_000, "items": placement(true) },
        }), &["placements"]),
        "PlacementBody": placement(false),
        "ConfirmBody": body_object(json!({ "source": { "type": "string", "maxLength": 512 } }), &["source"]),
        "RollbackBody": body_object(json!({ "version": { "type": "integer", "minimum": 1 } }), &["version"]),
        "ReleaseBody": body_object(json!({ "name": text, "description": text, "guard": text }), &[]),
        "MaintenanceBody": body_object(json!({ "page": { "type": ["string", "null"], "maxLength": 12_288 } }), &[]),
        "HoldBody": body_object(json!({
            "max": { "type": ["integer", "null"], "minimum": 1, "maximum": HOLD_MAX },
            "wait_ms": { "type": ["integer", "null"], "minimum": 1, "maximum": HOLD_WAIT_MAX_MS },
        }), &[]),
        "FormationBody": body_object(json!({
            "processes": {
                "type": "object",
                "additionalProperties": { "type": ["integer", "null"], "minimum": 0, "maximum": 100_000 },
            },
        }), &["processes"]),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_is_described_and_every_reference_leads_somewhere() {
        let document = document();
        let mut ids = BTreeSet::new();
        for operation in OPERATIONS {
            let described = &document["paths"][operation.path][operation.method.to_ascii_lowercase()];
            assert_eq!(described["summary"], operation.words);
            assert!(ids.insert(described["operationId"].as_str().unwrap().to_owned()), "{described}");
            for status in operation.good.iter().chain(operation.bad) {
                assert!(described["responses"].get(status.to_string()).is_some());
            }
        }
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not described");
        }
    }
}
