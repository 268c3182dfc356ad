//! The admitted rate, against the exact account of every key; heavy keys under a flood of others; two workers at once.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use ekiden_config::model::Rate;
use proptest::prelude::*;

use super::{Accounts, Pace, Refused, Taken, WAYS};

const SECOND: u64 = 1_000_000_000;
const ONE: NonZeroU32 = NonZeroU32::MIN;

fn rate(count: u32, burst: u32) -> Rate {
    Rate { count, per: Duration::from_secs(1), burst }
}

fn pace(count: u32, burst: u32) -> Pace {
    Pace::new(&rate(count, burst))
}

/// A well-mixed number for a small one, as the hash of a key is.
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[test]
fn a_burst_passes_then_one_each_interval() {
    let (accounts, pace) = (Accounts::new(64), pace(10, 3));
    let passes = |now_ns| accounts.take(7, ONE, &pace, now_ns).is_ok();
    let start = 5 * SECOND;
    assert_eq!([passes(start), passes(start), passes(start), passes(start)], [true, true, true, false]);
    assert!(!passes(start + SECOND / 10 - 1));
    assert!(passes(start + SECOND / 10));
    assert!(!passes(start + SECOND / 10));
    assert!(passes(start + SECOND / 5));
    // After a long silence there is one burst, not more.
    assert_eq!((0..9).filter(|_| passes(start + 100 * SECOND)).count(), 3);
}

#[test]
fn a_refusal_says_when_to_come_back_and_a_pass_what_is_left() {
    let (accounts, pace) = (Accounts::new(64), pace(10, 4));
    let cost = |number| NonZeroU32::new(number).unwrap();
    let taken = accounts.take(7, cost(3), &pace, 0).unwrap();
    assert_eq!((pace.left(taken.even_ns, 0), pace.next_ns(taken.even_ns, 0)), (1, Some(SECOND / 10)));
    let Err(Refused { wait_ns, even_ns, .. }) = accounts.take(7, cost(3), &pace, SECOND / 20) else {
        panic!()
    };
    assert_eq!(wait_ns, SECOND / 5 - SECOND / 20);
    assert_eq!(pace.left(even_ns, SECOND / 20), 1);
    assert!(accounts.take(7, cost(3), &pace, SECOND / 5).is_ok());
    assert_eq!((pace.left(0, 9), pace.next_ns(0, 9)), (4, None));
    // More than ever fits is refused, however long one waits.
    let Err(never) = accounts.take(9, cost(5), &pace, 0) else { panic!() };
    assert_eq!(never.wait_ns, pace.window_ns());
}

#[test]
fn what_is_given_back_can_be_taken_again() {
    let (accounts, pace) = (Accounts::new(64), pace(1, 2));
    let take = |key| accounts.take(key, ONE, &pace, 9);
    let (first, second) = (take(7).unwrap(), take(7).unwrap());
    assert!(take(7).is_err());
    accounts.give_back(&second);
    accounts.give_back(&first);
    assert_eq!(accounts.in_use(9), 0);
    assert!(take(7).is_ok() && take(7).is_ok() && take(7).is_err());
}

/// 10,000 a second with burst 50, offered twice as much, in turns of uneven length: within 1 %.
#[test]
fn the_admitted_rate_is_the_configured_one() {
    let (accounts, pace) = (Accounts::new(64), pace(10_000, 50));
    let (mut now_ns, mut passed, mut turn) = (0, 0_u64, 0);
    while now_ns < 10 * SECOND {
        turn += 1;
        // A turn of 50 us to 2 ms; what came in it is judged at one reading.
        now_ns += 50_000 + mixed(turn) % 1_950_000;
        let offered = 20 + mixed(turn ^ 1 << 40) % 20;
        passed += (0..offered).filter(|_| accounts.take(1, ONE, &pace, now_ns).is_ok()).count() as u64;
    }
    assert!((99_000..=101_000).contains(&passed), "{passed} in 10 s");
}

