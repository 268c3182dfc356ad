//! Hedging: a request that is answered later than most of its route is sent to a second endpoint too; who answers first serves it.
//!
//! The second leg stands beside the one of the relay and is polled in the same task. Whoever begins to answer becomes the leg of
//! the relay; the other one is cut, which says nothing about its endpoint. Once for a request, within the retry budget, and
//! only for requests that may be sent twice and are held whole. Deadlines and the client are the relay's.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ekiden_config::model::{HedgePolicy, Protocol};
use ekiden_core::cluster::{Attempt, EndpointEntry, Pick};
use ekiden_core::outcome::{Cause, Phase};
use ekiden_core::resilience::Withheld;
use ekiden_core::resilience::breaker::Connected;

use super::{Forward, deadline};
use crate::clock::Moment;
use crate::exchange::downstream::Downstream;
use crate::exchange::leg::{Home, Leg};
use crate::exchange::relay::{Failure, Finish, Relay, Sides};
use crate::exchange::{Workspace, evidence, shard};
use crate::stream::Stream;

type Opening = Pin<Box<dyn Future<Output = Result<(Stream, Option<Connected>), Cause>>>>;

/// The second leg of an exchange.
pub struct Hedge {
    began: Moment,
    endpoint: EndpointEntry,
    leg: Leg,
    /// A connection that is being made, and where the leg will lead.
    opening: Option<(Opening, Home)>,
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge").field("endpoint", &self.endpoint.endpoint.id).finish_non_exhaustive()
    }
}

impl Drop for Hedge {
    fn drop(&mut self) {
        self.leg.cut();
    }
}

/// Sets when a second leg is due, where enough is known of the route.
#[cold]
pub(super) fn arm(forward: &Forward<'_>, policy: &HedgePolicy, ws: &mut Workspace, now: Moment) {
    let may = ws.request.idempotent
        && ws.upgrade.is_none()
        && ws.call.is_none()
        && forward.cluster.cluster.policy.send_proxy.is_none();
    let Some(percentile_us) = forward.entry.cell.latency().percentile_us().filter(|_| may) else { return };
    let min_ms = u64::try_from(policy.min.as_millis()).unwrap_or(u64::MAX);
    let wait_ms = u64::from(percentile_us.div_ceil(1_000)).max(min_ms);
    ws.tries.hedge_at_ms = now.ms().saturating_add(wait_ms);
}

/// Counts how long the endpoint took to begin its answer. With a second leg this is the time since the first began, so that
/// late answers are not lost from the percentile because they were cut.
#[cold]
pub(super) fn note(forward: &Forward<'_>, policy: &HedgePolicy, ws: &Workspace) {
    let (Some(began), Some(first_byte)) = (ws.trace.leg_started, ws.trace.first_byte_at) else { return };
    if ws.response.status < 500 {
        forward.entry.cell.latency().record(first_byte.us_since(began), policy.percentile);
    }
}

/// Goes on with both legs, where the relay waits or has lost its own.
#[cold]
pub(super) fn poll<D: Downstream>(
    forward: &Forward<'_>,
    cx: &mut Context<'_>,
    relay: &mut Relay,
    sides: &mut Sides<'_, D>,
    polled: Poll<Result<Finish, Failure>>,
) -> Poll<Result<Finish, Failure>> {
    if let Poll::Ready(ended) = polled {
        let Err(failure) = ended else { return polled };
        let lost = matches!(failure.cause, Cause::ClosedWithoutResponse | Cause::UpstreamReset);
        if !lost || sides.ws.leg.answered || !take_over(forward, sides.ws, Some(failure.cause)) {
            return polled;
        }
        return relay.poll(cx, sides);
    }
    if sides.ws.leg.answered {
        stop(sides.ws);
        return Poll::Pending;
    }
    if sides.ws.tries.hedge.is_none() {
        if sides.worker.turn_ms() < sides.ws.tries.hedge_at_ms {
            return Poll::Pending;
        }
        let begun = if relay.is_waiting() { begin(forward, sides.ws) } else { None };
        if begun.is_none() {
            stop(sides.ws);
            return Poll::Pending;
        }
        // No wake is needed for it any more.
        (sides.ws.tries.hedge, sides.ws.tries.hedge_at_ms) = (begun, u64::MAX - 1);
    }
    match poll_second(forward, cx, sides.ws) {
        Second::Waits => Poll::Pending,
        Second::Lost => {
            stop(sides.ws);
            Poll::Pending
        }
        Second::Answers => {
            take_over(forward, sides.ws, None);
            relay.poll(cx, sides)
        }
    }
}

