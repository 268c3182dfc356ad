//! The seams that later parts plug into, each held by a fake: a backend that streams, a body stage, and a driver of two
//! legs. The router's own parts are used as a library; sockets are real.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ekiden_config::doors::Generation;
use ekiden_config::model::Address;
use ekiden_config::names::{AppName, ClusterName};
use ekiden_config::{Format, HostOwners, Input, Source};
use ekiden_core::cluster::ClusterTable;
use ekiden_core::outcome::Cause;
use ekiden_core::table::Compiler;
use ekiden_router::buffer::Buffers;
use ekiden_router::exchange::backend::{Backend, BackendError, Reply, ReplyBody};
use ekiden_router::exchange::leg::{Home, Leg};
use ekiden_router::exchange::stage::{BodyStage, Staged};
use ekiden_router::stream::Stream;
use ekiden_router::wire::Version;
use ekiden_router::wire::body::Decoder;
use ekiden_router::wire::request::{RequestHead, Rules};
use ekiden_router::wire::response::ResponseHead;
use ekiden_tests::{DEADLINE, End, Origin, web};

/// Runs a future on this thread, as a worker would, with the deadline of every test.
fn on_worker<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await.expect("the deadline of the test") })
}

// ---- backend --------------------------------------------------------------------------------------------------------

/// Replies with the request's target in pieces, and waits before each.
struct Pieces {
    fails_after: Option<usize>,
    dropped: Rc<Cell<bool>>,
}

struct PiecesBody {
    pieces: Vec<String>,
    next: usize,
    waited: bool,
    fails_after: Option<usize>,
    dropped: Rc<Cell<bool>>,
}

impl Backend for Pieces {
    fn start(&self, request: &RequestHead) -> Reply {
        let pieces =
            vec!["you asked for ".to_owned(), String::new(), request.target().to_owned(), "\n".to_owned()];
        let (fails_after, dropped) = (self.fails_after, Rc::clone(&self.dropped));
        let body = PiecesBody { pieces, next: 0, waited: false, fails_after, dropped };
        Reply {
            status: 200,
            fields: vec![("Content-Type".into(), "text/plain".into())],
            body: Some(Box::new(body)),
        }
    }
}