/// Two workers that judge one key by readings up to 1 ms apart, in any order.
#[test]
fn readings_that_differ_do_not_change_the_rate() {
    let (accounts, pace) = (Accounts::new(64), pace(10_000, 50));
    let mut passed = 0_u64;
    for step in 1..=100_000_u64 {
        let now_ns = step * 100_000;
        let late = now_ns.saturating_sub(mixed(step) % 1_000_000);
        for reading in [now_ns, late, late] {
            passed += u64::from(accounts.take(1, ONE, &pace, reading).is_ok());
        }
    }
    assert!((99_000..=101_000).contains(&passed), "{passed} in 10 s");
}

/// Two threads with clocks of their own over one account: what both admit together is the rate.
#[test]
fn two_threads_share_one_account() {
    let (accounts, pace) = (Accounts::new(64), pace(10_000, 50));
    let work = |lag_ns: u64| {
        let (accounts, pace) = (&accounts, &pace);
        move || {
            let readings = (0..200_000_u64).map(|step| (step * 50_000).saturating_sub(lag_ns));
            readings.filter(|now_ns| accounts.take(1, ONE, pace, *now_ns).is_ok()).count()
        }
    };
    let passed = std::thread::scope(|scope| {
        let threads = [scope.spawn(work(0)), scope.spawn(work(700_000))];
        threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
    });
    // One may run far ahead of the other, whose readings are then too old to admit; never do both admit more.
    assert!((99_000..=101_000).contains(&passed), "{passed} in 10 s");
}

/// Ten million keys, each once, while one key is at its limit: it gets its rate, and not one allowance more. Every other one of
/// them takes all it may at once, so that it owes more than the heavy key and puts it out.
#[test]
fn ten_million_keys_do_not_free_a_heavy_one() {
    const KEYS: u64 = 10_000_000;
    let (accounts, pace) = (Accounts::new(4096), pace(100, 200));
    let (heavy, all) = (mixed(u64::MAX / 2), NonZeroU32::new(200).unwrap());
    let mut passed = 0;
    for number in 0..KEYS {
        // 1,000,000 a second: the flood takes 10 s.
        let now_ns = number * 1_000;
        let _whatever = accounts.take(mixed(number), if number % 2 == 0 { ONE } else { all }, &pace, now_ns);
        if number % 100 == 0 {
            passed += u64::from(accounts.take(heavy, ONE, &pace, now_ns).is_ok());
        }
    }
    assert!(passed <= 200 + 100 * 10 + 1, "the heavy key was admitted {passed} times");
    assert_eq!(std::mem::size_of_val(accounts.sets()), 4096 * 16, "the table grew");
    // Once the flood is over, all of it is forgotten.
    let later = KEYS * 1_000 + pace.window_ns();
    assert_eq!(accounts.in_use(later), 0);
    assert_eq!((0..300).filter(|_| accounts.take(heavy, ONE, &pace, later).is_ok()).count(), 200);
}

#[test]
fn a_key_that_finds_no_free_account_says_so() {
    let (accounts, pace) = (Accounts::new(1), pace(1, 5));
    let crowded = |key| accounts.take(key, ONE, &pace, 0).map(|taken| taken.crowded);
    assert!((1..=WAYS as u64).all(|key| crowded(key) == Ok(false)));
    assert_eq!(accounts.in_use(0), WAYS as u64);
    assert_eq!(crowded(1), Ok(false));
    assert_eq!(crowded(99), Ok(true));
    // It owes what it took over, and its own.
    assert_eq!((0..9).filter(|_| accounts.take(99, ONE, &pace, 0).is_ok()).count(), 3);
}

#[test]
fn only_large_tables_are_made_before_they_are_used() {
    for (keys, made, sets) in [(1, false, 1), (9, false, 2), (65_536, false, 8192), (65_537, true, 16_384)] {
        let accounts = Accounts::new(keys);
        assert_eq!((accounts.sets.get().is_some(), accounts.sets().len()), (made, sets), "{keys}");
    }
}

/// The plain definition, with an account for every key.
#[derive(Default)]
struct Exact(HashMap<u64, u64>);

