//! A fake backend that streams its reply piece by piece, through the engine's own driver to a real client: framing,
//! HEAD, old clients, giving up half way, a client that leaves. The contract of the seam alone is held by `seams`.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use ekiden_config::doors::Generation;
use ekiden_config::{Format, HostOwners, Input, Source};
use ekiden_core::outcome::Cause;
use ekiden_core::stats::WorkerShard;
use ekiden_core::table::Compiler;
use ekiden_router::exchange::Workspace;
use ekiden_router::exchange::backend::{Backend, BackendError, Reply, ReplyBody};
use ekiden_router::exchange::run::answer_from_backend;
use ekiden_router::record::Recorder;
use ekiden_router::shared::Shared;
use ekiden_router::stream::Stream;
use ekiden_router::wire::request::{RequestHead, Rules};
use ekiden_router::worker::connection::Connection;
use ekiden_router::worker::{ListenerRef, Worker};
use ekiden_tests::{Client, DEADLINE, Lost, Response};

/// A worker that nobody has started, with one listener and one route: its parts, driven by the test's own task.
fn worker() -> Rc<Worker> {
    let text =
        "[listener.edge]\naddress = \"127.0.0.1:1\"\n[[route]]\nrespond = { body = \"x\" }\n".to_owned();
    let source = Source { file: "backend.toml".to_owned(), text, format: Format::Toml };
    let hosts = HostOwners::default();
    let built =
        ekiden_config::build(Input { main: &source, apps: &[], previous: None, hosts: &hosts }).unwrap();
    let (shared, _retired) = Shared::new(1, std::path::PathBuf::new());
    shared.table.store(Compiler::new(1).compile(&built.model, Generation(1)).table);
    Worker::new(0, shared, Arc::new(WorkerShard::new()), Recorder::off(), 100)
}

fn run<T>(task: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, task).await.expect("the backend hangs") })
}

/// How the fake ends its body.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Proper,
    GivesUp,
    Never,
}

/// Counts down: one line per poll that is ready, and every other poll is not.
struct Countdown {
    length: Option<u64>,
    ending: Ending,
    dropped: Rc<Cell<bool>>,
}

struct Lines {
    left: u32,
    turn: bool,
    length: Option<u64>,
    ending: Ending,
    dropped: Rc<Cell<bool>>,
}

impl Backend for Countdown {
    fn start(&self, request: &RequestHead) -> Reply {
        let Self { length, ending, dropped } = self;
        let lines =
            Lines { left: 3, turn: false, length: *length, ending: *ending, dropped: Rc::clone(dropped) };
        let asked = ("X-Asked".to_owned(), request.target().to_owned());
        Reply { status: 207, fields: vec![asked], body: Some(Box::new(lines)) }
    }
}

impl ReplyBody for Lines {
    fn length(&self) -> Option<u64> {
        self.length
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, BackendError>> {
        self.turn = !self.turn;
        if self.turn {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match (self.left, self.ending) {
            (0, Ending::Proper) => return Poll::Ready(Ok(false)),
            (0, Ending::GivesUp) => return Poll::Ready(Err(BackendError)),
            (0, Ending::Never) => {}
            _ => self.left -= 1,
        }
        out.extend_from_slice(format!("{}\n", self.left).as_bytes());
        Poll::Ready(Ok(true))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.dropped.set(true);
    }
}

/// Serves one request of a client by the fake: what became of it.
async fn serve(listener: tokio::net::TcpListener, backend: Countdown, request: &'static str) -> Cause {
    let worker = worker();
    let (stream, peer) = listener.accept().await.unwrap();
    let _open = worker.open_connection();
    let edge = ListenerRef::new(ekiden_config::names::ListenerName::new("edge").unwrap());
    let mut connection = Connection::new(Rc::clone(&worker), edge, Stream::Tcp(stream), Some(peer));
    let mut ws = Workspace::default();
    ws.request.parse(request.as_bytes(), Rules { fields: 100, allow_underscore: false }).unwrap();
    ws.trace.begin(worker.clock.read());
    let reply = backend.start(&ws.request);
    let keep = ws.request.keep_alive;
    answer_from_backend(&mut connection, &mut ws, reply, keep).await
}

/// Cause, response, and whether the body was let go.
fn ask(
    length: Option<u64>,
    ending: Ending,
    request: &'static str,
    client: impl FnOnce(SocketAddr) -> Result<Response, Lost> + Send + 'static,
) -> (Cause, Result<Response, Lost>, bool) {
    let dropped = Rc::new(Cell::new(false));
    let backend = Countdown { length, ending, dropped: Rc::clone(&dropped) };
    let (cause, client) = run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = thread::spawn(move || client(address));
        (serve(listener, backend, request).await, client)
    });
    (cause, client.join().unwrap(), dropped.get())
}

const GET: &str = "GET /count HTTP/1.1\r\nHost: a\r\n\r\n";

fn read(address: SocketAddr) -> Result<Response, Lost> {
    Client::connect(address).read(false)
}

#[test]
fn a_reply_streams_in_chunks_or_by_its_length() {
    for (length, coding) in [(None, Some("chunked")), (Some(6), None)] {
        let (cause, response, dropped) = ask(length, Ending::Proper, GET, read);
        let response = response.unwrap();
        assert_eq!((cause, response.status, response.text().as_str()), (Cause::Complete, 207, "2\n1\n0\n"));
        assert_eq!(response.get("transfer-encoding"), coding);
        assert_eq!(response.get("x-asked"), Some("/count"));
        assert!(response.get("date").is_some() && dropped);
    }
    let (cause, response, _) = ask(None, Ending::Proper, "GET / HTTP/1.0\r\n\r\n", read);
    let response = response.unwrap();
    assert_eq!(
        (cause, response.text().as_str(), response.says_close()),
        (Cause::Complete, "2\n1\n0\n", true)
    );
}

#[test]
fn a_reply_to_head_has_no_body() {
    let head = |address| Client::connect(address).read(true);
    let (cause, response, dropped) = ask(Some(6), Ending::Proper, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", head);
    assert_eq!((cause, response.unwrap().get("content-length"), dropped), (Cause::Complete, Some("6"), true));
}

#[test]
fn a_backend_that_gives_up_truncates_the_reply() {
    let (cause, response, dropped) = ask(None, Ending::GivesUp, GET, read);
    assert_eq!((cause, dropped), (Cause::BackendFailed, true));
    assert_eq!(response, Err(Lost::Truncated(b"2\n1\n0\n".to_vec())));
}

#[test]
fn a_client_that_leaves_cancels_the_backend() {
    let (cause, _, dropped) = ask(None, Ending::Never, GET, |address| {
        let mut client = Client::connect(address);
        let head = client.head();
        client.reset();
        head
    });
    assert_eq!((cause, dropped), (Cause::ClientGone, true));
}