/// No second leg, from here on.
fn stop(ws: &mut Workspace) {
    (ws.tries.hedge, ws.tries.hedge_at_ms) = (None, u64::MAX);
}

/// The second leg becomes the one of the relay; `lost` says why the first is none any more. False when there is no such leg.
fn take_over(forward: &Forward<'_>, ws: &mut Workspace, lost: Option<Cause>) -> bool {
    let Some(mut hedge) = ws.tries.hedge.take().filter(|hedge| hedge.leg.is_attached()) else {
        stop(ws);
        return false;
    };
    if let (Some(cause), Some(home)) = (lost, ws.leg.home()) {
        let aged = ws.leg.reused || ws.leg.unprocessed;
        evidence::failed(&forward.worker, &home.cell, cause.at(ws.trace.phase), aged);
        let uid = home.cell.uid();
        ws.trace.retry_cause = Some(cause);
        ws.tries.failed.push(uid);
    }
    if lost.is_none() {
        evidence::given_up(&forward.worker, ws);
    }
    ws.tries.second_began = Some(hedge.began);
    forward.count_bytes(ws);
    ws.trace.endpoint = Some(hedge.endpoint.endpoint.id.clone());
    if hedge.leg.answered {
        ws.trace.first_byte_at = Some(forward.worker.clock.turn());
    }
    forward.cluster.cell.shard(forward.worker.id).hedges_won.add(1);
    std::mem::swap(&mut ws.leg, &mut hedge.leg);
    forward.worker.buffers.discard(&mut hedge.leg.input);
    drop(hedge);
    stop(ws);
    true
}

/// What the second leg came to.
enum Second {
    Waits,
    Answers,
    Lost,
}

fn poll_second(forward: &Forward<'_>, cx: &mut Context<'_>, ws: &mut Workspace) -> Second {
    let Some(mut hedge) = ws.tries.hedge.take() else { return Second::Lost };
    let second = hedge.poll(forward, cx, ws);
    ws.tries.hedge = Some(hedge);
    second
}

