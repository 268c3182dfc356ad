//! The overlay: what stands on top of the files. API endpoints and drain marks by cluster, and the merge of one
//! cluster from its four sources.
//!
//! Pure. Who may own an id: the file before DNS, DNS before the API. An endpoint that loses, or whose cluster is
//! gone, is kept and reported as dormant; it comes back when its place is free again.

use std::collections::BTreeMap;
use std::sync::Arc;

use ekiden_config::model::{Cluster, Endpoint};
use ekiden_config::names::{AppName, ClusterName, EndpointId};

use crate::store::Standing;

/// A cluster of an app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterKey {
    /// The app.
    pub(crate) app: AppName,
    /// The cluster inside it.
    pub(crate) cluster: ClusterName,
}

/// An endpoint of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The app.
    pub(crate) app: AppName,
    /// The cluster inside it.
    pub(crate) cluster: ClusterName,
    /// The endpoint inside that.
    pub(crate) id: EndpointId,
}

impl Key {
    /// The cluster it belongs to.
    pub(crate) fn place(&self) -> ClusterKey {
        ClusterKey { app: self.app.clone(), cluster: self.cluster.clone() }
    }
}

/// API endpoints and drain marks, as the journal leads to them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Overlay {
    clusters: BTreeMap<ClusterKey, Part>,
    endpoints: usize,
    marks: usize,
}

/// What the overlay holds for one cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Part {
    /// Endpoints owned by the API.
    pub(crate) endpoints: BTreeMap<EndpointId, (Arc<Endpoint>, Standing)>,
    /// Drain as told by the API, for endpoints that others own.
    pub(crate) marks: BTreeMap<EndpointId, bool>,
}

impl Overlay {
    /// Takes one change in.
    pub(crate) fn apply(&mut self, record: &crate::store::Record) {
        use crate::store::Record;
        let place = record.key().place();
        let id = &record.key().id;
        let part = self.clusters.entry(place.clone()).or_default();
        match record {
            Record::Put(_, endpoint, standing) => {
                let new = part.endpoints.insert(id.clone(), (Arc::clone(endpoint), *standing)).is_none();
                self.endpoints += usize::from(new);
            }
            Record::Delete(_) => self.endpoints -= usize::from(part.endpoints.remove(id).is_some()),
            Record::Mark(_, drain) => {
                self.marks += usize::from(part.marks.insert(id.clone(), *drain).is_none())
            }
            Record::Unmark(_) => self.marks -= usize::from(part.marks.remove(id).is_some()),
        }
        if part.endpoints.is_empty() && part.marks.is_empty() {
            self.clusters.remove(&place);
        }
    }

    /// What it holds for a cluster.
    pub(crate) fn part(&self, place: &ClusterKey) -> Option<&Part> {
        self.clusters.get(place)
    }

    /// Everything, by cluster.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&ClusterKey, &Part)> {
        self.clusters.iter()
    }

    /// The API's own endpoint of this key, and how it stands to the others.
    pub(crate) fn endpoint(&self, key: &Key) -> Option<&(Arc<Endpoint>, Standing)> {
        self.clusters.get(&key.place())?.endpoints.get(&key.id)
    }

    /// The drain mark of this key.
    pub(crate) fn mark(&self, key: &Key) -> Option<bool> {
        self.clusters.get(&key.place())?.marks.get(&key.id).copied()
    }

    /// Number of API endpoints, dormant ones too.
    pub(crate) fn endpoint_count(&self) -> usize {
        self.endpoints
    }

    /// Number of drain marks.
    pub(crate) fn mark_count(&self) -> usize {
        self.marks
    }
}

/// Why an endpoint that someone wrote is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dormancy {
    /// Its cluster is in no accepted file now.
    NoCluster,
    /// A file or DNS has an endpoint of the same id.
    Shadowed,
    /// It is an address of this very process.
    OwnAddress,
}

impl Dormancy {
    /// For people and the API.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Dormancy::NoCluster => "the cluster is in no accepted configuration",
            Dormancy::Shadowed => "a file or DNS has an endpoint of the same id",
            Dormancy::OwnAddress => "it is this process's own control or telemetry address",
        }
    }
}

/// An endpoint kept but not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dormant {
    /// The endpoint.
    pub(crate) endpoint: Arc<Endpoint>,
    /// Why.
    pub(crate) why: Dormancy,
}

