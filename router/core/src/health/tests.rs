//! Probe verdicts: first verdict, rise and fall, policy changes.

use ekiden_config::model::ProbePolicy;
use proptest::prelude::*;

use super::{Health, ProbeState};
use crate::cluster::fixture::probe;

fn policy(rise: u8, fall: u8) -> ProbePolicy {
    ProbePolicy { rise, fall, ..probe() }
}

fn answer(pass: bool) -> Result<(), String> {
    if pass { Ok(()) } else { Err("connection refused".to_owned()) }
}

/// Feeds `+` and `-` and writes the health after each as its first letter.
fn run(state: &mut ProbeState, answers: &str) -> String {
    let mut seen = String::new();
    for (at, answer_char) in answers.chars().enumerate() {
        state.verdict(answer(answer_char == '+'), at as u64);
        seen.push(state.health().word().chars().next().unwrap());
    }
    seen
}

#[test]
fn verdicts_in_a_table() {
    // rise, fall, answers, health after each (s, r, f)
    for (rise, fall, answers, healths) in [
        (2, 3, "+", "r"),
        (5, 3, "+", "r"),
        (2, 3, "-", "f"),
        (2, 3, "+---", "rrrf"),
        (2, 3, "+--+--+---", "rrrrrrrrrf"),
        (2, 3, "-+-++", "ffffr"),
        (1, 1, "+-+-", "rfrf"),
        (0, 0, "+-+-", "rfrf"),
        (2, 1, "-++-++", "ffrffr"),
    ] {
        let mut state = ProbeState::new(Some(&policy(rise, fall)), 0);
        assert_eq!(state.health(), Health::Starting);
        assert_eq!(run(&mut state, answers), healths, "rise {rise} fall {fall} {answers}");
    }
}

#[test]
fn a_transition_tells_from_to_why_and_when() {
    let mut state = ProbeState::new(Some(&policy(2, 2)), 1);
    assert_eq!(state.reason(), "waiting for the first check");
    let first = state.verdict(answer(true), 10).unwrap();
    assert_eq!((first.from, first.to, first.at_unix_ms), (Health::Starting, Health::Ready, 10));
    assert_eq!(first.reason, "first check passed");
    assert!(state.verdict(answer(false), 20).is_none());
    assert_eq!((state.reason(), state.since_unix_ms()), ("first check passed", 10));
    let failing = state.verdict(answer(false), 30).unwrap();
    assert_eq!((failing.from, failing.to), (Health::Ready, Health::Failing));
    assert_eq!(failing.reason, "2 checks in a row failed: connection refused");
    assert_eq!((state.reason(), state.since_unix_ms()), (failing.reason.as_str(), 30));
}

#[test]
fn without_a_policy_an_endpoint_is_ready() {
    let state = ProbeState::new(None, 7);
    assert_eq!((state.health(), state.since_unix_ms()), (Health::Ready, 7));
}

#[test]
fn another_policy_keeps_health_and_starts_the_count_anew() {
    let mut state = ProbeState::new(Some(&policy(1, 3)), 0);
    run(&mut state, "+--");
    state.set_policy(Some(&policy(1, 2)));
    assert_eq!(run(&mut state, "-"), "r", "failures under the old policy do not count");
    assert_eq!(run(&mut state, "-"), "f");
    let resumed = ProbeState::resume(None, Health::Failing, "kept".to_owned(), 4);
    assert_eq!((resumed.health(), resumed.reason(), resumed.since_unix_ms()), (Health::Failing, "kept", 4));
}

proptest! {
    /// Health changes exactly when the last `rise` or `fall` answers since the last change all speak against it.
    #[test]
    fn agrees_with_a_naive_reading(rise in 1u8..5, fall in 1u8..5, answers in prop::collection::vec(any::<bool>(), 1..60)) {
        let mut state = ProbeState::new(Some(&policy(rise, fall)), 0);
        let mut naive = Health::Starting;
        let mut since_change: Vec<bool> = Vec::new();
        for pass in answers {
            since_change.push(pass);
            let ends_with = |wanted: bool, count: u8| {
                let count = usize::from(count);
                since_change.len() >= count && since_change.iter().rev().take(count).all(|pass| *pass == wanted)
            };
            let next = match naive {
                Health::Starting => Some(if pass { Health::Ready } else { Health::Failing }),
                Health::Ready => ends_with(false, fall).then_some(Health::Failing),
                Health::Failing => ends_with(true, rise).then_some(Health::Ready),
            };
            let changed = state.verdict(answer(pass), 0).map(|transition| transition.to);
            prop_assert_eq!(changed, next);
            if let Some(next) = next {
                naive = next;
                since_change.clear();
            }
            prop_assert_eq!(state.health(), naive);
        }
    }
}
