//! Stores that routers share limits through: where they are and who may name them. Does not connect, and reads no password.

use std::path::PathBuf;
use std::sync::Arc;

use super::process::file_path;
use super::{Fault, Scope, World};
use crate::model::{StoreAddress, StoreSource};
use crate::names::{AppName, TrustName};
use crate::raw::{RawProcess, RawStore, shown};

/// Port of a store whose address names none.
const PORT: u16 = 6379;
const HELP: &str = "such as \"redis://10.0.0.5:6379/0\" or \"unix:/run/redis.sock\"";

/// Fills the names of all stores into `world`, also of those that have errors of their own. Called before anything may name
/// them.
pub(super) fn names(scope: &mut Scope<'_, '_>, raw: &RawProcess, world: &mut World) {
    for (key, raw) in raw.store.iter().flat_map(|map| &map.0) {
        if let Some(name) = scope.name(key, TrustName::new) {
            let apps = raw.apps.iter().flatten().filter_map(|text| AppName::new(&text.value).ok());
            world.stores.insert(name, apps.collect());
        }
    }
}

/// Reads a store; none when something in it was refused.
pub(super) fn store(scope: &mut Scope<'_, '_>, raw: &RawStore, apps: Vec<AppName>) -> Option<StoreSource> {
    let before = scope.report.errors();
    let place = raw.redis.as_ref().and_then(|text| scope.accept(text.span, place(&text.value)));
    let password_file = raw.password_file.as_ref().and_then(|text| file_path(scope, text));
    if let (Some(user), None) = (&raw.user, &raw.password_file) {
        let message = "a user without a password is nobody";
        scope.report.error_help(user.span, "missing_key", message, "write `password_file` too");
    }
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    let (address, database) = place?;
    Some(StoreSource {
        address,
        database,
        user: raw.user.as_ref().map(|text| Arc::from(text.value.as_str())),
        password_file,
        routers: raw.routers.and_then(|count| u32::try_from(count).ok()).unwrap_or(1),
        apps,
    })
}

fn place(text: &str) -> Result<(StoreAddress, u32), Fault> {
    let bad = |help: &str| {
        Fault::new("bad_store", format!("`{}` is no address of a store", shown(text))).help(help)
    };
    if let Some(path) = text.strip_prefix("unix:") {
        let is_path = path.starts_with('/') && !path.chars().any(char::is_control);
        return if is_path { Ok((StoreAddress::Unix(PathBuf::from(path)), 0)) } else { Err(bad(HELP)) };
    }
    if text.starts_with("rediss:") {
        return Err(bad(
            "TLS with a store is not spoken; put it on a network of its own, or a tunnel before it",
        ));
    }
    let rest = text.strip_prefix("redis://").ok_or_else(|| bad(HELP))?;
    if rest.contains('@') {
        // Not shown: it may be a password.
        let fault = Fault::new("secret_in_text", "the address of a store holds a user or a password");
        return Err(fault.help("write `user` and `password_file`"));
    }
    let (authority, database) = match rest.split_once('/') {
        None | Some((_, "")) => (rest.trim_end_matches('/'), 0),
        Some((authority, number)) => (authority, number.parse().map_err(|_| bad(HELP))?),
    };
    let parsed: http::uri::Authority = authority.parse().map_err(|_| bad(HELP))?;
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || database > 1_000_000 || parsed.port().is_some() != authority_has_port(authority) {
        return Err(bad(HELP));
    }
    Ok((StoreAddress::Tcp(Arc::from(host), parsed.port_u16().unwrap_or(PORT)), database))
}

fn authority_has_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(_, after)| !after.contains(']'))
}
