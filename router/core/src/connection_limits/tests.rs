//! Bounds at their edges, what happens in a full table, and that nothing leaks under several threads.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ekiden_config::model::Rate;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn per_second(count: u32, burst: u32) -> Rate {
    Rate { count, per: Duration::from_secs(1), burst }
}

fn limits(most: Option<u32>, client_rate: Option<Rate>, rate: Option<Rate>) -> ConnectionLimits {
    let per_client = most.map_or(ClientConnections::Unbounded, ClientConnections::AtMost);
    ConnectionLimits { per_client, client_rate, rate }
}

/// Judges by what `half` stands for.
fn let_in(
    clients: &Clients,
    cell: &ListenerCell,
    whose: (u64, IpAddr),
    limits: &ConnectionLimits,
    half: u32,
    now_ns: u64,
) -> Result<Option<Place>, Refusal> {
    admit(clients, cell, whose, limits, client_bound(limits, whose.1, half), now_ns)
}

#[test]
fn a_client_has_so_many_and_one_more_once_one_has_ended() {
    let (clients, cell) = (Clients::new(100, [1, 2]), ListenerCell::default());
    let limits = limits(Some(3), None, None);
    let enter = |client| let_in(&clients, &cell, (7, client), &limits, 0, 5);
    let mut open: Vec<_> = (0..3).map(|_| enter(v4(1)).unwrap().unwrap()).collect();
    assert_eq!(enter(v4(1)), Err(Refusal::ClientConnections));
    assert!(enter(v4(2)).is_ok(), "another client is held to the first one's account");
    assert!(let_in(&clients, &cell, (8, v4(1)), &limits, 0, 5).is_ok(), "listeners share an account");
    clients.leave(open.pop().unwrap());
    assert!(enter(v4(1)).is_ok());
    assert_eq!(enter(v4(1)), Err(Refusal::ClientConnections));
}

#[test]
fn a_client_is_an_address_or_a_network_of_64_bits() {
    let clients = Clients::new(100, [1, 2]);
    for (first, second, same) in [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
    ] {
        let held = clients.enter(0, ip(first), 1, None, 0).unwrap();
        let again = clients.enter(0, ip(second), 1, None, 0);
        assert_eq!(again.is_err(), same, "{first} and {second}");
        again.into_iter().chain([held]).for_each(|place| clients.leave(place));
    }
}

#[test]
fn half_exempts_loopback_and_a_number_does_not() {
    let (clients, cell) = (Clients::new(100, [1, 2]), ListenerCell::default());
    let half = ConnectionLimits::default();
    for client in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(let_in(&clients, &cell, (0, ip(client)), &half, 0, 0), Ok(None), "{client}");
        let one =
            |listener| let_in(&clients, &cell, (listener, ip(client)), &limits(Some(1), None, None), 0, 0);
        let held = one(9).unwrap().unwrap();
        assert_eq!(one(9), Err(Refusal::ClientConnections), "{client}");
        clients.leave(held);
    }
    assert!(let_in(&clients, &cell, (0, v4(1)), &half, 1, 0).is_ok());
    assert_eq!(let_in(&clients, &cell, (0, v4(1)), &half, 1, 0), Err(Refusal::ClientConnections));
}

#[test]
fn a_rate_at_its_edges() {
    let arrival = AtomicU64::new(0);
    let rate = per_second(10, 3);
    let now = 50 * SECOND;
    let taken = |now| rate::take(&arrival, &rate, now);
    assert!((0..3).all(|_| taken(now)) && !taken(now), "not exactly the burst");
    assert!(!taken(now + SECOND / 10 - 1), "a nanosecond early");
    assert!(taken(now + SECOND / 10) && !taken(now + SECOND / 10), "not exactly one each interval");
    assert!(
        (0..3).all(|_| taken(now + 9 * SECOND)) && !taken(now + 9 * SECOND),
        "the burst does not come back"
    );
    assert!(!taken(now), "a reading from the past lets one more in");
}

#[test]
fn the_admitted_rate_is_the_configured_one() {
    let (arrival, rate) = (AtomicU64::new(0), per_second(10_000, 50));
    // Forty thousand offers a second for ten seconds, by two workers whose readings differ by up to a millisecond.
    let admitted = (0..400_000_u64)
        .filter(|n| rate::take(&arrival, &rate, SECOND + n * 25_000 + (n % 2) * 1_000_000))
        .count();
    assert!((100_000..=100_100).contains(&admitted), "{admitted} in ten seconds at 10000/s");
}

