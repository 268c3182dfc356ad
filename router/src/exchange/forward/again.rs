//! Sends a request again: by the built-in rules, or by those of its route.
//!
//! Built in: a connection that dies before the first response byte is replaced once, when the method allows the request to
//! be sent twice or when none of it was written. A route may say more (`retry`): then its conditions count, the budget of
//! the cluster, and the time that is left. Core computes waits and budgets. What was sent and is kept is the relay's.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ekiden_config::model::{Replay, RetryPolicy};
use ekiden_core::cluster::ClusterTable;
use ekiden_core::outcome::{Cause, Phase};
use ekiden_core::resilience::{Again, Withheld, backoff};

use super::{Forward, after_ms};
use crate::exchange::downstream::Downstream;
use crate::exchange::relay::{Failure, Relay};
use crate::exchange::{Workspace, evidence};
use crate::pool::Return;
use crate::worker::connection::Connection;

/// What becomes of an attempt that did not end in a complete response.
pub(super) enum Next {
    /// The request is sent again.
    Again,
    /// The response that was judged goes to the client.
    GoOn,
    /// It ends.
    Fail(Failure),
}

/// Counts a request in whose route says when it is sent again or to a second endpoint, and notes whether it may be.
#[cold]
pub(super) fn enter(policy: Option<&RetryPolicy>, cluster: &ClusterTable, ws: &mut Workspace, now_ms: u64) {
    if let Some(budget) = cluster.cluster.policy.retry_budget {
        cluster.cell.budget.note_request(budget, now_ms);
    }
    let Some(policy) = policy else { return };
    let by_method = ws.request.idempotent;
    ws.request.idempotent |= match policy.replay {
        Replay::Idempotent => false,
        Replay::IdempotencyKey => ws.request.head.get(b"idempotency-key").is_some(),
        Replay::Any => true,
    };
    ws.tries.after_status = by_method || policy.replay == Replay::Any;
}

/// Why the rules of a route have a request sent again.
fn reason(policy: &RetryPolicy, cause: Cause, unprocessed: bool) -> Option<Again> {
    match cause {
        Cause::ClosedWithoutResponse | Cause::UpstreamReset if policy.reset || unprocessed => {
            Some(Again::Reset)
        }
        Cause::FirstByteTimeout if policy.per_try.is_some() => Some(Again::Timeout),
        Cause::StatusRetried => Some(Again::Status),
        _ => None,
    }
}

