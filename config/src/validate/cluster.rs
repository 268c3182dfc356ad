//! Clusters: endpoints, probe and policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Fault, Planes, Scope, affinity, grpc, host, load, overload, readiness, resilience, shard, spread, trust,
};
use crate::address::{self, Target};
use crate::model::{
    Address, Balance, Cluster, ClusterPolicy, DnsEndpoint, Endpoint, EndpointTags, Owner, ProbeKind,
    ProbePolicy, Protocol, ProxyVersion,
};
use crate::names::{AppName, ClusterName, EndpointId, TrustName};
use crate::raw::{FlagOr, RawCluster, RawEndpoint, RawProbe, Spanned, Status, TextOr, shown};
use crate::source::Span;

use std::time::Duration;

/// Reads one cluster; `key` is its name as written. `None` after a finding.
pub(super) fn cluster(
    scope: &mut Scope<'_, '_>,
    app: &AppName,
    key: &Spanned<String>,
    name: ClusterName,
    raw: &RawCluster,
) -> Option<Cluster> {
    let before = scope.report.errors();
    let mut places = Places::default();
    for written in raw.endpoints.iter().flatten() {
        endpoint(scope, app, written, &mut places);
    }
    let protocol = raw.protocol.as_ref().map(|word| word.value.0).unwrap_or_default();
    let around = (raw.send_proxy.map(|word| word.0), protocol);
    let probe = raw.probe.as_ref().map(|written| probe(scope, written, around));
    // A router hears of endpoints apart from the words of their cluster.
    let is_empty = places.endpoints.is_empty() && places.names.is_empty() && !scope.world.is_router();
    if raw.clean && is_empty && scope.report.errors() == before {
        let message = format!("the cluster `{name}` has no endpoints");
        let help = "every request to it is answered with 503 until the API adds one";
        scope.report.warning(key.span, "empty_cluster", message, help);
    }
    let readiness = readiness::readiness(scope, raw);
    let tls = trust::cluster(scope, app, raw.tls.as_ref());
    if let (Protocol::Auto, None | Some(FlagOr::Flag(false)), Some(word)) =
        (protocol, &raw.tls, &raw.protocol)
    {
        let message = "`auto` is chosen in the TLS handshake, and the cluster is plain";
        scope.report.error_help(word.span, "needs_tls", message, "write `tls`, or \"h2\" or \"http1\"");
    }
    let endpoints: Vec<Arc<Endpoint>> = places.endpoints.into_values().map(Arc::new).collect();
    let shard = raw.shard.as_ref().and_then(|written| shard::shard(scope, raw, written, &endpoints));
    if let (Protocol::Http2 | Protocol::Auto, Some(_), Some(word)) = (protocol, raw.send_proxy, &raw.protocol)
    {
        let message =
            "a connection that carried a PROXY header serves one client, and those of HTTP/2 are shared";
        scope.report.error_help(word.span, "conflict", message, "write \"http1\", or leave `send_proxy` out");
    }
    let affinity = raw.affinity.as_ref().and_then(|written| affinity::affinity(scope, app, raw, written));
    spread::check(scope, raw, &endpoints);
    let probe_load = raw.probe_load.as_ref().and_then(|written| load::probes(scope, raw.balance, written));
    let (queue, slots) = overload::queue(scope, raw);
    let breaker = resilience::breaker(scope, raw);
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    let policy = ClusterPolicy {
        balance: raw.balance.map_or(Balance::default(), |word| word.0),
        probe: match probe {
            Some(probe) => Some(probe?),
            None => None,
        },
        pool_idle: raw.pool_idle.and_then(|idle| u32::try_from(idle).ok()).unwrap_or(1_024),
        pool_idle_timeout: raw.pool_idle_timeout.unwrap_or(Duration::from_secs(60)),
        peer_router: raw.peer_router.unwrap_or(false),
        report_load: raw.report_load.unwrap_or(false),
        probe_load,
        queue,
        slots,
        retry_budget: resilience::budget(raw.retry_budget.as_ref()),
        breaker,
        readiness,
        subset: spread::subset(raw),
        adaptive: spread::adaptive(scope, raw),
        tls,
        protocol,
        send_proxy: raw.send_proxy.map(|word| word.0),
        shard,
        affinity,
    };
    Some(Cluster {
        name,
        policy: Arc::new(policy),
        endpoints: Arc::new(endpoints),
        names: Arc::new(places.names),
    })
}

/// Endpoints read so far.
#[derive(Default)]
struct Places {
    endpoints: BTreeMap<EndpointId, Endpoint>,
    names: Vec<DnsEndpoint>,
    /// Ids, and names without id, with their places.
    seen: BTreeMap<String, Span>,
}

fn endpoint(scope: &mut Scope<'_, '_>, app: &AppName, written: &TextOr<RawEndpoint>, places: &mut Places) {
    match written {
        TextOr::Text(text) => place(scope, app, (text, None), places),
        TextOr::Long(raw) => {
            if let (true, Some(text)) = (raw.clean, &raw.address) {
                place(scope, app, (text, Some(raw)), places);
            }
        }
    }
}