impl Hedge {
    fn poll(&mut self, forward: &Forward<'_>, cx: &mut Context<'_>, ws: &Workspace) -> Second {
        if let Some((opening, _)) = &mut self.opening {
            let Poll::Ready(opened) = opening.as_mut().poll(cx) else { return Second::Waits };
            let Some((_, home)) = self.opening.take() else { return Second::Lost };
            if !self.opened(forward, ws, opened, home) {
                return Second::Lost;
            }
        }
        let lost = |leg: &Leg, error: Option<&std::io::Error>| {
            if let Some(home) = leg.home() {
                let aged = leg.reused || leg.unprocessed;
                evidence::failed(&forward.worker, &home.cell, leg.loss(error).at(Phase::Wait), aged);
            }
            Second::Lost
        };
        if self.leg.output.pending() > 0 && self.leg.is_barred() {
            return Second::Lost;
        }
        match self.leg.poll_send(cx) {
            Poll::Ready(Err(error)) => return lost(&self.leg, Some(&error)),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match self.leg.poll_receive(cx, &forward.worker.buffers) {
            Poll::Pending => Second::Waits,
            Poll::Ready(Ok(0)) => lost(&self.leg, None),
            Poll::Ready(Ok(_)) => Second::Answers,
            Poll::Ready(Err(error)) => lost(&self.leg, Some(&error)),
        }
    }

    fn opened(
        &mut self,
        forward: &Forward<'_>,
        ws: &Workspace,
        opened: Result<(Stream, Option<Connected>), Cause>,
        mut home: Home,
    ) -> bool {
        let shard = forward.cluster.cell.shard(forward.worker.id);
        match opened {
            Ok((stream, connected)) => {
                shard.connects.add(1);
                if home.cell.is_gone() || (matches!(stream, Stream::Tls(_)) && stream.is_retired()) {
                    return false;
                }
                shard.connections.add(u64::from(!matches!(stream, Stream::Http2(_))));
                home.connected = connected;
                self.attach(forward, ws, stream, home, false);
                true
            }
            Err(cause) => {
                shard.connect_failures.add(1);
                evidence::failed(&forward.worker, &home.cell, cause.at(Phase::Connect), false);
                false
            }
        }
    }

    fn attach(&mut self, forward: &Forward<'_>, ws: &Workspace, stream: Stream, home: Home, reused: bool) {
        let bytes = self.leg.output.buffer();
        bytes.extend_from_slice(ws.leg.output.all());
        deadline::rewrite_in(bytes, &ws.tries, forward.worker.turn_ms());
        self.leg.attach(stream, home, reused);
    }
}

/// Picks another endpoint and begins a leg to it; none when there is none, or when it may not be.
fn begin(forward: &Forward<'_>, ws: &mut Workspace) -> Option<Box<Hedge>> {
    let (worker, cluster) = (&forward.worker, &forward.cluster);
    let policy = &cluster.cluster.policy;
    let first = ws.leg.home()?.cell.uid();
    // After a wait the table may be another one: its cluster has other indexes.
    let same = worker.with_table(|table| {
        table.cluster_named(&cluster.app, &cluster.cluster.name).is_some_and(|now| Arc::ptr_eq(now, cluster))
    });
    if !same || worker.is_forced() || forward.others_wait(ws) {
        return None;
    }
    let at = cluster.endpoints.iter().position(|entry| entry.cell.uid() == first);
    let mut tried = ws.tried.clone();
    tried.extend(at.and_then(|at| u32::try_from(at).ok()));
    let attempt = Attempt::after(&tried).at(worker.clock.turn().us());
    let pick = match cluster.shards() {
        None => cluster.pick(attempt, &mut || worker.random()),
        Some(shards) => shard::pick(worker, cluster, shards, &ws.shard, attempt),
    };
    let Pick::Endpoint(index) = pick else { return None };
    let endpoint = cluster.endpoint(index)?.clone();
    let mut home = Home::enter(&endpoint.cell, &cluster.cell, policy, worker.id)?;
    if let Some(caps) = &forward.entry.caps {
        home.in_use = Some(caps.connect().ok()?);
    }
    if let Some(budget) = policy.retry_budget
        && !cluster.cell.budget.take(budget, worker.turn_ms())
    {
        forward.withhold(ws, Withheld::Budget);
        return None;
    }
    let shard = cluster.cell.shard(worker.id);
    let secure = policy.tls.is_some();
    let mut hedge =
        Box::new(Hedge { began: worker.clock.turn(), endpoint, leg: Leg::default(), opening: None });
    let uid = hedge.endpoint.cell.uid();
    let shared = if policy.protocol == Protocol::Http1 {
        None
    } else {
        worker.http2_pool.take(uid, worker.turn_ms(), secure)
    };
    if let Some(stream) = shared {
        shard.reused.add(1);
        shard.http2_streams.add(1);
        hedge.attach(forward, ws, Stream::Http2(Box::new(stream)), home, true);
    } else {
        let connected = match &policy.breaker {
            Some(policy) => Some(Connected::take(policy, &cluster.cell, &hedge.endpoint.cell).ok()?),
            None => None,
        };
        let pooled = if policy.protocol == Protocol::Http2 || home.pool_most == 0 {
            None
        } else {
            worker.pool.take(uid, worker.turn_ms(), false, secure)
        };
        match pooled {
            Some(stream) => {
                home.connected = connected;
                hedge.attach(forward, ws, stream, home, true);
            }
            None => hedge.opening = Some((open(forward, &hedge.endpoint, connected), home)),
        }
    }
    ws.trace.attempts = ws.trace.attempts.saturating_add(1);
    shard.attempts.add(1);
    cluster.note_attempt(index, worker.id);
    shard.hedges.add(1);
    Some(hedge)
}

fn open(forward: &Forward<'_>, endpoint: &EndpointEntry, connected: Option<Connected>) -> Opening {
    let (worker, cluster) = (Rc::clone(&forward.worker), Arc::clone(&forward.cluster));
    let (endpoint, limit) = (endpoint.clone(), forward.entry.route.timeouts.connect_try);
    Box::pin(async move {
        let patience = super::open::Patience::new(limit, limit);
        super::open::connect(&worker, &cluster, &endpoint, &patience, super::open::With::of(connected), false)
            .await
    })
}