impl Forward<'_> {
    /// Whether a connect that failed for this reason goes on to another endpoint. One that was removed meanwhile has had no
    /// connect at all.
    pub(super) fn retries_connects(&self, failed: Cause) -> bool {
        failed == Cause::EndpointGone || self.entry.route.retry.as_ref().is_none_or(|policy| policy.connect)
    }

    /// Gives the attempt up for another one if the request may be sent again.
    pub(super) async fn begin_again<D: Downstream>(
        &mut self,
        connection: &mut Connection<D>,
        ws: &mut Workspace,
        relay: &mut Relay,
        failure: Failure,
    ) -> Next {
        (ws.tries.hedge, ws.tries.hedge_at_ms) = (None, u64::MAX);
        let Some(policy) = self.entry.route.retry.clone() else {
            return if self.begin_once(ws, failure) { Next::Again } else { Next::Fail(failure) };
        };
        if failure.cause == Cause::EndpointGone {
            // Removed before the first byte was written: no endpoint has had it.
            return if self.begin_once(ws, failure) { Next::Again } else { Next::Fail(failure) };
        }
        let next = match reason(&policy, failure.cause, ws.leg.unprocessed) {
            Some(why) if ws.tries.resends + 1 < policy.attempts && !self.worker.is_forced() => {
                self.judge(&policy, ws, relay, failure, why).map(|wait| (wait, why))
            }
            Some(_) | None => None,
        };
        let Some((wait, why)) = next else {
            if failure.cause == Cause::StatusRetried {
                relay.keep_answer();
                return Next::GoOn;
            }
            return Next::Fail(failure);
        };
        self.leave(ws, relay, failure.cause, why);
        if let Err(cause) = self.back_off(connection, ws, wait).await {
            return Next::Fail(Failure { cause, begun: false, at_rest: false, replayable: false });
        }
        let now = self.worker.clock.turn();
        self.connect_over_ms =
            after_ms(now, self.entry.route.timeouts.connect).min(self.total_ms(ws).unwrap_or(u64::MAX));
        let _gone_is_found_by_the_pick = self.look_again(ws);
        Next::Again
    }

    /// Whether the request is sent again, and after what wait; counts why not.
    fn judge(
        &self,
        policy: &RetryPolicy,
        ws: &mut Workspace,
        relay: &Relay,
        failure: Failure,
        why: Again,
    ) -> Option<Duration> {
        // An answer is better than none.
        if why == Again::Status && !(ws.tries.after_status && self.has_any()) {
            return None;
        }
        if !failure.replayable {
            if relay.has_let_go() {
                self.withhold(ws, Withheld::Buffer);
            }
            return None;
        }
        let now = self.worker.clock.read();
        let first_byte = self.entry.route.timeouts.first_byte;
        let left = self
            .total_ms(ws)
            .map_or(Duration::MAX, |total_ms| Duration::from_millis(total_ms.saturating_sub(now.ms())));
        let asked = match why {
            Again::Status if !self.has_another(ws) => {
                evidence::retry_after(&ws.response.head, self.worker.clock.unix_us(now))
            }
            Again::Status | Again::Reset | Again::Timeout => None,
        };
        let random = self.worker.random();
        let Some(wait) = backoff::wait(policy, ws.tries.resends + 1, asked, left.min(first_byte), random)
        else {
            self.withhold(ws, Withheld::Time);
            return None;
        };
        let cell = &self.cluster.cell;
        // What the endpoint never looked at costs it nothing.
        if !ws.leg.unprocessed
            && let Some(budget) = self.cluster.cluster.policy.retry_budget
            && !cell.budget.take(budget, now.ms())
        {
            self.withhold(ws, Withheld::Budget);
            return None;
        }
        Some(wait)
    }

    pub(super) fn withhold(&self, ws: &mut Workspace, why: Withheld) {
        if let Some(count) = self.cluster.cell.shard(self.worker.id).withheld.get(why as usize) {
            count.add(1);
        }
        if ws.limits.named.is_none() {
            ws.limits.named = Some(Arc::from(format!("retry_{}", why.word())));
        }
    }

    /// Whether any endpoint may be picked.
    fn has_any(&self) -> bool {
        self.cluster.endpoints.iter().any(|entry| entry.cell.may_pick())
    }

    /// Whether an endpoint that was not tried may be picked.
    fn has_another(&self, ws: &Workspace) -> bool {
        let uid = ws.leg.home().map(|home| home.cell.uid());
        (0u32..).zip(self.cluster.endpoints.iter()).any(|(index, entry)| {
            entry.cell.may_pick() && Some(entry.cell.uid()) != uid && !ws.tried.contains(&index)
        })
    }

    /// Notes how the attempt ended, lets go of its connection, and has the next one go elsewhere if that can be.
    fn leave(&mut self, ws: &mut Workspace, relay: &Relay, cause: Cause, why: Again) {
        let cell = Arc::clone(&self.cluster.cell);
        let shard = cell.shard(self.worker.id);
        shard.replays.add(1);
        if let Some(count) = shard.again.get(why as usize) {
            count.add(1);
        }
        shard.http2_unprocessed.add(u64::from(ws.leg.unprocessed));
        let aged = why == Again::Reset && (ws.leg.reused || ws.leg.unprocessed);
        if why == Again::Status {
            evidence::answered(&self.worker, &self.cluster, ws);
        }
        if why == Again::Timeout {
            ws.leg.retire_connection();
        }
        if let Some(home) = ws.leg.home() {
            let uid = home.cell.uid();
            if why != Again::Status {
                evidence::failed(&self.worker, &home.cell, cause.at(ws.trace.phase), aged);
            }
            self.set_aside(ws, uid);
        }
        // What killed one pooled connection may have killed them all unseen.
        self.replayed = why == Again::Reset;
        ws.tries.resends += 1;
        ws.trace.retry_cause = Some(cause);
        ws.forget_leg_times();
        self.last = Some(cause);
        self.count_bytes(ws);
        if why == Again::Status && relay.is_answer_whole(ws) && !ws.leg.is_http2() {
            self.give_back(ws);
        } else {
            ws.leg.cut();
        }
        self.worker.buffers.discard(&mut ws.leg.input);
        ws.trace.phase = Phase::Connect;
    }

    /// The connection goes back to the pool. Called where its response has been read to the end.
    pub(super) fn give_back(&self, ws: &mut Workspace) {
        let Some((stream, home)) = ws.leg.detach() else { return };
        let back = Return {
            cell: &home.cell,
            stats: &home.stats,
            most: home.pool_most,
            limit_ms: home.pool_limit_ms,
        };
        self.worker.pool.put(stream, back, self.worker.turn_ms());
    }

    /// Waits before the next try, as long as the client does, and while there is an endpoint to wait for.
    async fn back_off<D: Downstream>(
        &mut self,
        connection: &mut Connection<D>,
        ws: &mut Workspace,
        wait: Duration,
    ) -> Result<(), Cause> {
        if wait.is_zero() {
            return Ok(());
        }
        let worker = Rc::clone(&self.worker);
        let over_us = worker.clock.read().us().saturating_add(u64::try_from(wait.as_micros()).unwrap_or(0));
        let mut half_closed = false;
        let mut seen = worker.waiters.changes();
        poll_fn(|cx| {
            if worker.is_forced() {
                return Poll::Ready(Err(Cause::Drained));
            }
            let client = &mut connection.stream;
            client.poll_watch(cx, &worker.buffers, &mut ws.client_in, &mut half_closed)?;
            if worker.waiters.changes() != seen {
                seen = worker.waiters.changes();
                self.look_again(ws)?;
                if !self.has_any() {
                    return Poll::Ready(Ok(()));
                }
            }
            if worker.clock.read().us() >= over_us {
                return Poll::Ready(Ok(()));
            }
            worker.waiters.register(cx.waker());
            connection.deadline.set(over_us.div_ceil(1_000), cx.waker());
            Poll::Pending
        })
        .await
    }

    /// The endpoint gets the request again only when there is no other.
    fn set_aside(&mut self, ws: &mut Workspace, uid: u64) {
        ws.tries.second_choice.push(uid);
        ws.tries.failed.push(uid);
        self.avoid_uid(ws, uid);
    }

    fn avoid_uid(&mut self, ws: &mut Workspace, uid: u64) {
        let at = self.cluster.endpoints.iter().position(|endpoint| endpoint.cell.uid() == uid);
        if let Some(index) = at.and_then(|index| u32::try_from(index).ok()) {
            self.avoid(ws, index, uid);
        }
    }

    /// Allows second choices again; false when there is none.
    pub(super) fn allow_second_choice(&mut self, ws: &mut Workspace) -> bool {
        if ws.tries.second_choice.is_empty() {
            return false;
        }
        let allowed = std::mem::take(&mut ws.tries.second_choice);
        self.tried_uids.retain(|tried| !allowed.contains(tried));
        ws.tried.retain(|index| {
            self.cluster.endpoint(*index).is_none_or(|endpoint| !allowed.contains(&endpoint.cell.uid()))
        });
        true
    }

    // ---- built-in rules ---------------------------------------------------------------------------------------

    /// Counts the one replay, and sends it to another endpoint if there is one. A new connection that died is the
    /// endpoint's own doing; a pooled one may have died of age, so its endpoint is the second choice.
    fn note_replay(&mut self, ws: &mut Workspace, cause: Cause) {
        self.replayed = true;
        self.cluster.cell.shard(self.worker.id).replays.add(1);
        let reused = ws.leg.reused;
        let Some(home) = ws.leg.home() else { return };
        let uid = home.cell.uid();
        if ws.leg.unprocessed {
            self.cluster.cell.shard(self.worker.id).http2_unprocessed.add(1);
        }
        ws.tries.failed.push(uid);
        if reused || ws.leg.unprocessed {
            ws.tries.second_choice.push(uid);
        } else {
            evidence::failed(&self.worker, &home.cell, cause.at(ws.trace.phase), false);
        }
        self.avoid_uid(ws, uid);
    }

    /// Gives the connection up for another one, if the request may be sent again; false when it may not.
    fn begin_once(&mut self, ws: &mut Workspace, failure: Failure) -> bool {
        let lost = matches!(failure.cause, Cause::ClosedWithoutResponse | Cause::UpstreamReset);
        // An endpoint removed before the first byte was written has had no attempt.
        let barred = failure.cause == Cause::EndpointGone;
        if !failure.replayable || self.worker.is_forced() || !(barred || (lost && !self.replayed)) {
            return false;
        }
        if lost {
            self.note_replay(ws, failure.cause);
        }
        ws.trace.retry_cause = Some(failure.cause);
        ws.forget_leg_times();
        self.last = Some(failure.cause);
        self.count_bytes(ws);
        ws.leg.cut();
        self.worker.buffers.discard(&mut ws.leg.input);
        // Its table may be old by now.
        let _gone_is_found_by_the_pick = self.look_again(ws);
        true
    }
}
