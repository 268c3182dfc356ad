//! One run: a worker with its table, clients and endpoints, and an order of events that a seed fixes.
//!
//! The worker's code is the one that serves people: `worker::connection`, the exchange, pools, wheel, table swaps, drain. What
//! stands around it is scripted. Nothing runs by itself: each step lets one peer do a little, or the runtime turn once, or time
//! pass, so that a fault falls between any two polls of a task, which is every place where it awaits.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ekiden_config::doors::Generation;
use ekiden_config::names::ListenerName;
use ekiden_config::{Format, HostOwners, Input, Source};
use ekiden_core::outcome::{Cause, Phase};
use ekiden_core::policy::entrance::{Ruling, Step};
use ekiden_core::resilience::breaker::Bound;
use ekiden_core::stats::{HandshakeFailure, WorkerShard};
use ekiden_core::table::{Compiler, Table};
use fastrand::Rng;
use tokio::task::JoinHandle;

use super::client::Client;
use super::endpoint::Endpoint;
use super::http2_endpoint::Http2Endpoint;
use super::ledger;
use super::secure::{self, Secure, Trusting};
use super::socket::Socket;
use super::streams::Streams;
use super::verdicts::Verdicts;
use super::words;
use crate::exchange::Workspace;
use crate::record::Recorder;
use crate::shared::{Retired, Shared};
use crate::stream::Stream;
use crate::worker::connection::{Kept, serve};
use crate::worker::{DrainPhase, ListenerRef, Worker, connection_limits};

/// Steps of a run without faults in which time passes, and how long the kernel may then take for what it holds.
const STEPS_CALM: usize = 60_000;
const KERNEL_WITHIN: Duration = Duration::from_secs(30);
/// Steps of a run with faults.
const STEPS: usize = 500;
/// Time that passes while the last of a run comes to an end: longer than any deadline of its table.
const END: Duration = Duration::from_secs(120);
const END_HOP: Duration = Duration::from_millis(250);

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    ClientGone,
    ClientReset,
    ClientHalfCloses,
    ClientStalls,
    /// What it sends under TLS is spoiled.
    ClientGarbles,
    EndpointLost,
    EndpointReset,
    EndpointHalfCloses,
    EndpointStalls,
    EndpointRefuses,
    Swap,
    Leave,
    Drain,
    Force,
    TaskDropped,
    TimeJumps,
}

impl Fault {
    pub(super) const ALL: [Fault; 16] = [
        Fault::ClientGone,
        Fault::ClientReset,
        Fault::ClientHalfCloses,
        Fault::ClientStalls,
        Fault::ClientGarbles,
        Fault::EndpointLost,
        Fault::EndpointReset,
        Fault::EndpointHalfCloses,
        Fault::EndpointStalls,
        Fault::EndpointRefuses,
        Fault::Swap,
        Fault::Leave,
        Fault::Drain,
        Fault::Force,
        Fault::TaskDropped,
        Fault::TimeJumps,
    ];
}

/// What one run came to.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) exchanges: u64,
    pub(super) ends: Vec<(Cause, Phase)>,
    pub(super) faults: BTreeMap<Fault, u64>,
    /// How handshakes ended, and what the authorizer's answers came to.
    pub(super) turns: Vec<(String, u64)>,
}

pub(super) struct World {
    rng: Rng,
    /// Nothing fails.
    calm: bool,
    dir: tempfile::TempDir,
    shared: Arc<Shared>,
    retired: Receiver<Retired>,
    worker: Rc<Worker>,
    compiler: Compiler,
    generation: u64,
    /// Every table that was in force: what left with one is looked at too.
    tables: Vec<Arc<Table>>,
    listener: Rc<ListenerRef>,
    http2: Rc<ListenerRef>,
    secure: Rc<ListenerRef>,
    /// Words of the certificate of that listener, and what its clients share.
    certificate: String,
    trusting: Trusting,
    /// Connections that it let in.
    secured: u64,
    /// The last is the authorizer.
    endpoints: Vec<Endpoint>,
    /// Those that speak HTTP/2; the last is the authorizer of gRPC.
    http2_endpoints: Vec<Http2Endpoint>,
    /// What they had answered before the end.
    answered: Vec<(u64, bool)>,
    clients: Vec<Client>,
    streams: Vec<Streams>,
    tasks: Vec<JoinHandle<()>>,
    report: Report,
    told: bool,
}

