//! Carries bytes both ways once a protocol has been switched to, or where there never was one, until both sides have ended.
//!
//! ```text
//! client --client_in--> endpoint    up
//! client <--leg.input-- endpoint    down
//! ```
//! Each way holds one read buffer and reads on only when it is empty; an idle tunnel holds none. The end of one side is
//! passed on, and the other may go on. Of a WebSocket the frame headers are followed, so that a drain can say Close where
//! a frame ends, and nowhere else. Without frames, between plain sockets, a way that carries much goes through the kernel alone
//! (`splice`). Does not decide who may tunnel.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use ekiden_core::outcome::Cause;
use ekiden_core::websocket::{self, Frames};
use tokio::net::TcpStream;

use crate::exchange::downstream::Downstream;
use crate::exchange::splice::{self, Moved, Stop};
use crate::exchange::{Workspace, overload};
use crate::worker::Worker;
use crate::worker::connection::Connection;

/// Time over which a drain spreads its Close frames, so that clients do not all come back at once.
const GOODBYE_SPREAD_MS: u64 = 5_000;
/// How long both sides may take to answer a Close.
const GOODBYE_WAIT_MS: u64 = 2_000;

/// Bytes of one way from which on it is worth a pipe.
const SPLICE_FROM: u64 = 256 << 10;

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// The reader's side sends no more.
    ended: bool,
    /// Nothing more is written: the end was passed on, or the writer's side is gone.
    shut: bool,
    /// Where its frames end; none when it has none.
    frames: Option<Frames>,
    /// A Close of our own was written: what still comes is not passed on.
    muted: bool,
    /// Bytes passed on by copying.
    copied: u64,
    /// What carries them without.
    spliced: splice::Way,
}

impl Way {
    fn new(has_frames: bool) -> Self {
        Self { frames: has_frames.then(Frames::default), ..Self::default() }
    }

    fn follow(&mut self, bytes: &[u8]) {
        self.copied += bytes.len() as u64;
        if let Some(frames) = &mut self.frames {
            frames.follow(bytes);
        }
    }

    /// Moves bytes without a copy, where they need not be seen, are many, and stand between plain sockets; [`Stop::NoPipe`] where
    /// they are to be copied. Nothing that was read may wait to be written.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        (from, to): (Option<&TcpStream>, Option<&TcpStream>),
        moved: &mut Moved,
    ) -> Poll<Stop> {
        if self.copied < SPLICE_FROM || self.frames.is_some() {
            return Poll::Ready(Stop::NoPipe);
        }
        let Some(sockets) = from.zip(to) else { return Poll::Ready(Stop::NoPipe) };
        let polled = self.spliced.poll_pass(cx, &worker.pipes, sockets, moved);
        worker.shard.spliced.add(moved.given as u64);
        self.ended |= polled == Poll::Ready(Stop::End);
        polled
    }

    /// Whether a Close may be written now.
    fn takes_goodbye(&self) -> bool {
        !self.muted && !self.ended && !self.shut && self.frames.as_ref().is_some_and(Frames::is_between)
    }

    /// Whether a Close has gone this way, or nothing can.
    fn is_closed(&self) -> bool {
        self.shut || self.ended || self.frames.as_ref().is_some_and(Frames::is_closed)
    }
}

/// A tunnel.
#[derive(Debug)]
struct Tunnel {
    up: Way,
    down: Way,
    /// The first thing that went wrong.
    cause: Option<Cause>,
    idle_ms: u64,
    progress_ms: u64,
    /// When the drain says Close; none before a drain, and where there are no frames.
    goodbye_ms: Option<u64>,
    /// Until when the answers to a Close are waited for; none before one was written.
    over_ms: Option<u64>,
}

/// Counts an open tunnel.
struct Open(Rc<Worker>);

impl Open {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.shard.tunnels.add(1);
        worker.shard.tunnels_open.add(1);
        Self(Rc::clone(worker))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.shard.tunnels_open.sub(1);
    }
}

/// Carries a tunnel to its end. `idle_ms` is its longest silence; `has_frames` says that both ways are WebSocket.
///
/// What has been read of either side and not been passed on stands in the buffers of the workspace.
pub async fn run<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    idle_ms: u64,
    has_frames: bool,
) -> Cause {
    let worker = Rc::clone(&connection.worker);
    let _open = Open::new(&worker);
    let mut tunnel = Tunnel {
        up: Way::new(has_frames),
        down: Way::new(has_frames),
        cause: None,
        idle_ms,
        progress_ms: worker.now_ms(),
        goodbye_ms: None,
        over_ms: None,
    };
    ws.leg.output.clear();
    ws.client_out.clear();
    poll_fn(|cx| {
        worker.clock.read();
        let polled = tunnel.poll(cx, &worker, connection, ws);
        if ws.permit.is_some() {
            overload::hold(&connection.stream, ws, tunnel.up.spliced.held() + tunnel.down.spliced.held());
        }
        polled
    })
    .await
}

