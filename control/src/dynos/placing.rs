//! Dynos before the router: placed as endpoints when they are ready, without new requests before they go, ended when they have
//! finished what they had.

use std::net::SocketAddr;
use std::sync::Arc;

use ekiden_config::doors::{EndpointStatus, Refusal, Verdict};
use ekiden_config::model::{Address, Endpoint, EndpointTags, Owner};
use ekiden_config::names::EndpointId;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::WEB;
use super::process::Order;
use super::supervisor::{Dyno, Phase, Supervisor};
use crate::placement::Placed;
use crate::plane::verdict;

impl Supervisor {
    /// Whether the router is to send requests to a dyno that is ready.
    fn serves(&self, dyno: &Dyno) -> bool {
        let shifts = self.rollout.as_ref().filter(|rollout| rollout.is_shifting());
        let waits = self.rollout.as_ref().is_some_and(|rollout| rollout.is_guarding());
        dyno.release.number == self.current.number && !waits
            || shifts.is_some_and(|shifts| shifts.release.number == dyno.release.number)
    }

    /// Tells the control loop where the web dynos are, if that changed.
    pub(super) async fn place(&mut self) {
        let mut endpoints = Vec::new();
        let serving: Vec<bool> = self.dynos.iter().map(|dyno| self.serves(dyno)).collect();
        for (dyno, serves) in self.dynos.iter_mut().zip(serving).filter(|(dyno, _)| dyno.kind == WEB) {
            match dyno.phase {
                Phase::Ready(Some(address)) if serves => {
                    dyno.was_placed = true;
                    endpoints.extend(endpoint(dyno, address, false));
                }
                // Its rollout stepped back: nothing new, and it finishes what it has.
                Phase::Ready(Some(address)) if dyno.was_placed => {
                    endpoints.extend(endpoint(dyno, address, true));
                }
                Phase::Draining { address, .. } => endpoints.extend(endpoint(dyno, address, true)),
                Phase::Starting | Phase::Ready(_) | Phase::Stopping => {}
            }
        }
        endpoints.sort_by(|a, b| a.id.cmp(&b.id));
        if endpoints != self.placed {
            self.placed.clone_from(&endpoints);
            self.publish += 1;
            let (reply, ticket) = oneshot::channel();
            self.duties.last.note(&self.place, &endpoints);
            let placed = Placed { place: self.place.clone(), endpoints, reply };
            let mut turns = self.duties.turns.clone();
            let told = tokio::select! {
                // Control is gone: so is the process, soon.
                sent = self.duties.above.placing.send(placed) => sent.is_ok(),
                // Another control is in its place, and is told next.
                Ok(()) = turns.changed() => false,
            };
            if told {
                let (publish, applied) = (self.publish, self.applied.clone());
                let part = format!("app:{}", self.place.app);
                spawn_local(async move {
                    let Ok(heard) = ticket.await else { return };
                    match verdict(&heard.ticket).await {
                        Verdict::Applied { refused, .. } => match refusal(&refused, &part) {
                            None => drop(applied.send(publish)),
                            Some(reason) => {
                                tracing::error!(%reason, "the router kept its old table: placements of dynos are not in force");
                            }
                        },
                        Verdict::Rejected { reason } => {
                            tracing::error!(%reason, "the router does not take the placements of dynos");
                        }
                    }
                });
            }
        }
        let newest = self.publish;
        for dyno in &mut self.dynos {
            if let Phase::Draining { publish: publish @ None, .. } = &mut dyno.phase {
                *publish = Some(newest);
            }
        }
    }

    /// What the router says of the web dynos.
    pub(super) fn statuses(&self) -> Vec<EndpointStatus> {
        self.duties.inspect.0.endpoints(&self.place.app, &self.place.cluster).unwrap_or_default()
    }

    /// Notes which dynos the router has in its table.
    pub(super) fn see(&mut self) {
        let unseen = |dyno: &Dyno| dyno.was_placed && !dyno.was_seen;
        if !self.dynos.iter().any(unseen) {
            return;
        }
        let statuses = self.statuses();
        for dyno in self.dynos.iter_mut().filter(|dyno| unseen(dyno)) {
            let own = id(dyno);
            dyno.was_seen = statuses.iter().any(|status| Some(&status.id) == own.as_ref());
        }
    }

