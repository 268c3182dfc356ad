//! Control and its routers as processes of their own: what is published goes over one HTTP/2 stream a router, as versioned
//! objects; what comes of it comes back the same way (DESIGN section 4).
//!
//! Control's side: [`publisher`] turns Models into objects, [`ledger`] keeps them by generation, [`server`] and [`session`] bring
//! them to routers, as far as [`subscription`] lets them, [`roster`] knows which router has what. The router's side: [`dial`] keeps the link,
//! [`agent`] applies what comes, [`table`] makes a Model of it, [`kept`] is the last good table. What ends of watched apps comes back too:
//! [`counting`] tells it, [`traffic`] sums it. Both: [`wire`] is what is said, [`pipe`] how it goes over
//! HTTP/2, [`secure`] who is believed.

mod agent;
mod counting;
pub(crate) mod dial;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod kept;
mod ledger;
mod pipe;
pub(crate) mod publisher;
pub(crate) mod remote;
pub(crate) mod roster;
pub(crate) mod secure;
pub(crate) mod server;
mod session;
mod subscription;
mod table;
mod traffic;
mod waiting;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ekiden_config::doors::{AppTraffic, Ticket};
use ekiden_config::names::AppName;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

pub(crate) use agent::machine;
pub(crate) use ledger::Ledger;
pub(crate) use roster::Roster;
use roster::{FleetMeters, LEASE};
pub(crate) use subscription::{Share, Subscriptions};
pub(crate) use traffic::WATCHED_MAX;
use traffic::Watches;
pub(crate) use wire::without_endpoints;
use wire::{Down, Traffic, WATCHES, line};
pub(crate) use wire::{HOLDS, MAINTENANCE};

use crate::election::{Elector, Role};

/// What control's side shares: the control loop publishes, the sessions of routers read.
#[derive(Debug, Clone)]
pub(crate) struct Fleet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whether this process leads; sessions are of one term.
    turn: watch::Sender<Turn>,
    elector: Arc<dyn Elector>,
    ledger: Mutex<Ledger>,
    roster: Mutex<Roster>,
    /// The newest generation.
    newest: watch::Sender<u64>,
    watches: Mutex<Watches>,
    /// Changes when a router has told of traffic, or is gone.
    heard: watch::Sender<()>,
    /// Which apps each router gets.
    subscriptions: Subscriptions,
}

/// Too many apps are watched: [`WATCHED_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyWatched;

/// Whether routers are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// Of this term, which was durable before.
    Leads(u64),
    /// They are told to go elsewhere; why.
    Follows(String),
}

impl Fleet {
    /// A fleet without routers, at generation 0, that nobody is let into yet.
    pub(crate) fn new(elector: Arc<dyn Elector>, subscriptions: Subscriptions) -> Self {
        Self(Arc::new(Shared {
            turn: watch::Sender::new(Turn::Follows("this control has only just started".to_owned())),
            elector,
            ledger: Mutex::new(if subscriptions.is_empty() { Ledger::default() } else { Ledger::by_app() }),
            roster: Mutex::default(),
            newest: watch::Sender::new(0),
            watches: Mutex::default(),
            heard: watch::Sender::new(()),
            subscriptions,
        }))
    }

    /// Goes by a role that control has taken on: what is published from here on is of its term. `past` says that routers may be there
    /// which nobody has heard of in it yet: until their leases are over nothing counts as taken by all.
    pub(crate) fn take(&self, role: &Role, past: bool) {
        let turn = match role {
            Role::Leading { term } => {
                if past && self.term() != Some(*term) {
                    self.roster().begin_term(Instant::now());
                    let fleet = self.clone();
                    tokio::spawn(async move {
                        sleep(LEASE).await;
                        fleet.roster().expire(Instant::now());
                    });
                }
                Turn::Leads(*term)
            }
            Role::Following { leader, reason } => Turn::Follows(match leader {
                Some(leader) => format!("this control does not lead: {} does", leader.name),
                None => format!("this control does not lead: {reason}"),
            }),
        };
        self.0.turn.send_replace(turn);
    }

    /// The term; none where another one leads.
    pub(crate) fn term(&self) -> Option<u64> {
        match &*self.0.turn.borrow() {
            Turn::Leads(term) => Some(*term),
            Turn::Follows(_) => None,
        }
    }

