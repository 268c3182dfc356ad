//! Breakers: bounds on what a cluster and each of its endpoints have in hand, over all workers.
//!
//! A use is a guard, so that nothing that ends a request can keep it. Where nothing is bounded nothing is counted: what was
//! begun before a bound was set is not known to it. The requests of one endpoint are counted in its cell, as slots are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use ekiden_config::model::BreakerPolicy;

use crate::cell::EndpointCell;
use crate::stats::ClusterCell;

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Bound {
    /// Requests of the cluster.
    Requests,
    /// Requests of the cluster that have no connection yet.
    Pending,
    /// Connections of the cluster that carry a request.
    Connections,
    /// Requests of one endpoint.
    EndpointRequests,
    /// Connections of one endpoint that carry a request.
    EndpointConnections,
}

impl Bound {
    /// Every bound; the place of each is its number.
    pub const ALL: [Bound; 5] = [
        Bound::Requests,
        Bound::Pending,
        Bound::Connections,
        Bound::EndpointRequests,
        Bound::EndpointConnections,
    ];

    /// The word in metrics, that of its key; logs write `breaker_` before it.
    pub const fn word(self) -> &'static str {
        match self {
            Bound::Requests => "requests",
            Bound::Pending => "pending",
            Bound::Connections => "connections",
            Bound::EndpointRequests => "endpoint_requests",
            Bound::EndpointConnections => "endpoint_connections",
        }
    }
}

/// What a cluster has in hand. Outlives tables.
#[derive(Debug, Default)]
pub struct BreakerCell {
    used: [AtomicU32; 3],
    refused: [AtomicU64; Bound::ALL.len()],
}

impl BreakerCell {
    /// How much of a bound of the cluster is used; nothing for those of endpoints.
    pub fn used(&self, bound: Bound) -> u32 {
        self.used.get(bound as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// Times that a bound refused something.
    pub fn refused(&self, bound: Bound) -> u64 {
        self.refused.get(bound as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// Counts a refusal.
    pub fn note_refused(&self, bound: Bound) {
        if let Some(count) = self.refused.get(bound as usize) {
            count.fetch_add(1, Relaxed);
        }
    }
}

/// One more, unless there are as many already.
fn take(count: &AtomicU32, most: u32) -> bool {
    count.fetch_update(Relaxed, Relaxed, |now| (now < most).then(|| now + 1)).is_ok()
}

/// A use of the cluster. Given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    cell: Arc<ClusterCell>,
    bound: Bound,
}

impl Permit {
    /// Takes one; none where nothing is bounded.
    ///
    /// # Errors
    /// The bound is met; that is counted.
    pub fn take(cell: &Arc<ClusterCell>, bound: Bound, most: Option<u32>) -> Result<Option<Self>, Bound> {
        let (Some(most), Some(count)) = (most, cell.breaker.used.get(bound as usize)) else {
            return Ok(None);
        };
        if !take(count, most) {
            cell.breaker.note_refused(bound);
            return Err(bound);
        }
        Ok(Some(Self { cell: Arc::clone(cell), bound }))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(count) = self.cell.breaker.used.get(self.bound as usize) {
            count.fetch_sub(1, Relaxed);
        }
    }
}

/// A connection that carries a request, or, where it carries many at once, one that is open. Given back when it is dropped.
#[derive(Debug)]
pub struct Connected {
    _of_cluster: Option<Permit>,
    of_endpoint: Option<Arc<EndpointCell>>,
}

impl Connected {
    /// Takes one of the cluster and one of the endpoint.
    ///
    /// # Errors
    /// The bound that is met; that is counted.
    pub fn take(
        policy: &BreakerPolicy,
        cell: &Arc<ClusterCell>,
        endpoint: &Arc<EndpointCell>,
    ) -> Result<Self, Bound> {
        let of_endpoint = match policy.endpoint_connections {
            None => None,
            Some(most) if take(endpoint.connections(), most) => Some(Arc::clone(endpoint)),
            Some(_) => {
                cell.breaker.note_refused(Bound::EndpointConnections);
                return Err(Bound::EndpointConnections);
            }
        };
        // Made before the next step, so that a refusal there gives the one of the endpoint back.
        let mut this = Self { _of_cluster: None, of_endpoint };
        this._of_cluster = Permit::take(cell, Bound::Connections, policy.connections)?;
        Ok(this)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(endpoint) = &self.of_endpoint {
            endpoint.connections().fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixture::entries;
    use ekiden_config::names::{AppName, ClusterName};

    fn cell() -> Arc<ClusterCell> {
        Arc::new(ClusterCell::new(AppName::new("shop").unwrap(), ClusterName::new("web").unwrap(), 1))
    }

    #[test]
    fn a_bound_holds_and_what_is_dropped_is_given_back() {
        let cell = cell();
        let one = Permit::take(&cell, Bound::Pending, Some(1)).unwrap();
        assert_eq!(Permit::take(&cell, Bound::Pending, Some(1)).err(), Some(Bound::Pending));
        assert!(Permit::take(&cell, Bound::Requests, Some(1)).is_ok_and(|permit| permit.is_some()));
        assert!(Permit::take(&cell, Bound::Requests, None).is_ok_and(|permit| permit.is_none()));
        assert_eq!((cell.breaker.used(Bound::Pending), cell.breaker.used(Bound::Requests)), (1, 0));
        assert_eq!(cell.breaker.refused(Bound::Pending), 1);
        drop(one);
        assert!(Permit::take(&cell, Bound::Pending, Some(1)).is_ok());
        assert!(Permit::take(&cell, Bound::Pending, Some(0)).is_err());
    }

    #[test]
    fn a_connection_counts_twice_or_not_at_all() {
        let (cell, all) = (cell(), entries(&[1, 1]));
        let policy = |cluster, endpoint| BreakerPolicy {
            connections: cluster,
            endpoint_connections: endpoint,
            ..BreakerPolicy::default()
        };
        let both = policy(Some(2), Some(1));
        let one = Connected::take(&both, &cell, &all[0].cell).unwrap();
        let refused = |endpoint: usize| Connected::take(&both, &cell, &all[endpoint].cell).err();
        assert_eq!(refused(0), Some(Bound::EndpointConnections));
        let other = Connected::take(&both, &cell, &all[1].cell).unwrap();
        assert_eq!(cell.breaker.used(Bound::Connections), 2);
        let full = Connected::take(&policy(Some(2), None), &cell, &all[0].cell).err();
        assert_eq!(full, Some(Bound::Connections));
        drop(one);
        let _more = Connected::take(&policy(Some(2), None), &cell, &all[0].cell).unwrap();
        drop(other);
        // Refused by the cluster, it holds nothing of the endpoint.
        assert_eq!(
            Connected::take(&policy(Some(1), Some(1)), &cell, &all[1].cell).err(),
            Some(Bound::Connections)
        );
        assert_eq!(all[1].cell.connections().load(Relaxed), 0);
    }

    #[test]
    fn many_threads_never_take_more() {
        let cell = cell();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let cell = Arc::clone(&cell);
                std::thread::spawn(move || {
                    for _ in 0..5_000 {
                        let _permit = Permit::take(&cell, Bound::Requests, Some(3));
                        assert!(cell.breaker.used(Bound::Requests) <= 3);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(cell.breaker.used(Bound::Requests), 0);
    }
}