    /// Ends dynos that have finished their requests, or had their time.
    pub(super) fn drain(&mut self) {
        if !self.dynos.iter().any(|dyno| matches!(dyno.phase, Phase::Draining { .. })) {
            return;
        }
        let statuses = self.statuses();
        let (published, timeout) = (self.published, self.duties.drain_timeout);
        let mut late = Vec::new();
        for dyno in &mut self.dynos {
            let (name, own) = (dyno.name(), id(dyno));
            let Phase::Draining { publish, since, quiet, .. } = &mut dyno.phase else { continue };
            let seen = publish.is_some_and(|publish| published >= publish);
            if seen && !*quiet {
                *quiet = true;
                tracing::info!(dyno = %name, release = %dyno.release.name, "it gets no new requests");
            }
            let in_flight = statuses
                .iter()
                .find(|status| Some(&status.id) == own.as_ref())
                .map(|status| status.in_flight);
            let over = since.elapsed() >= timeout;
            // Without a status nobody counts: a cluster that was taken out of the table may have requests all the same. One that
            // was never there has none.
            let is_idle = in_flight == Some(0) || (in_flight.is_none() && !dyno.was_seen);
            if !(over || seen && is_idle) {
                continue;
            }
            let in_flight = in_flight.unwrap_or(0);
            if over && in_flight > 0 {
                let seconds = timeout.as_secs();
                tracing::warn!(dyno = %name, in_flight, seconds, "its time to drain is over: it is ended with requests in flight");
                late.push(format!(
                    "{name} of {}: {in_flight} in flight after {seconds} s",
                    dyno.release.name
                ));
            } else {
                tracing::info!(dyno = %name, release = %dyno.release.name, "none is in flight: SIGTERM");
            }
            dyno.enter(Phase::Stopping);
            dyno.orders.send_replace(Order::End);
        }
        self.counts.late += late.len() as u64;
        if let Some(rollout) = &mut self.rollout {
            rollout.view.late.extend(late);
        }
    }
}

/// Why the router serves an app, and so its endpoints, as before.
fn refusal<'r>(refused: &'r [Refusal], part: &str) -> Option<&'r str> {
    refused.iter().find(|refusal| refusal.part == part).map(|refusal| refusal.reason.as_str())
}

/// A dyno as an endpoint: its name, and the release, since two of a name may be there at once. A third part where even that is
/// the same: one drains while another takes its place.
pub(super) fn id(dyno: &Dyno) -> Option<EndpointId> {
    let mut id = format!("{}.{}@v{}", dyno.kind, dyno.number, dyno.release.number);
    if dyno.again {
        id = format!("{id}-{}", dyno.serial);
    }
    EndpointId::new(&id).ok()
}

