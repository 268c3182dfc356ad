//! The router's side of the fleet: one loop that owns what this router has from control, makes tables of it and publishes them, says
//! what became of them, and keeps the last good one. Never on a worker; when it ends, the table in force serves on.

use std::collections::{BTreeMap, VecDeque};
use std::future::{pending, poll_fn};
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ekiden_config::Source;
use ekiden_config::diff::restart_needed;
use ekiden_config::doors::{EndpointKey, Observation, Observations, Publisher, Ticket, Verdict};
use ekiden_config::model::Process;
use hyper::body::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval};

use super::counting::Counting;
use super::dial::{Event, Have};
use super::kept::{Keeper, Kept};
use super::table::{Made, Objects, Touched, make, retouch, reword};
use super::wire::{Applied, Down, Object, REFUSED_MAX, Refused, SEEN_MAX, Seen, Up, line, object};
use crate::api::{ApiSettings, Tokens};
use crate::clock::unix_ms;
use crate::desired::ApiApps;
use crate::plane::{ReloadReply, Reloaded, View, ViewCell, rendered, stopped};
use crate::problem::Problem;
use crate::sources::{Documents, Texts, read_main};
use crate::status::{Reload, StatusCell};

/// Objects of one batch; more are not taken.
const INCOMING_MAX: usize = 20_000_000;
/// Stands among what is not understood while the table cannot be built.
const TABLE: &str = "table";
/// Objects that cannot be read, told of at most.
const UNREAD_MAX: usize = 50;
/// Endpoints kept for telling control anew.
const REFUSING_MAX: usize = 1_000;
/// Publishes under way that are followed; of more the last but one is not acknowledged by itself.
const PENDING_MAX: usize = 64;
/// How long the link may be down before the table counts as stale.
const STALE_AFTER: Duration = Duration::from_secs(3);
/// Time from a build until what it left behind is given back.
const TIDY_AFTER: Duration = Duration::from_secs(3);
/// How often the log says that control is gone.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What the loop listens to.
pub(crate) struct AgentInlets {
    /// From the link.
    pub(super) events: mpsc::Receiver<Event>,
    /// From the watcher of the process file.
    pub(crate) changed: mpsc::Receiver<()>,
    /// From SIGHUP and the API.
    pub(crate) reloads: mpsc::Receiver<Option<ReloadReply>>,
    /// From the router.
    pub(crate) observations: Observations,
    /// Ends the loop.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Everything the loop owns.
pub(crate) struct Agent {
    pub(super) file: std::path::PathBuf,
    pub(super) main: Source,
    pub(super) objects: Arc<Objects>,
    pub(super) made: Made,
    /// The texts of it, as people are shown them: a change of endpoints leaves them as they are.
    pub(super) texts: Option<Arc<Documents>>,
    /// There is something of control's to serve.
    pub(super) whole: bool,
    pub(super) have: Have,
    pub(super) started_with: Process,
    pub(super) publisher: Box<dyn Publisher>,
    pub(super) tickets: watch::Sender<Ticket>,
    pub(super) lines: mpsc::Sender<Bytes>,
    pub(super) told: watch::Sender<Have>,
    pub(super) keep: Keeper,
    /// What serves is not given to the writer yet.
    pub(super) unsaved: bool,
    pub(super) view: ViewCell,
    pub(super) status: StatusCell,
    /// The publishes under way, oldest first, each with what this router had when it was made.
    pub(super) pending: VecDeque<(Have, Ticket)>,
    /// To the API of this router: whom to answer. Set once it is served.
    pub(super) api: Option<watch::Sender<ApiSettings>>,
    /// What the last publish ended with: the router's own number, and what it refused of it.
    pub(super) last: (u64, Vec<Refused>),
    pub(super) incoming: Incoming,
    /// Objects that could not be read.
    pub(super) unread: BTreeMap<String, String>,
    /// Endpoints that refuse connects now.
    pub(super) refusing: BTreeMap<EndpointKey, Observation>,
    /// What control hears of traffic.
    pub(super) counting: Counting,
    pub(super) link: LinkState,
    /// When to give back what a build has left behind: its thread has ended by then.
    pub(super) tidy_at: Option<Instant>,
}

/// A batch on its way.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// Of a snapshot, what has come of it: taken in at once, so that a large table is never there as a list beside it.
    fresh: Option<Objects>,
    objects: Vec<Object>,
    count: usize,
}

