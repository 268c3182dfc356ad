//! What only the process file holds: listeners and settings of the process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::target;
use super::{
    Fault, Scope, World, admission, etcd, fleet, host, limit, network, overload, proxy, raw as other, spread,
    tls, trust,
};
use crate::address::{Target, overlaps};
use crate::diagnostic::Report;
use crate::model::{
    AccessLog, Address, ClientAuthMode, ClientConnections, ConnectionLimits, ControlAddress, Fleet,
    HttpLimits, Listener, ListenerProtocol, LogFormat, LogTarget, Process, Rate, Removals, Role,
    TrustSources,
};
use crate::names::ListenerName;
use crate::raw::{
    Off, RawAccessLog, RawLimits, RawListener, RawProcess, RawRate, Spanned, missing_listener, shown,
};
use crate::source::Span;

/// Where metrics are served unless the file says otherwise.
pub(crate) const TELEMETRY_DEFAULT: &str = "127.0.0.1:9901";
/// Where the control API is served unless the file says otherwise.
pub(crate) const CONTROL_DEFAULT: &str = "127.0.0.1:9902";

/// The process's own part of the file.
#[derive(Debug)]
pub(crate) struct CheckedProcess {
    pub(crate) listeners: BTreeMap<ListenerName, Arc<Listener>>,
    pub(crate) trust: TrustSources,
    pub(crate) process: Process,
    pub(crate) apps_dir: Option<PathBuf>,
}

/// Reads listeners and settings, and fills what apps need to know into `world`.
pub(crate) fn process(raw: &RawProcess, world: &mut World, report: &mut Report<'_>) -> CheckedProcess {
    let (none, mut known) = (World::default(), World::default());
    super::store::names(&mut Scope { report, world: &none, patterns: 0 }, raw, &mut known);
    world.stores.clone_from(&known.stores);
    let mut scope = Scope { report, world: &known, patterns: 0 };
    let mut sockets = Sockets::default();
    let written = raw.listener.as_ref().map(|map| map.0.as_slice()).unwrap_or_default();
    if raw.listener.is_some() && written.is_empty() {
        missing_listener(raw.span, scope.report);
    }
    let mut listeners = BTreeMap::new();
    for (key, raw) in written {
        let Some(name) = scope.name(key, ListenerName::new) else { continue };
        world.listeners.insert(name.clone(), raw.role.as_ref().map_or(Role::Edge, |role| role.value.0));
        if let Some(protocol) = &raw.protocol
            && protocol.value.0 != ListenerProtocol::Http
        {
            world.protocols.insert(name.clone(), protocol.value.0);
        }
        let mode = raw.client_auth.as_ref().and_then(|auth| auth.mode);
        if mode.is_some_and(|mode| mode.0 != ClientAuthMode::None) {
            world.asks_certificates.insert(name.clone());
        }
        if let Some(listener) = listener(&mut scope, name.clone(), raw, &mut sockets) {
            listeners.insert(name, Arc::new(listener));
        }
    }
    let ambassador = world.listeners.values().any(|role| *role != Role::Edge);
    let telemetry = telemetry(&mut scope, raw, &mut sockets);
    let control = control(&mut scope, raw, ambassador, &mut sockets);
    world.own = sockets.own;
    let trust = trust::sources(&mut scope, raw, world);
    let fleet = fleet::fleet(&mut scope, raw.fleet.as_ref(), world);
    let etcd = raw.etcd.as_ref().and_then(|raw| etcd::etcd(&mut scope, raw, world));
    let discoveries = etcd::discoveries(&mut scope, raw, world);
    let process = Process { fleet, etcd, discoveries, ..settings(&mut scope, raw, telemetry, control) };
    let apps_dir = raw.apps.as_ref().and_then(|text| file_path(&mut scope, text));
    CheckedProcess { listeners, trust, process, apps_dir }
}