impl Exact {
    fn allows(&self, key: u64, cost: u32, pace: &Pace, now_ns: u64) -> bool {
        let even = self.0.get(&key).copied().unwrap_or(0).max(now_ns) + pace.interval_ns * u64::from(cost);
        even <= now_ns + pace.window_ns()
    }

    fn take(&mut self, key: u64, cost: u32, pace: &Pace, now_ns: u64) {
        let even = self.0.entry(key).or_default();
        *even = (*even).max(now_ns) + pace.interval_ns * u64::from(cost);
    }
}

proptest! {
    /// With one set for many keys, nothing passes that the key's own account would refuse.
    #[test]
    fn crowding_never_admits_more(
        steps in prop::collection::vec((0_u64..40, 1_u32..4, 0_u64..SECOND / 20), 1..400),
    ) {
        let (accounts, pace) = (Accounts::new(1), pace(10, 5));
        let (mut exact, mut now_ns) = (Exact::default(), 0);
        for (key, cost, wait) in steps {
            now_ns += wait;
            let passed = accounts.take(key + 1, NonZeroU32::new(cost).unwrap(), &pace, now_ns).is_ok();
            if passed {
                prop_assert!(exact.allows(key, cost, &pace, now_ns), "{} was admitted too often", key);
                exact.take(key, cost, &pace, now_ns);
            }
        }
    }

    /// With room for all, the verdicts are those of the plain definition.
    #[test]
    fn with_room_the_verdicts_are_exact(
        count in 1_u32..=1_000_000,
        burst in 1_u32..=1_000_000,
        steps in prop::collection::vec((0_u64..8, 1_u32..4, 0_u64..SECOND), 1..200),
    ) {
        let (accounts, pace) = (Accounts::new(1), pace(count, burst));
        let (mut exact, mut now_ns) = (Exact::default(), 0);
        for (key, cost, wait) in steps {
            now_ns += wait;
            let cost = cost.min(burst);
            let want = exact.allows(key, cost, &pace, now_ns);
            let got = accounts.take(key + 1, NonZeroU32::new(cost).unwrap(), &pace, now_ns);
            prop_assert_eq!(got.is_ok(), want);
            match got {
                Ok(Taken { even_ns, crowded, .. }) => {
                    exact.take(key, cost, &pace, now_ns);
                    prop_assert_eq!((even_ns, crowded), (exact.0[&key], false));
                }
                Err(refused) => {
                    let then = now_ns + refused.wait_ns;
                    prop_assert!(refused.wait_ns > 0 && exact.allows(key, cost, &pace, then));
                    prop_assert!(!exact.allows(key, cost, &pace, then - 1));
                }
            }
        }
    }
}

/// The largest numbers that validation takes do not overflow.
#[test]
fn the_bounds_of_rates_fit() {
    for (count, per, burst) in [(1, 3600, 1_000_000), (1_000_000, 1, 1), (1_000_000, 3600, 1_000_000)] {
        let pace = Pace::new(&Rate { count, per: Duration::from_secs(per), burst });
        let (accounts, now_ns) = (Accounts::new(8), 100 * 365 * 86_400 * SECOND);
        let all = NonZeroU32::new(burst).unwrap();
        assert!(accounts.take(1, all, &pace, now_ns).is_ok());
        let Err(refused) = accounts.take(1, all, &pace, now_ns) else { panic!() };
        assert_eq!(refused.wait_ns, pace.window_ns());
    }
}

/// A store settles an account between a request's take and its undo: what is given back then is no credit beyond nothing.
#[test]
fn an_undo_after_a_settlement_gives_no_more_than_there_is() {
    let (accounts, pace) = (Accounts::new(64), pace(1, 5));
    // Long units of a young process: their cost is more than its whole life so far.
    let Ok(taken) = accounts.take(1, ONE, &pace, 10) else { panic!("refused") };
    accounts.set_even(taken.at, 3);
    accounts.give_back(&taken);
    assert_eq!(accounts.at(taken.at).map(|(_, even)| even), Some(0));
    assert!(accounts.take(1, ONE, &pace, 20).is_ok());
}
