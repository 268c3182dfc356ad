//! The service that is asked: which cluster it is, what goes along and what comes back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::auth::set_field;
use super::{Fault, Scope, field};
use crate::model::{Authorizer, AuthorizerBody};
use crate::names::ClusterName;
use crate::raw::{FailWord, OverWord, RawAuthorizer, shown};

const TIMEOUT: Duration = Duration::from_secs(1);
const BODY_MAX: u32 = 8 << 10;

/// Reads the words; none when something in them was refused.
pub(super) fn authorizer(
    scope: &mut Scope<'_, '_>,
    clusters: &BTreeSet<ClusterName>,
    raw: &RawAuthorizer,
) -> Option<Authorizer> {
    let before = scope.report.errors();
    let cluster = raw.cluster.as_ref().and_then(|text| {
        let found = clusters.get(text.value.as_str()).cloned();
        if found.is_none() {
            scope.unknown("unknown_cluster", "cluster", text, clusters.iter().map(ClusterName::as_str));
        }
        found
    });
    let path = match &raw.path {
        Some(text) => scope.accept(text.span, target(&text.value)),
        None => Some(Arc::from("/")),
    };
    let grpc = raw.grpc.as_ref().is_some_and(|flag| flag.value);
    if let (true, Some(path)) = (grpc, &raw.path) {
        let message = "a call has the path of its method";
        scope.report.error_help(path.span, "conflict", message, "leave out `path`, or `grpc`");
    }
    let headers = raw.headers.as_ref().map(|texts| {
        texts.iter().filter_map(|text| scope.accept(text.span, field::name(&text.value))).collect()
    });
    let returns: Vec<Arc<str>> = raw
        .returns
        .iter()
        .flatten()
        .filter_map(|text| scope.accept(text.span, set_field(&text.value)))
        .collect();
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    Some(Authorizer {
        cluster: cluster?,
        path: path?,
        grpc,
        body: raw.body.as_ref().map(|raw| AuthorizerBody {
            max: raw.max.and_then(|max| u32::try_from(max.0).ok()).unwrap_or(BODY_MAX),
            partial: raw.over.is_some_and(|word| word.0 == OverWord::Partial),
        }),
        timeout: raw.timeout.unwrap_or(TIMEOUT),
        fail_open: raw.fail.is_some_and(|word| word.0 == FailWord::Open),
        headers,
        returns,
    })
}

fn target(text: &str) -> Result<Arc<str>, Fault> {
    if text.starts_with('/') && text.bytes().all(|b| (0x21..=0x7e).contains(&b) && !matches!(b, b'#' | b'\\'))
    {
        return Ok(Arc::from(text));
    }
    let fault = Fault::new("bad_path", format!("`{}` is not a path to ask for", shown(text)));
    Err(fault.help("begin with `/`, in plain ASCII, without blanks and `#`"))
}
