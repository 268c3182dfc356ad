//! Slots from hand to hand: no newcomer overtakes, nothing is lost on any way out, no wake-up is missed between threads.

use std::sync::atomic::AtomicUsize;
use std::task::Wake;
use std::thread;

use super::*;
use crate::cell::CellRegistry;
use crate::cluster::fixture::{app, cluster_of, endpoint, random};
use ekiden_config::model::{Balance, SlotPolicy};
use std::time::Duration;

const RULES: Rules = Rules { max: 100, wait_us: 1_000_000, target_us: None, interval_us: 1_000_000 };

fn cluster(endpoints: usize, slots: u32) -> ClusterTable {
    let mut cluster = cluster_of((0..endpoints).map(|n| endpoint(n, 1)).collect(), Balance::P2c, None);
    let policy = Arc::make_mut(&mut cluster.policy);
    let (target, interval) = (None, Duration::from_secs(1));
    policy.slots = Some(SlotPolicy { count: slots, wait: None, target, interval });
    ClusterTable::new(app(), Arc::new(cluster), &mut CellRegistry::new(1))
}

/// What a newcomer does: a slot, or a place in line.
fn take(cluster: &ClusterTable) -> Option<Arc<EndpointCell>> {
    if cluster.cell.gate.waiting() > 0 {
        return None;
    }
    let Pick::Endpoint(index) = cluster.pick(Attempt::after(&[]), &mut random(1)) else { return None };
    let cell = cluster.endpoint(index)?.cell.clone();
    cell.try_enter().then_some(cell)
}

fn join(cluster: &ClusterTable, avoid: &[u64]) -> Ticket {
    let ticket = Ticket::join(&cluster.cell, Priority::Normal, avoid, &RULES, 0).unwrap();
    cluster.admit_waiting(Attempt::after(&[]), &mut random(1));
    ticket
}

fn look(ticket: &mut Ticket) -> Option<Arc<EndpointCell>> {
    match ticket.look(Waker::noop()) {
        Look::Settled(Verdict::Admitted(cell)) => Some(cell),
        Look::Settled(Verdict::Displaced) | Look::Wait | Look::Search => None,
    }
}

fn in_flight(cluster: &ClusterTable) -> u32 {
    cluster.endpoints.iter().map(|entry| entry.cell.in_flight()).sum()
}

#[test]
fn a_slot_goes_to_the_oldest_and_no_newcomer_overtakes() {
    let cluster = cluster(2, 1);
    let (one, two) = (take(&cluster).unwrap(), take(&cluster).unwrap());
    assert!(one.uid() != two.uid() && take(&cluster).is_none());
    assert!(cluster.is_full(&[]) && !cluster.is_full(&[0, 1]));
    let (mut a, mut b) = (join(&cluster, &[]), join(&cluster, &[]));
    assert!(look(&mut a).is_none() && look(&mut b).is_none());
    cluster.cell.gate.release(&one);
    assert!(take(&cluster).is_none(), "it is handed over");
    assert!(look(&mut b).is_none());
    assert_eq!(look(&mut a).unwrap().uid(), one.uid());
    cluster.cell.gate.release(&two);
    let two = look(&mut b).unwrap();
    assert_eq!(in_flight(&cluster), 2);
    cluster.cell.gate.release(&one);
    cluster.cell.gate.release(&two);
    assert_eq!((in_flight(&cluster), cluster.cell.gate.waiting()), (0, 0));
    assert!(take(&cluster).is_some());
}

#[test]
fn a_ticket_that_is_dropped_gives_back_what_it_was_given() {
    let cluster = cluster(1, 1);
    let one = take(&cluster).unwrap();
    let (a, mut b, c) = (join(&cluster, &[]), join(&cluster, &[]), join(&cluster, &[]));
    cluster.cell.gate.release(&one);
    drop(c);
    drop(a);
    let held = look(&mut b).expect("what `a` was given and did not take");
    assert_eq!((in_flight(&cluster), cluster.cell.gate.waiting()), (1, 0));
    cluster.cell.gate.release(&held);
    assert_eq!(in_flight(&cluster), 0);
}

