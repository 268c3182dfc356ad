//! The swapper: takes published Models, compiles them off the workers, swaps the one pointer, and acknowledges.
//!
//! Order of one swap: load certificates, bind new listeners, compile, store the table, mark removed endpoints gone, wake
//! every worker, wait until each has taken it, close old listeners, end the tickets. A worker that is late is named and keeps the
//! tickets pending; later publishes go on. Does not validate Models (control did) and does not serve.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ekiden_config::doors::{Generation, Publisher, Refusal, Ticket, Verdict};
use ekiden_config::model::{Address, Model, Place};
use ekiden_config::names::ListenerName;
use ekiden_core::shard::hot::HotBoard;
use ekiden_core::stats::{Histogram, HistogramSnapshot};
use ekiden_core::table::{Compiler, Table};

use crate::listen::{Inherited, Socket, listen};
use crate::memory;
use crate::shared::Shared;
use crate::worker::mailbox::Message;

/// Time a worker has to take a table before it is named in log and metric.
const LATE: Duration = Duration::from_secs(1);
/// Pause between looks at late workers.
const LATE_LOOK: Duration = Duration::from_millis(20);
/// How long an address that was given up is waited for: longer than its sockets take to drain; and the pause between tries.
const RELEASED_WAIT: Duration = Duration::from_millis(200);
const RELEASED_PAUSE: Duration = Duration::from_millis(10);
/// Publishes applied in one swap at most; more wait for the next.
const COALESCE_MAX: usize = 1024;

/// The down door. One exists per router.
#[derive(Debug)]
pub struct Swap {
    publishes: Sender<(Arc<Model>, Ticket)>,
}

impl Publisher for Swap {
    fn publish(&mut self, model: Arc<Model>) -> Ticket {
        let ticket = Ticket::new();
        if let Err(unsent) = self.publishes.send((model, ticket.clone())) {
            unsent.0.1.end(Verdict::Rejected { reason: "the router has stopped".into() });
        }
        ticket
    }

    fn tidy(&self) {
        memory::give_back();
    }
}

/// What the last swaps were like; read by telemetry.
#[derive(Debug, Clone, Default)]
pub struct SwapStatus {
    /// Generation stored last.
    pub generation: u64,
    /// When, milliseconds since the Unix epoch.
    pub applied_unix_ms: u64,
    /// From publish to the last acknowledgement, microseconds.
    pub apply_last_us: u64,
    /// The same over all swaps.
    pub applies: HistogramSnapshot,
    /// Workers that are late with the newest generation.
    pub late: Vec<usize>,
}

/// Endpoints of clusters that were made anew from which on memory is worth giving back.
const UNTIDY: usize = 10_000;

/// Called with each new table once it is in force. Must not block.
pub type OnTable = Box<dyn Fn(&Arc<Table>) + Send>;

struct Waiting {
    generation: Generation,
    since: Instant,
    tickets: Vec<Ticket>,
    refused: Vec<Refusal>,
    named: bool,
}

/// The swapper's state, on its own thread.
pub struct Swapper {
    shared: Arc<Shared>,
    compiler: Compiler,
    inherited: Inherited,
    bound: BTreeMap<ListenerName, Address>,
    /// Addresses that were given up, and when.
    released: BTreeMap<Address, Instant>,
    generation: u64,
    on_table: OnTable,
    status: Arc<Mutex<SwapStatus>>,
    applies: Histogram,
    waiting: Vec<Waiting>,
    /// The last table was so much work that what it left behind is worth giving back.
    is_untidy: bool,
}

impl Swapper {
    /// A swapper and its door. `run` it on a thread of its own.
    pub fn new(
        shared: Arc<Shared>,
        (inherited, place): (Inherited, &Place),
        on_table: OnTable,
    ) -> (Self, Swap, Publishes) {
        let (publishes, inbox) = channel();
        let mut compiler = Compiler::new(shared.places.len());
        compiler.set_seed([fastrand::u64(..), fastrand::u64(..)]);
        compiler.set_place(place);
        let swapper = Self {
            shared,
            compiler,
            inherited,
            bound: BTreeMap::new(),
            released: BTreeMap::new(),
            generation: 0,
            on_table,
            status: Arc::default(),
            applies: Histogram::new(),
            waiting: Vec::new(),
            is_untidy: false,
        };
        (swapper, Swap { publishes }, Publishes(inbox))
    }

    /// What the last swaps were like.
    pub fn status(&self) -> Arc<Mutex<SwapStatus>> {
        Arc::clone(&self.status)
    }

    /// The clusters that are watched for hot keys.
    pub fn hot_board(&self) -> Arc<HotBoard> {
        Arc::clone(self.compiler.hot_board())
    }

