//! What is paid for the look at a token that decides which route a request has, and what becomes of it once the route is known. The
//! rules are core's: see `core::policy::limit::Toll`.

use std::cell::RefCell;
use std::sync::Arc;

use ekiden_core::outcome::Cause;
use ekiden_core::policy::limit::{Takes, Toll, give_back};
use ekiden_core::table::RouteEntry;

use crate::entrance::shown::{Gate, Looked};
use crate::exchange::limit::{LimitNotes, Met, asked};
use crate::exchange::run::Decision;
use crate::exchange::{Workspace, entrance};
use crate::tls::Session;
use crate::wire::request::RequestHead;
use crate::worker::Worker;

/// Lets a token be looked at for as long as limits by client do.
pub struct Tollgate<'a> {
    met: Met<'a>,
    request: &'a RequestHead,
    path: &'a str,
    session: Option<&'a Session>,
    paid: RefCell<Paid>,
}

impl<'a> Tollgate<'a> {
    /// For a request of which nobody has looked at the token yet.
    pub fn new(met: Met<'a>, request: &'a RequestHead, path: &'a str, session: Option<&'a Session>) -> Self {
        Self { met, request, path, session, paid: RefCell::default() }
    }
}

/// What a request has paid, or the rule whose limits refused it.
#[derive(Default)]
pub struct Paid {
    toll: Toll,
    refused: Option<(Arc<RouteEntry>, LimitNotes)>,
}

impl Gate for Tollgate<'_> {
    type Paid = Paid;

    fn end(self) -> Paid {
        self.paid.into_inner()
    }

    fn passes(&self, entry: &Arc<RouteEntry>) -> bool {
        let mut paid = self.paid.borrow_mut();
        let Some(limits) = entry.limits.as_ref().filter(|_| paid.refused.is_none()) else {
            return paid.refused.is_none();
        };
        let met = self.met.asking(limits.asks_client());
        let (client, turn) = (met.client(&self.request.head), met.turn());
        let asked = asked(client, self.request, self.path, None, self.session);
        for list in limits.lists() {
            if let Err(refusal) = paid.toll.pay(list, &asked, turn) {
                let mut notes = LimitNotes::default();
                notes.refuse(&refusal, turn.now_ns);
                paid.refused = Some((Arc::clone(entry), notes));
                return false;
            }
        }
        true
    }
}

/// What is left of a look at a token.
pub enum Settled {
    /// There is no more to decide.
    Decided(Decision),
    /// A signature was looked at for nothing: what was paid is kept, whatever becomes of the request.
    Kept(Toll),
}

/// Settles what was paid, before the route that was found takes from its limits. None where all has been given back.
#[inline(never)]
pub fn settle(
    worker: &Worker,
    ws: &mut Workspace,
    looked: Looked<Paid>,
    takes: &mut Takes<'_>,
) -> Option<Settled> {
    let Paid { mut toll, refused } = looked.paid;
    if looked.is_bad {
        if refused.is_none() && looked.asked.is_none() {
            return Some(Settled::Kept(toll));
        }
        // Of another rule than the one that refuses, or whose issuer is asked.
        toll.keep(worker.id);
    } else {
        toll.give_back();
    }
    if let Some((entry, notes)) = refused {
        give_back(takes);
        if let Some(steps) = &entry.entrance {
            entrance::begin(worker, steps, ws, &entry.app_name);
        }
        ws.limits.say(notes);
        return Some(Settled::Decided(Decision::RefuseOn(entry, Cause::RateLimited)));
    }
    looked.asked.map(|issuer| Settled::Decided(Decision::Learn(issuer)))
}