impl World {
    /// A worker, three endpoints, an authorizer and their table. Called inside the runtime.
    pub(super) fn new(seed: u64, told: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        // What the worker draws comes from the thread's generator.
        fastrand::seed(seed);
        let calm = rng.u8(..8) == 0;
        let dir = tempfile::tempdir().unwrap();
        let certificate = secure::put_files(dir.path());
        let tcp = rng.u8(..4) == 0;
        let verdicts = Rc::new(Verdicts::default());
        let endpoint = |name: &str| match tcp {
            true => Endpoint::tcp(&verdicts),
            false => Endpoint::unix(dir.path().join(name), &verdicts),
        };
        let mut endpoints: Vec<_> = ["one", "two", "three"].map(endpoint).into();
        endpoints.push(endpoint("four").judging());
        let http2_endpoints = [("five", false), ("six", false), ("seven", true)].map(|(name, judges)| {
            Http2Endpoint::start(&dir.path().join(name), &mut rng, (judges, !calm), &verdicts)
        });
        let (shared, retired) = Shared::new(1, PathBuf::new());
        shared.know_clients(1_000);
        let worker = Worker::new(0, Arc::clone(&shared), Arc::new(WorkerShard::new()), Recorder::off(), 100);
        let listener = ListenerRef::new(ListenerName::new("edge").unwrap());
        let http2 = ListenerRef::new(ListenerName::new("http2").unwrap());
        let secure = ListenerRef::new(ListenerName::new("secure").unwrap());
        let mut world = Self {
            rng,
            calm,
            dir,
            shared,
            retired,
            worker,
            compiler: Compiler::new(1),
            generation: 0,
            tables: Vec::new(),
            listener,
            http2,
            secure,
            certificate,
            trusting: Trusting::new(),
            secured: 0,
            endpoints,
            http2_endpoints: http2_endpoints.into(),
            answered: Vec::new(),
            clients: Vec::new(),
            streams: Vec::new(),
            tasks: Vec::new(),
            report: Report::default(),
            told,
        };
        world.swap(false);
        world
    }

    fn say(&self, words: impl FnOnce() -> String) {
        if self.told {
            println!("{}", words());
        }
    }

    /// Puts another table in force, as the swapper does.
    fn swap(&mut self, changed: bool) {
        let change = if changed { self.rng.u8(..) } else { 0 };
        let text = words::plain(&self.endpoints, change)
            + &words::secure(&self.certificate, change, self.calm)
            + &words::http2(&self.http2_endpoints, change);
        let source = Source { file: "ekiden.toml".to_owned(), text, format: Format::Toml };
        let hosts = HostOwners::default();
        let built = ekiden_config::build(Input { main: &source, apps: &[], previous: None, hosts: &hosts });
        let model = built.unwrap_or_else(|wrong| panic!("the table of the simulation: {wrong:?}")).model;
        self.generation += 1;
        let before = Arc::clone(self.compiler.table());
        let compiled = self.compiler.compile(&model, Generation(self.generation));
        assert!(compiled.refused.is_empty(), "{:?}", compiled.refused);
        let refused = self.shared.tls.apply(&model);
        assert!(refused.is_empty(), "{refused:?}");
        self.shared.table.store(Arc::clone(&compiled.table));
        for cell in &compiled.removed {
            cell.mark_gone();
        }
        compiled.table.changed_clusters(&before, |_, after| {
            if let Some(cluster) = after {
                cluster.catch_up();
            }
        });
        // A worker may be late: it then finds out by itself.
        if !changed || self.rng.bool() {
            self.worker.take_table();
            self.worker.waiters.wake();
        }
        for entry in compiled.table.routes().filter(|entry| entry.route.hedge.is_some()) {
            (0..128).for_each(|_| entry.cell.latency().record(1_000, 95));
        }
        self.tables.push(compiled.table);
    }

