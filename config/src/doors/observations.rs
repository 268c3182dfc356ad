//! The up door: what the router saw of endpoints, for control. Bounded, and coalesced by endpoint: who looks late sees the
//! newest of each and misses what came between.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::names::{AppName, ClusterName, EndpointId};

/// Endpoints with news that nobody has looked at, at most; news of more are dropped and counted.
pub const OBSERVATIONS_MAX: usize = 10_000;

/// Which endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointKey {
    /// The app that owns the cluster.
    pub app: AppName,
    /// The cluster.
    pub cluster: ClusterName,
    /// The endpoint's id in it.
    pub endpoint: EndpointId,
}

/// What was seen of an endpoint last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Its state, as in [`super::EndpointStatus`].
    pub state: &'static str,
    /// Why it is in that state.
    pub reason: String,
    /// When it came into that state, milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// It is set aside because connects fail, though control and its checks call it ready: what runs there, if anything,
    /// does not listen where control says.
    pub refuses_connects: bool,
}

#[derive(Debug, Default)]
struct State {
    news: BTreeMap<EndpointKey, Observation>,
    dropped: u64,
    waker: Option<Waker>,
}

/// Both ends of the door. Cloning gives another hold of the same.
#[derive(Debug, Clone, Default)]
pub struct Observations(Arc<Mutex<State>>);

impl Observations {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what was seen of an endpoint; replaces what was told of it and not looked at. Called by the router, never on a
    /// worker.
    pub fn note(&self, key: EndpointKey, seen: Observation) {
        let mut state = self.state();
        if state.news.len() >= OBSERVATIONS_MAX && !state.news.contains_key(&key) {
            state.dropped += 1;
            return;
        }
        state.news.insert(key, seen);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes all news; without any, the waker is woken at the next. One caller: control.
    pub fn poll(&self, waker: &Waker) -> Poll<BTreeMap<EndpointKey, Observation>> {
        let mut state = self.state();
        if state.news.is_empty() {
            state.waker = Some(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut state.news))
    }

    /// News dropped so far because too many waited.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> EndpointKey {
        EndpointKey {
            app: AppName::default_app(),
            cluster: ClusterName::new("web").unwrap(),
            endpoint: EndpointId::new(&format!("e{number}")).unwrap(),
        }
    }

    fn seen(since_unix_ms: u64) -> Observation {
        Observation { state: "ready", reason: "test".to_owned(), since_unix_ms, refuses_connects: false }
    }

    #[test]
    fn the_newest_of_each_endpoint_is_taken_once() {
        let door = Observations::default();
        assert!(door.poll(Waker::noop()).is_pending());
        door.note(key(1), seen(1));
        door.note(key(2), seen(2));
        door.clone().note(key(1), seen(3));
        let Poll::Ready(news) = door.poll(Waker::noop()) else { panic!("no news") };
        assert_eq!(news.into_iter().collect::<Vec<_>>(), [(key(1), seen(3)), (key(2), seen(2))]);
        assert!(door.poll(Waker::noop()).is_pending());
    }

    #[test]
    fn what_nobody_looks_at_is_bounded() {
        let door = Observations::default();
        (0..OBSERVATIONS_MAX + 5).for_each(|number| door.note(key(number), seen(0)));
        door.note(key(0), seen(9));
        assert_eq!(door.dropped(), 5);
        let Poll::Ready(news) = door.poll(Waker::noop()) else { panic!("no news") };
        assert_eq!((news.len(), &news[&key(0)]), (OBSERVATIONS_MAX, &seen(9)));
    }
}
