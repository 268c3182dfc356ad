//! Which dynos there should be, and what is done about it: started, started again with backoff, placed before the router,
//! drained, ended.
//!
//! Level by level: after each event all of [`Supervisor::step`] looks at what is there and what should be, so that it does not matter
//! what came first. What concerns two releases at once is in `rollout`; what is asked, in `wishes`; what the router gets, in `placing`; what is shown, in
//! `telling`.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::Endpoint;
use ekiden_config::names::AppName;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};

use super::WEB;
use super::board::{DynoCounts, RolloutView};
use super::ledger::Ledger;
use super::lines::Lines;
use super::process::{Event, Events, Order, Plan, live};
use super::procfile::DYNOS_MAX;
use super::release::Release;
use super::rollout::Rollout;
use super::system::free_port;
use super::thread::Duties;
use super::wishes::newer;
use crate::clock::unix_ms;
use crate::guarded::{PERIOD, Samples};
use crate::overlay::ClusterKey;

/// Time between two looks while something is under way.
const TICK: Duration = Duration::from_millis(50);
/// Wait before the first start after an end that nobody asked for; doubles with each.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// Longest such wait.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A dyno that ran so long begins its waits anew.
const RAN_WELL: Duration = Duration::from_secs(60);

/// What a dyno is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It was started and is not ready.
    Starting,
    /// It is ready; here, if it listens.
    Ready(Option<SocketAddr>),
    /// It gets no new requests once the publish of this number is with every worker, and finishes what it has.
    Draining { address: SocketAddr, publish: Option<u64>, since: Instant, quiet: bool },
    /// It was told to end.
    Stopping,
}

/// A dyno that was started and whose end has not been seen.
#[derive(Debug)]
pub(super) struct Dyno {
    pub(super) serial: u64,
    pub(super) kind: String,
    pub(super) number: u32,
    pub(super) release: Rc<Release>,
    /// Another dyno of the same name and release has not ended yet: the endpoint is told apart by the serial.
    pub(super) again: bool,
    /// The router was told of it once: it may have requests until it has drained.
    pub(super) was_placed: bool,
    /// The router had it in its table: it may have requests also where it is not there any more.
    pub(super) was_seen: bool,
    pub(super) phase: Phase,
    pub(super) pid: Option<u32>,
    /// Why it is not ready.
    pub(super) reason: Option<String>,
    pub(super) started: Instant,
    pub(super) since_unix_ms: u64,
    pub(super) orders: watch::Sender<Order>,
}

impl Dyno {
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.kind, self.number)
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since_unix_ms = unix_ms();
    }

    pub(super) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Starting => "starting",
            Phase::Ready(_) => "ready",
            Phase::Draining { .. } => "draining",
            Phase::Stopping => "stopping",
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        match self.phase {
            Phase::Starting | Phase::Ready(_) => false,
            Phase::Draining { .. } | Phase::Stopping => true,
        }
    }
}

/// Ends of a place's dynos that nobody asked for.
#[derive(Debug, Clone)]
pub(super) struct Falls {
    /// In a row.
    pub(super) count: u32,
    /// All of them.
    pub(super) restarts: u32,
    until: Instant,
    pub(super) why: String,
    pub(super) since_unix_ms: u64,
}

/// A place for a dyno: of which release, type and number.
pub(super) type Seat = (u64, String, u32);