    /// Lets a client in, as `worker::accept` does.
    fn connect(&mut self) {
        let number = self.clients.len();
        let (ours, stream, peer) = if self.rng.bool() {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            theirs.set_nonblocking(true).unwrap();
            // So small that a response does not fit, which makes the router wait for its client.
            let _as_small_as_it_gets = socket2::SockRef::from(&theirs).set_send_buffer_size(4 << 10);
            (Socket::Unix(ours), Stream::Unix(tokio::net::UnixStream::from_std(theirs).unwrap()), None)
        } else {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (theirs, peer) = listener.accept().unwrap();
            ours.set_nonblocking(true).unwrap();
            theirs.set_nonblocking(true).unwrap();
            let _as_small_as_it_gets = socket2::SockRef::from(&theirs).set_send_buffer_size(4 << 10);
            (Socket::Tcp(ours), Stream::fresh(theirs), Some(peer))
        };
        // One that speaks plain HTTP on the port of TLS is told so.
        let (on_secure, speaks_tls) = match self.rng.u8(..24) {
            0 => (true, false),
            1..=9 => (true, true),
            _ => (false, false),
        };
        let listener = if on_secure { Rc::clone(&self.secure) } else { Rc::clone(&self.listener) };
        let ours = match speaks_tls {
            true => Socket::Secure(Box::new(Secure::new(ours, &self.trusting, &mut self.rng, !self.calm))),
            false => ours,
        };
        self.let_in(stream, peer, listener);
        self.clients.push(Client::new(ours, &mut self.rng, number));
        self.say(|| {
            let how = match (on_secure, speaks_tls) {
                (_, true) => ", with TLS",
                (true, false) => ", without TLS where it is spoken",
                (false, false) => "",
            };
            format!("client {number} comes{how}")
        });
    }

    fn let_in(&mut self, stream: Stream, peer: Option<SocketAddr>, listener: Rc<ListenerRef>) {
        let let_in = connection_limits::enter(&self.worker, &listener, stream, peer);
        let (stream, permit) = let_in.expect("the table bounds no clients");
        stream.assume_silent();
        self.secured += u64::from(listener.name == self.secure.name);
        let open = self.worker.open_connection().with(permit);
        let kept = Kept::new(Rc::clone(&self.worker), listener, stream, peer, open);
        self.tasks.push(tokio::task::spawn_local(serve(kept)));
    }

    /// Lets a client in that speaks HTTP/2.
    fn connect_http2(&mut self) {
        let number = 100 + self.streams.len();
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let _as_small_as_it_gets = socket2::SockRef::from(&theirs).set_send_buffer_size(4 << 10);
        let stream = Stream::Unix(tokio::net::UnixStream::from_std(theirs).unwrap());
        let tls = self.rng.bool().then(|| self.trusting.http2(&mut self.rng));
        let listener = if tls.is_some() { Rc::clone(&self.secure) } else { Rc::clone(&self.http2) };
        self.let_in(stream, None, listener);
        let ours = tokio::net::UnixStream::from_std(ours).unwrap();
        let over = if tls.is_some() { " over TLS" } else { "" };
        self.streams.push(Streams::start(ours, tls, &mut self.rng, number));
        self.say(|| format!("client {number} comes, with HTTP/2{over}"));
    }

    /// Time passes, and the worker's wheel turns.
    async fn pass(&mut self, time: Duration) {
        ledger::pass(time);
        tokio::time::advance(time).await;
        let now = self.worker.clock.read();
        let mut is_more = self.worker.wheel.turn(now.ms());
        while is_more {
            is_more = self.worker.wheel.wake_some();
        }
    }

    /// The runtime looks at its sockets and polls what it has woken.
    async fn turn(&mut self) {
        tokio::task::yield_now().await;
        while self.retired.try_recv().is_ok() {}
    }

    /// A second of the worker's life that is not a request's.
    fn sweep(&self) {
        self.worker.pool.sweep(self.worker.now_ms());
        self.worker.http2_pool.sweep(self.worker.now_ms());
        self.worker.trim();
    }

    /// Lets a client, or else an endpoint, do a little.
    fn move_peers(&mut self, client: bool, faulty: bool) -> Result<(), String> {
        let rng = &mut self.rng;
        if client {
            let number = rng.usize(..self.clients.len());
            return self.clients.get_mut(number).map_or(Ok(()), |client| client.step(rng));
        }
        let number = rng.usize(..self.endpoints.len());
        self.endpoints.get_mut(number).map_or(Ok(()), |endpoint| endpoint.step(rng, faulty))
    }

    async fn step(&mut self, faulty: bool) -> Result<(), String> {
        match self.rng.u8(..20) {
            0..=7 => self.move_peers(true, faulty),
            8..=13 => self.move_peers(false, faulty),
            14..=18 => {
                self.turn().await;
                Ok(())
            }
            _ => {
                let most = if faulty { 60 } else { 2 };
                let time = Duration::from_millis(self.rng.u64(..most));
                self.pass(time).await;
                if self.rng.u8(..8) == 0 {
                    self.sweep();
                }
                Ok(())
            }
        }
    }