impl Tunnel {
    fn poll<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        connection: &mut Connection<D>,
        ws: &mut Workspace,
    ) -> Poll<Cause> {
        let client = &mut connection.stream;
        if worker.is_forced() {
            self.say_goodbye(cx, worker, client, ws);
            return Poll::Ready(Cause::Drained);
        }
        let moved = bytes_of(ws, client);
        if let Err(cause) = self.poll_up(cx, worker, client, ws) {
            return Poll::Ready(cause);
        }
        if let Err(cause) = self.poll_down(cx, worker, client, ws) {
            return Poll::Ready(cause);
        }
        let now_ms = worker.turn_ms();
        if self.goodbye_ms.is_none() && self.up.frames.is_some() && worker.is_draining() {
            self.goodbye_ms = Some(now_ms + worker.random() % GOODBYE_SPREAD_MS);
        }
        if self.goodbye_ms.is_some_and(|at_ms| now_ms >= at_ms) {
            self.say_goodbye(cx, worker, client, ws);
        }
        if self.up.shut && self.down.shut {
            let orderly = if self.over_ms.is_some() { Cause::Drained } else { Cause::Complete };
            return Poll::Ready(self.cause.unwrap_or(orderly));
        }
        if bytes_of(ws, client) != moved {
            self.progress_ms = now_ms;
        }
        let idle_over_ms = self.progress_ms.saturating_add(self.idle_ms);
        for (at_ms, cause) in [(self.over_ms, Cause::Drained), (Some(idle_over_ms), Cause::TunnelIdle)] {
            if at_ms.is_some_and(|at_ms| now_ms >= at_ms) {
                return Poll::Ready(self.cause.unwrap_or(cause));
            }
        }
        let goodbye_ms = self.goodbye_ms.filter(|at_ms| *at_ms > now_ms).unwrap_or(u64::MAX);
        connection
            .deadline
            .set(idle_over_ms.min(goodbye_ms).min(self.over_ms.unwrap_or(u64::MAX)), cx.waker());
        Poll::Pending
    }

    /// From the client to the endpoint.
    ///
    /// # Errors
    /// The client is gone.
    fn poll_up<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        client: &mut D,
        ws: &mut Workspace,
    ) -> Result<(), Cause> {
        let way = &mut self.up;
        while !way.shut {
            let direct = if way.muted { &[] } else { ws.client_in.bytes() };
            if ws.leg.output.pending() > 0 || !direct.is_empty() {
                match ws.leg.poll_pass(cx, direct) {
                    Poll::Ready(Ok(count)) => {
                        way.follow(direct.get(..count).unwrap_or(&[]));
                        ws.client_in.consume(count);
                        ws.trace.bytes_in += count as u64;
                        continue;
                    }
                    Poll::Ready(Err(_)) => {
                        self.cause.get_or_insert(Cause::UpstreamReset);
                        way.shut = true;
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            // What TLS holds goes out before more is read.
            if ws.leg.held() > 0 {
                match ws.leg.poll_send(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => {
                        self.cause.get_or_insert(Cause::UpstreamReset);
                        way.shut = true;
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            if way.muted {
                way.follow(ws.client_in.bytes());
                let count = ws.client_in.len();
                ws.client_in.consume(count);
                ws.trace.bytes_in += count as u64;
                way.ended |= way.frames.as_ref().is_some_and(Frames::is_closed);
            }
            if way.ended {
                // The endpoint may be gone already: what was to be said to it has been said.
                way.shut = ws.leg.poll_end(cx).is_ready();
                break;
            }
            let (sockets, mut moved) = ((client.plain_socket(), ws.leg.plain_socket()), Moved::default());
            let spliced = way.poll_splice(cx, worker, sockets, &mut moved);
            ws.trace.bytes_in += moved.given as u64;
            ws.leg.bytes_up += moved.given as u64;
            match spliced {
                Poll::Pending => break,
                Poll::Ready(Stop::End) => continue,
                Poll::Ready(Stop::FromLost) => return Err(client.loss()),
                Poll::Ready(Stop::ToLost) => {
                    self.cause.get_or_insert(Cause::UpstreamReset);
                    way.shut = true;
                    break;
                }
                Poll::Ready(Stop::NoPipe) => {}
            }
            if !worker.buffers.make_room(&mut ws.client_in) {
                break;
            }
            match client.poll_read(cx, &mut ws.client_in) {
                Poll::Ready(Ok(0)) => way.ended = true,
                Poll::Ready(Ok(_)) if ws.client_in.is_full() => worker.buffers.enlarge(&mut ws.client_in),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(client.loss()),
                Poll::Pending => break,
            }
        }
        worker.buffers.detach(&mut ws.client_in);
        Ok(())
    }

    /// From the endpoint to the client.
    ///
    /// # Errors
    /// The endpoint is gone.
    fn poll_down<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        client: &mut D,
        ws: &mut Workspace,
    ) -> Result<(), Cause> {
        let way = &mut self.down;
        while !way.shut {
            let direct = if way.muted { &[] } else { ws.leg.input.bytes() };
            if ws.client_out.pending() > 0 || !direct.is_empty() {
                match client.poll_write(cx, &mut ws.client_out, direct, false) {
                    Poll::Ready(Ok(written)) => {
                        ws.trace.bytes_out += written.total as u64;
                        way.follow(direct.get(..written.direct).unwrap_or(&[]));
                        ws.leg.input.consume(written.direct);
                        if ws.client_out.pending() == 0 {
                            ws.client_out.clear();
                        }
                        continue;
                    }
                    Poll::Ready(Err(_)) => {
                        self.cause.get_or_insert(client.loss());
                        way.shut = true;
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            // What a TLS stream has taken is on its way before more is read.
            match client.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.cause.get_or_insert(client.loss());
                    way.shut = true;
                    break;
                }
                Poll::Pending => break,
            }
            if way.muted {
                way.follow(ws.leg.input.bytes());
                let count = ws.leg.input.len();
                ws.leg.input.consume(count);
                way.ended |= way.frames.as_ref().is_some_and(Frames::is_closed);
            }
            if way.ended {
                way.shut = client.poll_end(cx).is_ready();
                break;
            }
            let (sockets, mut moved) = ((ws.leg.plain_socket(), client.plain_socket()), Moved::default());
            let spliced = way.poll_splice(cx, worker, sockets, &mut moved);
            ws.leg.bytes_down += moved.taken as u64;
            ws.trace.bytes_out += moved.given as u64;
            match spliced {
                Poll::Pending => break,
                Poll::Ready(Stop::End) => continue,
                Poll::Ready(Stop::FromLost) => return Err(Cause::UpstreamReset),
                Poll::Ready(Stop::ToLost) => {
                    self.cause.get_or_insert(client.loss());
                    way.shut = true;
                    break;
                }
                Poll::Ready(Stop::NoPipe) => {}
            }
            match ws.leg.poll_receive(cx, &worker.buffers) {
                Poll::Ready(Ok(0)) => way.ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(Cause::UpstreamReset),
                Poll::Pending => break,
            }
        }
        worker.buffers.detach(&mut ws.leg.input);
        Ok(())
    }

    /// Says Close to each side, where a frame has just ended and no Close has gone before. Both ways are looked at again at
    /// once.
    fn say_goodbye<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        client: &mut D,
        ws: &mut Workspace,
    ) {
        let mut said = false;
        if self.down.takes_goodbye() && !self.down.is_closed() {
            ws.client_out.buffer().extend_from_slice(&websocket::going_away());
            self.down.muted = true;
            said = true;
        }
        if self.up.takes_goodbye() && !self.up.is_closed() {
            let [a, b, c, d, ..] = worker.random().to_le_bytes();
            ws.leg.output.buffer().extend_from_slice(&websocket::going_away_masked([a, b, c, d]));
            self.up.muted = true;
            said = true;
        }
        if !said {
            return;
        }
        // A side that answers with its own Close, or that has said one before, has ended.
        self.over_ms.get_or_insert(worker.turn_ms() + GOODBYE_WAIT_MS);
        // Each failure ends its way, which is all that can be done.
        let _failed_up = self.poll_up(cx, worker, client, ws);
        let _failed_down = self.poll_down(cx, worker, client, ws);
    }
}

/// What changes when bytes move.
fn bytes_of<D: Downstream>(ws: &Workspace, client: &D) -> [u64; 5] {
    let trace = &ws.trace;
    let held = (client.held() + ws.leg.held()) as u64;
    [trace.bytes_in, trace.bytes_out, ws.leg.bytes_up, ws.leg.bytes_down, held]
}
