//! What is in force of a part, after words, silences and time.

use ekiden_config::model::Owner;
use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { share: 50, hold_ms: 300_000 };
const NOW: u64 = 1_000_000;

fn entry(id: &str, condition: Condition, ttl_ms: Option<u64>) -> (EndpointId, Entry) {
    let id = EndpointId::new(id).unwrap();
    let endpoint = Endpoint {
        id: id.clone(),
        address: crate::address::parse_address("127.0.0.1:1").unwrap(),
        weight: 1,
        priority: 0,
        drain: false,
        tags: None,
        owner: Owner::Source,
    };
    (id, Entry { endpoint: Arc::new(endpoint), condition, ttl_ms })
}

fn ready(ids: &[&str]) -> Wanted {
    Wanted { ttl_ms: None, entries: ids.iter().map(|id| entry(id, Condition::Ready, None)).collect() }
}

fn leased(ids: &[&str], ttl_ms: u64) -> Wanted {
    Wanted { ttl_ms: None, entries: ids.iter().map(|id| entry(id, Condition::Ready, Some(ttl_ms))).collect() }
}

fn one(id: &str) -> Heard {
    Heard::One(EndpointId::new(id).unwrap())
}

fn served(part: &Part) -> Vec<String> {
    part.in_force()
        .map(|endpoint| format!("{}{}", endpoint.id, if endpoint.drain { " drains" } else { "" }))
        .collect()
}

#[test]
fn conditions_say_what_is_served() {
    let all = [("a", Condition::Starting), ("b", Condition::Ready), ("c", Condition::Draining)];
    let entries = all.map(|(id, condition)| entry(id, condition, None)).into_iter().collect();
    let part = Part::begin(Wanted { ttl_ms: None, entries }, RULES, NOW);
    assert_eq!(served(&part), ["b", "c drains"]);
}

#[test]
fn what_is_said_to_leave_leaves_and_what_only_disappears_is_kept() {
    let ids = ["a", "b", "c", "d"];
    let mut part = Part::begin(ready(&ids), RULES, NOW);
    assert!(!part.take(ready(&["a"]), &Heard::Everything, RULES, NOW + 1));
    assert_eq!((served(&part).len(), part.held().len(), part.state(NOW + 1)), (4, 3, State::Held));
    // What is new is taken at once, beside what is kept.
    assert!(part.take(ready(&["a", "e"]), &Heard::Everything, RULES, NOW + 2));
    assert_eq!(served(&part), ["a", "b", "c", "d", "e"]);
    assert_eq!(part.due_ms(NOW + 2), Some(NOW + 300_001));
    assert!(!part.settle(RULES, NOW + 300_000));
    assert!(part.settle(RULES, NOW + 300_001));
    assert_eq!(
        (served(&part), part.state(NOW + 300_001)),
        (vec!["a".to_owned(), "e".to_owned()], State::Live)
    );

    let mut part = Part::begin(ready(&ids), RULES, NOW);
    let mut leaving = ready(&["a"]);
    leaving.entries.extend(["b", "c", "d"].map(|id| entry(id, Condition::Draining, None)));
    part.take(leaving, &Heard::Everything, RULES, NOW + 1);
    part.take(ready(&["a"]), &Heard::Everything, RULES, NOW + 2);
    assert_eq!((served(&part), part.state(NOW + 2)), (vec!["a".to_owned()], State::Live));
}

#[test]
fn what_is_confirmed_goes_at_once() {
    let mut part = Part::begin(ready(&["a", "b", "c"]), RULES, NOW);
    part.take(ready(&[]), &Heard::Everything, RULES, NOW + 1);
    assert_eq!(served(&part).len(), 3);
    assert!(part.confirm(NOW + 2) && served(&part).is_empty());
    assert!(!part.confirm(NOW + 3), "there is nothing to confirm");
    assert!(!part.settle(RULES, NOW + 400_000), "and nothing comes back");
}

