//! Which router has what: the fleet view, the tickets of publishes, and how long a change takes to get everywhere.
//!
//! Pure but for the ticket that it ends; times are arguments. Bounded: routers, what is told of each, publishes that are timed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekiden_config::doors::{Generation, Refusal, Ticket, Verdict};
use ekiden_config::names::AppName;
use serde::Serialize;

use super::session::SILENCE_MAX;
use super::subscription::Share;
use super::waiting::Waiting;
use super::wire::{Applied, Refused, Seen};

/// Routers known, gone ones too.
pub(super) const ROUTERS_MAX: usize = 10_000;
/// Endpoints that one router may say refuse connects.
const REFUSING_MAX: usize = 1_000;
/// Publishes whose way is timed.
const TIMED_MAX: usize = 4_096;

/// How long a router that left is waited for: one that is silent for so long is taken as drained.
pub(super) const LEASE: Duration = SILENCE_MAX;
/// Shortest time between two lines of the log about who was turned away.
const SAY_EVERY: Duration = Duration::from_millis(200);

/// Upper bounds of the histogram of propagation, in microseconds.
pub const PROPAGATION_BOUNDS_US: [u64; 12] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 30_000_000,
];

/// A router as control knows it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// Whether its link is open.
    pub(crate) connected: bool,
    /// Since when that is so, in milliseconds since the Unix epoch.
    pub(crate) since_unix_ms: u64,
    /// Where it connects from.
    pub(crate) address: String,
    /// The name of its certificate; none on a plain link.
    pub(crate) identity: Option<String>,
    /// Its software.
    pub(crate) software: String,
    /// The generation that all of its workers have, of this term; none before the first.
    pub(crate) generation: Option<u64>,
    /// Since when, in milliseconds since the Unix epoch.
    pub(crate) generation_since_unix_ms: Option<u64>,
    /// How its link began: `snapshot` or `delta`.
    pub(crate) began_with: &'static str,
    /// Links since control started.
    pub(crate) links: u64,
    /// What it did not take.
    pub(crate) refused: Vec<Refused>,
    /// The apps that it gets; none when it gets all.
    pub(crate) apps: Option<Vec<String>>,
    /// Endpoints that it finds refusing connects, as `app/cluster/id`, each with the reason. At most 1,000.
    pub(crate) refusing_connects: BTreeMap<String, String>,
    /// Why its last link ended.
    pub(crate) last_error: Option<String>,
    /// Its lease: until then it may serve as it did when its link ended, and is waited for.
    #[serde(skip)]
    left: Option<Instant>,
    #[serde(skip)]
    instance: String,
    #[serde(skip)]
    link: u64,
    /// Changes before its link are no measure of their way.
    #[serde(skip)]
    linked_at_generation: u64,
    #[serde(skip)]
    share: Share,
    /// The newest generation in which something of its share changed: who has that has all later ones too.
    #[serde(skip)]
    needs: u64,
}

impl Member {
    /// The number of its newest link.
    pub(super) fn link(&self) -> u64 {
        self.link
    }

    /// Whether it gets this app.
    pub(super) fn gets(&self, app: &AppName) -> bool {
        self.share.has_app(app)
    }
}

/// Who connects.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrival {
    pub(super) name: String,
    pub(super) instance: String,
    pub(super) address: String,
    pub(super) identity: Option<String>,
    pub(super) software: String,
    pub(super) snapshot: bool,
    /// What it says it has, of this term.
    pub(super) generation: u64,
    /// What it gets.
    pub(super) share: Share,
}

/// How far a generation has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    /// Routers that have it.
    pub(crate) have: usize,
    /// Routers that are connected.
    pub(crate) of: usize,
    /// What some of them did not take: router, part, reason.
    pub(crate) refused: Vec<(String, Refused)>,
}

/// How long changes took to the workers of a router.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Propagation {
    /// By [`PROPAGATION_BOUNDS_US`], not cumulative; the last is above every bound.
    pub buckets: [u64; PROPAGATION_BOUNDS_US.len() + 1],
    /// Sum in microseconds.
    pub sum_us: u64,
}

