//! Tickets of publishes that wait for routers. Each has the number of routers that it waits for still; a router that moves on
//! touches those between what it had and what it has, and no other: one that never does costs the others nothing.
//!
//! Pure but for the tickets that it turns away. Knows no router: the roster says who is concerned.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};

use ekiden_config::doors::{Ticket, Verdict};

use super::roster::Apps;

/// Tickets that wait at most. Of more, those go first that nobody follows any more.
pub(super) const TICKETS_MAX: usize = 4_096;
/// How many tickets of a generation are looked through for one that tells the same.
const ALIKE_MAX: usize = 16;

/// Its generation, and which one of that it is.
type Place = (u64, u64);

#[derive(Debug)]
struct Waits {
    apps: Apps,
    ticket: Ticket,
    /// Routers that it concerns and that do not have its generation.
    lacking: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    tickets: BTreeMap<Place, Waits>,
    /// Those that lack nobody.
    ready: BTreeSet<Place>,
    number: u64,
    /// Looks at a ticket on behalf of a router, ever.
    #[cfg(test)]
    pub(super) looks: u64,
}

impl Waiting {
    /// A ticket waits for so many routers.
    pub(super) fn add(&mut self, (generation, apps): (u64, Apps), ticket: Ticket, lacking: usize) {
        self.number += 1;
        let place = (generation, self.number);
        if lacking == 0 {
            self.ready.insert(place);
        }
        self.tickets.insert(place, Waits { apps, ticket, lacking });
        if self.tickets.len() > TICKETS_MAX {
            let Self { tickets, ready, .. } = self;
            tickets.retain(|_, waits| waits.ticket.is_followed());
            ready.retain(|place| tickets.contains_key(place));
        }
        if self.tickets.len() > TICKETS_MAX
            && let Some((place, oldest)) = self.tickets.pop_first()
        {
            self.ready.remove(&place);
            oldest.ticket.end(Verdict::Rejected { reason: "too many changes wait for routers".to_owned() });
        }
    }

    /// A ticket that waits already for this generation of these apps.
    pub(super) fn alike(&self, generation: u64, apps: &Apps) -> Option<&Ticket> {
        let mut those = self.tickets.range((generation, 0)..=(generation, u64::MAX)).rev().take(ALIKE_MAX);
        those.find(|(_, waits)| waits.apps == *apps).map(|(_, waits)| &waits.ticket)
    }

    /// A router has a generation that had another one before: tickets between them that concern it wait for it no longer, or again.
    pub(super) fn moved(&mut self, (before, now): (u64, u64), concerns: impl Fn(&Apps) -> bool) {
        self.count(before.min(now)..before.max(now), now < before, concerns);
    }

    /// A router of which this generation is there has to be waited for.
    pub(super) fn await_one(&mut self, has: u64, concerns: impl Fn(&Apps) -> bool) {
        self.count(has..u64::MAX, true, concerns);
    }

    /// A router of which this generation was there is waited for no longer.
    pub(super) fn let_go(&mut self, has: u64, concerns: impl Fn(&Apps) -> bool) {
        self.count(has..u64::MAX, false, concerns);
    }

    /// Tickets behind the start and up to the end, that included.
    fn count(&mut self, between: std::ops::Range<u64>, lacks: bool, concerns: impl Fn(&Apps) -> bool) {
        if between.is_empty() {
            return;
        }
        let places = (Excluded((between.start, u64::MAX)), Included((between.end, u64::MAX)));
        for (place, waits) in self.tickets.range_mut(places) {
            #[cfg(test)]
            {
                self.looks += 1;
            }
            if !concerns(&waits.apps) {
                continue;
            }
            if lacks {
                waits.lacking += 1;
                self.ready.remove(place);
            } else {
                waits.lacking = waits.lacking.saturating_sub(1);
                if waits.lacking == 0 {
                    self.ready.insert(*place);
                }
            }
        }
    }

    /// Takes out the tickets that wait for nobody, each with its generation and the apps it is about.
    pub(super) fn take_ready(&mut self) -> Vec<(u64, Apps, Ticket)> {
        let ready = std::mem::take(&mut self.ready);
        let taken = ready.into_iter().filter_map(|place| {
            let Waits { apps, ticket, .. } = self.tickets.remove(&place)?;
            Some((place.0, apps, ticket))
        });
        taken.collect()
    }
}