impl ReplyBody for PiecesBody {
    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, BackendError>> {
        if !std::mem::replace(&mut self.waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        if self.fails_after == Some(self.next) {
            return Poll::Ready(Err(BackendError));
        }
        let Some(piece) = self.pieces.get(self.next) else { return Poll::Ready(Ok(false)) };
        out.extend_from_slice(piece.as_bytes());
        self.next += 1;
        Poll::Ready(Ok(true))
    }
}

impl Drop for PiecesBody {
    fn drop(&mut self) {
        self.dropped.set(true);
    }
}

fn request(target: &str) -> RequestHead {
    let mut head = RequestHead::default();
    let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    head.parse(text.as_bytes(), Rules { fields: 100, allow_underscore: false }).unwrap();
    head
}

/// Reads at most `most` pieces of a reply the way an exchange does.
async fn collect(reply: &mut Reply, most: usize) -> Result<(Vec<u8>, bool), BackendError> {
    let (mut all, mut piece) = (Vec::new(), Vec::new());
    let body = reply.body.as_mut().expect("a body");
    for _ in 0..most {
        piece.clear();
        let more = poll_fn(|cx| body.poll_piece(cx, &mut piece)).await?;
        all.extend_from_slice(&piece);
        if !more {
            return Ok((all, true));
        }
    }
    Ok((all, false))
}

#[test]
fn a_backend_streams_waits_fails_and_is_dropped_half_way() {
    on_worker(async {
        let dropped = Rc::new(Cell::new(false));
        let backend: &dyn Backend = &Pieces { fails_after: None, dropped: Rc::clone(&dropped) };
        let mut reply = backend.start(&request("/x?y"));
        assert_eq!(collect(&mut reply, 10).await, Ok((b"you asked for /x?y\n".to_vec(), true)));

        dropped.set(false);
        let mut reply = backend.start(&request("/x"));
        assert_eq!(collect(&mut reply, 1).await, Ok((b"you asked for ".to_vec(), false)));
        drop(reply);
        assert!(dropped.get(), "cancelled in the middle");

        let broken = Pieces { fails_after: Some(2), dropped };
        let mut reply = broken.start(&request("/x"));
        assert_eq!(collect(&mut reply, 10).await, Err(BackendError));
    });
}

// ---- legs -----------------------------------------------------------------------------------------------------------

/// The cluster `web` with these endpoints, compiled like any table.
fn compiled(origins: &[&Origin]) -> Arc<ClusterTable> {
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let text = format!("[listener.edge]\naddress = \"127.0.0.1:1\"\n{}", web(&addresses, "", ""));
    let source = Source { file: "seams.toml".to_owned(), text, format: Format::Toml };
    let hosts = HostOwners::default();
    let built =
        ekiden_config::build(Input { main: &source, apps: &[], previous: None, hosts: &hosts }).unwrap();
    let table = Compiler::new(1).compile(&built.model, Generation(1)).table;
    let name = ClusterName::new("web").unwrap();
    Arc::clone(table.cluster_named(&AppName::default_app(), &name).unwrap())
}

/// A leg to one origin with a request queued, and the origin's in-flight count raised.
async fn leg_to(cluster: &ClusterTable, origin: &Origin, request: &str) -> Leg {
    let address = Address::Tcp(origin.address);
    let entry = cluster.endpoints.iter().find(|entry| entry.endpoint.address == address).unwrap();
    let stream = Stream::connect(&address).await.unwrap();
    cluster.cell.shard(0).connections.add(1);
    let mut leg = Leg::default();
    leg.attach(stream, Home::enter(&entry.cell, &cluster.cell, &cluster.cluster.policy, 0).unwrap(), false);
    leg.output.buffer().extend_from_slice(request.as_bytes());
    leg
}

fn in_flight(cluster: &ClusterTable, origin: &Origin) -> u32 {
    let address = Address::Tcp(origin.address);
    cluster.endpoints.iter().find(|entry| entry.endpoint.address == address).unwrap().cell.in_flight()
}

/// Polls both legs in this task until one has a head; the other one is cut. A leg that fails is out; when both have,
/// the last cause is the answer.
async fn race(legs: &mut [Leg; 2], heads: &mut [ResponseHead; 2], buffers: &Buffers) -> Result<usize, Cause> {
    let mut failed = [None; 2];
    let winner = poll_fn(|cx| {
        for (at, (leg, head)) in legs.iter_mut().zip(heads.iter_mut()).enumerate() {
            if failed[at].is_some() {
                continue;
            }
            if let Poll::Ready(Err(error)) = leg.poll_send(cx) {
                failed[at] = Some(leg.loss(Some(&error)));
                continue;
            }
            match leg.poll_head(cx, buffers, head, false) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(at)),
                Poll::Ready(Err(cause)) => failed[at] = Some(cause),
                Poll::Pending => {}
            }
        }
        match failed {
            [Some(_), Some(last)] => Poll::Ready(Err(last)),
            _ => Poll::Pending,
        }
    })
    .await;
    for (at, leg) in legs.iter_mut().enumerate() {
        if winner != Ok(at) {
            leg.cut();
        }
    }
    winner
}

/// The rest of a leg's response through a stage, as bytes for the client.
async fn relayed(
    leg: &mut Leg,
    head: &ResponseHead,
    buffers: &Buffers,
    stage: Box<dyn BodyStage>,
) -> Vec<u8> {
    let mut staged = Staged::new(stage, head.framing, Version::Http11);
    let (mut decoder, mut out) = (Decoder::new(head.framing), Vec::new());
    while !staged.is_done() {
        let fed = staged.feed(&mut decoder, leg.input.bytes(), &mut out, &|_| Ok(true)).unwrap();
        leg.input.consume(fed.taken);
        if !fed.again && !staged.is_done() {
            let count = poll_fn(|cx| leg.poll_receive(cx, buffers)).await.unwrap();
            assert!(count > 0, "the origin ended early");
        }
    }
    out
}