impl Incoming {
    fn new(snapshot: bool) -> Self {
        Self { fresh: snapshot.then(Objects::default), ..Self::default() }
    }

    fn take(&mut self, object: Object) {
        self.count = self.count.saturating_add(1);
        match &mut self.fresh {
            _ if self.count > INCOMING_MAX => {}
            // All of it is new: nobody asks what it touched.
            Some(all) => all.take(object, &mut Touched::default()),
            None => self.objects.push(object),
        }
    }
}

/// What is known of the link.
#[derive(Debug)]
pub(super) struct LinkState {
    /// The term of the control that is linked.
    term: Option<u64>,
    lost_at: Instant,
    said_at: Option<Instant>,
    stale_files: Option<String>,
}

impl LinkState {
    /// Not linked.
    pub(super) fn new(stale_files: Option<String>) -> Self {
        Self { term: None, lost_at: Instant::now(), said_at: None, stale_files }
    }
}

impl Agent {
    /// Runs until told to stop.
    pub(crate) async fn run(mut self, mut inlets: AgentInlets) {
        let mut every_second = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = stopped(&mut inlets.stop) => return self.offer(true),
                Some(event) = inlets.events.recv() => self.heed(event).await,
                (have, verdict) = ended(&self.pending) => self.settle(have, verdict),
                Some(()) = inlets.changed.recv() => drop(self.reload().await),
                Some(reply) = inlets.reloads.recv() => {
                    let end = self.reload().await;
                    if let Some(reply) = reply {
                        // The asker may have gone away.
                        let _ = reply.send(end);
                    }
                }
                news = poll_fn(|context| inlets.observations.poll(context.waker())) => self.observe(news),
                _ = every_second.tick() => {
                    if self.tidy_at.take_if(|at| Instant::now() >= *at).is_some() {
                        self.publisher.tidy();
                    }
                    self.tick();
                    self.counting.sample(Instant::now());
                    self.tell_traffic();
                    self.offer(false);
                }
            }
        }
    }

    /// Publishes what there is from the start. Without anything of control's nothing is served yet.
    pub(super) fn open(&mut self) -> Ticket {
        self.show();
        self.tick();
        if self.whole {
            self.publish();
        }
        self.tickets.borrow().clone()
    }

    async fn heed(&mut self, event: Event) {
        match event {
            Event::Linked { url, term, snapshot } => {
                tracing::info!(control = %url, term, snapshot, "linked to control");
                self.link.term = Some(term);
                self.link.said_at = None;
                self.incoming = Incoming::new(snapshot);
                if snapshot {
                    // A table that is due is built from what was taken in, which the snapshot may equal.
                    self.unread.retain(|key, _| key == TABLE);
                }
                self.status.update(|status| {
                    let link = &mut status.link;
                    link.control = url;
                    (link.connected, link.error) = (true, None);
                    (link.since_unix_ms, link.heard_unix_ms) = (unix_ms(), unix_ms());
                    link.links += 1;
                    link.snapshots += u64::from(snapshot);
                });
                let all: Vec<(EndpointKey, Observation)> =
                    self.refusing.iter().map(|(key, seen)| (key.clone(), seen.clone())).collect();
                self.tell_seen(all);
                self.counting.begin();
                self.tick();
            }
            Event::Lost(why) => {
                if self.link.term.take().is_some() {
                    self.link.lost_at = Instant::now();
                    tracing::warn!(%why, "the link to control is lost; the table in force serves on");
                    self.status.update(|status| status.link.since_unix_ms = unix_ms());
                }
                self.incoming = Incoming::default();
                self.status.update(|status| {
                    (status.link.connected, status.link.error) = (false, Some(why));
                    status.link.failures += 1;
                });
            }
            Event::Said(said) => {
                self.status.update(|status| status.link.heard_unix_ms = unix_ms());
                self.said(said).await;
            }
        }
    }

    async fn said(&mut self, said: Down) {
        let (key, read) = match said {
            Down::Put(key, value) => {
                let read = object(&key, Some(value));
                (key, read)
            }
            Down::Drop(key) => {
                let read = object(&key, None);
                (key, read)
            }
            Down::Commit { generation } => return self.commit(generation).await,
            Down::Ping {} | Down::Welcome { .. } | Down::Bye { .. } => return,
        };
        match read {
            Ok(object) => {
                self.unread.remove(&key);
                self.incoming.take(object);
            }
            Err(why) => {
                tracing::error!(%why, "an object of control is not understood");
                if self.unread.len() < UNREAD_MAX {
                    self.unread.insert(key, why);
                }
            }
        }
    }

    /// Takes a batch in.
    async fn commit(&mut self, generation: u64) {
        let Some(term) = self.link.term else { return };
        let Incoming { fresh, objects, count } = std::mem::take(&mut self.incoming);
        if count > INCOMING_MAX {
            tracing::error!(
                "control said more than {INCOMING_MAX} objects at once; the table in force serves on"
            );
            return;
        }
        let mut touched = Touched::default();
        if let Some(mut all) = fresh {
            all.shrink();
            all.reuse(&self.objects);
            (touched.words, touched.watched) = (all != *self.objects, true);
            self.objects = Arc::new(all);
        } else if !objects.is_empty() {
            let all = Arc::make_mut(&mut self.objects);
            objects.into_iter().for_each(|object| all.take(object, &mut touched));
        }
        self.have = Have { term, generation };
        self.told.send_replace(self.have);
        let before = Arc::clone(&self.made.model);
        if touched.words || self.is_due() {
            match self.build(self.main.clone()).await {
                None => {}
                Some(_) => drop(self.unread.insert(TABLE.to_owned(), "it cannot be built".to_owned())),
            }
        } else {
            if !touched.closed.is_empty() {
                reword(&mut self.made, &self.objects, &touched.closed);
            }
            if !touched.endpoints.is_empty() {
                retouch(&mut self.made, &self.objects, &touched.endpoints);
            }
        }
        let first = !std::mem::replace(&mut self.whole, true);
        self.status.update(|status| (status.link.term, status.link.generation) = (term, generation));
        if first || !Arc::ptr_eq(&before, &self.made.model) {
            self.show();
            self.publish();
        } else if let Some((have, _)) = self.pending.back_mut() {
            // What is under way is this generation too.
            *have = self.have;
            self.unsaved = true;
        } else {
            self.acknowledge(self.have);
            self.save();
        }
        if touched.watched {
            // Somebody waits for it.
            self.tell_traffic();
        }
    }

    /// Tells what has ended of the apps that this control watches. One of another term has not said yet which these are.
    fn tell_traffic(&mut self) {
        if self.link.term != Some(self.have.term) {
            return;
        }
        if let Some(traffic) = self.counting.news(&self.objects.watched) {
            self.tell(&Up::Traffic(traffic));
        }
    }

    /// The last build failed: what was taken in since is not in the table, until one succeeds.
    fn is_due(&self) -> bool {
        self.unread.contains_key(TABLE)
    }

    /// Builds with a process file, which then is the one in force.
    async fn build(&mut self, main: Source) -> Option<Vec<ekiden_config::Diagnostic>> {
        let (objects, before) = (Arc::clone(&self.objects), self.made.clone());
        let built = spawn_blocking(move || (make(&main, &objects, Some(&before)), main)).await;
        match built {
            Ok((Ok(made), main)) => {
                for refused in &made.refused {
                    tracing::error!(part = %refused.part, reason = %refused.reason, "refused; its last good version serves, if it had one");
                }
                (self.made, self.main, self.texts) = (made, main, None);
                self.tidy_at = Some(Instant::now() + TIDY_AFTER);
                self.unread.remove(TABLE);
                None
            }
            Ok((Err(found), _)) => Some(found),
            Err(error) => {
                tracing::error!(%error, "building a table panicked; what serves goes on serving");
                Some(Vec::new())
            }
        }
    }

    fn publish(&mut self) {
        let ticket = self.publisher.publish(Arc::clone(&self.made.model));
        self.tickets.send_replace(ticket.clone());
        if self.pending.len() >= PENDING_MAX {
            // This one says it too; the oldest stays, so that one ends.
            self.pending.pop_back();
        }
        self.pending.push_back((self.have, ticket));
        // Written within a second, also when changes never stop.
        self.unsaved = true;
        self.status.update(|status| status.publishes += 1);
    }

    /// The oldest publish has ended. Each is acknowledged as what it was, so that steady change does not hold words back for ever.
    fn settle(&mut self, have: Have, verdict: Verdict) {
        self.pending.pop_front();
        self.last = match verdict {
            Verdict::Applied { generation, refused } => {
                let refused = refused.iter().map(|one| Refused::new(one.part.as_str(), &one.reason));
                (generation.0, refused.collect())
            }
            Verdict::Rejected { reason } => (self.last.0, vec![Refused::new("table", &reason)]),
        };
        self.acknowledge(have);
        self.save();
    }

    /// Everything that is not taken, in the order in which it matters.
    fn refused(&self) -> Vec<Refused> {
        let unread = self.unread.iter().map(|(key, why)| Refused::new(format!("object:{key}"), why));
        let all = self.made.refused.iter().chain(&self.last.1).cloned().chain(unread);
        all.take(REFUSED_MAX).collect()
    }

    fn acknowledge(&mut self, have: Have) {
        let refused = self.refused();
        self.status.update(|status| {
            let app = |one: &Refused| one.part.strip_prefix("app:").map(str::to_owned);
            status.refused_apps = refused.iter().filter_map(app).collect();
        });
        let Have { term, generation } = have;
        if self.link.term == Some(term) {
            self.tell(&Up::Applied(Applied { term, generation, table: self.last.0, refused }));
        }
    }

    /// Says something to control, if it is there and listens.
    fn tell(&self, message: &Up) {
        if self.lines.try_send(line(message)).is_err() {
            tracing::warn!("control does not take what this router says");
        }
    }

    /// Hands what serves to the writer of the last good table, now or when it has time.
    fn save(&mut self) {
        self.unsaved = true;
        self.offer(false);
    }

    fn offer(&mut self, is_last: bool) {
        // What cannot be built here cannot be built by the next start either: that one has what was saved before.
        if !self.unsaved || !self.whole || self.is_due() {
            return;
        }
        let taken = self.keep.offer(is_last, || Kept {
            main: Some(self.main.clone()),
            objects: Arc::clone(&self.objects),
            in_force: Arc::clone(&self.made.in_force),
            held: self.made.held.clone(),
            have: self.have,
            heard_unix_ms: self.status.read().link.heard_unix_ms,
        });
        self.unsaved = !taken;
    }

    /// Makes what serves visible to the API's readers.
    fn show(&mut self) {
        let (made, main) = (&self.made, &self.main);
        let texts = self.texts.get_or_insert_with(|| {
            Arc::new(Documents { main: main.clone(), apps: Arc::clone(&made.in_force) })
        });
        self.view.replace(View {
            live: Arc::clone(&self.made.model),
            dormant: BTreeMap::new(),
            texts: Texts::Documents(Arc::clone(texts)),
            apps: Arc::new(ApiApps::new()),
        });
    }

    /// Reads the tokens of the API again; also when the process file is not taken.
    fn renew_tokens(&self) {
        let tokens = Tokens::read(&self.file, self.started_with.control_token_file.as_deref());
        if let Some(api) = &self.api {
            api.send_modify(|api| {
                let (wanted, beside_app) = (api.wanted.clone(), api.beside_app);
                api.renew(wanted, tokens, beside_app);
            });
        }
    }

    /// Reads the process file again.
    async fn reload(&mut self) -> Result<Reloaded, Problem> {
        self.renew_tokens();
        let file = self.file.clone();
        let read = spawn_blocking(move || read_main(&file, None)).await;
        let (found, changed) = match read {
            Ok(Ok(main)) => {
                let before = Arc::clone(&self.made.model);
                let found = self.build(main).await;
                (found, !Arc::ptr_eq(&before, &self.made.model))
            }
            Ok(Err(finding)) => (Some(vec![*finding]), false),
            Err(error) => {
                tracing::error!(%error, "reading the process file panicked");
                (Some(Vec::new()), false)
            }
        };
        let diagnostics = found.clone().unwrap_or_else(|| self.made.built.diagnostics.clone());
        let words = match &found {
            Some(_) => format!("{} is not taken; the table before it goes on serving", self.file.display()),
            None if changed => "another table is published".to_owned(),
            None => "no change".to_owned(),
        };
        let restart = restart_needed(&self.started_with, &self.made.built.process);
        self.link.stale_files = found.as_ref().map(|_| words.clone());
        self.status.update(|status| {
            status.reloads.accepted += u64::from(found.is_none());
            status.reloads.refused += u64::from(found.is_some());
            status.restart_needed = restart.iter().map(|key| (*key).to_owned()).collect();
            status.last_reload = Some(Reload {
                ok: found.is_none(),
                unix_ms: unix_ms(),
                summary: words.clone(),
                diagnostics: rendered(&diagnostics),
            });
        });
        self.tick();
        if found.is_some() {
            tracing::error!(diagnostics = ?rendered(&diagnostics), "{words}");
            return Err(Problem::new(422, "invalid_configuration", words));
        }
        tracing::info!(changed, "configuration reloaded");
        let retry = !self.last.1.is_empty();
        if self.whole && (changed || retry) {
            self.show();
            self.publish();
        } else if self.whole {
            self.acknowledge(self.have);
            self.save();
        }
        Ok(Reloaded {
            ticket: self.tickets.borrow().clone(),
            summary: words,
            changed,
            refused_apps: self.status.read().refused_apps.clone(),
            diagnostics,
        })
    }

    /// Takes what the router saw of endpoints, and tells control.
    fn observe(&mut self, news: BTreeMap<EndpointKey, Observation>) {
        let mut told = Vec::new();
        for (key, seen) in news {
            let known = self.refusing.contains_key(&key);
            if seen.refuses_connects && self.refusing.len() < REFUSING_MAX {
                self.refusing.insert(key.clone(), seen.clone());
            } else if !seen.refuses_connects && known {
                self.refusing.remove(&key);
            } else {
                continue;
            }
            told.push((key, seen));
        }
        let refusing = self.refusing.iter().map(|(key, seen)| {
            let reason = seen.reason.clone();
            (name_of(key), crate::status::Refusing { since_unix_ms: seen.since_unix_ms, reason })
        });
        let refusing = refusing.collect();
        self.status.update(|status| status.refusing_connects = refusing);
        self.tell_seen(told);
    }

    fn tell_seen(&self, told: Vec<(EndpointKey, Observation)>) {
        if self.link.term.is_none() {
            return;
        }
        for some in told.chunks(SEEN_MAX) {
            let seen = some.iter().map(|(key, seen)| Seen {
                endpoint: name_of(key),
                refuses_connects: seen.refuses_connects,
                reason: seen.reason.chars().take(256).collect(),
                since_unix_ms: seen.since_unix_ms,
            });
            self.tell(&Up::Seen(seen.collect()));
        }
    }

    /// Says how old the table is while control is gone.
    fn tick(&mut self) {
        let (linked, now) = (self.link.term.is_some(), Instant::now());
        let gone = now.saturating_duration_since(self.link.lost_at);
        let why = (!linked && (gone >= STALE_AFTER || self.link.said_at.is_none())).then(|| {
            let link = &self.status.read().link;
            let error = link.error.clone().unwrap_or_else(|| "it was not reached yet".to_owned());
            let Have { term, generation } = self.have;
            if !self.whole {
                return format!("there is no table: control has not been reached ({error})");
            }
            let age = unix_ms().saturating_sub(link.heard_unix_ms) / 1000;
            format!("control is gone ({error}); generation {generation} of term {term} serves, last heard of {age} s ago")
        });
        let due = self.link.said_at.is_none_or(|at| now.saturating_duration_since(at) >= SAY_EVERY);
        if let Some(why) = why.as_ref().filter(|_| due && gone >= STALE_AFTER) {
            self.link.said_at = Some(now);
            tracing::warn!("{why}");
        }
        let why = why.or_else(|| self.link.stale_files.clone());
        self.status.update(|status| {
            status.stale = why.is_some();
            status.stale_reason = why;
        });
    }
}

