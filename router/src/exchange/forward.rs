//! Forwards a request: picks, connects, relays, and tries again where that is safe.
//!
//! A failed connect goes to another endpoint; what is sent again, and when, is in `again`. Does not move bytes (see `relay`).

mod again;
mod breaker;
mod connect;
mod deadline;
mod hedge;
mod open;
mod slots;
mod switch;
mod trial;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ekiden_config::model::{Listener, Protocol, Timeouts};
use ekiden_core::cluster::{Attempt, ClusterTable, EndpointEntry, Pick};
use ekiden_core::edit;
use ekiden_core::outcome::{Blame, Cause, Phase};
use ekiden_core::table::RouteEntry;

use crate::clock::Moment;
use crate::exchange::downstream::Downstream;
use crate::exchange::forward::again::Next;
use crate::exchange::leg::Home;
use crate::exchange::relay::{Failure, Finish, Relay, Sides};
use crate::exchange::request_out::write_request;
use crate::exchange::{
    After, Workspace, affinity, evidence, grpc, mirror, overload, proxy_out, run, shard, trace, tunnel,
    upgrade,
};
use crate::stream::Stream;
use crate::wire::body::Framing;
use crate::worker::Worker;
use crate::worker::connection::Connection;

use open::Patience;

pub(super) use connect::forward_connect;
pub(super) use deadline::write as write_deadline;
pub use hedge::Hedge;
pub use trial::Trial;

/// Longest rewritten path; a longer one would only be refused by the endpoint.
const REWRITE_MAX: usize = 64 << 10;

/// One forward: what its attempts share.
struct Forward<'a> {
    worker: Rc<Worker>,
    listener: &'a Listener,
    entry: Arc<RouteEntry>,
    cluster: Arc<ClusterTable>,
    /// Incarnations tried, to translate `tried` when the table changes.
    tried_uids: smallvec::SmallVec<[u64; 4]>,
    connect_over_ms: u64,
    connects: u8,
    last: Option<Cause>,
    replayed: bool,
}

/// What [`Forward::step`] came to.
enum Step {
    /// A pooled connection is attached to the leg.
    Attached,
    /// That endpoint was gone past: pick again.
    Skip,
    /// There is no endpoint to be had.
    Failed(Cause),
    /// A first check is outstanding.
    Wait,
    /// Every slot is taken, or others wait for one.
    Queue,
    /// This endpoint needs a new connection.
    Connect(u32, EndpointEntry, Home),
}

/// Serves one request by an endpoint of `cluster`. The record has been written when this returns.
///
/// Made where it stays only while it is inlined: called, it is copied for each request (200 instructions).
#[inline(always)]
pub fn forward<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    entry: Arc<RouteEntry>,
    cluster: Arc<ClusterTable>,
) -> impl Future<Output = After> {
    let mut begun = grpc::in_time(&connection.worker, ws)
        .and_then(|()| shard::read(connection, ws, listener, &cluster))
        .map(|()| affinity::read(&connection.worker, ws, &cluster))
        .and_then(|()| rewrite(&entry, ws))
        .and_then(|()| Forward::begin(Rc::clone(&connection.worker), ws, listener, entry, cluster));
    async move {
        let forward = match &mut begun {
            Ok(forward) => forward,
            Err(cause) => return Box::pin(run::refuse(connection, ws, *cause, None)).await,
        };
        let mut relay: Option<Relay> = None;
        let mut goes_on = false;
        loop {
            let acquired = match if goes_on { Step::Attached } else { forward.step(ws) } {
                Step::Attached => Ok(()),
                Step::Failed(cause) => Err(cause),
                // Boxed, as is every path off the plain one: it would widen the task of each connection, idle ones too.
                slow @ (Step::Skip | Step::Wait | Step::Queue | Step::Connect(..)) => {
                    Box::pin(forward.acquire(connection, ws, slow)).await
                }
            };
            if let Err(cause) = acquired {
                let cause = deadline::over(ws, cause, forward.worker.now_ms());
                let failure = Failure { cause, begun: false, at_rest: false, replayable: false };
                return Box::pin(forward.fail(connection, ws, failure, relay.is_some())).await;
            }
            let relay = forward.attempt::<D>(ws, &mut relay, goes_on);
            goes_on = false;
            let mut sides = Sides {
                worker: &forward.worker,
                client: &mut connection.stream,
                listener: forward.listener,
                route: &forward.entry.route,
                total_ms: forward.total_ms(ws),
                ws,
                deadline: &connection.deadline,
            };
            let poll = |cx: &mut Context<'_>| {
                let mut polled = relay.poll(cx, &mut sides);
                if sides.ws.tries.hedge_at_ms != u64::MAX {
                    polled = hedge::poll(forward, cx, relay, &mut sides, polled);
                }
                if sides.ws.permit.is_some() {
                    overload::hold(sides.client, sides.ws, 0);
                }
                polled
            };
            match poll_fn(poll).await {
                Ok(finish) if finish.switched => {
                    return Box::pin(forward.tunnel(connection, ws)).await;
                }
                Ok(finish) => return forward.finish(&connection.stream, ws, finish),
                Err(failure) => match Box::pin(forward.begin_again(connection, ws, relay, failure)).await {
                    Next::Again => {}
                    Next::GoOn => goes_on = true,
                    Next::Fail(failure) => {
                        return Box::pin(forward.fail(connection, ws, failure, true)).await;
                    }
                },
            }
        }
    }
}

