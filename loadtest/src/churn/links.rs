//! Routers as control sees them, many in one thread: each has a link of its own, takes what comes, and says of each commit that it is
//! in force. They keep nothing and serve nobody.

use crate::failure::{Fallible, failure};
use bytes::Bytes;
use h2::client;
use http::Request;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// What a link may be sent before it is read, in bytes.
const WINDOW: u32 = 1 << 20;
/// How often each says that it is there, well within the 15 s after which control gives a link up.
const PING_EVERY: Duration = Duration::from_secs(4);

/// A commit as one router had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Its generation.
    pub(super) generation: u64,
    /// When.
    pub(super) at: Instant,
}

/// Routers under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Links {
    commits: mpsc::Receiver<Taken>,
    failures: mpsc::Receiver<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Links {
    /// Connects `count` routers to the link of a control process, without TLS; returns when each has its first commit.
    pub(super) fn open(to: SocketAddr, count: usize, limit: Duration) -> Fallible<Self> {
        let (commits_in, commits) = mpsc::channel();
        let (failures_in, failures) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            if let Err(error) = crate::launch::stay_on_load_core() {
                let _ = failures_in.send(error.to_string());
            }
            runtime.block_on(LocalSet::new().run_until(async move {
                let commits = Rc::new(commits_in);
                for number in 0..count {
                    let (commits, failures) = (Rc::clone(&commits), failures_in.clone());
                    tokio::task::spawn_local(async move {
                        if let Err(error) = link(to, number, &commits).await {
                            // Nobody listens any more when the run has ended.
                            let _ = failures.send(format!("router {number}: {error}"));
                        }
                    });
                }
                let _ = stopped.await;
            }));
        });
        let links = Self { commits, failures, stop: Some(stop), thread: Some(thread) };
        links.wait(count, limit)?;
        Ok(links)
    }

    /// The next `count` commits of all routers together.
    pub(super) fn wait(&self, count: usize, limit: Duration) -> Fallible<Vec<Taken>> {
        let until = Instant::now() + limit;
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            if let Ok(error) = self.failures.try_recv() {
                return Err(failure(error));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failure(format!("{} of {count} commits came within {limit:?}", taken.len())));
            }
            taken.extend(self.commits.recv_timeout(left.min(Duration::from_millis(200))));
        }
        Ok(taken)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn link(to: SocketAddr, number: usize, commits: &mpsc::Sender<Taken>) -> Fallible<()> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let text = |error: h2::Error| failure(error.to_string());
    let mut builder = client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
    let (sender, connection) = builder.handshake::<_, Bytes>(stream).await.map_err(text)?;
    tokio::task::spawn_local(async move {
        // The stream tells why it ended.
        let _ = connection.await;
    });
    let mut sender = sender.ready().await.map_err(text)?;
    let request = Request::post("http://control/v1/link").body(())?;
    let (response, sink) = sender.send_request(request, false).map_err(text)?;
    let sink = Rc::new(RefCell::new(sink));
    let name = format!("simulated-{number}");
    let hello = json!({ "version": 1, "router": name, "instance": name, "software": "loadtest", "term": 0,
        "generation": 0 });
    say(&sink, &json!({ "hello": hello }))?;
    let pings = Rc::clone(&sink);
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(PING_EVERY).await;
            if say(&pings, &json!({ "ping": {} })).is_err() {
                return;
            }
        }
    });
    let response = response.await.map_err(text)?;
    if response.status() != 200 {
        return Err(failure(format!("control answers {}", response.status())));
    }
    let (mut body, mut held, mut term) = (response.into_body(), Vec::new(), 0);
    while let Some(data) = body.data().await {
        let data = data.map_err(text)?;
        body.flow_control().release_capacity(data.len()).map_err(text)?;
        held.extend_from_slice(&data);
        let whole = held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for line in held[..whole].split(|byte| *byte == b'\n').filter(|line| is_heard(line)) {
            let said: Value = serde_json::from_slice(line)?;
            if let Some(welcome) = said.get("welcome") {
                term = welcome["term"].as_u64().unwrap_or(0);
            } else if let Some(generation) = said["commit"]["generation"].as_u64() {
                let _ = commits.send(Taken { generation, at: Instant::now() });
                let applied =
                    json!({ "term": term, "generation": generation, "table": generation, "refused": [] });
                say(&sink, &json!({ "applied": applied }))?;
            } else if said.get("bye").is_some() {
                return Err(failure(said.to_string()));
            }
        }
        held.drain(..whole);
    }
    Err(failure("control ended the link"))
}

/// Whether a line is more than an object: a simulated router keeps none.
fn is_heard(line: &[u8]) -> bool {
    [&b"{\"commit"[..], b"{\"welcome", b"{\"bye"].iter().any(|start| line.starts_with(start))
}

/// Sends a line. They are short, and what the other side has not read yet is kept by the codec.
fn say(sink: &RefCell<h2::SendStream<Bytes>>, message: &Value) -> Fallible<()> {
    let sent = sink.borrow_mut().send_data(Bytes::from(format!("{message}\n")), false);
    sent.map_err(|error| failure(error.to_string()))
}