#[test]
fn a_silent_source_freezes_its_part() {
    let mut whole = ready(&["a", "b"]);
    whole.ttl_ms = Some(10_000);
    let mut part = Part::begin(whole, RULES, NOW);
    assert_eq!((part.state(NOW + 9_999), part.due_ms(NOW)), (State::Live, Some(NOW + 10_000)));
    assert!(!part.settle(RULES, NOW + 10_000));
    assert_eq!((part.state(NOW + 10_000), served(&part).len()), (State::Silent, 2));
    // As much when leases of its endpoints run out one after the other and nobody is heard.
    let mut part = Part::begin(leased(&["a", "b", "c"], 10_000), RULES, NOW);
    part.take(leased(&["a", "b", "c"], 10_000), &one("b"), RULES, NOW + 5_000);
    assert!(!part.settle(RULES, NOW + 12_000));
    assert_eq!((part.state(NOW + 14_999), part.state(NOW + 15_000)), (State::Live, State::Silent));
    assert_eq!(served(&part).len(), 3);
}

#[test]
fn one_whose_lease_is_over_goes_when_others_are_heard_after_that() {
    let all = || leased(&["a", "b", "c", "d"], 10_000);
    let mut part = Part::begin(all(), RULES, NOW);
    for id in ["b", "c", "d"] {
        part.take(all(), &one(id), RULES, NOW + 8_000);
    }
    assert!(part.take(all(), &one("b"), RULES, NOW + 10_001));
    assert_eq!(served(&part), ["b", "c", "d"]);
    assert_eq!(part.expired().len(), 1);
    assert!(part.take(all(), &one("a"), RULES, NOW + 11_000), "it is back");
    assert_eq!(served(&part).len(), 4);
    // Three of four at once are too many.
    part.take(all(), &one("a"), RULES, NOW + 80_000);
    assert_eq!((served(&part).len(), part.held().len()), (4, 3));
}

proptest! {
    /// What is in force is what is wanted and what is held, and never an endpoint that nobody ever wanted.
    #[test]
    fn in_force_is_what_is_wanted_and_what_is_held(
        words in prop::collection::vec((prop::collection::btree_set(0_u8..12, 0..12), 0_u64..100_000), 1..30)
    ) {
        let mut part = Part::begin(Wanted::default(), RULES, NOW);
        let mut now_ms = NOW;
        for (ids, later) in words {
            now_ms += later;
            let texts: Vec<String> = ids.iter().map(|id| format!("e{id}")).collect();
            let ids: Vec<&str> = texts.iter().map(String::as_str).collect();
            let before = served(&part);
            part.take(ready(&ids), &Heard::Everything, RULES, now_ms);
            let after = served(&part);
            for id in &ids {
                prop_assert!(after.contains(&(*id).to_owned()));
            }
            let held: Vec<String> = part.held().iter().map(ToString::to_string).collect();
            prop_assert_eq!(after.len(), ids.len() + held.len());
            prop_assert!(held.iter().all(|id| before.contains(id)));
            prop_assert_eq!(part.state(now_ms) == State::Held, !held.is_empty());
        }
    }
}

#[test]
fn what_is_read_once_more_keeps_what_was_kept() {
    let ids = ["a", "b", "c", "d"];
    let mut part = Part::begin(ready(&ids), RULES, NOW);
    part.take(Wanted::default(), &Heard::Everything, RULES, NOW + 1);
    assert_eq!((served(&part).len(), part.held().len()), (4, 4));
    // Another role, or a write of others: everything is read.
    let until_ms = part.held_until_ms();
    let part = part.again(Wanted::default(), RULES, NOW + 2);
    assert_eq!((served(&part).len(), part.held_until_ms()), (4, until_ms), "its time goes on");
    // A follower hears of it by reading alone.
    let part = Part::begin(ready(&ids), RULES, NOW).again(Wanted::default(), RULES, NOW + 1);
    assert_eq!((served(&part).len(), part.state(NOW + 1)), (4, State::Held));
    let part = part.again(Wanted::default(), RULES, NOW + 1 + RULES.hold_ms);
    assert!(served(&part).is_empty(), "not for ever");
}