/// Sockets the process would bind, to find two that are the same.
#[derive(Default)]
struct Sockets {
    bound: Vec<(Address, String)>,
    own: Vec<(Address, &'static str)>,
}

impl Sockets {
    fn bind(&mut self, scope: &mut Scope<'_, '_>, span: Span, address: &Address, what: String) {
        if let Some((_, other)) = self.bound.iter().find(|(other, _)| overlaps(other, address)) {
            let message = format!("`{address}` is already the address of {other}");
            scope.report.error_help(span, "address_taken", message, "choose another address or port");
        }
        self.bound.push((address.clone(), what));
    }
}

/// An address to bind: no DNS name.
pub(super) fn bind_address(scope: &mut Scope<'_, '_>, text: &Spanned<String>) -> Option<Address> {
    let bound = |text: &str| match target(text)? {
        Target::Address(address) => Ok(address),
        Target::Name { .. } | Target::Service { .. } | Target::Keys { .. } => {
            Err(Fault::new("bad_address", format!("`{}` is a name", shown(text)))
                .help("an address to bind is an IP address or unix:/path, such as \"127.0.0.1:8080\""))
        }
    };
    scope.accept(text.span, bound(&text.value))
}

fn listener(
    scope: &mut Scope<'_, '_>,
    name: ListenerName,
    raw: &RawListener,
    sockets: &mut Sockets,
) -> Option<Listener> {
    let before = scope.report.errors();
    let address = raw.address.as_ref().and_then(|text| {
        let address = bind_address(scope, text)?;
        sockets.bind(scope, text.span, &address, format!("listener `{name}`"));
        Some(address)
    });
    let trust =
        raw.trust.iter().flatten().filter_map(|text| scope.accept(text.span, network(&text.value))).collect();
    let admission = admission::listener(scope, raw.allow.as_ref(), raw.deny.as_ref());
    let rate_limits = limit::list(scope, raw.limit.as_ref(), ("listener", None));
    let via = raw.via.as_ref().and_then(|text| scope.accept(text.span, pseudonym(&text.value)));
    let connections = connection_limits(scope, raw);
    let protocol = other::listener(scope, raw);
    let accept_proxy = proxy::sources(scope, raw.accept_proxy.as_ref());
    let (tls, redirect_https) = (tls::listener(scope, raw), tls::redirect(scope, raw));
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    Some(Listener {
        name,
        address: address?,
        role: raw.role.as_ref().map_or(Role::default(), |role| role.value.0),
        protocol,
        trust,
        limits: limits(raw.limits.as_ref()),
        connections,
        h2c: raw.h2c.unwrap_or(false),
        allow_underscore: raw.allow_underscore.unwrap_or(false),
        merge_slashes: raw.merge_slashes.unwrap_or(false),
        forwarded: raw.forwarded.unwrap_or(false),
        via,
        admission,
        rate_limits: (!rate_limits.is_empty()).then(|| Arc::new(rate_limits)),
        tls,
        redirect_https,
        accept_proxy,
    })
}

fn pseudonym(text: &str) -> Result<Arc<str>, Fault> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.bytes().all(good) {
        return Ok(Arc::from(text));
    }
    Err(Fault::new("bad_name", format!("`{}` is not a name for `Via`", shown(text)))
        .help("letters, digits, - _ . only"))
}