/// The one owner of all dynos.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) duties: Duties,
    ledger: Rc<RefCell<Ledger>>,
    pub(super) lines: Lines,
    events: Events,
    inbox: mpsc::UnboundedReceiver<(u64, Event)>,
    pub(super) applied: mpsc::UnboundedSender<u64>,
    applies: mpsc::UnboundedReceiver<u64>,
    pub(super) place: ClusterKey,
    /// What serves.
    pub(super) current: Rc<Release>,
    pub(super) formation: BTreeMap<String, u32>,
    pub(super) dynos: Vec<Dyno>,
    pub(super) falls: BTreeMap<Seat, Falls>,
    pub(super) rollout: Option<Rollout>,
    /// Those that have ended, oldest first.
    pub(super) rollouts: VecDeque<RolloutView>,
    /// Until when the dynos of the first release should be ready, while they are not.
    pub(super) first: Option<Instant>,
    /// Releases whose records do not say yet why they were refused, and whether a newer one came first.
    pub(super) refused: Vec<(u64, String, bool)>,
    /// The newest release that was begun.
    pub(super) seen: u64,
    /// A newer one on record.
    pub(super) latest: Option<(u64, String)>,
    /// What ended lately, for releases that serve on trial.
    pub(super) samples: Samples,
    sample_at: Instant,
    pub(super) counts: DynoCounts,
    serials: u64,
    pub(super) placed: Vec<Arc<Endpoint>>,
    /// Counts publishes.
    pub(super) publish: u64,
    /// The newest of them that is with every worker.
    pub(super) published: u64,
    stopping: bool,
}