/// Carries a connection that is not HTTP to an endpoint of `cluster` and back. The record has been written when this
/// returns.
pub async fn forward_raw(
    connection: &mut Connection,
    ws: &mut Workspace,
    listener: &Listener,
    entry: Arc<RouteEntry>,
    cluster: Arc<ClusterTable>,
) -> After {
    let keyed = shard::read(connection, ws, listener, &cluster);
    let begun = Forward::begin(Rc::clone(&connection.worker), ws, listener, entry, cluster);
    let mut forward = match begun {
        Ok(forward) => forward,
        Err(cause) => {
            connection.worker.buffers.discard(&mut ws.client_in);
            trace::end(&connection.worker, ws, cause);
            return After::Abort;
        }
    };
    // What is pooled carries requests: as for a replay, the connection is a new one.
    forward.replayed = true;
    let first = match keyed {
        Ok(()) => forward.step(ws),
        Err(cause) => Step::Failed(cause),
    };
    let acquired = forward.acquire(connection, ws, first).await;
    // Validation refuses such a cluster; a table that came meanwhile may have brought one.
    let acquired = acquired.and_then(|()| if ws.leg.is_http2() { Err(Cause::Http2Failed) } else { Ok(()) });
    if let Err(cause) = acquired {
        forward.worker.buffers.discard(&mut ws.client_in);
        ws.leg.cut();
        forward.clear_leg(ws);
        trace::end(&forward.worker, ws, cause);
        return After::Abort;
    }
    forward.tunnel(connection, ws).await
}

/// Writes the path that the endpoint sees.
fn rewrite(entry: &RouteEntry, ws: &mut Workspace) -> Result<(), Cause> {
    if edit::rewrites_path(&entry.route) {
        edit::rewritten_path(&entry.route, &ws.path, &mut ws.scratch);
        std::mem::swap(&mut ws.path, &mut ws.scratch);
        if ws.path.len() > REWRITE_MAX {
            return Err(Cause::RewriteTooLarge);
        }
    }
    Ok(())
}

fn started(worker: &Worker, ws: &Workspace) -> Moment {
    ws.trace.started.unwrap_or_else(|| worker.clock.turn())
}