/// A merged cluster.
#[derive(Debug)]
pub(crate) struct Merged {
    /// What is served.
    pub(crate) cluster: Arc<Cluster>,
    /// What was left out.
    pub(crate) dormant: Vec<Dormant>,
}

/// Merges one cluster: the file's version, DNS results, the overlay's part. `old` is the version served now; parts
/// equal to it stay pointer-equal, the whole cluster too. `own` says whether an address is this process's own.
pub(crate) fn merge(
    base: &Arc<Cluster>,
    dns: Vec<Arc<Endpoint>>,
    part: Option<&Part>,
    old: Option<&Arc<Cluster>>,
    own: &dyn Fn(&Endpoint) -> bool,
) -> Merged {
    let mut dormant = Vec::new();
    let mut keep = |endpoint: &Arc<Endpoint>, why: Option<Dormancy>| {
        let why = if own(endpoint) { Some(Dormancy::OwnAddress) } else { why };
        dormant.extend(why.map(|why| Dormant { endpoint: Arc::clone(endpoint), why }));
        why.is_none()
    };
    let adopted = |id: &EndpointId| {
        part.and_then(|part| part.endpoints.get(id))
            .is_some_and(|(_, standing)| *standing == Standing::Adopted)
    };
    let mut endpoints: Vec<Arc<Endpoint>> =
        base.endpoints.iter().filter(|one| !adopted(&one.id) && keep(one, None)).cloned().collect();
    let mut added: BTreeMap<EndpointId, Arc<Endpoint>> = BTreeMap::new();
    let api = part.into_iter().flat_map(|part| part.endpoints.values());
    let served = api.filter(|(_, standing)| *standing != Standing::Starting).map(|(one, _)| Arc::clone(one));
    for endpoint in dns.into_iter().filter(|one| !adopted(&one.id)).chain(served) {
        let taken = at(&endpoints, &endpoint.id).is_some() || added.contains_key(&endpoint.id);
        if keep(&endpoint, taken.then_some(Dormancy::Shadowed)) {
            added.insert(endpoint.id.clone(), kept(old, endpoint));
        }
    }
    if !added.is_empty() {
        // Both are sorted; the sort finds the two runs and merges them.
        endpoints.extend(added.into_values());
        endpoints.sort_by(|a, b| a.id.cmp(&b.id));
    }
    for (id, drain) in part.into_iter().flat_map(|part| &part.marks) {
        if adopted(id) {
            // The mark is for the one that it stands in for.
            continue;
        }
        let found = at(&endpoints, id).and_then(|at| endpoints.get_mut(at));
        if let Some(endpoint) = found.filter(|endpoint| endpoint.drain != *drain) {
            let marked = Endpoint { drain: *drain, ..Endpoint::clone(endpoint) };
            *endpoint = kept(old, Arc::new(marked));
        }
    }
    Merged { cluster: reused(base, endpoints, old), dormant }
}

/// Where an id stands in a list sorted by id.
fn at(endpoints: &[Arc<Endpoint>], id: &EndpointId) -> Option<usize> {
    endpoints.binary_search_by(|endpoint| endpoint.id.cmp(id)).ok()
}

/// The old pointer when the endpoint did not change.
fn kept(old: Option<&Arc<Cluster>>, endpoint: Arc<Endpoint>) -> Arc<Endpoint> {
    let before = old.and_then(|cluster| cluster.endpoints.get(at(&cluster.endpoints, &endpoint.id)?));
    match before {
        Some(before) if **before == *endpoint => Arc::clone(before),
        _ => endpoint,
    }
}

fn same(a: &[Arc<Endpoint>], b: &[Arc<Endpoint>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

fn reused(base: &Arc<Cluster>, endpoints: Vec<Arc<Endpoint>>, old: Option<&Arc<Cluster>>) -> Arc<Cluster> {
    if same(&endpoints, &base.endpoints) {
        return Arc::clone(base);
    }
    match old {
        Some(old) if same(&endpoints, &old.endpoints) => {
            if Arc::ptr_eq(&old.policy, &base.policy) && Arc::ptr_eq(&old.names, &base.names) {
                return Arc::clone(old);
            }
            Arc::new(Cluster { endpoints: Arc::clone(&old.endpoints), ..Cluster::clone(base) })
        }
        _ => Arc::new(Cluster { endpoints: Arc::new(endpoints), ..Cluster::clone(base) }),
    }
}

#[cfg(test)]
mod tests;
