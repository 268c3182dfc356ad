//! The steps that a request passes before its route serves it, in their order, as the API shows them. Names and words only:
//! secrets are in files that control does not read.

use ekiden_config::model::{Cors, OriginPattern, Origins, Route};
use serde_json::{Value, json};

/// The steps of a route in the order in which they are taken; those it does not have are left out.
pub(super) fn steps(route: &Route) -> Value {
    let entrance = route.entrance.as_deref();
    let mut steps = Vec::new();
    if route.admission.is_some() {
        steps.push(json!({ "step": "allow and deny" }));
    }
    if let Some(cors) = entrance.and_then(|entrance| entrance.cors.as_deref()) {
        steps.push(self::cors(cors));
    }
    let auth = entrance.and_then(|entrance| entrance.auth.as_deref());
    if let Some(keys) = auth.and_then(|auth| auth.api_keys.as_ref()) {
        steps.push(json!({ "step": "api key", "keys": keys.keys.as_str(), "header": &*keys.header }));
    }
    if route.rate_limits.is_some() {
        steps.push(json!({ "step": "limits" }));
    }
    if let Some(auth) = auth {
        steps.push(json!({
            "step": "credentials",
            "users": auth.users.as_ref().map(|name| name.as_str()),
            "api_keys": auth.api_keys.as_ref().map(|keys| keys.keys.as_str()),
            "jwt": auth.tokens.as_ref().map(|tokens| tokens.issuer.as_str()),
        }));
    }
    if let Some(authorizer) = entrance.and_then(|entrance| entrance.authorizer.as_deref()) {
        let fail = if authorizer.fail_open { "open" } else { "closed" };
        let by = if authorizer.grpc { "grpc" } else { "http" };
        steps.push(
            json!({ "step": "authorizer", "cluster": authorizer.cluster.as_str(), "by": by, "fail": fail }),
        );
    }
    Value::Array(steps)
}

fn cors(cors: &Cors) -> Value {
    let origins: Vec<String> = match &cors.origins {
        Origins::Any => vec!["*".to_owned()],
        Origins::Listed(all) => all.iter().map(origin).collect(),
    };
    json!({ "step": "cors", "origins": origins, "credentials": cors.credentials })
}

fn origin(pattern: &OriginPattern) -> String {
    match pattern {
        OriginPattern::Exact(text) => text.to_string(),
        OriginPattern::Subdomains { scheme, suffix } => format!("{scheme}*{suffix}"),
    }
}
