//! `[etcd]` and `[discovery.NAME]`: members, what goes together, which authority and identity are meant. Does not connect, and reads no file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::fleet::entry;
use super::process::file_path;
use super::{Fault, Scope, World};
use crate::model::{Discovery, Etcd, EtcdMember};
use crate::names::{AppName, TrustName};
use crate::raw::{RawEtcd, RawProcess, Spanned, shown};
use crate::source::Span;

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
    let who = Who {
        span: raw.span,
        endpoints: raw.endpoints.as_deref(),
        ca: raw.ca.as_ref(),
        identity: raw.identity.as_ref(),
        user: raw.user.as_ref(),
        password_file: raw.password_file.as_ref(),
        insecure: raw.insecure == Some(true),
    };
    let Discovery { members, ca, identity, user } = who.read(scope, world);
    let prefix = raw
        .prefix
        .as_ref()
        .map(|text| scope.accept(text.span, prefix(&text.value)))
        .unwrap_or(Some(PREFIX.into()));
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

/// Etcds that hold endpoints. `world` gets their names, also of those that have errors of their own.
pub(super) fn discoveries(
    scope: &mut Scope<'_, '_>,
    raw: &RawProcess,
    world: &mut World,
) -> BTreeMap<TrustName, Discovery> {
    let mut all = BTreeMap::new();
    for (key, raw) in raw.discovery.iter().flat_map(|map| &map.0) {
        let Some(name) = scope.name(key, TrustName::new) else { continue };
        let before = scope.report.errors();
        let apps = super::trust::apps(scope, raw.apps.as_deref());
        world.discoveries.insert(name.clone(), apps);
        let who = Who {
            span: raw.span,
            endpoints: raw.endpoints.as_deref(),
            ca: raw.ca.as_ref(),
            identity: raw.identity.as_ref(),
            user: raw.user.as_ref(),
            password_file: raw.password_file.as_ref(),
            insecure: raw.insecure == Some(true),
        };
        let read = who.read(scope, world);
        if raw.clean && scope.report.errors() == before && !read.members.is_empty() {
            all.insert(name, read);
        }
    }
    all
}

/// Where an etcd is and who asks it, as written.
struct Who<'a> {
    span: Span,
    endpoints: Option<&'a [Spanned<String>]>,
    ca: Option<&'a Spanned<String>>,
    identity: Option<&'a Spanned<String>>,
    user: Option<&'a Spanned<String>>,
    password_file: Option<&'a Spanned<String>>,
    insecure: bool,
}

impl Who<'_> {
    fn read(&self, scope: &mut Scope<'_, '_>, world: &World) -> Discovery {
        let mut members = Vec::new();
        for text in self.endpoints.unwrap_or_default() {
            let Some(one) = scope.accept(text.span, member(&text.value)) else { continue };
            self.judge(scope, text, &one);
            members.push(one);
        }
        let ca = self.ca.and_then(|text| entry(scope, text, ("CA", "unknown_ca"), world.authorities.keys()));
        let identity = self
            .identity
            .and_then(|text| entry(scope, text, ("identity", "unknown_identity"), world.identities.keys()));
        let password_file = self.password_file.and_then(|text| file_path(scope, text));
        if self.user.is_some() != self.password_file.is_some() {
            let message = "a user needs a password and a password a user, and one of them is missing";
            scope.report.error_help(self.span, "missing_key", message, "write `user` and `password_file`");
        }
        let user = self.user.map(|text| Arc::from(text.value.as_str())).zip(password_file);
        Discovery { members, ca, identity, user }
    }

    /// What a member's address asks of the rest of the table.
    fn judge(&self, scope: &mut Scope<'_, '_>, text: &Spanned<String>, member: &EtcdMember) {
        if member.secure && self.ca.is_none() {
            let help = "write `ca`, the name of a `[ca.NAME]` of this file";
            let message = "`https` needs `ca`: who vouches for etcd";
            scope.report.error_help(text.span, "missing_key", message, help);
        }
        let is_local = &*member.host == "localhost"
            || member.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !member.secure && !is_local && !self.insecure {
            let message = "`http` may not leave this machine";
            let help = "use `https` and `ca`, or write `insecure = true` if the network is to be trusted";
            scope.report.error_help(text.span, "etcd_plain", message, help);
        }
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
