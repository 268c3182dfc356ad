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
    let entries = ids.iter().map(|id| entry(id, Condition::Ready, None)).collect();
    Wanted { entries, ..Wanted::default() }
}

fn leased(ids: &[&str], ttl_ms: u64) -> Wanted {
    let entries = ids.iter().map(|id| entry(id, Condition::Ready, Some(ttl_ms))).collect();
    Wanted { entries, ..Wanted::default() }
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
    let part = Part::begin(Wanted { entries, ..Wanted::default() }, RULES, NOW);
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
    // Another role, or a write of others, that says nothing of what is kept: it is judged here.
    let until_ms = part.held_until_ms();
    part.follow(Wanted::default(), RULES, NOW + 2);
    assert_eq!((served(&part).len(), part.held_until_ms()), (4, until_ms), "its time goes on");
    let mut part = Part::begin(ready(&ids), RULES, NOW);
    part.follow(Wanted::default(), RULES, NOW + 1);
    assert_eq!((served(&part).len(), part.state(NOW + 1)), (4, State::Held));
    part.follow(Wanted::default(), RULES, NOW + 1 + RULES.hold_ms);
    assert!(served(&part).is_empty(), "not for ever");
}

#[test]
fn what_is_written_down_as_kept_is_kept_by_whoever_reads_it() {
    let mut leader = Part::begin(ready(&["a", "b", "c", "d"]), RULES, NOW);
    leader.take(ready(&["d"]), &Heard::Everything, RULES, NOW + 1);
    let until_ms = leader.held_until_ms().unwrap();
    let stored = || Wanted { kept: Some(leader.kept()), ..ready(&["d"]) };
    // The next process, and one that follows and had judged by itself, or has never heard of them.
    for mut part in [Part::default(), Part::begin(ready(&["d", "x"]), RULES, NOW), leader.clone()] {
        part.follow(stored(), RULES, NOW + 2);
        assert_eq!(served(&part), ["a", "b", "c", "d"]);
        assert_eq!((part.kept(), part.state(NOW + 2)), (leader.kept(), State::Held));
        assert_eq!(part.due_ms(NOW + 2), Some(until_ms));
        assert!(!part.follow(stored(), RULES, NOW + 3), "nothing is new");
        // It goes on as it would have there: until its time is over, or the endpoint is named again.
        let mut named = part.clone();
        named.take(ready(&["a", "b", "c", "d"]), &Heard::Everything, RULES, NOW + 4);
        assert_eq!((named.kept(), named.state(NOW + 4)), (Kept::default(), State::Live));
        assert!(part.settle(RULES, until_ms));
        assert_eq!(served(&part), ["d"]);
    }
    let mut late = Part::default();
    late.follow(stored(), RULES, until_ms);
    assert_eq!((served(&late), late.state(until_ms)), (vec!["d".to_owned()], State::Live));
    // Confirmed there: who had kept them lets go.
    let mut follower = Part::begin(ready(&["a", "b", "c", "d"]), RULES, NOW);
    follower.follow(Wanted { kept: Some(Kept::default()), ..ready(&["d"]) }, RULES, NOW + 1);
    assert_eq!((served(&follower), follower.state(NOW + 1)), (vec!["d".to_owned()], State::Live));
}

#[test]
fn what_would_be_kept_is_what_is_kept_once_it_is_taken() {
    let mut part = Part::begin(leased(&["a", "b", "c", "d"], 10_000), RULES, NOW);
    for (wanted, heard, later) in [
        (ready(&["d"]), Heard::Everything, 1),
        (ready(&["d", "e"]), one("e"), 2),
        (leased(&["a", "b", "c", "d"], 1_000), Heard::Everything, 3),
        (leased(&["a", "b", "c", "d"], 1_000), one("a"), 80_000),
        (ready(&["a"]), Heard::Everything, 80_001 + RULES.hold_ms),
    ] {
        let before = part.clone();
        let judged = part.judged(wanted.clone(), &heard, RULES, NOW + later);
        assert_eq!(part, before, "nothing is taken yet");
        part.take(wanted, &heard, RULES, NOW + later);
        assert_eq!(part.kept(), judged, "{heard:?} after {later} ms");
    }
}