    async fn fail(&mut self, fault: Fault) {
        self.say(|| format!("fault: {fault:?}"));
        if fault == Fault::ClientGarbles {
            self.garble();
            return;
        }
        *self.report.faults.entry(fault).or_default() += 1;
        let client = self.rng.usize(..self.clients.len());
        let endpoint = self.rng.usize(..self.endpoints.len());
        let (Some(client_of), Some(endpoint_of)) =
            (self.clients.get_mut(client), self.endpoints.get_mut(endpoint))
        else {
            return;
        };
        if !self.streams.is_empty() && self.rng.bool() {
            let number = self.rng.usize(..self.streams.len());
            if let Some(streams) = self.streams.get(number)
                && streams.fail(fault)
            {
                return;
            }
        }
        if self.rng.bool() {
            let number = self.rng.usize(..self.http2_endpoints.len());
            if self.http2_endpoints.get(number).is_some_and(|endpoint| endpoint.fail(fault)) {
                return;
            }
        }
        match fault {
            Fault::ClientGone => client_of.socket = None,
            Fault::ClientReset => client_of.socket.take().map_or((), Socket::reset),
            Fault::ClientHalfCloses => client_of.socket.iter_mut().for_each(Socket::half_close),
            Fault::ClientStalls => client_of.stalled = !client_of.stalled,
            Fault::ClientGarbles => {}
            Fault::EndpointLost => endpoint_of.lose_one(&mut self.rng, false),
            Fault::EndpointReset => endpoint_of.lose_one(&mut self.rng, true),
            Fault::EndpointHalfCloses => endpoint_of.half_close_one(&mut self.rng),
            Fault::EndpointStalls => endpoint_of.stalled = !endpoint_of.stalled,
            Fault::EndpointRefuses if endpoint_of.refuses => endpoint_of.open(),
            Fault::EndpointRefuses => endpoint_of.shut(),
            Fault::Swap => self.swap(true),
            Fault::Leave => self.worker.enter_phase(DrainPhase::Leaving),
            Fault::Drain => self.worker.enter_phase(DrainPhase::Draining),
            Fault::Force => self.worker.enter_phase(DrainPhase::Forced),
            Fault::TaskDropped => {
                if let Some(task) = self.tasks.get(client) {
                    task.abort();
                }
            }
            Fault::TimeJumps => {
                let time = Duration::from_millis(self.rng.u64(100..8_000));
                self.pass(time).await;
            }
        }
    }

    /// Spoils what one of those sends that speak TLS, if there is one.
    fn garble(&mut self) {
        let count = self.clients.iter_mut().filter_map(Client::garblable).count();
        if count == 0 {
            return;
        }
        let number = self.rng.usize(..count);
        if let Some(one) = self.clients.iter_mut().filter_map(Client::garblable).nth(number) {
            one.garble();
            *self.report.faults.entry(Fault::ClientGarbles).or_default() += 1;
        }
    }

    /// Runs it. What is wrong comes as words.
    pub(super) async fn run(mut self) -> Result<Report, String> {
        let count = self.rng.usize(1..=4);
        (0..count).for_each(|_| self.connect());
        if self.rng.u8(..3) == 0 {
            self.connect_http2();
        }
        if self.calm {
            self.run_calm().await?;
        } else {
            self.run_faulty().await?;
        }
        self.end().await
    }

