//! A shared limit against a store of the test's own: what two routers let in together, with it and without it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use ekiden_config::model::{Cost, LimitFields, LimitUnit, MissingKey, Rate};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn shared(count: u32, burst: u32) -> SharedLimit {
    let words = Limit {
        name: "few".into(),
        unit: LimitUnit::Rate,
        rate: Rate { count, per: Duration::from_secs(1), burst },
        key: Vec::new(),
        missing: MissingKey::Share,
        cost: Cost::default(),
        except: Vec::new(),
        shadow: false,
        fields: LimitFields::Refused,
        keys: 64,
        shared: TrustName::new("one").ok(),
    };
    SharedLimit::new(&words, &LimitPlace::default(), &Arc::new(Accounts::new(64))).unwrap()
}

/// What the script of the store does, on a clock of the test's.
#[derive(Default)]
struct Store(HashMap<u64, u64>);

impl Store {
    fn tell(&mut self, limit: &SharedLimit, due: &Due, now: u64, was_away: bool) -> (u32, u64) {
        let (interval, window) = (limit.interval_ns(), limit.window_ns());
        let (least, debit) = if was_away { (due.owed_ns, 0) } else { (0, due.debit) };
        let even = (*self.0.get(&due.key).unwrap_or(&now)).max(now + least);
        let moved = interval * debit.unsigned_abs();
        let even = if debit < 0 { even.saturating_sub(moved).max(now) } else { (even + moved).max(now) };
        let even = even.min(now + limit.most_ns());
        let free = ((now + window).saturating_sub(even) / interval) as u32;
        let give = due.want.min(free).min(due.need.max(free.div_ceil(2)));
        self.0.insert(due.key, even + interval * u64::from(give));
        (give, even + interval * u64::from(give) - now)
    }

    fn exchange(&mut self, limit: &SharedLimit, now: u64, was_away: bool) {
        let mut dues = Vec::new();
        limit.collect(now, &mut |due| dues.push(due));
        for due in dues {
            let (given, owed) = self.tell(limit, &due, now, was_away);
            limit.settle(&due, given, owed, now);
        }
    }
}

fn pass(limit: &SharedLimit, key: u64, now: u64) -> bool {
    limit.take(key, NonZeroU32::MIN, now).is_ok()
}

/// Routers that ask the store every `every` while each gets a request of one key every `gap`; gives what passed from `from` on.
fn run(routers: &[SharedLimit], store: &mut Store, every: u64, from: u64, until: u64) -> u64 {
    let gap = 200_000;
    let mut passed = 0;
    for now in (0..until).step_by(gap as usize) {
        for limit in routers {
            passed += u64::from(pass(limit, 7, now) && now >= from);
            if now % every == 0 {
                store.exchange(limit, now, now == 0);
            }
        }
    }
    passed
}

#[test]
fn routers_together_hold_the_rate() {
    for count in [1, 2, 5] {
        let routers: Vec<SharedLimit> = (0..count).map(|_| shared(1_000, 100)).collect();
        routers.iter().for_each(|limit| limit.routers.store(count, Relaxed));
        let mut store = Store::default();
        let passed = run(&routers, &mut store, 2_000_000, 2 * SECOND, 12 * SECOND);
        assert!((9_800..=10_200).contains(&passed), "{count} routers let {passed} in, of 10000");
    }
}

#[test]
fn one_of_many_gets_the_whole_rate_when_the_others_are_idle() {
    let busy = shared(1_000, 100);
    busy.routers.store(5, Relaxed);
    let mut store = Store::default();
    let passed = run(&[busy], &mut store, 2_000_000, 2 * SECOND, 12 * SECOND);
    assert!((9_800..=10_200).contains(&passed), "{passed}");
}

#[test]
fn without_the_store_each_goes_on_with_its_share_and_comes_back_without_a_step() {
    let routers: Vec<SharedLimit> = (0..2).map(|_| shared(1_000, 100)).collect();
    routers.iter().for_each(|limit| limit.routers.store(2, Relaxed));
    let mut store = Store::default();
    run(&routers, &mut store, 2_000_000, 0, 4 * SECOND);
    // Ten seconds on their own.
    let (mut alone, gap) = (0, 200_000);
    for now in (4 * SECOND..14 * SECOND).step_by(gap) {
        alone += routers.iter().filter(|limit| pass(limit, 7, now)).count();
    }
    assert!((9_700..=10_300).contains(&alone), "{alone}");
    // A store that has forgotten everything is back: the burst is not there a second time.
    let mut store = Store::default();
    let mut after = 0;
    for now in (14 * SECOND..15 * SECOND).step_by(gap) {
        for limit in &routers {
            after += u32::from(pass(limit, 7, now));
            if now % 2_000_000 == 0 {
                store.exchange(limit, now, now == 14 * SECOND);
            }
        }
    }
    assert!((900..=1_060).contains(&after), "{after}");
}