fn place(
    scope: &mut Scope<'_, '_>,
    app: &AppName,
    (text, raw): (&Spanned<String>, Option<&RawEndpoint>),
    places: &mut Places,
) {
    match scope.accept(text.span, target(&text.value)) {
        None => {}
        Some(Target::Address(address)) => {
            let own = scope.world.own.iter().find(|(own, _)| address::is_own(&address, own, &[]));
            if let Some((_, what)) = own {
                let message = format!("`{}` is this process's own {what} address", shown(&text.value));
                let help = "requests from outside must not reach it";
                scope.report.error_help(text.span, "own_address", message, help);
                return;
            }
            fixed(scope, text, raw, address, places);
        }
        Some(Target::Name { name, port }) => dns(scope, text, raw, (name, port), places),
        Some(Target::Service { name }) => service(scope, text, raw, name, places),
        Some(Target::Keys { name }) if knows(scope, app, text, &name) => {
            service(scope, text, raw, name, places)
        }
        // It was said why not.
        Some(Target::Keys { .. }) => {}
    }
}

/// Parses an address text.
pub(super) fn target(text: &str) -> Result<Target, Fault> {
    address::parse(text)
        .map_err(|error| Fault::new("bad_address", format!("`{}` {error}", shown(text))).help(error.advice()))
}

fn fixed(
    scope: &mut Scope<'_, '_>,
    text: &Spanned<String>,
    raw: Option<&RawEndpoint>,
    address: Address,
    places: &mut Places,
) {
    let id_text = raw.and_then(|raw| raw.id.as_ref()).unwrap_or(text);
    let Some(id) = endpoint_id(scope, id_text) else { return };
    if taken(scope, id.as_str(), id_text.span, places) {
        return;
    }
    let release = raw.and_then(|raw| raw.release.as_ref());
    let zone = zone(scope, raw);
    let release = release.and_then(|text| free_text(scope, text));
    let mut tags = EndpointTags { dns_name: None, zone, release }.shared();
    EndpointTags::reuse(&mut tags, places.endpoints.values().next_back());
    let endpoint = Endpoint {
        id: id.clone(),
        address,
        tags,
        weight: weight(raw),
        priority: priority(raw),
        drain: raw.and_then(|raw| raw.drain).unwrap_or(false),
        owner: Owner::File,
    };
    places.endpoints.insert(id, endpoint);
}

fn dns(
    scope: &mut Scope<'_, '_>,
    text: &Spanned<String>,
    raw: Option<&RawEndpoint>,
    (name, port): (Arc<str>, u16),
    places: &mut Places,
) {
    if let Some(raw) = raw.filter(|raw| raw.drain.is_some() || raw.release.is_some()) {
        let message = "`drain` and `release` have no meaning with a DNS name";
        scope.report.error_help(raw.span, "no_meaning", message, "leave them out");
    }
    let id_text = raw.and_then(|raw| raw.id.as_ref());
    let id = match id_text {
        Some(id_text) => match endpoint_id(scope, id_text) {
            Some(id) => Some(id),
            None => return,
        },
        None => None,
    };
    let key = id.as_ref().map_or_else(|| format!("{name}:{port}"), |id| id.as_str().to_owned());
    if !taken(scope, &key, id_text.unwrap_or(text).span, places) {
        let (weight, zone, priority) = (weight(raw), zone(scope, raw), priority(raw));
        places.names.push(DnsEndpoint { id, name, port, weight, zone, priority });
    }
}

/// Whether an app may follow keys of an etcd. A router has no part in it: control says what is there.
fn knows(scope: &mut Scope<'_, '_>, app: &AppName, text: &Spanned<String>, name: &str) -> bool {
    let world = scope.world;
    let Some((named, _)) = address::keys_of(name).filter(|_| world.planes != Planes::Router) else {
        return true;
    };
    let found = world.discoveries.iter().find(|(known, _)| known.as_str() == named);
    match found {
        Some((_, apps)) if world.may_use(app, apps) => true,
        Some(_) => {
            let message = format!("the app `{app}` may not use `[discovery.{named}]`");
            let help = format!("add \"{app}\" to `apps` of [discovery.{named}] in the process file");
            scope.report.error_help(text.span, "discovery_denied", message, &help);
            false
        }
        None => {
            let written = Spanned { value: named.to_owned(), span: text.span };
            let known = world.discoveries.keys().map(TrustName::as_str).collect::<Vec<_>>();
            scope.unknown("unknown_discovery", "discovery", &written, known.into_iter());
            false
        }
    }
}

/// A service, whose records say ports and weights; or keys of an etcd, whose values do.
fn service(
    scope: &mut Scope<'_, '_>,
    text: &Spanned<String>,
    raw: Option<&RawEndpoint>,
    name: Arc<str>,
    places: &mut Places,
) {
    let has = |raw: &&RawEndpoint| {
        raw.drain.is_some() || raw.release.is_some() || raw.id.is_some() || raw.weight.is_some()
    };
    if let Some(raw) = raw.filter(has) {
        let message = "`id`, `weight`, `drain` and `release` have no meaning with a service or keys: it says them itself";
        scope.report.error_help(raw.span, "no_meaning", message, "leave them out");
    }
    if !taken(scope, &name, text.span, places) {
        let (zone, priority) = (zone(scope, raw), priority(raw));
        places.names.push(DnsEndpoint { id: None, name, port: 0, weight: 1, zone, priority });
    }
}