    /// Follows the turn.
    pub(super) fn turn(&self) -> watch::Receiver<Turn> {
        self.0.turn.subscribe()
    }

    /// Whether what is said under a term may still be said, at this moment.
    pub(super) fn leads(&self, term: u64) -> bool {
        self.term() == Some(term) && self.0.elector.leads()
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which router has what.
    pub(crate) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.0.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts for metrics.
    pub(crate) fn meters(&self) -> FleetMeters {
        let (generation, objects) = {
            let ledger = self.ledger();
            (ledger.generation(), ledger.len() as u64)
        };
        FleetMeters { objects, ..self.roster().meters(generation) }
    }

    fn newest(&self) -> watch::Receiver<u64> {
        self.0.newest.subscribe()
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.0.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has routers tell what ends of these apps until then, or longer.
    pub(crate) fn watch<'a>(
        &self,
        apps: impl Iterator<Item = &'a AppName>,
        until: Instant,
    ) -> Result<(), TooManyWatched> {
        let (mut new, mut full) = (Vec::new(), false);
        for app in apps {
            match self.watches().watch(app, until) {
                Ok(true) => new.push(app.clone()),
                Ok(false) => {}
                Err(()) => full = true,
            }
        }
        self.put_watches(&new, true);
        if full { Err(TooManyWatched) } else { Ok(()) }
    }

    /// Ends what is watched no longer; whether anything is watched still.
    pub(crate) fn prune_watches(&self, now: Instant) -> bool {
        let over = self.watches().prune(now);
        self.put_watches(&over, false);
        !self.watches().is_empty()
    }

    /// What routers are asked for is an object like all else: one that is away or slow hears of it later.
    fn put_watches(&self, apps: &[AppName], on: bool) {
        if apps.is_empty() {
            return;
        }
        let generation = {
            let mut ledger = self.ledger();
            let ledger = &mut *ledger;
            let generation = ledger.advance();
            for app in apps {
                let key = format!("{WATCHES}{app}");
                match on {
                    true => ledger.put(&key, line(&Down::Put(key.clone(), json!({})))),
                    false => ledger.drop(&key, line(&Down::Drop(key.clone()))),
                }
            }
            generation
        };
        // Nobody waits for its ticket.
        let touched = (!self.0.subscriptions.is_empty()).then(|| Arc::new(apps.iter().cloned().collect()));
        self.roster().published((generation, touched), Ticket::new(), Instant::now());
        self.0.newest.send_replace(generation);
    }

    /// A router tells what has ended.
    fn told(&self, link: u64, traffic: Traffic) {
        self.watches().told(link, traffic);
        self.0.heard.send_replace(());
    }

    /// A router has said what it takes, and what it refuses: who waits for traffic looks again.
    fn acknowledged(&self) {
        if !self.watches().is_empty() {
            self.0.heard.send_replace(());
        }
    }

    /// A router's link has ended.
    fn left(&self, link: u64) {
        self.watches().left(link);
        self.0.heard.send_replace(());
    }

    /// What has ended of each watched app, over all routers that tell it.
    pub(crate) fn traffic(&self) -> BTreeMap<AppName, AppTraffic> {
        self.watches().totals()
    }

    /// What had ended of a watched app lately.
    pub(crate) fn before(&self, app: &AppName) -> AppTraffic {
        self.watches().before(app)
    }

    /// Returns when every router that is connected has told of these apps, or does not know how.
    pub(crate) async fn all_told(&self, apps: &[AppName]) {
        let mut heard = self.0.heard.subscribe();
        while !self.has_told(apps) && heard.changed().await.is_ok() {}
    }

    fn has_told(&self, apps: &[AppName]) -> bool {
        let (roster, watches) = (self.roster(), self.watches());
        let mut connected = roster.members().filter(|member| member.connected);
        connected.all(|member| {
            apps.iter().filter(|app| member.gets(app)).all(|app| {
                let refuses =
                    || member.refused.iter().any(|one| one.part == format!("object:{WATCHES}{app}"));
                watches.has_told(member.link(), app) || refuses()
            })
        })
    }
}
