//! The embedded [`Resolve`]: hickory with the system's `resolv.conf` and `hosts`, or one given name server.
//!
//! A and AAAA are asked apart, so that a failure of one family is told from its absence. A service (SRV) is its targets with the addresses
//! of each; one target that cannot be asked is a failure of the whole. Both files are looked at
//! before each question and read again when they changed: a container's resolver may change under a running
//! process. No cache of its own; control asks by TTL.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};

use ekiden_config::address::SERVICE;

use super::{Answer, Family, Resolve, ResolveError, Resolving, Service};

/// Longest wait for one packet.
const PACKET_MAX: Duration = Duration::from_secs(2);
/// Tries per question.
const TRIES: usize = 2;
/// Most targets of a service that are asked for; the most preferred ones.
const TARGETS_MAX: usize = 100;
/// Files whose change makes a new resolver.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Where questions go: the system's servers, or the one given.
#[derive(Debug)]
pub(crate) struct SystemResolve {
    server: Option<SocketAddr>,
    current: Mutex<Option<(Stamp, TokioResolver)>>,
}

/// What tells one version of [`FILES`] from another.
type Stamp = [Option<(u64, i64, i64, u64)>; 2];

fn stamp() -> Stamp {
    FILES.map(|path| fs::metadata(path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.size())))
}

impl SystemResolve {
    /// With the system's servers, or only the one given.
    pub(crate) fn new(server: Option<SocketAddr>) -> Self {
        Self { server, current: Mutex::new(None) }
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp();
        if let Some((then, resolver)) = &*current
            && *then == now
        {
            return Ok(resolver.clone());
        }
        let resolver = build(self.server)?;
        *current = Some((now, resolver.clone()));
        Ok(resolver)
    }
}

fn build(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match server {
        // Without a resolv.conf the hosts file and localhost still answer.
        None => TokioResolver::builder_tokio().unwrap_or_else(|_| {
            TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
        }),
        Some(address) => {
            let [mut udp, mut tcp] = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            (udp.port, tcp.port) = (address.port(), address.port());
            let server = NameServerConfig::new(address.ip(), true, vec![udp, tcp]);
            let config = ResolverConfig::from_name_servers(vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    options.timeout = options.timeout.min(PACKET_MAX);
    options.attempts = TRIES;
    builder.build()
}

impl Resolve for SystemResolve {
    fn resolve(&self, name: Arc<str>) -> Resolving {
        let resolver = self.resolver();
        Box::pin(async move {
            let resolver = resolver.map_err(|error| ResolveError::Failed(error.to_string()))?;
            match name.strip_prefix(SERVICE) {
                Some(service) => services(&resolver, service).await,
                None => addresses(&resolver, &name).await,
            }
        })
    }
}

async fn addresses(resolver: &TokioResolver, name: &str) -> Result<Answer, ResolveError> {
    let (v4, v6) = tokio::join!(resolver.ipv4_lookup(name), resolver.ipv6_lookup(name));
    combine(records(v4), records(v6))
}

/// The targets of a service, and the addresses of each. A target without an address is left out.
async fn services(resolver: &TokioResolver, name: &str) -> Result<Answer, ResolveError> {
    // With a dot at its end: a service is never searched for in other domains.
    let lookup = resolver.lookup(format!("{name}."), RecordType::SRV).await.map_err(|error| why(&error))?;
    let mut ttl = lookup.valid_until().saturating_duration_since(Instant::now());
    let mut targets: Vec<(u16, u16, u16, String)> = lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            // The root as target says that there is no such service (RFC 2782).
            RData::SRV(srv) if !srv.target.is_root() => {
                let target = srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
                Some((srv.priority, srv.weight, srv.port, target))
            }
            _ => None,
        })
        .collect();
    targets.sort();
    targets.dedup();
    targets.truncate(TARGETS_MAX);
    let mut services = Vec::new();
    for (priority, weight, port, target) in targets {
        match addresses(resolver, &format!("{target}.")).await {
            Ok(Answer { unknown: Some(family), .. }) => {
                return Err(ResolveError::Failed(format!(
                    "{target}: its {family:?} addresses could not be asked"
                )));
            }
            Ok(answer) => {
                ttl = ttl.min(answer.ttl);
                let target: Arc<str> = Arc::from(target);
                services.extend(answer.addresses.into_iter().map(|ip| Service {
                    priority,
                    target: Arc::clone(&target),
                    address: SocketAddr::new(ip.to_canonical(), port),
                    weight,
                }));
            }
            Err(ResolveError::NoSuchName | ResolveError::NoAddress) => {}
            Err(ResolveError::Failed(how)) => return Err(ResolveError::Failed(format!("{target}: {how}"))),
        }
    }
    Ok(Answer { addresses: Vec::new(), services, ttl, unknown: None })
}

/// Why there is no record.
fn why(error: &NetError) -> ResolveError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => ResolveError::NoSuchName,
            ResponseCode::NoError => ResolveError::NoAddress,
            other => ResolveError::Failed(other.to_string()),
        },
        error => ResolveError::Failed(error.to_string()),
    }
}

fn records(lookup: Result<Lookup, NetError>) -> Result<(Vec<IpAddr>, Duration), ResolveError> {
    let lookup = lookup.map_err(|error| why(&error))?;
    let addresses = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    Ok((addresses.collect(), lookup.valid_until().saturating_duration_since(Instant::now())))
}

type Half = Result<(Vec<IpAddr>, Duration), ResolveError>;

/// One answer from the two families.
fn combine(v4: Half, v6: Half) -> Result<Answer, ResolveError> {
    let failed = |error: &ResolveError| matches!(error, ResolveError::Failed(_));
    match (v4, v6) {
        (Ok((mut addresses, ttl)), Ok((more, other))) => {
            addresses.extend(more);
            Ok(Answer { addresses, services: Vec::new(), ttl: ttl.min(other), unknown: None })
        }
        (Ok((addresses, ttl)), Err(error)) => {
            Ok(Answer { addresses, services: Vec::new(), ttl, unknown: failed(&error).then_some(Family::V6) })
        }
        (Err(error), Ok((addresses, ttl))) => {
            Ok(Answer { addresses, services: Vec::new(), ttl, unknown: failed(&error).then_some(Family::V4) })
        }
        (Err(a), Err(b)) => Err(if failed(&b) { b } else { a }),
    }
}