/// Writes every letter large and twice.
struct Shout;

impl BodyStage for Shout {
    fn data(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Cause> {
        out.extend(bytes.iter().map(u8::to_ascii_uppercase).flat_map(|byte| [byte, byte]));
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Cause> {
        out.extend_from_slice(b"!");
        Ok(())
    }

    fn changes_length(&self) -> bool {
        true
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Takes the request and never answers.
fn silent() -> Origin {
    Origin::start(|conn| {
        conn.request();
        conn.until_closed();
    })
}

#[test]
fn of_two_legs_the_first_head_wins_and_the_other_is_cut() {
    for fast_first in [true, false] {
        let (fast, slow) = (Origin::hello("quick"), silent());
        let cluster = compiled(&[&fast, &slow]);
        let order = if fast_first { [&fast, &slow] } else { [&slow, &fast] };
        on_worker(async {
            let buffers = Buffers::default();
            let mut legs = [leg_to(&cluster, order[0], GET).await, leg_to(&cluster, order[1], GET).await];
            assert_eq!((in_flight(&cluster, &fast), in_flight(&cluster, &slow)), (1, 1));
            let mut heads = [ResponseHead::default(), ResponseHead::default()];
            let winner = race(&mut legs, &mut heads, &buffers).await.unwrap();
            assert_eq!(winner, usize::from(!fast_first));
            assert_eq!((in_flight(&cluster, &fast), in_flight(&cluster, &slow)), (1, 0));
            assert_eq!(slow.ended(1), End::Fin, "the loser's connection is closed, not kept");
            assert_eq!(slow.received(1), GET.as_bytes());
            let out = relayed(&mut legs[winner], &heads[winner], &buffers, Box::new(Shout)).await;
            assert_eq!(String::from_utf8_lossy(&out), "a\r\nQQUUIICCKK\r\n1\r\n!\r\n0\r\n\r\n");
            let (_stream, home) = legs[winner].detach().expect("the winner's connection can be kept");
            drop(home);
            assert_eq!(in_flight(&cluster, &fast), 0);
            assert_eq!(cluster.cell.shard(0).connections.value(), 1, "the winner's alone");
        });
    }
}

#[test]
fn a_leg_that_dies_leaves_the_race_to_the_other() {
    let (good, dead) = (Origin::hello("here"), Origin::start(|conn| drop(conn.request())));
    let cluster = compiled(&[&good, &dead]);
    on_worker(async {
        let buffers = Buffers::default();
        let mut legs = [leg_to(&cluster, &dead, GET).await, leg_to(&cluster, &good, GET).await];
        // The dead one's turn is over before the good one has been asked.
        let mut lone = ResponseHead::default();
        poll_fn(|cx| legs[0].poll_send(cx)).await.unwrap();
        let lost = poll_fn(|cx| legs[0].poll_head(cx, &buffers, &mut lone, false)).await;
        assert_eq!(lost, Err(Cause::ClosedWithoutResponse));
        let mut heads = [ResponseHead::default(), ResponseHead::default()];
        assert_eq!(race(&mut legs, &mut heads, &buffers).await, Ok(1));
        assert_eq!((heads[1].status, in_flight(&cluster, &dead)), (200, 0));
    });
}

#[test]
fn when_both_legs_die_the_exchange_has_one_cause() {
    let bad = || {
        Origin::start(|conn| {
            conn.request();
            conn.send("not HTTP at all\r\n\r\n");
            conn.until_closed();
        })
    };
    let (one, two) = (bad(), bad());
    let cluster = compiled(&[&one, &two]);
    on_worker(async {
        let buffers = Buffers::default();
        let mut legs = [leg_to(&cluster, &one, GET).await, leg_to(&cluster, &two, GET).await];
        let mut heads = [ResponseHead::default(), ResponseHead::default()];
        assert_eq!(race(&mut legs, &mut heads, &buffers).await, Err(Cause::ResponseMalformed));
        assert_eq!((in_flight(&cluster, &one), in_flight(&cluster, &two)), (0, 0));
        assert!(!legs[0].is_attached() && !legs[1].is_attached());
    });
}
