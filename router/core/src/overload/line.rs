//! The line of requests that wait for a slot of a cluster: who is next, who makes room, and until when each may wait.
//!
//! ```text
//!            join                    next (a slot came free)
//!   newcomer ----> waiting ---------------------------------> admitted
//!       |             | \ join of another, line full
//!       | line full   |  '----------------------------------> displaced
//!       v             | leave (gave up: its time is over, or its client has gone)
//!    refused          v
//!                    gone
//! ```
//!
//! The highest priority goes first. Within a priority the oldest does, as long as the line empties now and then; once it has
//! not been empty for `interval`, the newest does (adaptive LIFO), and who has waited longer than `target` is refused. After
//! B. Maurer, "Fail at Scale" (ACM Queue 13(8), 2015), which takes the rule from K. Nichols and V. Jacobson, "Controlling Queue
//! Delay" (2012; RFC 8289): a queue that empties is a good queue, whatever its length. Pure: time is an argument, nothing is
//! locked or woken.

use std::collections::{BTreeMap, HashMap};

use ekiden_config::model::Priority;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::Shed;

/// Bounds of a line. Times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Most that wait.
    pub max: u32,
    /// Longest wait.
    pub wait_us: u64,
    /// Wait from which one is refused in a line that does not empty; none means never.
    pub target_us: Option<u64>,
    /// How long a line may last without that.
    pub interval_us: u64,
}

/// Until when one may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The moment.
    pub at_us: u64,
    /// What is said then: that the line does not empty, or else that the longest wait is over.
    pub shed: Option<Shed>,
}

/// Who is to be woken.
pub type Wakers<W> = SmallVec<[W; 2]>;

/// What came of waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<G> {
    /// This is the slot.
    Admitted(G),
    /// Another has taken the place.
    Displaced,
}

/// What a waiting request finds when it looks.
#[derive(Debug, PartialEq, Eq)]
pub enum Look<G> {
    /// It still waits.
    Wait,
    /// A slot may be free that nobody was given: the waiting one should have endpoints looked through.
    Search,
    /// It waits no longer.
    Settled(Verdict<G>),
}

/// A place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    priority: Priority,
    number: u64,
}

#[derive(Debug)]
struct Waiting<W> {
    waker: Option<W>,
    /// Endpoints that it must not be given: it has tried them.
    avoid: SmallVec<[u64; 4]>,
    search: bool,
}

/// The line of one cluster. `W` is what wakes one that waits, `G` what it is given.
#[derive(Debug)]
pub struct Line<W, G> {
    by_priority: [BTreeMap<u64, Waiting<W>>; Priority::ALL.len()],
    settled: HashMap<u64, Verdict<G>, FxBuildHasher>,
    count: u32,
    last: u64,
    /// Since when it has not been empty.
    since_us: u64,
    newest_first: bool,
}

impl<W, G> Default for Line<W, G> {
    fn default() -> Self {
        Self {
            by_priority: Default::default(),
            settled: HashMap::default(),
            count: 0,
            last: 0,
            since_us: 0,
            newest_first: false,
        }
    }
}

impl<W, G> Line<W, G> {
    /// Requests that wait.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes a place. Also gives the waker of one that had to make room. `None` when the line is full of what goes first.
    pub fn join(
        &mut self,
        priority: Priority,
        avoid: &[u64],
        rules: &Rules,
        now_us: u64,
    ) -> Option<(Place, Due, Wakers<W>)>
    where
        W: Clone,
    {
        if self.count == 0 {
            self.since_us = now_us;
        }
        let turns_us = self.since_us.saturating_add(rules.interval_us);
        self.newest_first = rules.target_us.is_some() && now_us >= turns_us;
        let displaced = if self.count >= rules.max { self.make_room(priority)? } else { Wakers::new() };
        self.last += 1;
        let place = Place { priority, number: self.last };
        let waiting = Waiting { waker: None, avoid: avoid.into(), search: false };
        self.of(priority).insert(place.number, waiting);
        self.count += 1;
        let over_us = now_us.saturating_add(rules.wait_us);
        let due = match rules.target_us {
            // An emptied line would have let this one in, so what is known now holds for as long as it waits.
            Some(target_us) if now_us.saturating_add(target_us).max(turns_us) <= over_us => {
                Due { at_us: now_us.saturating_add(target_us).max(turns_us), shed: Some(Shed::QueueTime) }
            }
            Some(_) | None => Due { at_us: over_us, shed: None },
        };
        Some((place, due, displaced))
    }