    /// Without faults each client comes to its end.
    async fn run_calm(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + KERNEL_WITHIN;
        for number in 0.. {
            self.streams.iter().try_for_each(Streams::judge)?;
            self.http2_endpoints.iter().try_for_each(Http2Endpoint::judge)?;
            if self.clients.iter().all(Client::is_done) && self.streams.iter().all(Streams::is_done) {
                return match self.clients.iter_mut().any(Client::was_cut) {
                    true => Err("a close that a client under TLS cannot tell from a cut".to_owned()),
                    false => Ok(()),
                };
            }
            if number < STEPS_CALM {
                self.step(false).await?;
                continue;
            }
            // TCP may hold bytes back for a while that is not the run's: no more of its time passes.
            if Instant::now() > deadline {
                break;
            }
            for number in 0..200 {
                self.move_peers(number % 2 == 0, false)?;
                self.turn().await;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.streams.iter().any(|streams| !streams.is_done()) {
            return Err("a client of HTTP/2 waits for ever".to_owned());
        }
        let left = self.clients.iter().filter(|client| !client.is_done()).map(Client::words);
        let words: Vec<_> = left.chain(self.endpoints.iter().map(Endpoint::words)).collect();
        Err(format!("clients wait for ever: {words:?}"))
    }

    async fn run_faulty(&mut self) -> Result<(), String> {
        let count = self.rng.usize(1..=4);
        let mut faults: Vec<(usize, Fault)> = (0..count)
            .map(|_| (self.rng.usize(..STEPS), Fault::ALL[self.rng.usize(..Fault::ALL.len())]))
            .collect();
        faults.sort_unstable();
        let mut faults = faults.into_iter().peekable();
        for number in 0..STEPS {
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at == number) {
                self.fail(fault).await;
            }
            if self.rng.usize(..STEPS) == 0 && self.clients.len() < 8 {
                self.connect();
            }
            self.step(true).await?;
        }
        self.http2_endpoints.iter().try_for_each(Http2Endpoint::judge)?;
        self.streams.iter().try_for_each(Streams::judge)
    }

    /// Everybody leaves, time passes, and what the run took must be back.
    async fn end(mut self) -> Result<Report, String> {
        self.say(|| "the end".to_owned());
        for client in &mut self.clients {
            client.socket = None;
        }
        self.streams.clear();
        let endpoints_stay = self.rng.bool();
        self.answered = self.http2_endpoints.iter().map(Http2Endpoint::answered).collect();
        if !endpoints_stay {
            self.endpoints.clear();
            self.http2_endpoints.clear();
        }
        let mut time = Duration::ZERO;
        while time < END && !self.is_over() {
            for _ in 0..4 {
                self.turn().await;
                for endpoint in &mut self.endpoints {
                    // What it finds wrong now is of requests that were cut.
                    let _cut = endpoint.step(&mut self.rng, true);
                }
            }
            self.pass(END_HOP).await;
            self.sweep();
            time += END_HOP;
        }
        self.judge()
    }

    fn is_over(&self) -> bool {
        self.tasks.iter().all(JoinHandle::is_finished)
            && self.worker.open_connections() == 0
            && self.worker.pool.is_empty()
            && self.tables.iter().all(|table| {
                // Those of HTTP/2 stay until nobody has needed them for a while.
                table.all_clusters().all(|cluster| cluster.cell.shard(0).connections.value() == 0)
            })
            && Rc::strong_count(&self.worker) == 1
    }

    fn judge(mut self) -> Result<Report, String> {
        let mut wrong = Vec::new();
        let mut must = |what: &str, count: u64| {
            if count != 0 {
                wrong.push(format!("{what}: {count}"));
            }
        };
        must("connections whose task panicked", self.tasks.iter_mut().filter_map(panicked).count() as u64);
        let worker = &self.worker;
        let shard = &worker.shard;
        must("client connections open", worker.open_connections());
        must("tunnels open", shard.tunnels_open.value());
        must("streams open", shard.streams_open.value());
        must("panics", shard.panics.value());
        must("handshakes in progress", shard.tls.in_progress.value());
        must("slots of the wheel", worker.wheel.in_use() as u64);
        must("idle connections to endpoints", worker.pool.len() as u64);
        must("holders of the worker beside the run", Rc::strong_count(worker) as u64 - 1);
        self.tables.iter().for_each(|table| judge_table(table, worker, &mut must));
        for _ in 0..16 {
            if let Some(what) = held(&worker.take_workspace()) {
                must(&format!("an unused workspace holds {what}"), 1);
            }
        }
        let ended: u64 = handshakes(worker).iter().map(|(_, count)| count).sum();
        must("handshakes that nobody began", ended.saturating_sub(self.secured));
        if !self.report.faults.contains_key(&Fault::TaskDropped) {
            must("handshakes that ended in nothing", self.secured.saturating_sub(ended));
        }
        let (begun, overwritten, ends) = ledger::end();
        let counted: u64 = shard.outcomes.iter().map(|count| count.value()).sum();
        must("exchanges that another one took the place of", overwritten);
        must("exchanges without an outcome", begun.saturating_sub(ends.len() as u64));
        must("outcomes without an exchange", (ends.len() as u64).saturating_sub(begun));
        must("outcomes and requests do not agree", shard.requests.value().abs_diff(counted));
        if !wrong.is_empty() {
            wrong.sort();
            wrong.dedup();
            return Err(wrong.join("; "));
        }
        self.report.exchanges = begun;
        self.report.ends = ends;
        self.report.turns = handshakes(worker);
        for ruling in Ruling::ALL {
            let count = shard.rulings.of(Step::Authorizer, ruling).map_or(0, |count| count.value());
            self.report.turns.push((format!("authorizer {}", ruling.word()), count));
        }
        for (count, judges) in self.answered {
            let who = if judges { "authorizer of gRPC" } else { "endpoint of HTTP/2" };
            self.report.turns.push((format!("{who} answered"), count));
        }
        drop(self.dir);
        Ok(self.report)
    }
}

/// What a table's parts still count.
fn judge_table(table: &Table, worker: &Worker, must: &mut dyn FnMut(&str, u64)) {
    for cluster in table.all_clusters() {
        let name = cluster.cluster.name.as_str();
        let shard = cluster.cell.shard(0);
        must(&format!("{name}: requests in flight"), shard.in_flight.value());
        must(&format!("{name}: requests in line"), shard.queued.value());
        must(&format!("{name}: connections"), shard.connections.value());
        must(&format!("{name}: idle connections"), shard.idle.value());
        for bound in [Bound::Requests, Bound::Pending, Bound::Connections] {
            must(&format!("{name}: breaker, {bound:?}"), u64::from(cluster.cell.breaker.used(bound)));
        }
        for endpoint in &*cluster.endpoints {
            let id = &endpoint.endpoint.id;
            must(&format!("{name}: in flight at {id}"), u64::from(endpoint.cell.in_flight()));
        }
    }
    for entry in table.routes() {
        let name = &entry.names;
        must(&format!("{name}: requests in flight"), entry.cell.shard(0).in_flight.value());
        for limiter in entry.limits.iter().flat_map(|limits| limits.lists()).flatten() {
            must(&format!("{name}: places of a limit"), limiter.keys_in_use(worker.clock.turn_ns()));
        }
        if let Some(mirror) = &entry.mirror {
            must(&format!("{name}: copies"), u64::from(mirror.in_flight()));
        }
        if let Some(caps) = &entry.caps {
            must("requests of the app", u64::from(caps.usage.in_flight()));
            must("connections of the app", u64::from(caps.usage.connections()));
            must("buffered bytes of the app", caps.usage.buffered());
        }
    }
}

/// Whether a task has ended with a panic.
fn panicked(task: &mut JoinHandle<()>) -> Option<()> {
    match Pin::new(task).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(error)) if error.is_panic() => Some(()),
        Poll::Ready(_) | Poll::Pending => None,
    }
}