fn limits(raw: Option<&RawLimits>) -> HttpLimits {
    let mut limits = HttpLimits::default();
    let Some(raw) = raw else { return limits };
    let narrow = |size: Option<crate::raw::Bytes>, default: u32| {
        size.and_then(|size| u32::try_from(size.0).ok()).unwrap_or(default)
    };
    limits.request_line = narrow(raw.request_line, limits.request_line);
    limits.field = narrow(raw.field, limits.field);
    limits.head = narrow(raw.head, limits.head);
    limits.fields = raw.fields.and_then(|fields| u16::try_from(fields).ok()).unwrap_or(limits.fields);
    limits.head_deadline = raw.head_deadline.unwrap_or(limits.head_deadline);
    limits.keepalive_idle = raw.keepalive_idle.unwrap_or(limits.keepalive_idle);
    limits.body_idle = raw.body_idle.unwrap_or(limits.body_idle);
    limits.body = match raw.body {
        Some(Off::Set(bytes)) => Some(bytes.0),
        Some(Off::Off) | None => None,
    };
    let rate = |written: Option<Off<crate::raw::Bytes>>, default| match written {
        Some(Off::Set(bytes)) => u32::try_from(bytes.0).ok(),
        Some(Off::Off) => None,
        None => default,
    };
    limits.min_body_rate = rate(raw.min_body_rate, limits.min_body_rate);
    limits.min_response_rate = rate(raw.min_response_rate, limits.min_response_rate);
    limits
}

fn connection_limits(scope: &mut Scope<'_, '_>, raw: &RawListener) -> ConnectionLimits {
    let per_client = match raw.max_connections_per_client {
        Some(Off::Set(count)) => ClientConnections::AtMost(u32::try_from(count).unwrap_or(u32::MAX)),
        Some(Off::Off) => ClientConnections::Unbounded,
        None => ClientConnections::Half,
    };
    let mut rate = |rate: Option<Off<RawRate>>, burst: Option<&Spanned<u64>>, key: &str| {
        let Some(Off::Set(RawRate { count, per })) = rate else {
            if let Some(burst) = burst {
                let message = "a burst without a rate bounds nothing";
                scope.report.error_help(
                    burst.span,
                    "burst_without_rate",
                    message,
                    format!("write `{key}` too"),
                );
            }
            return None;
        };
        let count = u32::try_from(count).ok()?;
        let burst = burst.map_or(Some(count), |burst| u32::try_from(burst.value).ok())?;
        Some(Rate { count, per, burst })
    };
    ConnectionLimits {
        per_client,
        client_rate: rate(
            raw.connection_rate_per_client,
            raw.connection_burst_per_client.as_ref(),
            "connection_rate_per_client",
        ),
        rate: rate(raw.connection_rate, raw.connection_burst.as_ref(), "connection_rate"),
    }
}

fn telemetry(scope: &mut Scope<'_, '_>, raw: &RawProcess, sockets: &mut Sockets) -> Option<Address> {
    let default = Spanned { value: TELEMETRY_DEFAULT.to_owned(), span: raw.span.first() };
    let text = raw.telemetry.as_ref().and_then(|raw| raw.address.as_ref()).unwrap_or(&default);
    if text.value == "off" {
        return None;
    }
    let address = bind_address(scope, text)?;
    sockets.bind(scope, text.span, &address, "telemetry".to_owned());
    sockets.own.push((address.clone(), "telemetry"));
    Some(address)
}

fn control(
    scope: &mut Scope<'_, '_>,
    raw: &RawProcess,
    ambassador: bool,
    sockets: &mut Sockets,
) -> ControlAddress {
    let written = raw.control.as_ref().and_then(|raw| raw.address.as_ref());
    let token = raw.control.as_ref().is_some_and(|raw| raw.token_file.is_some());
    if written.is_some_and(|text| text.value == "off") {
        return ControlAddress::Off;
    }
    if written.is_none() && ambassador {
        // Control makes it a unix socket in the run directory.
        return ControlAddress::Default;
    }
    let default = Spanned { value: CONTROL_DEFAULT.to_owned(), span: raw.span.first() };
    let text = written.unwrap_or(&default);
    let Some(address) = bind_address(scope, text) else { return ControlAddress::Default };
    sockets.bind(scope, text.span, &address, "control".to_owned());
    sockets.own.push((address.clone(), "control"));
    if let Address::Tcp(tcp) = &address
        && !token
    {
        let help = "add `token_file`, or use \"unix:/path\"";
        if ambassador {
            let message =
                "a TCP control address beside inbound or outbound listeners needs `control.token_file`";
            scope.report.error_help(text.span, "control_needs_token", message, help);
        } else if !tcp.ip().is_loopback() {
            let message =
                "the control API is reachable from outside and has no token: it refuses every request";
            scope.report.warning(text.span, "control_open", message, help);
        }
    }
    if written.is_none() { ControlAddress::Default } else { ControlAddress::At(address) }
}