/// The wheel's time a while after a moment.
fn after_ms(from: Moment, wait: Duration) -> u64 {
    from.ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

/// When the request may take no longer.
fn total_ms(timeouts: &Timeouts, ws: &Workspace, started: Moment) -> Option<u64> {
    let total_ms = if timeouts.deadline {
        ws.tries.total_ms
    } else {
        timeouts.total.map(|total| after_ms(started, total))
    };
    grpc::sooner(total_ms, ws.call.as_ref())
}

/// When a request of this route may take no longer, if ever; known before it is forwarded.
///
/// # Errors
/// There is no time left.
pub fn ends_at(
    worker: &Worker,
    ws: &mut Workspace,
    listener: &Listener,
    entry: &RouteEntry,
) -> Result<Option<u64>, Cause> {
    let (timeouts, started) = (entry.route.timeouts, started(worker, ws));
    ws.tries.begin();
    if timeouts.deadline {
        deadline::enter(ws, listener, &timeouts, (started, worker.clock.turn()))?;
    }
    Ok(total_ms(&timeouts, ws, started))
}

/// What a request came to that was over before it was forwarded.
pub fn late(worker: &Worker, ws: &Workspace) -> Cause {
    if ws.tries.by_client {
        Cause::DeadlineExceeded
    } else {
        grpc::judge_late(worker, ws, Cause::TotalTimeout)
    }
}

impl<'a> Forward<'a> {
    /// Counts the request in at its cluster.
    fn begin(
        worker: Rc<Worker>,
        ws: &mut Workspace,
        listener: &'a Listener,
        entry: Arc<RouteEntry>,
        cluster: Arc<ClusterTable>,
    ) -> Result<Self, Cause> {
        cluster.cell.shard(worker.id).in_flight.add(1);
        ws.trace.cluster = Some(Arc::clone(&cluster.cell));
        ws.trace.phase = Phase::Connect;
        ws.tried.clear();
        ws.leg.output.clear();
        ws.tries.begin();
        if entry.route.retry.is_some() || entry.route.hedge.is_some() {
            again::enter(entry.route.retry.as_deref(), &cluster, ws, worker.turn_ms());
        }
        if let Some(policy) = &cluster.cluster.policy.breaker {
            ws.tries.held.breaker = breaker::enter(policy, &cluster, ws)?;
        }
        let timeouts = entry.route.timeouts;
        let started = started(&worker, ws);
        if timeouts.deadline {
            deadline::enter(ws, listener, &timeouts, (started, worker.clock.turn()))?;
        }
        let total_ms = total_ms(&timeouts, ws, started).unwrap_or(u64::MAX);
        Ok(Forward {
            // Not from the start of the request: it may have been held, delayed or asked about.
            connect_over_ms: after_ms(worker.clock.turn(), timeouts.connect).min(total_ms),
            worker,
            listener,
            entry,
            cluster,
            tried_uids: smallvec::SmallVec::new(),
            connects: 0,
            last: None,
            replayed: false,
        })
    }

    /// Picks an endpoint and attaches a pooled connection to it, or says what has to be waited for. When nothing can be
    /// picked in a table that is no longer the one in force, the request goes by the new one.
    fn step(&mut self, ws: &mut Workspace) -> Step {
        loop {
            let step = self.step_here(ws);
            if matches!(step, Step::Skip) {
                continue;
            }
            if matches!(step, Step::Failed(_) | Step::Wait) && self.allow_second_choice(ws) {
                continue;
            }
            if !matches!(step, Step::Failed(_)) || !self.worker.is_behind() {
                return step;
            }
            self.worker.take_table();
            if let Err(cause) = self.look_again(ws) {
                return Step::Failed(cause);
            }
        }
    }

    fn step_here(&mut self, ws: &mut Workspace) -> Step {
        if self.others_wait(ws) {
            return Step::Queue;
        }
        let tries = trial::pick(self, ws);
        let worker = &self.worker;
        let attempt =
            Attempt { tried: &ws.tried, may_repeat: ws.request.idempotent, now_us: worker.clock.turn().us() };
        let pick = match self.cluster.shards() {
            None if let Some(index) = tries => Pick::Endpoint(index),
            None => match self.cluster.marks() {
                None => self.cluster.pick(attempt, &mut || worker.random()),
                Some(marks) => affinity::pick(worker, &self.cluster, marks, ws),
            },
            Some(shards) => shard::pick(worker, &self.cluster, shards, &ws.shard, attempt),
        };
        let index = match pick {
            Pick::Endpoint(index) => index,
            Pick::NoEndpoints => return Step::Failed(Cause::NoEndpoints),
            Pick::ShardStarting => return Step::Wait,
            Pick::ShardDown => return Step::Failed(self.last.unwrap_or(Cause::ShardUnavailable)),
            Pick::NoneReady | Pick::Exhausted if self.lacks_slot(ws) => return Step::Queue,
            Pick::NoneReady | Pick::Exhausted if let Some(cause) = self.breaks(ws) => {
                return Step::Failed(cause);
            }
            Pick::NoneReady | Pick::Exhausted if self.may_change(ws) => return Step::Wait,
            Pick::NoneReady => return Step::Failed(self.last.unwrap_or(Cause::NoneReady)),
            Pick::Exhausted => return Step::Failed(self.last.unwrap_or(Cause::EndpointGone)),
        };
        let Some(endpoint) = self.cluster.endpoint(index) else { return Step::Failed(Cause::EndpointGone) };
        match Home::enter(&endpoint.cell, &self.cluster.cell, &self.cluster.cluster.policy, worker.id) {
            Some(home) => self.use_endpoint(ws, index, home),
            // Another worker took its last slot a moment ago, or there is no line for it.
            None => {
                let uid = endpoint.cell.uid();
                self.at_bound(ws, (index, uid))
            }
        }
    }

    /// Attaches a pooled connection to an endpoint at which the request is counted in, or says that it needs a new one.
    fn use_endpoint(&mut self, ws: &mut Workspace, index: u32, mut home: Home) -> Step {
        let Some(endpoint) = self.cluster.endpoint(index) else { return Step::Failed(Cause::EndpointGone) };
        if let Some(policy) = &self.cluster.cluster.policy.adaptive
            && ws.tries.held.adaptive.is_none()
        {
            // Not before: who waits for a slot or a first check is no load of an endpoint, and its wait is not measured.
            match breaker::admit(policy, &self.cluster, self.worker.clock.turn().us()) {
                Ok(admitted) => ws.tries.held.adaptive = Some(admitted),
                Err(cause) => return Step::Failed(cause),
            }
        }
        if let Some(caps) = &self.entry.caps {
            match caps.connect() {
                Ok(in_use) => home.in_use = Some(in_use),
                Err(cap) => return Step::Failed(overload::capped(ws, cap)),
            }
        }
        // What must not be sent twice goes only where the connection was alive a moment ago.
        let fresh_only = !ws.request.idempotent;
        // What killed one pooled connection may have killed them all unseen, so a replay takes a new one.
        let policy = &self.cluster.cluster.policy;
        let secure = policy.tls.is_some();
        if policy.protocol != Protocol::Http1
            && !self.replayed
            && let Some(stream) =
                self.worker.http2_pool.take(endpoint.cell.uid(), self.worker.turn_ms(), secure)
            && self.suits(ws, &stream)
        {
            let shard = self.cluster.cell.shard(self.worker.id);
            shard.reused.add(1);
            shard.http2_streams.add(1);
            ws.trace.connect_us = Some(0);
            self.count_attempt(ws, index, endpoint);
            ws.leg.attach(Stream::Http2(Box::new(stream)), home, true);
            return Step::Attached;
        }
        if let Some(breaker) = &policy.breaker
            && let Err(bound) = breaker::take_connection(breaker, &self.cluster, endpoint, &mut home)
        {
            let uid = endpoint.cell.uid();
            return self.at_connections(ws, (index, uid), bound);
        }
        if !self.replayed
            && home.pool_most > 0
            && policy.protocol != Protocol::Http2
            && let Some(stream) =
                self.worker.pool.take(endpoint.cell.uid(), self.worker.turn_ms(), fresh_only, secure)
        {
            ws.trace.connect_us = Some(0);
            self.count_attempt(ws, index, endpoint);
            ws.leg.attach(stream, home, true);
            return Step::Attached;
        }
        // Each send has a connect of its own.
        if self.connects >= self.entry.route.attempts.saturating_add(ws.tries.resends) {
            return Step::Failed(self.last.unwrap_or(Cause::ConnectFailed));
        }
        self.count_attempt(ws, index, endpoint);
        Step::Connect(index, endpoint.clone(), home)
    }

    fn count_attempt(&self, ws: &mut Workspace, index: u32, endpoint: &EndpointEntry) {
        ws.trace.endpoint = Some(endpoint.endpoint.id.clone());
        ws.trace.attempts = ws.trace.attempts.saturating_add(1);
        self.cluster.cell.shard(self.worker.id).attempts.add(1);
        self.cluster.note_attempt(index, self.worker.id);
    }

    /// Whether a wait may bring an endpoint: a first check is outstanding; or the ready set holds endpoints that were not
    /// tried and may not be picked, so that a swap or a check stands between its mark and its message to this worker.
    fn may_change(&self, ws: &Workspace) -> bool {
        self.cluster.first_check_pending() || self.cluster.ready_count() > ws.tried.len()
    }

    /// Goes on until a connection is attached: connects, waits for first checks, picks again.
    async fn acquire<D: Downstream>(
        &mut self,
        connection: &mut Connection<D>,
        ws: &mut Workspace,
        first: Step,
    ) -> Result<(), Cause> {
        let _pending = self.pend(ws)?;
        let mut step = first;
        loop {
            match step {
                Step::Attached => return Ok(()),
                Step::Skip => {}
                Step::Failed(cause) => return Err(cause),
                Step::Wait => self.await_first_check(connection, ws).await?,
                Step::Queue => {
                    if let Some(next) = self.await_slot(connection, ws).await? {
                        step = next;
                        continue;
                    }
                }
                Step::Connect(index, endpoint, home) => {
                    if self.connect(connection, ws, (index, &endpoint), home).await? {
                        return Ok(());
                    }
                }
            }
            step = self.step(ws);
        }
    }

    /// One connect attempt; false when another endpoint should be tried.
    async fn connect<D: Downstream>(
        &mut self,
        connection: &Connection<D>,
        ws: &mut Workspace,
        (index, endpoint): (u32, &EndpointEntry),
        mut home: Home,
    ) -> Result<bool, Cause> {
        let worker = Rc::clone(&self.worker);
        let stats = Arc::clone(&self.cluster.cell);
        if self.connects > 0 {
            stats.shard(worker.id).retries.add(1);
        }
        self.connects += 1;
        let began = worker.clock.read();
        let left = Duration::from_millis(self.connect_over_ms.saturating_sub(began.ms()));
        let limit = left.min(self.entry.route.timeouts.connect_try);
        let version = self.cluster.cluster.policy.send_proxy;
        let header = version.map(|version| proxy_out::header(version, connection, ws, self.listener));
        let patience = Patience::new(limit, left);
        let result = self.open_for(ws, endpoint, &mut home, (header.as_deref(), &patience)).await;
        if let Err(cause @ (Cause::UpgradeUnsupported | Cause::WebsocketKeyInvalid | Cause::BreakerOpen)) =
            result
        {
            return Err(cause);
        }
        let took_us = worker.clock.read().us_since(began);
        let shard = stats.shard(worker.id);
        if worker.is_forced() {
            return Err(Cause::Drained);
        }
        let failed = match result {
            Ok((stream, connected)) => {
                home.connected = connected;
                shard.connects.add(1);
                shard.connect.record(took_us);
                // Who was trusted when the handshake began may be trusted no more.
                let is_retired = matches!(stream, Stream::Tls(_)) && stream.is_retired();
                if !endpoint.cell.is_gone() && !is_retired {
                    // One that is shared is counted by its pool.
                    shard.connections.add(u64::from(!matches!(stream, Stream::Http2(_))));
                    ws.trace.connect_us = Some(u32::try_from(took_us).unwrap_or(u32::MAX - 1));
                    ws.leg.attach(stream, home, false);
                    return Ok(true);
                }
                if is_retired { Cause::TlsUnavailable } else { Cause::EndpointGone }
            }
            Err(cause) => {
                shard.connect_failures.add(1);
                // A later try may have had too little time left to prove anything.
                let by_client = ws.tries.by_client || ws.call.is_some_and(|call| call.has_deadline());
                let hurried = self.connects > 1 || by_client;
                let hurried = hurried && limit < self.entry.route.timeouts.connect_try;
                let hurried = (hurried || patience.was_short.get()) && cause == Cause::ConnectTimeout;
                evidence::failed(&worker, &endpoint.cell, cause.at(Phase::Connect), hurried);
                cause
            }
        };
        drop(home);
        self.last = Some(failed);
        ws.trace.retry_cause = Some(failed);
        ws.tries.failed.push(endpoint.cell.uid());
        if failed == Cause::SocketsExhausted || !self.retries_connects(failed) {
            return Err(failed);
        }
        if worker.now_ms() >= self.connect_over_ms {
            return Err(failed);
        }
        self.avoid(ws, index, endpoint.cell.uid());
        self.look_again(ws)?;
        Ok(false)
    }

    fn avoid(&mut self, ws: &mut Workspace, index: u32, uid: u64) {
        ws.tried.push(index);
        self.tried_uids.push(uid);
    }

    /// After a wait: the cluster of the current table, with what was tried translated to its indexes.
    fn look_again(&mut self, ws: &mut Workspace) -> Result<(), Cause> {
        let now = self
            .worker
            .with_table(|table| table.cluster_named(&self.cluster.app, &self.cluster.cluster.name).cloned());
        let now = now.ok_or(Cause::ClusterGone)?;
        if !Arc::ptr_eq(&now, &self.cluster) {
            if self.cluster.shards().is_none() {
                ws.shard.forget();
            }
            ws.tried.clear();
            for (index, endpoint) in now.endpoints.iter().enumerate() {
                if self.tried_uids.contains(&endpoint.cell.uid()) {
                    ws.tried.push(u32::try_from(index).unwrap_or(u32::MAX));
                }
            }
            self.cluster = now;
        }
        Ok(())
    }

    /// Waits for a change of readiness while a first check is outstanding, in the bounded queue of the cluster.
    async fn await_first_check<D: Downstream>(
        &mut self,
        connection: &mut Connection<D>,
        ws: &mut Workspace,
    ) -> Result<(), Cause> {
        let worker = Rc::clone(&self.worker);
        let stats = Arc::clone(&self.cluster.cell);
        let shard = stats.shard(worker.id);
        if shard.queued.value() >= u64::from(self.cluster.cluster.policy.queue) {
            shard.queue_refused.add(1);
            ws.trace.phase = Phase::Queue;
            return Err(Cause::QueueFull);
        }
        ws.trace.phase = Phase::Queue;
        let began = worker.clock.read();
        let seen = worker.waiters.changes();
        let queued = Queued { worker: &worker, stats: &stats };
        shard.queued.add(1);
        let over_ms = self.connect_over_ms;
        let mut half_closed = false;
        let result = poll_fn(|cx| {
            if worker.is_forced() {
                return Poll::Ready(Err(Cause::Drained));
            }
            // A client that has left gives its place to another; one that has only finished sending waits on.
            let client = &mut connection.stream;
            client.poll_watch(cx, &worker.buffers, &mut ws.client_in, &mut half_closed)?;
            if worker.waiters.changes() != seen {
                return Poll::Ready(Ok(()));
            }
            if worker.now_ms() >= over_ms {
                shard.queue_timeouts.add(1);
                return Poll::Ready(Err(Cause::QueueTimeout));
            }
            worker.waiters.register(cx.waker());
            connection.deadline.set(over_ms, cx.waker());
            Poll::Pending
        })
        .await;
        drop(queued);
        let waited = u32::try_from(worker.clock.read().us_since(began)).unwrap_or(u32::MAX - 1);
        ws.trace.queue_us = Some(ws.trace.queue_us.unwrap_or(0).saturating_add(waited));
        result?;
        ws.trace.phase = Phase::Connect;
        self.look_again(ws)
    }

    /// When the request may take no longer.
    fn total_ms(&self, ws: &Workspace) -> Option<u64> {
        total_ms(&self.entry.route.timeouts, ws, started(&self.worker, ws))
    }

    /// Begins an attempt on the connection that is attached: the head is written for the first one, and kept.
    /// `goes_on` says that it is the one that was on.
    fn attempt<'r, D: Downstream>(
        &self,
        ws: &mut Workspace,
        relay: &'r mut Option<Relay>,
        goes_on: bool,
    ) -> &'r mut Relay {
        let now = self.worker.clock.turn();
        if !goes_on {
            ws.trace.leg_started = Some(now);
            ws.trace.phase = Phase::Send;
        }
        match relay {
            Some(relay) => {
                if !goes_on {
                    if ws.call.is_some() {
                        grpc::refresh(&self.worker, ws, self.total_ms(ws));
                    }
                    deadline::rewrite(ws, now.ms());
                    relay.restart(ws, now.ms());
                }
                relay
            }
            none => {
                self.write_head(ws, started(&self.worker, ws));
                if let Some(policy) = &self.entry.route.hedge {
                    hedge::arm(self, policy, ws, now);
                }
                let body_limit = run::body_limit(self.listener, &self.entry);
                none.insert(Relay::new::<D>(ws, &self.entry.route, body_limit, now.ms()))
            }
        }
    }

    fn write_head(&self, ws: &mut Workspace, started: Moment) {
        let address = match ws.leg.home() {
            Some(home) => home.cell.incarnation().address().clone(),
            None => return,
        };
        if ws.call.is_some() {
            grpc::prepare(&self.worker, ws, self.total_ms(ws));
        }
        write_request(&self.worker, ws, self.listener, &self.entry, &address, started);
    }

    /// A complete response: both connections go where they can.
    fn finish<D: Downstream>(&self, client: &D, ws: &mut Workspace, finish: Finish) -> After {
        self.count_bytes(ws);
        if let Some(policy) = &self.entry.route.hedge {
            hedge::note(self, policy, ws);
        }
        evidence::answered(&self.worker, &self.cluster, ws);
        if ws.mirror.is_some() {
            mirror::send(&self.worker, ws, finish.request_unread);
        }
        if finish.keep_upstream {
            self.give_back(ws);
        } else {
            ws.leg.cut();
        }
        self.clear_leg(ws);
        trace::end(&self.worker, ws, Cause::Complete);
        // A close with bytes unread is a reset, which can overtake the end of the response.
        if finish.keep_client {
            return After::Keep;
        }
        // What a client that was not watched has sent behind its request is not known, unless it said that this is its last.
        let unread = finish.request_unread
            || !ws.client_in.is_empty()
            || (client.is_unwatched() && ws.request.keep_alive && client.has_unread());
        if unread { After::Linger } else { After::Close }
    }

    /// Both connections are a tunnel: carries it to its end. Neither is used again.
    async fn tunnel<D: Downstream>(&self, connection: &mut Connection<D>, ws: &mut Workspace) -> After {
        match ws.leg.home() {
            Some(_) if ws.upgrade.is_some() => evidence::answered(&self.worker, &self.cluster, ws),
            Some(home) => home.cell.note_served(),
            None => {}
        }
        // A tunnel may be open for days: how many there are says nothing of what the cluster can work on.
        evidence::begun(ws);
        let now = self.worker.clock.turn();
        ws.trace.leg_started.get_or_insert(now);
        ws.trace.phase = Phase::Relay;
        ws.trace.switched_us = ws.trace.started.map(|started| now.us_since(started));
        let route = &self.entry.route;
        let protocol = ws.upgrade.and_then(|place| route.upgrades.protocol(place));
        let has_frames = protocol.is_some_and(|protocol| upgrade::is_websocket(protocol));
        let idle_ms = u64::try_from(route.timeouts.tunnel.as_millis()).unwrap_or(u64::MAX);
        let cause = tunnel::run(connection, ws, idle_ms, has_frames).await;
        self.count_bytes(ws);
        if is_client_gone(cause) {
            ws.leg.abort();
        }
        ws.leg.cut();
        self.worker.buffers.discard(&mut ws.client_in);
        self.clear_leg(ws);
        trace::end(&self.worker, ws, cause);
        match cause {
            Cause::UpstreamReset => After::Abort,
            Cause::Drained => After::Linger,
            _ => After::Close,
        }
    }

    fn clear_leg(&self, ws: &mut Workspace) {
        ws.leg.output.clear();
        self.worker.buffers.discard(&mut ws.leg.input);
        self.worker.buffers.detach(&mut ws.client_in);
    }

    fn count_bytes(&self, ws: &Workspace) {
        let shard = self.cluster.cell.shard(self.worker.id);
        shard.bytes_up.add(ws.leg.bytes_up);
        shard.bytes_down.add(ws.leg.bytes_down);
    }

    /// No complete response: answered where nothing has been sent, truncated where something has.
    async fn fail<D: Downstream>(
        &self,
        connection: &mut Connection<D>,
        ws: &mut Workspace,
        failure: Failure,
        sent: bool,
    ) -> After {
        // There is no whole response that a copy could stand beside; its place is another's.
        ws.mirror = None;
        self.count_bytes(ws);
        let cause = grpc::judge_late(&self.worker, ws, failure.cause);
        let failure = Failure { cause, ..failure };
        let silent = failure.cause == Cause::TotalTimeout && !ws.leg.answered;
        if silent
            || matches!(failure.cause, Cause::FirstByteTimeout | Cause::SendTimeout | Cause::UpstreamIdle)
        {
            ws.leg.retire_connection();
        }
        if is_client_gone(failure.cause) && !ws.leg.answered {
            evidence::given_up(&self.worker, ws);
        }
        if !is_client_gone(failure.cause)
            // The client chose it.
            && failure.cause != Cause::DeadlineExceeded
            && failure.cause.at(ws.trace.phase).blame() == Blame::Endpoint
            && let Some(home) = ws.leg.home()
        {
            let lost = matches!(failure.cause, Cause::ClosedWithoutResponse | Cause::UpstreamReset);
            let aged = lost && (ws.leg.reused || ws.leg.unprocessed) && !ws.leg.answered;
            evidence::failed(&self.worker, &home.cell, failure.cause.at(ws.trace.phase), aged);
        }
        ws.leg.cut();
        self.clear_leg(ws);
        if failure.begun {
            let is_told = failure.at_rest && ws.call.is_some() && !is_client_gone(cause);
            if is_told && Box::pin(grpc::end_in_trailers(connection, ws, cause.at(ws.trace.phase))).await {
                trace::end(&self.worker, ws, cause);
                return After::Linger;
            }
            trace::end(&self.worker, ws, failure.cause);
            return After::Abort;
        }
        if sent && ws.request.framing != Framing::None {
            // Part of the body may be anywhere: the connection cannot go on.
            ws.request.keep_alive = false;
        }
        ws.client_out.clear();
        run::refuse(connection, ws, failure.cause, None).await
    }
}

/// Whether nobody is there to be answered.
pub fn is_client_gone(cause: Cause) -> bool {
    matches!(cause, Cause::ClientGone | Cause::Dropped | Cause::Http2OverBudget)
}

/// A place in a cluster's queue.
struct Queued<'a> {
    worker: &'a Worker,
    stats: &'a ekiden_core::stats::ClusterCell,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.stats.shard(self.worker.id).queued.sub(1);
    }
}