/// Counts for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetMeters {
    /// The newest generation.
    pub generation: u64,
    /// Objects of it.
    pub objects: u64,
    /// Routers that are connected.
    pub connected: u64,
    /// Routers that were and are not.
    pub gone: u64,
    /// Connected routers that do not have the newest generation.
    pub behind: u64,
    /// Refusals in force, over all routers.
    pub refused: u64,
    /// Links that began with everything.
    pub snapshots: u64,
    /// Links that went on where they were.
    pub deltas: u64,
    /// Links that were turned away.
    pub turned_away: u64,
    /// How long changes took.
    pub propagation: Propagation,
}

/// The apps that a publish changed; none where that is not asked for, and everybody is concerned.
pub(super) type Apps = Option<Arc<BTreeSet<AppName>>>;

impl Member {
    fn is_concerned(&self, apps: &Apps) -> bool {
        apps.as_ref().is_none_or(|apps| self.share.concerns(apps))
    }

    /// Whether it is waited for.
    fn is_there(&self) -> bool {
        self.connected || self.left.is_some()
    }

    /// What it has, as tickets go by it.
    fn has(&self) -> u64 {
        self.generation.unwrap_or(0)
    }

    fn lacks(&self, generation: u64, apps: &Apps) -> bool {
        self.is_there() && self.has() < generation && self.is_concerned(apps)
    }
}

/// The routers and what waits for them.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    members: BTreeMap<String, Member>,
    waiting: Waiting,
    published: VecDeque<(u64, Apps, Instant)>,
    newest: u64,
    links: u64,
    meters: FleetMeters,
    /// When the log said last that somebody was turned away.
    said_at: Option<Instant>,
    /// Until then routers may be back that had the term before: who is not known is waited for too.
    unknown_until: Option<Instant>,
}

impl Roster {
    /// A term begins that is not the first: routers serve what they had of the one before, and have not come back yet. Until the lease
    /// of the last of them is over no ticket ends; then somebody must call [`Roster::expire`].
    pub(super) fn begin_term(&mut self, now: Instant) {
        self.unknown_until = Some(now + LEASE);
    }

    /// A generation was published; its ticket ends when every connected router has it whose share it changed.
    pub(super) fn published(&mut self, (generation, apps): (u64, Apps), ticket: Ticket, now: Instant) {
        if apps.is_some() {
            for member in self.members.values_mut() {
                let current = member.generation.is_some_and(|has| has >= member.needs);
                if member.is_concerned(&apps) {
                    member.needs = generation;
                } else if current && member.has() < generation {
                    // Nothing of it is for this one, which has everything that is.
                    let before = member.generation.replace(generation).unwrap_or(0);
                    if member.is_there() {
                        self.waiting.moved((before, generation), |apps| member.is_concerned(apps));
                    }
                }
            }
        }
        self.newest = generation;
        self.published.push_back((generation, apps.clone(), now));
        if self.published.len() > TIMED_MAX {
            self.published.pop_front();
        }
        self.wait((generation, apps), ticket);
    }

    /// A ticket that ends when every connected router has what was published of these apps up to now; of everything without any.
    pub(super) fn barrier(&mut self, apps: &[AppName]) -> Ticket {
        let apps: Apps = (!apps.is_empty()).then(|| Arc::new(apps.iter().cloned().collect()));
        let generation = self.newest_of(&apps);
        if let Some(alike) = self.waiting.alike(generation, &apps).cloned() {
            alike.assign(Generation(generation));
            return alike;
        }
        let ticket = Ticket::new();
        ticket.assign(Generation(generation));
        self.wait((generation, apps), ticket.clone());
        ticket
    }

    /// The newest generation that is about one of these apps; of those that are not known any more, the newest.
    fn newest_of(&self, apps: &Apps) -> u64 {
        let Some(apps) = apps else { return self.newest };
        let mut published = self.published.iter().rev();
        let about = published.find(|(_, of, _)| of.as_ref().is_none_or(|of| !of.is_disjoint(apps)));
        let before_all = self.published.front().map(|(first, ..)| first.saturating_sub(1));
        about.map(|(generation, ..)| *generation).or(before_all).unwrap_or(self.newest)
    }

    fn wait(&mut self, (generation, apps): (u64, Apps), ticket: Ticket) {
        let lacking = self.members.values().filter(|member| member.lacks(generation, &apps)).count();
        self.waiting.add((generation, apps), ticket, lacking);
        self.settle();
    }