fn settings(
    scope: &mut Scope<'_, '_>,
    raw: &RawProcess,
    telemetry: Option<Address>,
    control: ControlAddress,
) -> Process {
    let token = raw.control.as_ref().and_then(|raw| raw.token_file.as_ref());
    let control_token_file = token.and_then(|text| file_path(scope, text));
    let hosts = raw.control.as_ref().and_then(|raw| raw.hosts.as_deref()).unwrap_or_default();
    let plain = |text: &str| host::plain(text, text).map(Arc::from);
    let control_hosts = hosts.iter().filter_map(|text| scope.accept(text.span, plain(&text.value))).collect();
    Process {
        telemetry,
        control,
        control_token_file,
        control_hosts,
        removals: removals(raw),
        control_stuck_after: stuck_after(raw),
        run_dir: raw.run_dir.as_ref().and_then(|text| file_path(scope, text)),
        workers: raw.workers.as_ref().and_then(|workers| u16::try_from(workers.value).ok()),
        drain_timeout: raw.drain_timeout.unwrap_or(Duration::from_secs(30)),
        drain_grace: raw.drain_grace.unwrap_or(Duration::from_secs(1)),
        access_log: access_log(scope, raw.access_log.as_ref()),
        max_connections: raw.max_connections.as_ref().and_then(|count| u32::try_from(count.value).ok()),
        overload: overload::ceilings(raw.overload.as_ref()),
        fleet: Fleet::default(),
        place: spread::place(scope, raw),
        etcd: None,
        discoveries: Default::default(),
    }
}

fn stuck_after(raw: &RawProcess) -> Duration {
    let written = raw.control.as_ref().and_then(|raw| raw.stuck_after);
    written.unwrap_or(Duration::from_secs(30))
}

fn removals(raw: &RawProcess) -> Removals {
    let raw = raw.control.as_ref().and_then(|raw| raw.removals.as_ref());
    let default = Removals::default();
    Removals {
        share: raw
            .and_then(|raw| raw.share)
            .and_then(|share| u8::try_from(share).ok())
            .unwrap_or(default.share),
        hold: raw.and_then(|raw| raw.hold).unwrap_or(default.hold),
    }
}

fn access_log(scope: &mut Scope<'_, '_>, raw: Option<&RawAccessLog>) -> AccessLog {
    let format = raw.and_then(|raw| raw.format).map_or(LogFormat::default(), |word| word.0);
    let to = match raw.and_then(|raw| raw.to.as_ref()) {
        None => LogTarget::Stdout,
        Some(text) => match text.value.as_str() {
            "stdout" => LogTarget::Stdout,
            "off" => LogTarget::Off,
            path if path.contains('/') => file_path(scope, text).map_or(LogTarget::Stdout, LogTarget::File),
            other => {
                let help = "\"stdout\", \"off\", or a path that holds a `/`, such as \"./access.log\"";
                let message = format!("unknown value `{}`", shown(other));
                scope.report.error_help(text.span, "unknown_value", message, help);
                LogTarget::Stdout
            }
        },
    };
    AccessLog { format, to }
}

pub(super) fn file_path(scope: &mut Scope<'_, '_>, text: &Spanned<String>) -> Option<PathBuf> {
    if text.value.chars().any(char::is_control) {
        scope.report.error(text.span, "bad_text", "a path holds a control character");
        return None;
    }
    Some(PathBuf::from(&text.value))
}
