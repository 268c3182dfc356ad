//! How things are, for the API and for metrics.

use super::WEB;
use super::board::{DynoView, Told};
use super::placing::id;
use super::supervisor::{Dyno, Phase, Seat, Supervisor};

impl Supervisor {
    /// Shows how things are.
    pub(super) fn tell(&mut self) {
        self.counts.lines_dropped = self.lines.dropped();
        let cluster = self.place.cluster.to_string();
        let restarts = |seat: &Seat| self.falls.get(seat).map_or(0, |falls| falls.restarts);
        let view = |dyno: &Dyno| DynoView {
            name: dyno.name(),
            kind: dyno.kind.clone(),
            cluster: if dyno.kind == WEB { cluster.clone() } else { dyno.kind.clone() },
            endpoint: id(dyno).filter(|_| dyno.kind == WEB).map(|id| id.to_string()),
            release: dyno.release.name.clone(),
            address: match dyno.phase {
                Phase::Ready(address) => address.map(|address| address.to_string()),
                Phase::Draining { address, .. } => Some(address.to_string()),
                Phase::Starting | Phase::Stopping => None,
            },
            state: dyno.state(),
            reason: dyno.reason.clone(),
            since_unix_ms: dyno.since_unix_ms,
            pid: dyno.pid,
            restarts: restarts(&(dyno.release.number, dyno.kind.clone(), dyno.number)),
        };
        let mut dynos: Vec<DynoView> = self.dynos.iter().map(view).collect();
        let alone = self.falls.iter().filter(|((release, kind, number), _)| {
            let here =
                |dyno: &Dyno| (dyno.release.number, &dyno.kind, dyno.number) == (*release, kind, *number);
            !self.dynos.iter().any(here)
        });
        dynos.extend(alone.map(|((release, kind, number), falls)| DynoView {
            name: format!("{kind}.{number}"),
            kind: kind.clone(),
            cluster: kind.clone(),
            endpoint: None,
            release: self.release_name(*release),
            address: None,
            state: "waiting",
            reason: Some(falls.why.clone()),
            since_unix_ms: falls.since_unix_ms,
            pid: None,
            restarts: falls.restarts,
        }));
        dynos.sort_by(|a, b| (&a.name, &a.release).cmp(&(&b.name, &b.release)));
        let under_way = self.rollout.as_ref().map(|rollout| rollout.view.clone());
        let rollouts = self.rollouts.iter().cloned().chain(under_way).collect();
        let told = Told { place: self.place.clone(), dynos, rollouts, counts: self.counts.clone() };
        self.duties.board.replace(told);
    }

    fn release_name(&self, number: u64) -> String {
        let next = self.rollout.as_ref().map(|rollout| &rollout.release);
        let known =
            [Some(&self.current), next].into_iter().flatten().find(|release| release.number == number);
        known.map_or_else(String::new, |release| release.name.clone())
    }
}