#[test]
fn a_new_key_has_a_share_of_the_burst_before_the_store_knows_it() {
    let limit = shared(10, 10);
    limit.routers.store(5, Relaxed);
    assert_eq!((0..20).filter(|_| pass(&limit, 7, 0)).count(), 2);
    let mut store = Store::default();
    // What was asked for in vain is needed: the store gives all it has.
    store.exchange(&limit, 0, false);
    assert_eq!((0..20).filter(|_| pass(&limit, 7, 0)).count(), 8);
    store.exchange(&limit, 0, false);
    assert!(!pass(&limit, 7, 0));
}

#[test]
fn a_request_that_costs_more_than_a_share_of_the_burst_passes() {
    let cost = NonZeroU32::new(5).unwrap();
    let routers: Vec<SharedLimit> = (0..3).map(|_| shared(100, 10)).collect();
    routers.iter().for_each(|limit| limit.routers.store(3, Relaxed));
    // With nobody to ask: one at once, and then by the share of the rate.
    let alone = |now| routers[0].take(8, cost, now).is_ok();
    assert_eq!([0, 1, SECOND].map(alone), [true, false, true]);
    let (mut store, mut passed) = (Store::default(), 0);
    for now in (0..12 * SECOND).step_by(2_000_000) {
        for limit in &routers {
            passed += u32::from(limit.take(7, cost, now).is_ok() && now >= 2 * SECOND);
            store.exchange(limit, now, now == 0);
        }
    }
    assert!((190..=210).contains(&passed), "{passed} of 200");
}

#[test]
fn what_is_not_used_is_given_back_and_what_could_not_be_told_is_kept() {
    let limit = shared(10, 10);
    let mut store = Store::default();
    assert!(pass(&limit, 7, 0));
    store.exchange(&limit, 0, false);
    let held = limit.held(limit.accounts.find(7).unwrap().0);
    assert!(held > 0);
    let mut back = Vec::new();
    for _ in 0..=CALM_SWEEPS {
        limit.sweep(0, &mut |due| back.push(due));
    }
    assert_eq!(back.iter().map(|due| due.debit).collect::<Vec<_>>(), [-(held as i64)]);
    let mut dues = Vec::new();
    assert!(pass(&limit, 8, 0));
    limit.collect(0, &mut |due| dues.push(due));
    limit.put_back(&dues[0]);
    let mut again = Vec::new();
    limit.collect(0, &mut |due| again.push(due));
    assert_eq!(again[0].debit, 1);
}

#[test]
fn charges_and_gifts() {
    let limit = shared(10, 10);
    let taken = limit.take(7, NonZeroU32::MIN, 0).unwrap();
    limit.give_back(&taken);
    assert_eq!((0..20).filter(|_| pass(&limit, 7, 0)).count(), 10);
    let at = limit.accounts.find(7).unwrap().0;
    limit.charge(at, 5);
    let mut dues = Vec::new();
    limit.collect(0, &mut |due| dues.push(due));
    assert_eq!(dues[0].debit, 15);
}

#[test]
fn no_charge_and_no_answer_is_a_ban() {
    let limit = shared(10, 10);
    assert!(pass(&limit, 7, 0));
    let at = limit.accounts.find(7).unwrap().0;
    let mut dues = Vec::new();
    limit.collect(0, &mut |due| dues.push(due));
    // Said while the store is asked, and an answer by a clock that was set back.
    limit.charge(at, 100_000);
    limit.settle(&dues[0], 0, 3_600 * SECOND, 0);
    assert_eq!(limit.accounts.at(at).unwrap().1, 10 * SECOND);
    Store::default().exchange(&limit, 0, false);
    assert!(!pass(&limit, 7, 9 * SECOND - 1));
    assert!(pass(&limit, 7, 10 * SECOND));
}