    /// A router connects; its link's number. The error says why it may not.
    pub(super) fn arrive(&mut self, arrival: Arrival, generation: u64, unix_ms: u64) -> Result<u64, String> {
        let known = self.members.get(&arrival.name);
        if known.is_some_and(|known| known.connected && known.instance != arrival.instance) {
            return Err(format!("another router of the name {} is connected", arrival.name));
        }
        if known.is_none() && self.members.len() >= ROUTERS_MAX {
            let gone = self.members.values().filter(|member| !member.connected);
            let oldest = gone.min_by_key(|member| member.since_unix_ms).map(|member| member.name.clone());
            let oldest =
                oldest.ok_or_else(|| format!("{ROUTERS_MAX} routers are connected, which is the bound"))?;
            self.remove(&oldest);
        }
        self.links += 1;
        let began_with = if arrival.snapshot { "snapshot" } else { "delta" };
        self.meters.snapshots += u64::from(arrival.snapshot);
        self.meters.deltas += u64::from(!arrival.snapshot);
        let mut before = self.remove(&arrival.name).unwrap_or_default();
        if arrival.snapshot {
            // What it had before says nothing: it may have lost it.
            (before.generation, before.generation_since_unix_ms) = (None, None);
            before.refused.clear();
        }
        // One that was killed begins with a table that is older than what it acknowledged.
        if before.generation.is_some_and(|has| has > arrival.generation) {
            before.generation = Some(arrival.generation);
            before.generation_since_unix_ms = Some(unix_ms);
        }
        let member = Member {
            name: arrival.name.clone(),
            connected: true,
            since_unix_ms: unix_ms,
            address: arrival.address,
            identity: arrival.identity,
            software: arrival.software,
            began_with,
            links: before.links + 1,
            instance: arrival.instance,
            link: self.links,
            linked_at_generation: generation,
            apps: arrival.share.names(),
            share: arrival.share,
            needs: generation,
            refusing_connects: BTreeMap::new(),
            left: None,
            last_error: before.last_error,
            generation: before.generation,
            generation_since_unix_ms: before.generation_since_unix_ms,
            refused: before.refused,
        };
        self.waiting.await_one(member.has(), |apps| member.is_concerned(apps));
        self.members.insert(arrival.name, member);
        self.settle();
        Ok(self.links)
    }

    fn remove(&mut self, name: &str) -> Option<Member> {
        let member = self.members.remove(name)?;
        if member.is_there() {
            self.waiting.let_go(member.has(), |apps| member.is_concerned(apps));
        }
        Some(member)
    }

    /// Whether this very process was here before under this name and with this share, in the term of this control: what another one
    /// has may be of another name's share, whatever generation it is of.
    pub(super) fn knows(&self, name: &str, instance: &str, share: &Share) -> bool {
        self.members.get(name).is_some_and(|known| known.instance == instance && known.share == *share)
    }

    /// A router was not let in; whether the log should say so, which strangers could fill otherwise.
    pub(super) fn turned_away(&mut self, now: Instant) -> bool {
        self.meters.turned_away += 1;
        let due = self.said_at.is_none_or(|at| now.saturating_duration_since(at) >= SAY_EVERY);
        if due {
            self.said_at = Some(now);
        }
        due
    }

    /// Whether this link is still that of the router.
    pub(super) fn is_current(&self, name: &str, link: u64) -> bool {
        self.members.get(name).is_some_and(|member| member.link == link)
    }

    /// A router's workers have a generation.
    pub(super) fn applied(
        &mut self,
        name: &str,
        link: u64,
        applied: Applied,
        (now, unix_ms): (Instant, u64),
    ) {
        let Some(member) = self.members.get_mut(name).filter(|member| member.link == link) else { return };
        let before = member.generation.unwrap_or(0).max(member.linked_at_generation);
        // Of a share, what came after its last change is there too.
        let is_current = member.share != Share::All && applied.generation >= member.needs;
        let has = if is_current { applied.generation.max(self.newest) } else { applied.generation };
        if member.generation != Some(has) {
            let had = member.generation.replace(has).unwrap_or(0);
            member.generation_since_unix_ms = Some(unix_ms);
            if member.is_there() {
                self.waiting.moved((had, has), |apps| member.is_concerned(apps));
            }
        }
        member.refused = applied.refused;
        let begun = self.published.partition_point(|(generation, ..)| *generation <= before);
        let ended = self.published.partition_point(|(generation, ..)| *generation <= applied.generation);
        let timed = self.published.range(begun.min(ended)..ended);
        for (_, _, at) in timed.filter(|(_, apps, _)| member.is_concerned(apps)) {
            let took = u64::try_from(now.saturating_duration_since(*at).as_micros()).unwrap_or(u64::MAX);
            let bucket = PROPAGATION_BOUNDS_US.partition_point(|bound| *bound < took);
            if let Some(count) = self.meters.propagation.buckets.get_mut(bucket) {
                *count += 1;
            }
            self.meters.propagation.sum_us = self.meters.propagation.sum_us.saturating_add(took);
        }
        self.settle();
    }