/// How handshakes ended, and how many of each.
fn handshakes(worker: &Worker) -> Vec<(String, u64)> {
    let tls = &worker.shard.tls;
    let made = [
        ("full 1.2", &tls.full_12),
        ("full 1.3", &tls.full_13),
        ("resumed 1.2", &tls.resumed_12),
        ("resumed 1.3", &tls.resumed_13),
        ("refused", &tls.refused),
    ];
    let failed = HandshakeFailure::ALL.map(|failure| (failure.code(), tls.failed(failure)));
    let all = made.into_iter().chain(failed);
    all.map(|(what, count)| (format!("handshake {what}"), count.value())).collect()
}

/// What a workspace that nobody uses still holds.
fn held(ws: &Workspace) -> Option<&'static str> {
    let all = [
        ("bytes of a client", ws.client_in.is_attached()),
        ("bytes to a client", ws.client_out.held() > 0),
        ("bytes of an endpoint", ws.leg.input.is_attached()),
        ("bytes to an endpoint", ws.leg.output.held() > 0),
        ("a connection", ws.leg.is_attached() || ws.leg.home().is_some()),
        ("a route", ws.route.is_some()),
        ("a place in its app's account", ws.permit.is_some()),
        ("a place in the breaker", ws.tries.held.breaker.is_some()),
        ("a place below the adaptive limit", ws.tries.held.adaptive.is_some()),
        ("a second leg", ws.tries.hedge.is_some()),
        ("a copy", ws.mirror.is_some()),
        ("an open exchange", ws.trace.is_open()),
        ("a cluster", ws.trace.cluster.is_some()),
        ("a listener", ws.listener.is_some()),
        ("a session", ws.session.is_some()),
    ];
    all.into_iter().find_map(|(what, held)| held.then_some(what))
}
