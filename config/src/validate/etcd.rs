//! `[etcd]`: its members, what goes together, which authority and identity are meant. Does not connect, and reads no file.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::fleet::entry;
use super::process::file_path;
use super::{Fault, Scope, World};
use crate::model::{Etcd, EtcdMember};
use crate::names::AppName;
use crate::raw::{RawEtcd, Spanned, shown};

/// Port of a member whose address names none.
const PORT: u16 = 2379;
/// What all keys begin with unless the file says otherwise.
const PREFIX: &str = "/ekiden";
/// How long a leader leads without being heard of.
const LEASE: Duration = Duration::from_secs(10);
const HELP: &str = "such as \"https://10.0.0.5:2379\"";

/// Reads the table; none when something in it was refused. `world` knows the entries of the file.
pub(super) fn etcd(scope: &mut Scope<'_, '_>, raw: &RawEtcd, world: &World) -> Option<Etcd> {
    let before = scope.report.errors();
    let written = raw.endpoints.as_deref().unwrap_or_default();
    let mut members = Vec::with_capacity(written.len());
    for text in written {
        let Some(one) = scope.accept(text.span, member(&text.value)) else { continue };
        judge(scope, raw, text, &one);
        members.push(one);
    }
    let prefix = raw
        .prefix
        .as_ref()
        .map(|text| scope.accept(text.span, prefix(&text.value)))
        .unwrap_or(Some(PREFIX.into()));
    let ca = raw.ca.as_ref();
    let ca = ca.and_then(|text| entry(scope, text, ("CA", "unknown_ca"), world.authorities.keys()));
    let identity = raw.identity.as_ref();
    let identity = identity
        .and_then(|text| entry(scope, text, ("identity", "unknown_identity"), world.identities.keys()));
    let password_file = raw.password_file.as_ref().and_then(|text| file_path(scope, text));
    if raw.user.is_some() != raw.password_file.is_some() {
        let message = "a user needs a password and a password a user, and one of them is missing";
        scope.report.error_help(raw.span, "missing_key", message, "write `user` and `password_file`");
    }
    let user = raw.user.as_ref().map(|text| Arc::from(text.value.as_str())).zip(password_file);
    // The alphabet of apps will do for names of processes.
    let name = raw.name.as_ref().and_then(|text| scope.name(text, AppName::new));
    let api = raw.api.as_ref().and_then(|text| scope.accept(text.span, plain(&text.value)));
    if !raw.clean || scope.report.errors() > before || members.is_empty() {
        return None;
    }
    Some(Etcd {
        members,
        prefix: prefix?,
        ca,
        identity,
        user,
        lease: raw.lease.unwrap_or(LEASE),
        name: name.map(|name| Arc::from(name.as_str())),
        api,
    })
}

/// What a member's address asks of the rest of the table.
fn judge(scope: &mut Scope<'_, '_>, raw: &RawEtcd, text: &Spanned<String>, member: &EtcdMember) {
    if member.secure && raw.ca.is_none() {
        let help = "write `ca`, the name of a `[ca.NAME]` of this file";
        scope.report.error_help(text.span, "missing_key", "`https` needs `ca`: who vouches for etcd", help);
    }
    let is_local = &*member.host == "localhost"
        || member.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !member.secure && !is_local && raw.insecure != Some(true) {
        let message = "`http` may not leave this machine";
        let help = "use `https` and `ca`, or write `insecure = true` if the network is to be trusted";
        scope.report.error_help(text.span, "etcd_plain", message, help);
    }
}

fn member(text: &str) -> Result<EtcdMember, Fault> {
    let bad = || Fault::new("bad_etcd", format!("`{}` is no address of etcd", shown(text))).help(HELP);
    let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(bad()),
    };
    if rest.contains('@') {
        // Not shown: it may be a password.
        let fault = Fault::new("secret_in_text", "the address of etcd holds a user or a password");
        return Err(fault.help("write `user` and `password_file`"));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let parsed: http::uri::Authority = authority.parse().map_err(|_| bad())?;
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
    let has_port = authority.rsplit_once(':').is_some_and(|(_, after)| !after.contains(']'));
    if host.is_empty() || parsed.port().is_some() != has_port {
        return Err(bad());
    }
    Ok(EtcdMember { secure, host: Arc::from(host), port: parsed.port_u16().unwrap_or(PORT) })
}

fn prefix(text: &str) -> Result<Arc<str>, Fault> {
    let good = text.starts_with('/')
        && !text.ends_with('/')
        && !text.contains("//")
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        return Ok(Arc::from(text));
    }
    let fault = Fault::new("bad_prefix", format!("`{}` is no prefix of keys", shown(text)));
    Err(fault.help("it begins with `/` and does not end with one, such as \"/ekiden/shop\""))
}

/// A text that is told to others: printable, without spaces.
fn plain(text: &str) -> Result<Arc<str>, Fault> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Arc::from(text));
    }
    Err(Fault::new("bad_address", format!("`{}` is no address", shown(text)))
        .help("such as \"https://control-1.internal\""))
}
