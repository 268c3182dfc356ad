//! Conditions on certificates of clients: names of their parts, and values in the form that is compared. Does not say who asks for
//! certificates (`tls` does).

use std::sync::Arc;

use super::{Fault, Scope, condition};
use crate::model::{CertCondition, CertField, Role, Route, ValueTest};
use crate::names::ListenerName;
use crate::raw::{Map, RawRoute, RawTest, TextOr, shown};

/// Digits of a SHA-256 in hexadecimal.
const FINGERPRINT: usize = 64;
const HELP: &str = "write subject, uri, dns or fingerprint";

/// Reads the conditions; in the order of the parts, whatever the order of the file.
pub(super) fn conditions(
    scope: &mut Scope<'_, '_>,
    raw: Option<&Map<TextOr<RawTest>>>,
) -> Vec<CertCondition> {
    let mut made = Vec::new();
    for (key, raw) in raw.iter().flat_map(|map| &map.0) {
        let bad = || {
            let message = format!("`{}` is no part of a client's certificate", shown(&key.value));
            Fault::new("bad_client_cert", message).help(HELP)
        };
        let field = scope.accept(key.span, CertField::of(&key.value).ok_or_else(bad));
        let test = condition::test(scope, raw);
        let Some((field, test)) = field.zip(test) else { continue };
        let span = match raw {
            TextOr::Text(text) => text.span,
            TextOr::Long(raw) => raw.span,
        };
        made.extend(scope.accept(span, stored(field, test)).map(|test| CertCondition { field, test }));
    }
    made.sort_by_key(|condition| condition.field);
    made
}

/// A value as it is compared: fingerprints as `openssl x509 -fingerprint -sha256` prints them too, DNS names in lower case.
fn stored(field: CertField, test: ValueTest) -> Result<ValueTest, Fault> {
    let ValueTest::Equals(text) = &test else { return Ok(test) };
    Ok(match field {
        CertField::Subject | CertField::Uri => test,
        CertField::Dns => ValueTest::Equals(Arc::from(text.to_ascii_lowercase())),
        CertField::Fingerprint => {
            let plain: String = text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
            if plain.len() != FINGERPRINT || !plain.bytes().all(|b| b.is_ascii_hexdigit()) {
                let message = format!("`{}` is not the fingerprint of a certificate", shown(text));
                return Err(Fault::new("bad_client_cert", message).help(
                    "64 hexadecimal digits: `openssl x509 -noout -fingerprint -sha256 -in client.pem`",
                ));
            }
            ValueTest::Equals(Arc::from(plain))
        }
    })
}

/// Says so where nobody ever shows a certificate.
pub(super) fn warn(scope: &mut Scope<'_, '_>, raw: &RawRoute, route: &Route) {
    if route.client_cert.is_empty() {
        return;
    }
    let world = scope.world;
    let edge =
        |(name, role): (&ListenerName, &Role)| *role == Role::Edge && world.asks_certificates.contains(name);
    let asked = match &route.listeners {
        Some(names) => names.iter().any(|name| world.asks_certificates.contains(name)),
        None => world.listeners.iter().any(edge),
    };
    if !asked {
        let message = "the route looks at certificates of clients, and none of its listeners asks for one";
        let help = "give a listener `client_auth`, or take out `client_cert`";
        scope.report.warning(raw.span, "client_cert_unasked", message, help);
    }
}
