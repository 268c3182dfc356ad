//! What DNS answers mean: names to endpoints, with the last addresses kept through every kind of failure.
//!
//! Pure: answers come in, endpoints go out. Without an id each record is an endpoint `NAME/ADDRESS`; with an id the
//! name is one endpoint that keeps its address while the answer still holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::{Address, DnsEndpoint, Endpoint, Owner};
use ekiden_config::names::{EndpointId, NAME_MAX};

use super::{Answer, RECORDS_MAX, ResolveError};
use crate::fnv;
use crate::overlay::ClusterKey;

/// Shortest wait before asking again.
const ASK_MIN: Duration = Duration::from_secs(1);
/// Longest wait before asking again after an answer.
const ASK_MAX: Duration = Duration::from_secs(300);
/// Longest wait before asking again after a failure.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What is known of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The last addresses, sorted.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Failures since the last answer.
    pub(crate) failures: u32,
    /// Why the last question failed, and since when (milliseconds since the Unix epoch).
    pub(crate) failing: Option<(String, u64)>,
}

/// What an answer changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Absorbed {
    /// The addresses are others than before.
    pub(crate) changed: bool,
    /// The name began to fail, or failed again; the text says why.
    pub(crate) failed: Option<String>,
    /// The name answers again after failing.
    pub(crate) recovered: bool,
}

/// All names of the table in force, and the addresses chosen for names with an id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    known: BTreeMap<Arc<str>, Known>,
    chosen: BTreeMap<(ClusterKey, EndpointId), IpAddr>,
}

impl Names {
    /// Starts from what an earlier process knew.
    pub(crate) fn remember(
        &mut self,
        known: impl IntoIterator<Item = (Arc<str>, BTreeSet<IpAddr>)>,
        chosen: impl IntoIterator<Item = ((ClusterKey, EndpointId), IpAddr)>,
    ) {
        let fresh =
            known.into_iter().map(|(name, addresses)| (name, Known { addresses, ..Known::default() }));
        self.known.extend(fresh);
        self.chosen.extend(chosen);
    }

    /// Everything known, by name.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&Arc<str>, &Known)> {
        self.known.iter()
    }

    /// The addresses chosen for names with an id.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = (&(ClusterKey, EndpointId), &IpAddr)> {
        self.chosen.iter()
    }

    /// Forgets names that no cluster holds any more. `has` says whether a cluster has a name with this id.
    pub(crate) fn retain(
        &mut self,
        names: &BTreeSet<Arc<str>>,
        has: impl Fn(&ClusterKey, &EndpointId) -> bool,
    ) {
        self.known.retain(|name, _| names.contains(name));
        self.chosen.retain(|(place, id), _| has(place, id));
    }

    /// Takes an answer or a failure in.
    pub(crate) fn absorb(
        &mut self,
        name: &Arc<str>,
        answer: Result<Answer, ResolveError>,
        now_ms: u64,
    ) -> Absorbed {
        let known = self.known.entry(Arc::clone(name)).or_default();
        let answer = match answer {
            Ok(answer) if answer.addresses.is_empty() => Err(ResolveError::NoAddress),
            other => other,
        };
        match answer {
            Ok(answer) => {
                let mut addresses: BTreeSet<IpAddr> =
                    answer.addresses.into_iter().map(|address| address.to_canonical()).collect();
                if let Some(family) = answer.unknown {
                    addresses.extend(known.addresses.iter().filter(|address| family.holds(address)));
                }
                while addresses.len() > RECORDS_MAX {
                    addresses.pop_last();
                }
                let changed = addresses != known.addresses;
                let recovered = known.failing.take().is_some();
                known.addresses = addresses;
                known.failures = 0;
                Absorbed { changed, failed: None, recovered }
            }
            Err(error) => {
                let why = error.to_string();
                let since = known.failing.as_ref().map_or(now_ms, |(_, since)| *since);
                known.failing = Some((why.clone(), since));
                known.failures = known.failures.saturating_add(1);
                Absorbed { changed: false, failed: Some(why), recovered: false }
            }
        }
    }

    /// The endpoints that a cluster's names stand for now. Remembers the address chosen for a name with an id.
    pub(crate) fn expand(&mut self, place: &ClusterKey, names: &[DnsEndpoint]) -> Vec<Arc<Endpoint>> {
        let mut endpoints = Vec::new();
        for name in names {
            let none = BTreeSet::new();
            let addresses = self.known.get(&name.name).map_or(&none, |known| &known.addresses);
            match &name.id {
                None => endpoints.extend(addresses.iter().filter_map(|address| {
                    let socket = SocketAddr::new(*address, name.port);
                    Some(endpoint(record_id(&name.name, socket)?, socket, name))
                })),
                Some(id) => {
                    let slot = (place.clone(), id.clone());
                    let kept = self.chosen.get(&slot).filter(|kept| addresses.contains(kept)).copied();
                    if let Some(address) = kept.or_else(|| addresses.first().copied()) {
                        self.chosen.insert(slot, address);
                        endpoints.push(endpoint(id.clone(), SocketAddr::new(address, name.port), name));
                    }
                }
            }
        }
        endpoints
    }
}

fn endpoint(id: EndpointId, address: SocketAddr, name: &DnsEndpoint) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        id,
        address: Address::Tcp(address),
        weight: name.weight,
        zone: name.zone.clone(),
        priority: name.priority,
        drain: false,
        dns_name: Some(Arc::clone(&name.name)),
        release: None,
        owner: Owner::Source,
    })
}

/// `NAME/ADDRESS`; a name too long for an id is cut and marked with its hash, so that two of them stay apart.
fn record_id(name: &str, address: SocketAddr) -> Option<EndpointId> {
    let plain = format!("{name}/{address}");
    if plain.len() <= NAME_MAX {
        return EndpointId::new(&plain).ok();
    }
    let cut: String = name.chars().take(NAME_MAX / 2 - 1).collect();
    EndpointId::new(&format!("{cut}~{}/{address}", fnv::hex_of(name.as_bytes()))).ok()
}

/// How long to wait before asking again: the TTL within bounds, or a growing pause after failures.
pub(crate) fn next_ask(answer: &Result<Answer, ResolveError>, failures: u32) -> Duration {
    match answer {
        Ok(answer) if !answer.addresses.is_empty() => answer.ttl.clamp(ASK_MIN, ASK_MAX),
        Ok(_) | Err(_) => {
            let pause = ASK_MIN.saturating_mul(1 << failures.saturating_sub(1).min(8));
            pause.min(RETRY_MAX)
        }
    }
}