    /// What a router sees of endpoints.
    pub(super) fn seen(&mut self, name: &str, link: u64, seen: Vec<Seen>) {
        let Some(member) = self.members.get_mut(name).filter(|member| member.link == link) else { return };
        for Seen { endpoint, refuses_connects, reason, .. } in seen {
            if !refuses_connects {
                member.refusing_connects.remove(&endpoint);
            } else if member.refusing_connects.len() < REFUSING_MAX {
                member.refusing_connects.insert(endpoint, reason);
            }
        }
    }

    /// A link has ended. The router serves on with what it has, so it is waited for until its lease is over; then somebody must
    /// call [`Roster::expire`].
    pub(super) fn leave(&mut self, name: &str, link: u64, why: String, (now, unix_ms): (Instant, u64)) {
        if let Some(member) = self.members.get_mut(name).filter(|member| member.link == link) {
            member.connected = false;
            member.left = Some(now + LEASE);
            member.since_unix_ms = unix_ms;
            member.last_error = Some(why);
            member.refusing_connects.clear();
            self.settle();
        }
    }

    /// Leases that are over by now are waited for no longer.
    pub(super) fn expire(&mut self, now: Instant) {
        let over = self.members.values_mut().filter(|member| member.left.is_some_and(|until| until <= now));
        for member in over {
            member.left = None;
            if !member.connected {
                self.waiting.let_go(member.has(), |apps| member.is_concerned(apps));
            }
        }
        self.unknown_until = self.unknown_until.filter(|until| *until > now);
        self.settle();
    }

    /// Ends the tickets that every router has come up to that is connected, or whose lease is not over, and that they concern.
    fn settle(&mut self) {
        if self.unknown_until.is_some() {
            return;
        }
        let members = &self.members;
        let mut refused: Option<Vec<Refusal>> = None;
        for (generation, apps, ticket) in self.waiting.take_ready() {
            // Of very many that one late router kept, few are followed still.
            if !ticket.is_followed() {
                continue;
            }
            let by_whom =
                || members.values().filter(|member| member.is_there() && member.is_concerned(&apps));
            let refused = match apps {
                // The same for all of these.
                None => refused.get_or_insert_with(|| refused_by_all(by_whom())).clone(),
                Some(_) => refused_by_all(by_whom()),
            };
            ticket.end(Verdict::Applied { generation: Generation(generation), refused });
        }
    }

    /// How far a generation has come, among those that it concerns.
    pub(crate) fn spread(&self, generation: u64) -> Spread {
        let published = self.published.iter().rev().find(|(published, ..)| *published <= generation);
        let apps = published
            .filter(|(published, ..)| *published == generation)
            .and_then(|(_, apps, _)| apps.clone());
        let mut spread = Spread::default();
        for member in self.members.values().filter(|member| member.connected && member.is_concerned(&apps)) {
            spread.of += 1;
            if member.generation.is_some_and(|has| has >= generation) {
                spread.have += 1;
                spread.refused.extend(member.refused.iter().map(|one| (member.name.clone(), one.clone())));
            }
        }
        spread
    }

    /// All routers, in order of their names.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The oldest generation that a connected router serves, and 0 when one serves none; the newest without routers.
    pub(super) fn least(&self, newest: u64) -> u64 {
        let connected = self.members.values().filter(|member| member.connected);
        connected.map(|member| member.generation.unwrap_or(0)).min().unwrap_or(newest)
    }

    /// Counts for metrics; the ledger's are filled in by the caller.
    pub(super) fn meters(&self, generation: u64) -> FleetMeters {
        let mut meters = FleetMeters { generation, ..self.meters.clone() };
        for member in self.members.values() {
            meters.connected += u64::from(member.connected);
            meters.gone += u64::from(!member.connected);
            meters.behind += u64::from(member.connected && member.generation != Some(generation));
            if member.connected {
                meters.refused += member.refused.len() as u64;
            }
        }
        meters
    }
}

