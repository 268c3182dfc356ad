//! Tries an ejected endpoint until it is let in again: the probe of its cluster, else a connect, at once and then every
//! 250 ms; and while such checks pass, requests of clients where that does no harm (`tries`). What a pass means is core's
//! `readiness`.

use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::ProbeKind;
use ekiden_core::cell::EndpointCell;
use ekiden_core::readiness::{Event, RAMP_MS, TRIAL_EVERY_MS};
use tokio::time::Instant;

use super::shared::Shared;
use super::tries::Tries;
use super::{Probe, Verdict, ramp};

/// Longest wait for a connect, where the cluster has no probe that says another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs until the endpoint is not ejected any more and has its full share again.
pub(super) async fn run(shared: Arc<Shared>, cell: Arc<EndpointCell>) {
    let mut tries = Tries::new(&shared, &cell);
    let (mut next, mut well) = (Instant::now(), false);
    while cell.is_ejected() && !cell.is_gone() {
        let look = if well { tries.look() } else { None };
        if !cell.is_ejected() {
            break;
        }
        if let Some(look) = look.filter(|look| *look < next) {
            tokio::time::sleep_until(look).await;
            continue;
        }
        tokio::time::sleep_until(next).await;
        next = Instant::now() + Duration::from_millis(TRIAL_EVERY_MS);
        let Some(verdict) = check(&shared, &cell).await else { break };
        let answer = match &verdict {
            Ok(()) => Ok(()),
            Err(why) => Err(why.as_str()),
        };
        well = verdict.is_ok();
        if !well {
            tries.withdraw();
        }
        if let Some(change) = cell.on(Event::Trial(answer), shared.clock.now().unix_ms) {
            shared.changed(&cell, &change);
        }
        if !cell.is_ejected() {
            let (app, cluster) = cell.incarnation().place();
            if let Some(table) = (shared.hooks.table)().cluster_named(app, cluster) {
                table.cell.ejections.ended.add(1);
            }
        }
    }
    drop(tries);
    // It may have ended for another reason: the endpoint was removed, or ejection switched off.
    shared.observe(&cell);
    ramp::run(shared, cell, Duration::from_millis(RAMP_MS)).await;
}

/// One check, by what the table in force says; none when the endpoint or its cluster or the probe thread is gone.
async fn check(shared: &Shared, cell: &EndpointCell) -> Option<Verdict> {
    let _permit = shared.permit().await?;
    if cell.is_gone() {
        return None;
    }
    let (app, cluster) = cell.incarnation().place();
    let (probe, timeout): (Arc<dyn Probe>, Duration) = {
        let table = (shared.hooks.table)();
        let policy = table.cluster_named(app, cluster)?.cluster.policy.probe.as_ref().cloned();
        match policy {
            Some(policy) => ((shared.factory)(&policy.kind), policy.timeout),
            None => ((shared.factory)(&ProbeKind::Tcp), CONNECT_TIMEOUT),
        }
    };
    Some(shared.check(&*probe, cell, timeout).await)
}