impl Supervisor {
    pub(super) fn new(duties: Duties, ledger: Rc<RefCell<Ledger>>, lines: Lines) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        let (applied, applies) = mpsc::unbounded_channel();
        let place = duties.board.read().place.clone();
        let nothing =
            Release { number: 0, name: String::new(), commands: BTreeMap::new(), environment: Vec::new() };
        Self {
            duties,
            ledger,
            lines,
            events,
            inbox,
            applied,
            applies,
            place,
            current: Rc::new(nothing),
            formation: BTreeMap::new(),
            dynos: Vec::new(),
            falls: BTreeMap::new(),
            rollout: None,
            rollouts: VecDeque::new(),
            first: None,
            refused: Vec::new(),
            seen: 0,
            latest: None,
            samples: Samples::default(),
            sample_at: Instant::now() + PERIOD,
            counts: DynoCounts::default(),
            serials: 0,
            placed: Vec::new(),
            publish: 0,
            published: 0,
            stopping: false,
        }
    }

    pub(super) fn app(&self) -> &AppName {
        &self.place.app
    }

    /// Runs until all dynos have ended after an order to end.
    pub(super) async fn run(mut self, mut orders: watch::Receiver<Order>, mut deploys: mpsc::Receiver<()>) {
        // Before anything is read, so that nothing is recorded unseen in between.
        let mut revisions = self.duties.above.store.as_ref().map(|store| store.watch());
        self.begin().await;
        self.look();
        loop {
            self.obey(*orders.borrow_and_update());
            self.step().await;
            if self.stopping && self.dynos.is_empty() {
                return;
            }
            tokio::select! {
                Some((serial, event)) = self.inbox.recv() => self.take(serial, event),
                Some(publish) = self.applies.recv() => self.published = self.published.max(publish),
                () = sleep(TICK), if self.is_busy() => {}
                () = sleep_until(self.sample_at) => {
                    self.sample_at = Instant::now() + PERIOD;
                    self.samples.note(self.duties.inspect.0.traffic().unwrap_or_default());
                }
                Ok(()) = orders.changed() => {}
                Some(()) = deploys.recv() => self.record("SIGHUP").await,
                true = newer(&mut revisions) => self.look(),
                Ok(()) = self.duties.turns.changed() => {
                    self.duties.above = self.duties.turns.borrow_and_update().clone();
                    revisions = self.duties.above.store.as_ref().map(|store| store.watch());
                    // It knows what was placed, and answers nobody who told the one before it.
                    self.placed.clear();
                    self.look();
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        if order == Order::Run {
            return;
        }
        self.stopping = true;
        for dyno in &mut self.dynos {
            dyno.orders.send_replace(order);
            if dyno.phase != Phase::Stopping {
                dyno.enter(Phase::Stopping);
            }
        }
    }

    /// Whether something is under way that no event tells the end of.
    fn is_busy(&self) -> bool {
        let waits = self.dynos.iter().any(|dyno| matches!(dyno.phase, Phase::Draining { .. }));
        let now = Instant::now();
        waits
            || self.rollout.is_some()
            || self.first.is_some()
            || self.falls.values().any(|falls| now < falls.until + TICK)
    }

    pub(super) fn take(&mut self, serial: u64, event: Event) {
        let Some(at) = self.dynos.iter().position(|dyno| dyno.serial == serial) else { return };
        let Some(dyno) = self.dynos.get_mut(at) else { return };
        let name = dyno.name();
        match event {
            Event::Started(pid) => {
                tracing::info!(dyno = %name, release = %dyno.release.name, pid, "started");
                dyno.pid = Some(pid);
            }
            Event::NotYet(why) => dyno.reason = Some(why),
            Event::Ready(address) => {
                if dyno.phase == Phase::Starting {
                    let at = address.map(|address| address.to_string());
                    tracing::info!(dyno = %name, release = %dyno.release.name, at, "ready");
                    dyno.reason = None;
                    dyno.enter(Phase::Ready(address));
                }
            }
            Event::Died(words) => {
                // One that drained was wanted to end, if not yet so.
                if dyno.is_leaving() {
                    return;
                }
                let ran_well = matches!(dyno.phase, Phase::Ready(_)) && dyno.started.elapsed() >= RAN_WELL;
                let seat = (dyno.release.number, dyno.kind.clone(), dyno.number);
                // Nobody listens any more: it leaves the table now, and not when all that it started has ended.
                dyno.enter(Phase::Stopping);
                self.fell(seat, ran_well, words);
            }
            Event::Ended(words) => {
                let dyno = self.dynos.remove(at);
                tracing::info!(dyno = %name, release = %dyno.release.name, %words, "ended");
                if !dyno.is_leaving() {
                    let ran_well =
                        matches!(dyno.phase, Phase::Ready(_)) && dyno.started.elapsed() >= RAN_WELL;
                    self.fell((dyno.release.number, dyno.kind.clone(), dyno.number), ran_well, words);
                }
            }
        }
    }

    fn fell(&mut self, seat: Seat, ran_well: bool, why: String) {
        self.counts.restarts += 1;
        let before = self.falls.get(&seat);
        let count = before.filter(|_| !ran_well).map_or(0, |falls| falls.count) + 1;
        let wait = BACKOFF_FIRST.saturating_mul(1 << (count - 1).min(16)).min(BACKOFF_MAX);
        let (_, kind, number) = &seat;
        tracing::warn!(dyno = %format!("{kind}.{number}"), %why, wait_ms = wait.as_millis(), "it ended by itself and is started again");
        let restarts = before.map_or(0, |falls| falls.restarts) + 1;
        let until = Instant::now() + wait;
        self.falls.insert(seat, Falls { count, restarts, until, why, since_unix_ms: unix_ms() });
    }

    /// How many dynos of a type there should be.
    pub(super) fn wanted(&self, kind: &str) -> u32 {
        self.formation.get(kind).copied().unwrap_or(0).min(DYNOS_MAX)
    }

    async fn step(&mut self) {
        if !self.stopping {
            self.judge_first();
            self.next_rollout();
            self.advance();
            self.trim();
            self.fill();
        }
        self.place().await;
        self.see();
        self.drain();
        // Who hears of it may end this process at once.
        self.record_refused().await;
        self.tell();
    }

    /// Whether a dyno of this release and type has a place.
    fn has_place(&self, release: &Release, kind: &str) -> bool {
        let next = self.rollout.as_ref().filter(|rollout| rollout.is_before_the_shift());
        release.number == self.current.number
            || (kind == WEB && next.is_some_and(|next| next.release.number == release.number))
    }

    /// Sends away whom nobody wants any more.
    pub(super) fn trim(&mut self) {
        let keeps = |this: &Self, dyno: &Dyno| {
            this.has_place(&dyno.release, &dyno.kind) && dyno.number <= this.wanted(&dyno.kind)
        };
        for at in 0..self.dynos.len() {
            let leaves = self.dynos.get(at).is_some_and(|dyno| !dyno.is_leaving() && !keeps(self, dyno));
            let Some(dyno) = self.dynos.get_mut(at).filter(|_| leaves) else { continue };
            match dyno.phase {
                Phase::Ready(Some(address)) if dyno.was_placed => {
                    let since = Instant::now();
                    dyno.enter(Phase::Draining { address, publish: None, since, quiet: false });
                }
                _ => {
                    dyno.enter(Phase::Stopping);
                    dyno.orders.send_replace(Order::End);
                }
            }
        }
        let falls = std::mem::take(&mut self.falls);
        let kept = falls.into_iter().filter(|((release, kind, number), _)| {
            let next = self.rollout.as_ref().filter(|rollout| rollout.is_before_the_shift());
            let known =
                *release == self.current.number || next.is_some_and(|next| next.release.number == *release);
            known && *number <= self.wanted(kind)
        });
        self.falls = kept.collect();
    }

    /// Starts whom somebody wants.
    fn fill(&mut self) {
        let next = self.rollout.as_ref().filter(|rollout| rollout.is_before_the_shift());
        let releases: Vec<Rc<Release>> =
            [Some(&self.current), next.map(|next| &next.release)].into_iter().flatten().cloned().collect();
        for release in releases {
            for (place, (kind, command)) in release.commands.iter().enumerate() {
                if !self.has_place(&release, kind) {
                    continue;
                }
                for number in 1..=self.wanted(kind) {
                    if !self.is_taken(&release, kind, number) {
                        self.start(Rc::clone(&release), (kind.clone(), number, place), command.clone());
                    }
                }
            }
        }
    }

    /// Whether a seat has a dyno, or waits. A type without routes may be one that must not run twice: its place is taken until
    /// the one before has ended.
    fn is_taken(&self, release: &Release, kind: &str, number: u32) -> bool {
        let here = |dyno: &&Dyno| dyno.kind == kind && dyno.number == number;
        let any = self
            .dynos
            .iter()
            .filter(here)
            .any(|dyno| kind != WEB || (dyno.release.number == release.number && !dyno.is_leaving()));
        let seat = (release.number, kind.to_owned(), number);
        any || self.falls.get(&seat).is_some_and(|falls| Instant::now() < falls.until)
    }

    fn start(&mut self, release: Rc<Release>, (kind, number, place): (String, u32, usize), command: String) {
        self.serials += 1;
        let (orders, told) = watch::channel(Order::Run);
        let name = format!("{kind}.{number}");
        let port = free_port().unwrap_or_else(|error| {
            tracing::error!(%error, "no free port");
            0
        });
        let mut environment = release.environment.clone();
        environment.push(("PORT".into(), port.to_string().into()));
        environment.push(("DYNO".into(), name.clone().into()));
        let run = &self.duties.run;
        let plan = Plan {
            serial: self.serials,
            name,
            place,
            command,
            environment,
            dir: PathBuf::from(run.dir()),
            launcher: run.launcher.clone(),
            listens: (kind == WEB).then(|| (port, run.ready_path.clone())),
            boot_timeout: run.boot_timeout,
            stop_timeout: run.stop_timeout,
        };
        let same =
            |dyno: &Dyno| (dyno.release.number, &dyno.kind, dyno.number) == (release.number, &kind, number);
        let again = self.dynos.iter().any(same);
        self.dynos.push(Dyno {
            serial: self.serials,
            kind,
            number,
            release,
            again,
            was_placed: false,
            was_seen: false,
            phase: Phase::Starting,
            pid: None,
            reason: None,
            started: Instant::now(),
            since_unix_ms: unix_ms(),
            orders,
        });
        spawn_local(live(plan, told, self.events.clone(), Rc::clone(&self.ledger), self.lines.clone()));
    }
}