fn name_of(key: &EndpointKey) -> String {
    format!("{}/{}/{}", key.app, key.cluster, key.endpoint)
}

/// Waits for the end of the oldest publish under way; for ever without one.
async fn ended(pending_ones: &VecDeque<(Have, Ticket)>) -> (Have, Verdict) {
    let Some((have, ticket)) = pending_ones.front() else { return pending().await };
    let verdict = poll_fn(|context| match ticket.poll(context.waker()) {
        Some(verdict) => Poll::Ready(verdict),
        None => Poll::Pending,
    });
    (*have, verdict.await)
}

/// The name of this machine, for those that are given no other.
pub(crate) fn machine() -> String {
    let name = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "router".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use ekiden_config::doors::Generation;
    use ekiden_config::model::Model;

    use super::super::counting::tests::Counted;
    use super::super::kept::keeper;
    use super::*;

    /// A router that is slower than control: its tickets end when the test says so.
    struct Slow(std::sync::mpsc::Sender<Ticket>);

    impl Publisher for Slow {
        fn publish(&mut self, _: Arc<Model>) -> Ticket {
            let ticket = Ticket::new();
            self.0.send(ticket.clone()).unwrap();
            ticket
        }
    }

    /// An agent with this process file, the publishes of its tickets, and what it says.
    fn agent(text: &str) -> (Agent, std::sync::mpsc::Receiver<Ticket>, mpsc::Receiver<hyper::body::Bytes>) {
        let text = text.to_owned();
        let main = Source { file: "r.toml".to_owned(), text, format: ekiden_config::Format::Toml };
        let made = make(&main, &Objects::default(), None).unwrap();
        let (published, tickets) = std::sync::mpsc::channel();
        let (lines, told) = mpsc::channel(16);
        let agent = Agent {
            file: "r.toml".into(),
            main,
            objects: Arc::default(),
            started_with: made.built.process.clone(),
            made,
            texts: None,
            whole: false,
            have: Have::default(),
            publisher: Box::new(Slow(published)),
            tickets: watch::Sender::new(Ticket::new()),
            lines,
            told: watch::Sender::new(Have::default()),
            keep: keeper().0,
            unsaved: false,
            view: ViewCell::new(),
            status: StatusCell::default(),
            pending: VecDeque::new(),
            api: None,
            last: (0, Vec::new()),
            incoming: Incoming::default(),
            unread: BTreeMap::new(),
            refusing: BTreeMap::new(),
            counting: Counting::new(Arc::new(Counted::default()), Instant::now()),
            link: LinkState::new(None),
            tidy_at: None,
        };
        (agent, tickets, told)
    }

    const MAIN: &str = "[listener.edge]\naddress = \"127.0.0.1:8080\"\n";

    #[tokio::test]
    async fn what_could_not_be_built_is_tried_again_and_not_saved() {
        let (mut agent, _tickets, _told) = agent(MAIN);
        agent.heed(Event::Linked { url: "unix:/c".to_owned(), term: 1, snapshot: true }).await;
        let good = std::mem::replace(&mut agent.main.text, "listener = 7".to_owned());
        let document = json!({ "cluster": { "web": {} } });
        agent.heed(Event::Said(Down::Put("app/shop".to_owned(), document.clone()))).await;
        agent.heed(Event::Said(Down::Commit { generation: 1 })).await;
        assert!(agent.is_due() && agent.made.in_force.is_empty());
        agent.offer(true);
        assert!(agent.unsaved, "the next start has what was good");
        // A snapshot of the same objects is no table that was built.
        agent.heed(Event::Lost("it is gone".to_owned())).await;
        agent.heed(Event::Linked { url: "unix:/c".to_owned(), term: 2, snapshot: true }).await;
        agent.heed(Event::Said(Down::Put("app/shop".to_owned(), document))).await;
        agent.heed(Event::Said(Down::Commit { generation: 1 })).await;
        assert!(agent.is_due() && agent.made.in_force.is_empty());
        agent.offer(true);
        assert!(agent.unsaved);
        // A commit without words of its own brings it.
        agent.main.text = good;
        agent.heed(Event::Said(Down::Commit { generation: 2 })).await;
        assert!(!agent.is_due() && !agent.made.in_force.is_empty());
    }

    #[tokio::test]
    async fn under_steady_change_each_publish_is_acknowledged_and_due_to_be_saved() {
        let (mut agent, tickets, mut told) = agent(MAIN);
        agent.heed(Event::Linked { url: "unix:/c".to_owned(), term: 1, snapshot: true }).await;
        for generation in 1..=3u16 {
            let document = json!({ "cluster": { format!("c{generation}"): {} } });
            agent.heed(Event::Said(Down::Put("app/shop".to_owned(), document))).await;
            agent.heed(Event::Said(Down::Commit { generation: generation.into() })).await;
            assert!(agent.unsaved, "it is written before the workers have said anything");
        }
        for (generation, ticket) in (1..=3).zip(tickets.try_iter()) {
            ticket.end(Verdict::Applied { generation: Generation(generation), refused: Vec::new() });
            let (have, verdict) = ended(&agent.pending).await;
            agent.settle(have, verdict);
            let applied =
                Up::Applied(Applied { term: 1, generation, table: generation, refused: Vec::new() });
            assert_eq!(told.try_recv().unwrap(), line(&applied));
        }
        assert!(agent.pending.is_empty());
        // Of too many the oldest and the newest are followed.
        for generation in 0..2 * PENDING_MAX as u64 {
            agent.have.generation = 10 + generation;
            agent.publish();
        }
        assert_eq!(agent.pending.len(), PENDING_MAX);
        let ends = (agent.pending.front().unwrap().0.generation, agent.pending.back().unwrap().0.generation);
        assert_eq!(ends, (10, 9 + 2 * PENDING_MAX as u64));
    }
}