    /// Settles the one that is worth least, if it is worth less than a newcomer of this priority.
    fn make_room(&mut self, newcomer: Priority) -> Option<Wakers<W>>
    where
        W: Clone,
    {
        let newest_first = self.newest_first;
        let least = Priority::ALL.into_iter().find(|priority| !self.of(*priority).is_empty())?;
        let (number, waiting) = match least.cmp(&newcomer) {
            // The one that would have been served last.
            std::cmp::Ordering::Less if newest_first => self.of(least).pop_first(),
            std::cmp::Ordering::Less => self.of(least).pop_last(),
            std::cmp::Ordering::Equal if newest_first => self.of(least).pop_first(),
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => None,
        }?;
        self.count -= 1;
        self.settled.insert(number, Verdict::Displaced);
        Some(self.wakers(waiting))
    }

    /// Who is to be woken for one that is settled. What it was told to do and has not done is told to the next.
    fn wakers(&mut self, settled: Waiting<W>) -> Wakers<W>
    where
        W: Clone,
    {
        let mut wakers: Wakers<W> = settled.waker.into_iter().collect();
        if settled.search {
            wakers.extend(self.search());
        }
        wakers
    }

    /// Gives a slot of this endpoint to the next who may have it; gives who is to be woken. The slot comes back when nobody
    /// may.
    ///
    /// # Errors
    /// The slot.
    pub fn admit(&mut self, endpoint: u64, slot: G) -> Result<Wakers<W>, G>
    where
        W: Clone,
    {
        let newest_first = self.newest_first;
        for priority in Priority::ALL.into_iter().rev() {
            let line = self.of(priority);
            let takes = |waiting: &Waiting<W>| !waiting.avoid.contains(&endpoint);
            let next = if newest_first {
                line.iter().rev().find(|(_, waiting)| takes(waiting)).map(|(number, _)| *number)
            } else {
                line.iter().find(|(_, waiting)| takes(waiting)).map(|(number, _)| *number)
            };
            if let Some(number) = next
                && let Some(waiting) = line.remove(&number)
            {
                self.count -= 1;
                self.settled.insert(number, Verdict::Admitted(slot));
                return Ok(self.wakers(waiting));
            }
        }
        Err(slot)
    }

    /// Those who wait, in no order.
    pub fn all(&self) -> impl Iterator<Item = &W> {
        self.by_priority.iter().flat_map(BTreeMap::values).filter_map(|waiting| waiting.waker.as_ref())
    }

    /// Tells the next that it should have endpoints looked through; gives its waker.
    pub fn search(&mut self) -> Option<W>
    where
        W: Clone,
    {
        let newest_first = self.newest_first;
        for priority in Priority::ALL.into_iter().rev() {
            let line = self.of(priority);
            let next = if newest_first { line.values_mut().next_back() } else { line.values_mut().next() };
            if let Some(waiting) = next {
                waiting.search = true;
                return waiting.waker.clone();
            }
        }
        None
    }

    /// What has come of a place. `waker` is who is woken when something does. After [`Look::Settled`] the place is no more.
    pub fn look(&mut self, place: Place, waker: &W) -> Look<G>
    where
        W: Clone,
    {
        if let Some(waiting) = self.of(place.priority).get_mut(&place.number) {
            waiting.waker = Some(waker.clone());
            return if std::mem::take(&mut waiting.search) { Look::Search } else { Look::Wait };
        }
        // A place that was settled and looked at before is the caller's mistake; it waits in vain no longer.
        Look::Settled(self.settled.remove(&place.number).unwrap_or(Verdict::Displaced))
    }

    /// Gives a place up. Gives the slot that it was given and has not looked at, and whether it was told to search.
    pub fn leave(&mut self, place: Place) -> (Option<G>, bool) {
        if let Some(waiting) = self.of(place.priority).remove(&place.number) {
            self.count -= 1;
            return (None, waiting.search);
        }
        match self.settled.remove(&place.number) {
            Some(Verdict::Admitted(slot)) => (Some(slot), false),
            Some(Verdict::Displaced) | None => (None, false),
        }
    }

    fn of(&mut self, priority: Priority) -> &mut BTreeMap<u64, Waiting<W>> {
        let [low, normal, high, critical] = &mut self.by_priority;
        match priority {
            Priority::Low => low,
            Priority::Normal => normal,
            Priority::High => high,
            Priority::Critical => critical,
        }
    }
}

#[cfg(test)]
mod tests;
