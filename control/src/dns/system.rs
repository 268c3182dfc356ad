//! The embedded [`Resolve`]: hickory with the system's `resolv.conf` and `hosts`, or one given name server.
//!
//! A and AAAA are asked apart, so that a failure of one family is told from its absence. Both files are looked at
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
use hickory_resolver::proto::rr::RData;

use super::{Answer, Family, Resolve, ResolveError, Resolving};

/// Longest wait for one packet.
const PACKET_MAX: Duration = Duration::from_secs(2);
/// Tries per question.
const TRIES: usize = 2;
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
            let (v4, v6) = tokio::join!(resolver.ipv4_lookup(&*name), resolver.ipv6_lookup(&*name));
            combine(records(v4), records(v6))
        })
    }
}

fn records(lookup: Result<Lookup, NetError>) -> Result<(Vec<IpAddr>, Duration), ResolveError> {
    let lookup = match lookup {
        Ok(lookup) => lookup,
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            return Err(match none.response_code {
                ResponseCode::NXDomain => ResolveError::NoSuchName,
                ResponseCode::NoError => ResolveError::NoAddress,
                other => ResolveError::Failed(other.to_string()),
            });
        }
        Err(error) => return Err(ResolveError::Failed(error.to_string())),
    };
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
            Ok(Answer { addresses, ttl: ttl.min(other), unknown: None })
        }
        (Ok((addresses, ttl)), Err(error)) => {
            Ok(Answer { addresses, ttl, unknown: failed(&error).then_some(Family::V6) })
        }
        (Err(error), Ok((addresses, ttl))) => {
            Ok(Answer { addresses, ttl, unknown: failed(&error).then_some(Family::V4) })
        }
        (Err(a), Err(b)) => Err(if failed(&b) { b } else { a }),
    }
}
