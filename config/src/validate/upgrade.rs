//! The protocols of a route's `upgrades`: names that can be upgraded to. Whether a request asks for one is the router's to see.

use std::sync::Arc;

use super::{Fault, Scope};
use crate::model::Upgrades;
use crate::raw::{Off, Spanned, shown};

/// Reads the list; a protocol that stands twice is kept once.
pub(super) fn upgrades(scope: &mut Scope<'_, '_>, raw: Option<&Off<Vec<Spanned<String>>>>) -> Upgrades {
    let written = match raw {
        None => return Upgrades::default(),
        Some(Off::Off) => &[],
        Some(Off::Set(written)) => written.as_slice(),
    };
    let mut protocols: Vec<Arc<str>> = Vec::with_capacity(written.len());
    for text in written {
        let Some(protocol) = scope.accept(text.span, protocol(&text.value)) else { continue };
        if !protocols.iter().any(|known| known.eq_ignore_ascii_case(&protocol)) {
            protocols.push(protocol);
        }
    }
    Upgrades { protocols: Arc::from(protocols) }
}

fn protocol(text: &str) -> Result<Arc<str>, Fault> {
    let (name, version) = text.split_once('/').map_or((text, None), |(name, version)| (name, Some(version)));
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    if !is_token(name) || !version.is_none_or(is_token) {
        return Err(Fault::new("bad_protocol", format!("`{}` is not a protocol of `Upgrade`", shown(text)))
            .help("a name, or a name and a version, such as \"websocket\" or \"SPDY/3.1\""));
    }
    // Another HTTP inside the tunnel would pass every rule of the router unseen.
    if ["h2c", "h2", "h3", "http", "https", "tls"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return Err(Fault::new(
            "bad_protocol",
            format!("an upgrade to `{}` is never passed on", shown(text)),
        )
        .help("its requests would not be seen by the router; take it out of the list"));
    }
    Ok(Arc::from(text))
}