fn endpoint(dyno: &Dyno, address: SocketAddr, drain: bool) -> Option<Arc<Endpoint>> {
    Some(Arc::new(Endpoint {
        id: id(dyno)?,
        address: Address::Tcp(address),
        tags: EndpointTags {
            release: Some(Arc::from(dyno.release.name.as_str())),
            ..EndpointTags::default()
        }
        .shared(),
        weight: 1,
        priority: 0,
        drain,
        owner: Owner::Source,
    }))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::rc::Rc;
    use std::time::Duration;

    use ekiden_config::doors::{Generation, Inspect};
    use ekiden_config::names::{AppName, ClusterName};
    use tokio::sync::{mpsc, watch};
    use tokio::time::Instant;

    use super::super::board::Board;
    use super::super::ledger::Ledger;
    use super::super::lines::Lines;
    use super::super::process::Event;
    use super::super::release::Release;
    use super::super::thread::{Above, Duties, InspectDoor};
    use super::super::{Formation, Launcher, ProcfileRun};
    use super::*;
    use crate::overlay::ClusterKey;

    struct NoRouter;

    impl Inspect for NoRouter {
        fn generation(&self) -> Generation {
            Generation::default()
        }

        fn endpoints(&self, _: &AppName, _: &ClusterName) -> Option<Vec<EndpointStatus>> {
            None
        }
    }

    fn supervisor(placing: mpsc::Sender<Placed>) -> Supervisor {
        let place = ClusterKey { app: AppName::default_app(), cluster: ClusterName::new(WEB).unwrap() };
        let run = ProcfileRun {
            file: PathBuf::from("Procfile"),
            formation: Formation::default(),
            ready_path: None,
            boot_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(1),
            launcher: Launcher { program: PathBuf::from("sh"), before: Vec::new() },
            colour: false,
        };
        let duties = Duties {
            run,
            run_dir: None,
            turns: watch::channel(Above { store: None, placing: placing.clone() }).1,
            above: Above { store: None, placing },
            last: Default::default(),
            inspect: InspectDoor(Arc::new(NoRouter)),
            board: Board::new(place),
            drain_timeout: Duration::from_secs(60),
        };
        Supervisor::new(duties, Rc::new(RefCell::new(Ledger::open(None))), Lines::start(false).unwrap().0)
    }

    fn ready(release: u64) -> Dyno {
        let name = format!("v{release}");
        let release = Release { number: release, name, commands: BTreeMap::new(), environment: Vec::new() };
        Dyno {
            serial: release.number,
            kind: WEB.to_owned(),
            number: 1,
            release: Rc::new(release),
            again: false,
            was_placed: false,
            was_seen: false,
            phase: Phase::Ready(Some(SocketAddr::from(([127, 0, 0, 1], 1)))),
            pid: None,
            reason: None,
            started: Instant::now(),
            since_unix_ms: 0,
            orders: watch::channel(Order::Run).0,
        }
    }

    #[tokio::test]
    async fn one_that_was_placed_drains_also_when_its_rollout_has_stepped_back() {
        let (placing, mut placed) = mpsc::channel(8);
        let mut supervisor = supervisor(placing);
        let drains = |placed: Option<Placed>| {
            placed.unwrap().endpoints.iter().map(|one| one.drain).collect::<Vec<_>>()
        };
        tokio::task::LocalSet::new()
            .run_until(async {
                // It serves, and then its release does no more.
                supervisor.dynos.push(ready(2));
                supervisor.current = Rc::clone(&supervisor.dynos[0].release);
                supervisor.place().await;
                assert_eq!(drains(placed.recv().await), [false]);
                supervisor.current = Rc::clone(&ready(1).release);
                supervisor.place().await;
                assert_eq!(drains(placed.recv().await), [true]);
                // Nor has it a seat: it drains all the same, and nobody says that it has no requests.
                supervisor.dynos[0].was_seen = true;
                supervisor.trim();
                supervisor.place().await;
                supervisor.published = supervisor.publish;
                supervisor.drain();
                assert_eq!(supervisor.dynos[0].state(), "draining");
                // One that no table has ever had has none: nobody waits for it.
                supervisor.dynos[0].was_seen = false;
                supervisor.drain();
                assert_eq!(supervisor.dynos[0].state(), "stopping");
            })
            .await;
    }

    #[tokio::test]
    async fn one_whose_process_has_died_leaves_the_table_before_its_group_has_ended() {
        let (placing, mut placed) = mpsc::channel(8);
        let mut supervisor = supervisor(placing);
        tokio::task::LocalSet::new()
            .run_until(async {
                supervisor.dynos.push(ready(1));
                supervisor.current = Rc::clone(&supervisor.dynos[0].release);
                supervisor.place().await;
                assert_eq!(placed.recv().await.unwrap().endpoints.len(), 1);
                supervisor.take(1, Event::Died("it ended with signal: 9".to_owned()));
                supervisor.place().await;
                assert!(placed.recv().await.unwrap().endpoints.is_empty(), "it is still placed");
                assert_eq!((supervisor.falls.len(), supervisor.counts.restarts), (1, 1));
                supervisor.take(1, Event::Ended("it ended with signal: 9".to_owned()));
                assert_eq!(
                    (supervisor.dynos.len(), supervisor.counts.restarts),
                    (0, 1),
                    "it is counted twice"
                );
            })
            .await;
    }

    #[test]
    fn an_app_that_was_refused_is_served_with_its_old_endpoints() {
        let one = |part: &str| Refusal { part: part.to_owned(), reason: "too large".to_owned() };
        assert_eq!(refusal(&[one("listener:a"), one("app:shop")], "app:default"), None);
        assert_eq!(refusal(&[one("app:shop"), one("app:default")], "app:default"), Some("too large"));
    }
}