/// What every one of them refuses: a part that some took is no failure of the change; the view says who did not.
fn refused_by_all<'m>(members: impl Iterator<Item = &'m Member>) -> Vec<Refusal> {
    let mut everywhere: Option<BTreeSet<&Refused>> = None;
    for member in members {
        let here: BTreeSet<&Refused> = member.refused.iter().collect();
        let parts: BTreeSet<&str> = here.iter().map(|refused| refused.part.as_str()).collect();
        everywhere = Some(match everywhere {
            None => here,
            Some(all) => all.into_iter().filter(|one| parts.contains(one.part.as_str())).collect(),
        });
    }
    let all = everywhere.into_iter().flatten();
    all.map(|one| Refusal { part: one.part.clone(), reason: one.reason.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn arrival(name: &str, instance: &str) -> Arrival {
        Arrival { name: name.to_owned(), instance: instance.to_owned(), ..Arrival::default() }
    }

    fn applied(generation: u64, refused: &[&str]) -> Applied {
        let refused = refused.iter().map(|part| Refused::new(*part, "why")).collect();
        Applied { term: 1, generation, table: 1, refused }
    }

    fn ended(ticket: &Ticket) -> Option<Vec<String>> {
        match ticket.poll(Waker::noop())? {
            Verdict::Applied { refused, .. } => Some(refused.into_iter().map(|one| one.part).collect()),
            Verdict::Rejected { reason } => panic!("{reason}"),
        }
    }

    #[test]
    fn a_change_is_acknowledged_when_every_connected_router_has_it() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let alone = Ticket::new();
        roster.published((1, None), alone.clone(), now);
        assert_eq!(ended(&alone), Some(vec![]), "nobody is there to wait for");

        let (a, b) = (
            roster.arrive(arrival("a", "1"), 1, 0).unwrap(),
            roster.arrive(arrival("b", "1"), 1, 0).unwrap(),
        );
        roster.applied("a", a, applied(1, &[]), (now, 0));
        roster.applied("b", b, applied(1, &[]), (now, 0));
        let ticket = Ticket::new();
        roster.published((2, None), ticket.clone(), now);
        roster.applied("a", a, applied(2, &["app:x", "app:y"]), (now, 0));
        assert_eq!(ended(&ticket), None);
        assert_eq!((roster.spread(2).have, roster.spread(2).of), (1, 2));
        roster.applied("b", b, applied(2, &["app:y"]), (now, 0));
        assert_eq!(ended(&ticket), Some(vec!["app:y".to_owned()]), "what all refuse");
        assert_eq!(roster.spread(2).refused.len(), 3, "the view has the others too");
        assert_eq!(roster.meters(2).propagation.buckets.iter().sum::<u64>(), 2);
    }

    #[test]
    fn who_is_cut_off_is_waited_for_until_its_lease_is_over() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let link = roster.arrive(arrival("a", "1"), 0, 0).unwrap();
        let ticket = Ticket::new();
        roster.published((1, None), ticket.clone(), now);
        assert_eq!(ended(&ticket), None);
        roster.leave("a", link + 1, "another link".to_owned(), (now, 5));
        assert_eq!(ended(&ticket), None);
        roster.leave("a", link, "cut".to_owned(), (now, 5));
        assert_eq!(ended(&ticket), None, "it serves on, and may be back at once");
        let late = Ticket::new();
        roster.published((2, None), late.clone(), now);
        roster.expire(now + LEASE - Duration::from_millis(1));
        assert_eq!((ended(&ticket), ended(&late)), (None, None));
        roster.expire(now + LEASE);
        assert_eq!((ended(&ticket), ended(&late)), (Some(vec![]), Some(vec![])));
        let member = roster.members().next().unwrap();
        assert_eq!((member.connected, member.last_error.as_deref()), (false, Some("cut")));
    }

    #[test]
    fn in_a_new_term_nothing_is_taken_by_all_before_all_can_be_back() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        roster.begin_term(now);
        let (first, second) = (Ticket::new(), Ticket::new());
        roster.published((1, None), first.clone(), now);
        assert_eq!(ended(&first), None, "nobody is there, and somebody may be");
        // One of two is back.
        let link = roster.arrive(arrival("a", "1"), 1, 0).unwrap();
        roster.applied("a", link, applied(1, &[]), (now, 0));
        roster.expire(now + LEASE - Duration::from_millis(1));
        assert_eq!(ended(&first), None);
        // The other one is too, in time, and has not taken it.
        let late = roster.arrive(arrival("b", "1"), 1, 0).unwrap();
        roster.expire(now + LEASE);
        assert_eq!(ended(&first), None);
        roster.applied("b", late, applied(1, &[]), (now, 0));
        assert_eq!(ended(&first), Some(vec![]));
        roster.published((2, None), second.clone(), now);
        roster.applied("a", link, applied(2, &[]), (now, 0));
        roster.applied("b", late, applied(2, &[]), (now, 0));
        assert_eq!(ended(&second), Some(vec![]), "from here on it is as ever");
    }

    #[test]
    fn what_is_not_of_its_share_waits_for_no_router() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let app = |name: &str| AppName::new(name).unwrap();
        let of = |name: &str| Some(Arc::new(BTreeSet::from([app(name)])));
        let share = Share::Apps(Arc::new([app("shop")].into()));
        let link = roster.arrive(Arrival { share, ..arrival("pod", "1") }, 0, 0).unwrap();
        roster.applied("pod", link, applied(0, &[]), (now, 0));
        let publish = |roster: &mut Roster, generation: u64, name: &str| {
            let ticket = Ticket::new();
            roster.published((generation, of(name)), ticket.clone(), now);
            ticket
        };
        let other = publish(&mut roster, 1, "blog");
        assert_eq!(ended(&other), Some(vec![]));
        assert_eq!((roster.spread(1).of, roster.meters(1).behind, roster.least(1)), (0, 0, 1));
        let own = publish(&mut roster, 2, "shop");
        let after = publish(&mut roster, 3, "blog");
        assert_eq!((ended(&own), ended(&after)), (None, Some(vec![])), "it waits for another one's change");
        assert_eq!((roster.spread(2).have, roster.spread(2).of, roster.meters(3).behind), (0, 1, 1));
        roster.applied("pod", link, applied(2, &["app:shop"]), (now, 0));
        assert_eq!(ended(&own), Some(vec!["app:shop".to_owned()]));
        assert_eq!((roster.spread(2).have, roster.meters(3).behind, roster.least(3)), (1, 0, 3));
        assert_eq!(roster.meters(3).propagation.buckets.iter().sum::<u64>(), 1, "only its own is timed");
        assert_eq!(roster.members().next().unwrap().apps, Some(vec!["shop".to_owned()]));
    }

    #[test]
    fn what_repeats_a_change_waits_for_the_routers_of_that_change() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let app = |name: &str| AppName::new(name).unwrap();
        let of = |name: &str| Some(Arc::new(BTreeSet::from([app(name)])));
        let share = |name: &str| Share::Apps(Arc::new([app(name)].into()));
        let shop = roster.arrive(Arrival { share: share("shop"), ..arrival("s", "1") }, 1, 0).unwrap();
        let blog = roster.arrive(Arrival { share: share("blog"), ..arrival("b", "1") }, 1, 0).unwrap();
        roster.applied("s", shop, applied(1, &[]), (now, 0));
        roster.applied("b", blog, applied(1, &[]), (now, 0));
        assert_eq!(ended(&roster.barrier(&[app("shop")])), Some(vec![]), "nothing waits");
        let first = Ticket::new();
        roster.published((2, of("shop")), first.clone(), now);
        roster.published((3, of("none")), Ticket::new(), now);
        let (own, other) = (roster.barrier(&[app("shop")]), roster.barrier(&[app("blog")]));
        let all = roster.barrier(&[]);
        assert_eq!((ended(&own), ended(&other), ended(&all)), (None, Some(vec![]), None));
        assert_eq!(own.generation(), Some(Generation(2)), "that of the change");
        assert_eq!((roster.spread(2).have, roster.spread(2).of), (0, 1));
        roster.applied("s", shop, applied(2, &["app:shop"]), (now, 0));
        let refused = Some(vec!["app:shop".to_owned()]);
        assert_eq!((ended(&first), ended(&own), ended(&all)), (refused.clone(), refused, Some(vec![])));
    }

    #[test]
    fn in_a_new_term_what_repeats_a_change_of_the_one_before_waits_for_the_leases_too() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let before = Ticket::new();
        roster.published((1, None), before.clone(), now);
        assert_eq!(ended(&before), Some(vec![]), "nobody was there");
        roster.begin_term(now);
        let (one, all) = (roster.barrier(&[AppName::new("shop").unwrap()]), roster.barrier(&[]));
        roster.expire(now + LEASE - Duration::from_millis(1));
        assert_eq!((ended(&one), ended(&all)), (None, None));
        roster.expire(now + LEASE);
        assert_eq!((ended(&one), ended(&all)), (Some(vec![]), Some(vec![])));
    }

    #[test]
    fn a_router_that_never_acknowledges_costs_the_others_nothing() {
        const ROUTERS: usize = 200;
        let (mut roster, now) = (Roster::default(), Instant::now());
        let apps = Some(Arc::new(BTreeSet::from([AppName::new("shop").unwrap()])));
        let name = |number: usize| format!("router-{number:03}");
        let links: Vec<u64> =
            (0..ROUTERS).map(|one| roster.arrive(arrival(&name(one), "1"), 0, 0).unwrap()).collect();
        let followed = Ticket::new();
        roster.published((1, apps.clone()), followed.clone(), now);
        let rounds = super::super::waiting::TICKETS_MAX as u64 + 100;
        for generation in 2..=rounds {
            // The last one is silent.
            for (number, link) in links.iter().enumerate().take(ROUTERS - 1) {
                roster.applied(&name(number), *link, applied(generation - 1, &[]), (now, 0));
            }
            roster.published((generation, apps.clone()), Ticket::new(), now);
        }
        // Each of the others looks at each ticket once.
        assert!(roster.waiting.looks <= rounds * ROUTERS as u64, "{}", roster.waiting.looks);
        assert_eq!(ended(&followed), None, "those that nobody follows make room");
        roster.applied(&name(ROUTERS - 1), links[ROUTERS - 1], applied(rounds, &[]), (now, 0));
        assert_eq!(ended(&followed), Some(vec![]));
    }

    #[test]
    fn only_the_process_that_was_here_with_the_same_share_is_known() {
        let mut roster = Roster::default();
        let share = |name: &str| Share::Apps(Arc::new([AppName::new(name).unwrap()].into()));
        roster.arrive(Arrival { share: share("shop"), ..arrival("a", "1") }, 0, 0).unwrap();
        assert!(roster.knows("a", "1", &share("shop")));
        // The certificate was given to a router that had another one's table.
        assert!(!roster.knows("a", "2", &share("shop")));
        assert!(!roster.knows("a", "1", &share("blog")) && !roster.knows("a", "1", &Share::All));
        assert!(!roster.knows("b", "1", &share("shop")));
    }

    #[test]
    fn a_name_belongs_to_one_process_at_a_time() {
        let mut roster = Roster::default();
        let first = roster.arrive(arrival("a", "1"), 0, 0).unwrap();
        assert!(roster.arrive(arrival("a", "2"), 0, 0).unwrap_err().contains("another router"));
        let again = roster.arrive(arrival("a", "1"), 0, 0).unwrap();
        assert!(!roster.is_current("a", first) && roster.is_current("a", again));
        roster.leave("a", again, String::new(), (Instant::now(), 0));
        roster.arrive(arrival("a", "2"), 0, 0).unwrap();
    }

    #[test]
    fn who_comes_back_with_less_has_less() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let link = roster.arrive(arrival("a", "1"), 0, 0).unwrap();
        roster.applied("a", link, applied(5, &[]), (now, 0));
        roster.leave("a", link, "killed".to_owned(), (now, 0));
        let back = Arrival { generation: 3, ..arrival("a", "2") };
        let link = roster.arrive(back, 5, 0).unwrap();
        assert_eq!((roster.spread(5).have, roster.least(5)), (0, 3));
        let ticket = Ticket::new();
        roster.published((6, None), ticket.clone(), now);
        roster.applied("a", link, applied(6, &[]), (now, 0));
        assert_eq!((ended(&ticket), roster.least(6)), (Some(vec![]), 6));
    }

    #[test]
    fn a_late_router_does_not_count_old_changes_as_slow() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        for generation in 1..5 {
            roster.published((generation, None), Ticket::new(), now);
        }
        let link = roster.arrive(arrival("a", "1"), 4, 0).unwrap();
        roster.applied("a", link, applied(4, &[]), (now, 0));
        assert_eq!(roster.meters(4).propagation, Propagation::default());
    }
}