#[test]
fn rates_are_per_client_and_in_all() {
    let (clients, cell) = (Clients::new(100, [1, 2]), ListenerCell::default());
    let limits = limits(None, Some(per_second(1, 2)), Some(per_second(1, 5)));
    let enter = |client, now| {
        let place = let_in(&clients, &cell, (0, client), &limits, 0, now)?;
        place.into_iter().for_each(|place| clients.leave(place));
        Ok(())
    };
    assert_eq!((enter(v4(1), 0), enter(v4(1), 0)), (Ok(()), Ok(())));
    for _ in 0..100 {
        assert_eq!(enter(v4(1), 0), Err(Refusal::ClientRate));
    }
    // What the client was refused was not taken from the listener.
    assert_eq!((enter(v4(2), 0), enter(v4(3), 0), enter(v4(4), 0)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(enter(v4(5), 0), Err(Refusal::ListenerRate));
    assert_eq!(enter(v4(5), SECOND), Ok(()));
}

#[test]
fn a_full_table_shares_one_slot_and_frees_all() {
    let clients = Clients::new(1, [1, 2]);
    let capacity = SLOTS;
    let open: Vec<_> =
        (0..capacity * 4).filter_map(|n| clients.enter(0, v4(n), 1_000_000, None, 0).ok()).collect();
    assert_eq!(open.len(), capacity as usize * 4);
    assert!(clients.sharing() >= u64::from(capacity) * 3, "{}", clients.sharing());
    // Those without a slot are one client.
    let late = clients.enter(0, v4(1 << 20), 1, None, 0);
    assert_eq!(late, Err(Refusal::ClientConnections));
    open.into_iter().for_each(|place| clients.leave(place));
    let before = clients.sharing();
    for n in 0..capacity {
        clients.leave(clients.enter(0, v4(n), 1, None, 0).unwrap());
    }
    assert_eq!(clients.sharing(), before, "places were lost");
}

/// Slots of the smallest table.
const SLOTS: u32 = 1024;

#[test]
fn a_crowd_of_addresses_does_not_lock_others_out() {
    let clients = Clients::new(1, [1, 2]);
    let slow = Rate { count: 1, per: Duration::from_secs(3600), burst: 1 };
    let enter = |n, now| clients.enter(0, v4(n), 10, Some(&slow), now).map(|place| clients.leave(place));
    // Ten million clients, each remembered for an hour, in a table of a thousand slots.
    for n in 0..10_000_000 {
        assert_eq!(enter(n, 1), Ok(()), "client {n}");
    }
    assert_eq!(clients.sharing(), 0);
    assert!(clients.taken_over() > 9_000_000);
    assert_eq!(enter(9_999_999, 2), Err(Refusal::ClientRate), "the last one is forgotten already");
}

#[test]
fn several_workers_keep_the_bound_and_lose_nothing() {
    let clients = Arc::new(Clients::new(100, [1, 2]));
    let workers: Vec<_> = (0..4)
        .map(|worker: u32| {
            let clients = Arc::clone(&clients);
            thread::spawn(move || {
                let mut held = Vec::new();
                for turn in 0..50_000_u32 {
                    let client = v4((turn.wrapping_mul(worker + 3) >> 2) % 40);
                    held.extend(clients.enter(0, client, 8, None, u64::from(turn)));
                    if held.len() > 20 {
                        held.drain(..10).for_each(|place| clients.leave(place));
                    }
                }
                held.into_iter().for_each(|place| clients.leave(place));
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    for n in 0..40 {
        let all: Vec<_> = std::iter::from_fn(|| clients.enter(0, v4(n), 8, None, 0).ok()).collect();
        assert_eq!(all.len(), 8, "client {n} has connections that have ended");
        all.into_iter().for_each(|place| clients.leave(place));
    }
}

#[test]
fn a_reason_is_told_once_a_second() {
    let cell = ListenerCell::default();
    let told =
        (0..10_000_u64).filter(|n| cell.refuse(Refusal::ClientRate, SECOND + n * SECOND / 4_000)).count();
    assert_eq!((told, cell.refused(Refusal::ClientRate)), (3, 10_000));
    assert!(cell.refuse(Refusal::ListenerRate, SECOND), "one reason silences another");
}
