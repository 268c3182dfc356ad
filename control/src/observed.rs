//! What control makes of the router's observations: endpoints that refuse connects though control calls them ready stand in
//! the status, until they are seen otherwise.
//!
//! Moves nothing: who owns the placement does (DESIGN section 4).

use std::collections::BTreeMap;
use std::future::poll_fn;

use ekiden_config::doors::{EndpointKey, Observation, Observations};
use tokio::sync::watch;

use crate::plane::stopped;
use crate::status::{Refusing, StatusCell};

/// Endpoints in the status, at most.
const REFUSING_MAX: usize = 1_000;

/// Takes observations until told to stop, and no more then: they are another one's.
pub(crate) async fn heed(observations: Observations, status: StatusCell, mut stop: watch::Receiver<bool>) {
    loop {
        let news = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            news = poll_fn(|context| observations.poll(context.waker())) => news,
        };
        status.update(|status| {
            status.observations_dropped = observations.dropped();
            take(&mut status.refusing_connects, news);
        });
    }
}

fn take(refusing: &mut BTreeMap<String, Refusing>, news: BTreeMap<EndpointKey, Observation>) {
    for (EndpointKey { app, cluster, endpoint }, seen) in news {
        let name = format!("{app}/{cluster}/{endpoint}");
        if !seen.refuses_connects {
            refusing.remove(&name);
        } else if refusing.len() < REFUSING_MAX || refusing.contains_key(&name) {
            refusing.insert(name, Refusing { since_unix_ms: seen.since_unix_ms, reason: seen.reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use ekiden_config::names::{AppName, ClusterName, EndpointId};

    use super::*;

    fn news(number: usize, refuses_connects: bool) -> BTreeMap<EndpointKey, Observation> {
        let key = EndpointKey {
            app: AppName::default_app(),
            cluster: ClusterName::new("web").unwrap(),
            endpoint: EndpointId::new(&format!("e{number}")).unwrap(),
        };
        let seen =
            Observation { state: "ejected", reason: "test".to_owned(), since_unix_ms: 7, refuses_connects };
        BTreeMap::from([(key, seen)])
    }

    #[test]
    fn an_endpoint_stands_there_while_it_refuses_and_not_too_many_do() {
        let mut refusing = BTreeMap::new();
        take(&mut refusing, news(1, true));
        assert_eq!(refusing["default/web/e1"], Refusing { since_unix_ms: 7, reason: "test".to_owned() });
        take(&mut refusing, news(1, false));
        assert!(refusing.is_empty());
        (0..REFUSING_MAX + 10).for_each(|number| take(&mut refusing, news(number, true)));
        assert_eq!(refusing.len(), REFUSING_MAX);
    }
}