#[test]
fn an_endpoint_that_leaves_hands_nothing_over() {
    let cluster = cluster(2, 1);
    let (one, two) = (take(&cluster).unwrap(), take(&cluster).unwrap());
    let mut a = join(&cluster, &[]);
    one.set_draining(true, 0);
    cluster.refresh_ready();
    cluster.cell.gate.release(&one);
    assert!(matches!(a.look(Waker::noop()), Look::Search), "somebody must look whether another has room");
    cluster.admit_waiting(Attempt::after(&[]), &mut random(1));
    assert!(matches!(a.look(Waker::noop()), Look::Wait));
    cluster.cell.gate.release(&two);
    assert_eq!(look(&mut a).unwrap().uid(), two.uid());
}

#[test]
fn a_slot_that_is_free_when_one_joins_is_found() {
    let cluster = cluster(3, 1);
    let mut a = join(&cluster, &[]);
    assert!(look(&mut a).is_some());
    // Slots that come later: more of them by a new table, or endpoints that are ready again.
    let _held = (take(&cluster).unwrap(), take(&cluster).unwrap());
    let (mut b, mut c, mut d) = (join(&cluster, &[]), join(&cluster, &[]), join(&cluster, &[]));
    cluster.endpoints.iter().for_each(|entry| entry.cell.set_slots(2));
    cluster.admit_waiting(Attempt::after(&[]), &mut random(2));
    assert!(look(&mut b).is_some() && look(&mut c).is_some() && look(&mut d).is_some());
    assert_eq!(in_flight(&cluster), 6);
}

#[test]
fn slots_that_were_made_fewer_are_not_handed_over() {
    let cluster = cluster(1, 2);
    let (one, two) = (take(&cluster).unwrap(), take(&cluster).unwrap());
    let mut a = join(&cluster, &[]);
    one.set_slots(1);
    cluster.cell.gate.release(&one);
    assert!(look(&mut a).is_none());
    cluster.cell.gate.release(&two);
    assert!(look(&mut a).is_some());
    assert_eq!(in_flight(&cluster), 1);
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Four threads as workers, fewer slots than threads: all get through, and at no time more than there are slots.
#[test]
fn no_wake_up_is_missed_between_threads() {
    const TURNS: usize = 3_000;
    let cluster = Arc::new(cluster(2, 1));
    let served = Arc::new(AtomicUsize::new(0));
    let worker = |number: u64| {
        let (cluster, served) = (Arc::clone(&cluster), Arc::clone(&served));
        move || {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            let mut draw = random(number);
            for _ in 0..TURNS {
                let mut slot = take(&cluster);
                if slot.is_none() {
                    let mut ticket = Ticket::join(&cluster.cell, Priority::Normal, &[], &RULES, 0).unwrap();
                    cluster.admit_waiting(Attempt::after(&[]), &mut draw);
                    while slot.is_none() {
                        match ticket.look(&waker) {
                            Look::Settled(Verdict::Admitted(cell)) => slot = Some(cell),
                            Look::Settled(Verdict::Displaced) => panic!("nobody is displaced"),
                            Look::Search => cluster.admit_waiting(Attempt::after(&[]), &mut draw),
                            Look::Wait => thread::park(),
                        }
                    }
                }
                assert!(in_flight(&cluster) <= 2);
                served.fetch_add(1, Ordering::Relaxed);
                cluster.cell.gate.release(&slot.unwrap());
            }
        }
    };
    let threads: Vec<_> = (0..4).map(|number| thread::spawn(worker(number))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(served.load(Ordering::Relaxed), 4 * TURNS);
    assert_eq!((in_flight(&cluster), cluster.cell.gate.waiting()), (0, 0));
}