fn endpoint_id(scope: &mut Scope<'_, '_>, text: &Spanned<String>) -> Option<EndpointId> {
    match EndpointId::new(&text.value) {
        Ok(id) => Some(id),
        Err(error) => {
            let help =
                "an id is 1 to 128 visible characters without \" \\ ? # %; give one with `id = \"...\"`";
            let message = format!("the endpoint id `{}` {error}", shown(&text.value));
            scope.report.error_help(text.span, "bad_name", message, help);
            None
        }
    }
}

fn taken(scope: &mut Scope<'_, '_>, id: &str, span: Span, places: &mut Places) -> bool {
    if let Some(first) = places.seen.get(id) {
        let line = scope.report.line(*first);
        let message = format!("two endpoints have the id `{id}`");
        let help = format!("the first stands in line {line}; give one of them another `id`");
        scope.report.error_help(span, "duplicate_endpoint", message, help);
        return true;
    }
    places.seen.insert(id.to_owned(), span);
    false
}

fn weight(raw: Option<&RawEndpoint>) -> u16 {
    raw.and_then(|raw| raw.weight).and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1)
}

fn priority(raw: Option<&RawEndpoint>) -> u8 {
    raw.and_then(|raw| raw.priority).and_then(|priority| u8::try_from(priority).ok()).unwrap_or(0)
}

fn zone(scope: &mut Scope<'_, '_>, raw: Option<&RawEndpoint>) -> Option<Arc<str>> {
    raw.and_then(|raw| raw.zone.as_ref()).and_then(|text| free_text(scope, text))
}

/// A free text that ends up in logs and metrics: no control characters.
pub(super) fn free_text(scope: &mut Scope<'_, '_>, text: &Spanned<String>) -> Option<Arc<str>> {
    if text.value.chars().any(char::is_control) {
        scope.report.error(text.span, "bad_text", "the text holds a control character");
        return None;
    }
    Some(Arc::from(text.value.as_str()))
}

fn probe(
    scope: &mut Scope<'_, '_>,
    raw: &RawProbe,
    (send_proxy, protocol): (Option<ProxyVersion>, Protocol),
) -> Option<ProbePolicy> {
    let tcp = raw.tcp.as_ref().is_some_and(|tcp| tcp.value);
    let kind = match (&raw.path, tcp, &raw.grpc) {
        (None, false, Some(service)) => grpc::probe(scope, raw, service, protocol)?,
        (Some(path), false, None) => http_probe(scope, raw, (path, send_proxy))?,
        (None, true, None) => {
            let http_only = [
                ("host", raw.host.as_ref().map(|text| text.span)),
                ("status", raw.status.as_ref().map(|status| status.span)),
                ("body", raw.body.as_ref().map(|text| text.span)),
            ];
            for (key, span) in http_only.into_iter().filter_map(|(key, span)| span.map(|span| (key, span))) {
                scope.report.error(span, "no_meaning", format!("`{key}` has no meaning in a TCP probe"));
            }
            ProbeKind::Tcp
        }
        (Some(_), _, _) | (None, true, Some(_)) | (None, false, None) => {
            if raw.clean {
                let help = "such as { path = \"/healthz\" }, { tcp = true } or { grpc = \"\" }";
                let message = "a probe has exactly one of `path`, `tcp = true` and `grpc`";
                scope.report.error_help(raw.span, "one_of", message, help);
            }
            return None;
        }
    };
    Some(ProbePolicy {
        kind,
        interval: raw.interval.unwrap_or(Duration::from_secs(2)),
        timeout: raw.timeout.unwrap_or(Duration::from_secs(1)),
        rise: raw.rise.and_then(|rise| u8::try_from(rise).ok()).unwrap_or(2),
        fall: raw.fall.and_then(|fall| u8::try_from(fall).ok()).unwrap_or(3),
    })
}

fn http_probe(
    scope: &mut Scope<'_, '_>,
    raw: &RawProbe,
    (path, send_proxy): (&Spanned<String>, Option<ProxyVersion>),
) -> Option<ProbeKind> {
    let good = path.value.starts_with('/') && path.value.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !good {
        let message = format!("`{}` is not a path for a request", shown(&path.value));
        let help = "begin with `/`; visible ASCII without `#`, the rest percent-encoded";
        scope.report.error_help(path.span, "bad_path", message, help);
    }
    let host = match &raw.host {
        Some(text) => Some(scope.accept(text.span, host::authority(&text.value))?),
        None => None,
    };
    let Status(low, high) = raw.status.as_ref().map_or(Status(200, 299), |status| status.value);
    let body = raw.body.as_ref().map(|body| Arc::from(body.value.as_str()));
    let path = Arc::from(path.value.as_str());
    good.then_some(ProbeKind::Http { path, host, status: (low, high), body, send_proxy })
}
