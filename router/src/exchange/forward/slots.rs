//! The wait for a slot of an endpoint: joins the line of the cluster and leaves it with a slot, or with a reason.
//!
//! Core keeps the line (`core::overload`). Here are the client that may go away, the time that may be over, and tables that
//! change meanwhile.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ekiden_config::model::SlotPolicy;
use ekiden_core::cell::EndpointCell;
use ekiden_core::cluster::Attempt;
use ekiden_core::outcome::{Cause, Phase};
use ekiden_core::overload::Shed;
use ekiden_core::overload::line::{Due, Look, Rules, Verdict};
use ekiden_core::overload::slots::Ticket;

use super::{Forward, Queued, Step};
use crate::exchange::downstream::Downstream;
use crate::exchange::leg::Home;
use crate::exchange::{Workspace, overload};
use crate::worker::connection::Connection;

impl Forward<'_> {
    /// Whether others stand in line for what this request needs: whoever comes now goes behind them. A line for endpoints
    /// that are gone, or that this request has tried, is not its line.
    pub(super) fn others_wait(&self, ws: &Workspace) -> bool {
        self.cluster.cluster.policy.slots.is_some()
            && self.cluster.cell.gate.waiting() > 0
            && self.cluster.is_full(&ws.tried)
    }

    /// Whether a slot is all that lacks.
    pub(super) fn lacks_slot(&self, ws: &Workspace) -> bool {
        self.cluster.cluster.policy.slots.is_some() && self.cluster.is_full(&ws.tried)
    }

    /// Waits for a slot and goes on with its endpoint. `None` when everything has to be looked at anew.
    pub(super) async fn await_slot<D: Downstream>(
        &mut self,
        connection: &mut Connection<D>,
        ws: &mut Workspace,
    ) -> Result<Option<Step>, Cause> {
        let Some(policy) = self.cluster.cluster.policy.slots.clone() else { return Ok(None) };
        let worker = Rc::clone(&self.worker);
        let stats = Arc::clone(&self.cluster.cell);
        let priority = self.entry.route.priority;
        let shard = stats.shard(worker.id);
        ws.trace.phase = Phase::Queue;
        let began = worker.clock.read();
        let mut seen = worker.waiters.changes();
        let rules = self.rules(&policy, ws, began.us());
        let Some(mut ticket) = Ticket::join(&stats, priority, &self.tried_uids, &rules, began.us()) else {
            shard.queue_refused.add(1);
            return Err(Cause::QueueFull);
        };
        shard.queued.add(1);
        let queued = Queued { worker: &worker, stats: &stats };
        let line = worker.waiters.stand(&stats);
        self.search(ws);
        let mut half_closed = false;
        let over_ms = ticket.due.at_us.div_ceil(1_000);
        let result = poll_fn(|cx| {
            if worker.is_forced() {
                return Poll::Ready(Err(Cause::Drained));
            }
            // A client that has left gives its place to another; one that has only finished sending waits on.
            let client = &mut connection.stream;
            client.poll_watch(cx, &worker.buffers, &mut ws.client_in, &mut half_closed)?;
            let mut anew = false;
            loop {
                match ticket.look(cx.waker()) {
                    Look::Settled(Verdict::Admitted(cell)) => return Poll::Ready(Ok(Some(cell))),
                    Look::Settled(Verdict::Displaced) => {
                        return Poll::Ready(Err(overload::shed(&worker, ws, priority, Shed::Displaced)));
                    }
                    Look::Search => self.search(ws),
                    Look::Wait if worker.waiters.changes() != seen => {
                        seen = worker.waiters.changes();
                        self.look_again(ws)?;
                        self.search(ws);
                        anew = true;
                    }
                    // After the look that follows a search: what that gave must not be left behind.
                    Look::Wait if anew && !self.cluster.is_full(&ws.tried) => return Poll::Ready(Ok(None)),
                    Look::Wait => break,
                }
            }
            if worker.clock.read().us() >= ticket.due.at_us {
                return Poll::Ready(Err(self.overdue(ws, ticket.due)));
            }
            connection.deadline.set(over_ms, cx.waker());
            Poll::Pending
        })
        .await;
        drop((ticket, queued, line));
        let waited = worker.clock.read().us_since(began);
        note_wait(ws, waited);
        let given = result?;
        // The endpoint's time to take a connection begins when it has room for one.
        let over_ms = self.connect_over_ms.saturating_add(waited / 1_000);
        self.connect_over_ms = over_ms.min(self.total_ms(ws).unwrap_or(u64::MAX));
        ws.trace.phase = Phase::Connect;
        let Some(cell) = given else { return Ok(None) };
        shard.queue.record(waited);
        self.go_on(ws, cell).map(Some)
    }

    /// The time in line is over: counts it, and says why.
    fn overdue(&self, ws: &mut Workspace, due: Due) -> Cause {
        match due.shed {
            Some(why) => overload::shed(&self.worker, ws, self.entry.route.priority, why),
            None => {
                self.cluster.cell.shard(self.worker.id).queue_timeouts.add(1);
                Cause::QueueTimeout
            }
        }
    }

    /// Goes on with the slot that the line gave.
    fn go_on(&mut self, ws: &mut Workspace, cell: Arc<EndpointCell>) -> Result<Step, Cause> {
        let home = Home::given(cell, &self.cluster.cell, &self.cluster.cluster.policy, self.worker.id);
        self.look_again(ws)?;
        let index = self.cluster.position(home.cell.incarnation().id());
        let same = index.and_then(|index| self.cluster.endpoint(index));
        match (index, same.is_some_and(|endpoint| endpoint.cell.uid() == home.cell.uid())) {
            (Some(index), true) => Ok(self.use_endpoint(ws, index, home)),
            // It left between the hand-over and now.
            (Some(_), false) | (None, _) => {
                drop(home);
                Ok(self.step(ws))
            }
        }
    }

    /// Has free slots given to those in line.
    fn search(&self, ws: &Workspace) {
        let attempt = Attempt {
            tried: &ws.tried,
            may_repeat: ws.request.idempotent,
            now_us: self.worker.clock.turn().us(),
        };
        self.cluster.admit_waiting(attempt, &mut || self.worker.random());
    }

    fn rules(&self, policy: &SlotPolicy, ws: &Workspace, now_us: u64) -> Rules {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let wait_us = us(policy.wait.unwrap_or(self.entry.route.timeouts.connect));
        let left_us = self
            .total_ms(ws)
            .map_or(u64::MAX, |total_ms| total_ms.saturating_mul(1_000).saturating_sub(now_us));
        Rules {
            max: self.cluster.cluster.policy.queue,
            wait_us: wait_us.min(left_us),
            target_us: policy.target.map(us),
            interval_us: us(policy.interval),
        }
    }
}

fn note_wait(ws: &mut Workspace, waited_us: u64) {
    let noted = u32::try_from(waited_us).unwrap_or(u32::MAX - 1);
    ws.trace.queue_us = Some(ws.trace.queue_us.unwrap_or(0).saturating_add(noted));
}