    /// Applies publishes until the door is dropped.
    pub fn run(mut self, publishes: Publishes) {
        loop {
            let next = if self.waiting.is_empty() {
                publishes.0.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                publishes.0.recv_timeout(LATE_LOOK)
            };
            match next {
                Ok((model, ticket)) => {
                    let (mut newest, mut tickets) = (model, vec![ticket]);
                    while let Some((model, ticket)) =
                        (tickets.len() < COALESCE_MAX).then(|| publishes.0.try_recv().ok()).flatten()
                    {
                        newest = model;
                        tickets.push(ticket);
                    }
                    self.apply(&newest, tickets);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.settle();
            if std::mem::take(&mut self.is_untidy) {
                memory::let_go();
                self.shared.trim_heap();
            }
        }
    }

    fn apply(&mut self, model: &Arc<Model>, tickets: Vec<Ticket>) {
        let since = Instant::now();
        self.generation += 1;
        let generation = Generation(self.generation);
        let mut refused = Vec::new();
        for (name, reason) in self.shared.tls.apply(model) {
            refused.push(Refusal { part: format!("certificates:{name}"), reason });
        }
        for (place, reason) in self.shared.trusts.apply(model) {
            refused.push(Refusal { part: format!("tls:{place}"), reason });
        }
        for (part, reason) in self.shared.keyring.apply(model) {
            refused.push(Refusal { part, reason });
        }
        let opened = self.bind(model, &mut refused);
        self.compiler.set_now(unix_ms());
        let before = Arc::clone(self.compiler.table());
        let compiled = self.compiler.compile(model, generation);
        refused.extend(compiled.refused);
        // First the table, then the marks: a worker that finds every endpoint of its old table gone then finds the new
        // table too, and takes it before it gives a request up.
        self.shared.table.store(Arc::clone(&compiled.table));
        for cell in &compiled.removed {
            cell.mark_gone();
        }
        compiled.released.iter().for_each(|gate| gate.open());
        let mut touched = compiled.removed.len();
        compiled.table.changed_clusters(&before, |_, after| {
            if let Some(cluster) = after {
                cluster.catch_up();
                touched += cluster.endpoints.len();
            }
        });
        self.is_untidy = touched >= UNTIDY;
        for ticket in &tickets {
            ticket.assign(generation);
        }
        self.shared.tell(|| Message::Table);
        for (name, sockets) in opened {
            for (place, socket) in self.shared.places.iter().zip(sockets) {
                place.mailbox.send(Message::Listen(name.clone(), socket));
            }
        }
        (self.on_table)(&compiled.table);
        self.note(|status| {
            status.generation = generation.0;
            status.applied_unix_ms = unix_ms();
        });
        self.shared.await_taken(generation, LATE);
        self.unbind(model);
        self.shared.tls.retain(model);
        self.shared.trusts.retain(model);
        self.shared.stores.apply(model, &self.shared);
        self.waiting.push(Waiting { generation, since, tickets, refused, named: false });
    }

    /// Binds what is new or has moved; a listener that cannot be bound keeps its old socket.
    fn bind(&mut self, model: &Model, refused: &mut Vec<Refusal>) -> Vec<(ListenerName, Vec<Socket>)> {
        let mut opened = Vec::new();
        for (name, listener) in &model.listeners {
            let unready = listener.tls.is_some() && !self.shared.tls.has(name);
            if unready || self.bound.get(name) == Some(&listener.address) {
                continue;
            }
            match self.listen(&listener.address) {
                Ok(sockets) => {
                    self.bound.insert(name.clone(), listener.address.clone());
                    opened.push((name.clone(), sockets));
                }
                Err(error) => {
                    let kept = match self.bound.get(name) {
                        Some(old) => format!("; {old} goes on serving"),
                        None => String::new(),
                    };
                    let reason = format!("cannot listen on {}: {error}{kept}", listener.address);
                    tracing::error!(listener = %name, "{reason}");
                    refused.push(Refusal { part: format!("listener:{name}"), reason });
                }
            }
        }
        opened
    }

    /// Binds an address. One that a listener gave up a moment ago may be drained still: it is waited for.
    fn listen(&mut self, address: &Address) -> io::Result<Vec<Socket>> {
        self.released.retain(|_, since| since.elapsed() < RELEASED_WAIT);
        loop {
            match listen(address, self.shared.places.len(), &self.inherited) {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && self
                            .released
                            .get(address)
                            .is_some_and(|since| since.elapsed() < RELEASED_WAIT) =>
                {
                    std::thread::sleep(RELEASED_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Drains the sockets of listeners the Model no longer has.
    fn unbind(&mut self, model: &Model) {
        let gone: Vec<ListenerName> =
            self.bound.keys().filter(|name| !model.listeners.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(address) = self.bound.remove(&name) {
                self.released.insert(address, Instant::now());
            }
            self.shared.tell(|| Message::Unlisten(name.clone()));
        }
    }

    /// Ends the tickets whose generation every worker has taken; names late workers once.
    fn settle(&mut self) {
        let mut late = Vec::new();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain_mut(|entry| {
            let behind = self.shared.behind(entry.generation);
            if behind.is_empty() {
                let took_us = u64::try_from(entry.since.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.applies.record(took_us);
                self.note(|status| status.apply_last_us = took_us);
                for ticket in entry.tickets.drain(..) {
                    let refused = entry.refused.clone();
                    ticket.end(Verdict::Applied { generation: entry.generation, refused });
                }
                return false;
            }
            if !entry.named {
                entry.named = true;
                tracing::error!(generation = %entry.generation, workers = ?behind, "workers are late to take the table");
            }
            late = behind;
            true
        });
        self.waiting = waiting;
        let applies = self.applies.snapshot();
        self.note(|status| {
            status.applies = applies;
            status.late = late;
        });
    }

    fn note(&self, change: impl FnOnce(&mut SwapStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The swapper's end of the door.
pub struct Publishes(Receiver<(Arc<Model>, Ticket)>);

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
