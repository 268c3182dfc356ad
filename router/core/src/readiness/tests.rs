//! The state machine: rows of histories, and properties over any history.

use proptest::prelude::*;

use super::*;

/// What is done, as people would write it: an event and the time it comes at.
type Step = (u64, Event<'static>);

fn machine() -> Readiness {
    Readiness::new(Health::Ready, "no probe is configured", 0)
}

fn run(machine: &mut Readiness, steps: &[Step]) -> Vec<State> {
    steps
        .iter()
        .map(|(at, event)| {
            machine.on(*event, *at);
            machine.state()
        })
        .collect()
}

const EJECT: Event<'static> = Event::Eject("5 failures in a row");
const PASS: Event<'static> = Event::Trial(Ok(()));
const FAIL: Event<'static> = Event::Trial(Err("connection refused"));
const FAILS: Event<'static> = Event::Checked(Health::Failing, "3 checks in a row failed");
const PASSES: Event<'static> = Event::Checked(Health::Ready, "2 checks in a row passed");

#[test]
fn histories_in_a_table() {
    use State::{Draining, Ejected, Failing, Gone, Ready, Warming};
    let rows: &[(&str, &[Step], &[State])] = &[
        (
            "an ejection ends with the first pass",
            &[(0, EJECT), (250, PASS), (1249, Event::Time), (1250, Event::Time)],
            &[Ejected, Warming, Warming, Ready],
        ),
        (
            "failed checks keep it",
            &[(0, EJECT), (250, FAIL), (500, FAIL), (750, PASS)],
            &[Ejected, Ejected, Ejected, Warming],
        ),
        (
            "what is ejected is not ejected again",
            &[(0, EJECT), (100, EJECT), (250, PASS)],
            &[Ejected, Ejected, Warming],
        ),
        (
            "a warming one may be ejected",
            &[(0, EJECT), (250, PASS), (300, EJECT)],
            &[Ejected, Warming, Ejected],
        ),
        (
            "what is checked at once proves nothing",
            &[(0, EJECT), (5, PASS), (255, PASS)],
            &[Ejected, Ejected, Warming],
        ),
        ("a pass without an ejection is nothing", &[(0, PASS)], &[Ready]),
        (
            "the checks' word is above",
            &[(0, EJECT), (10, FAILS), (250, PASS), (300, PASSES), (2000, Event::Time)],
            &[Ejected, Failing, Failing, Warming, Ready],
        ),
        (
            "the checks' pass does not end it",
            &[(0, FAILS), (1, PASSES), (2, EJECT), (3, FAILS), (4, PASSES)],
            &[Failing, Ready, Ejected, Failing, Ejected],
        ),
        (
            "control's word is above all",
            &[(0, EJECT), (1, Event::Drain(true)), (2, FAILS), (3, Event::Drain(false))],
            &[Ejected, Draining, Draining, Failing],
        ),
        (
            "what drains or fails is not ejected",
            &[(0, Event::Drain(true)), (1, EJECT), (2, Event::Drain(false))],
            &[Draining, Draining, Ready],
        ),
        (
            "it is switched off",
            &[(0, EJECT), (1, Event::Lift("ejection was switched off"))],
            &[Ejected, Ready],
        ),
        ("gone is final", &[(0, Event::Gone), (1, EJECT), (2, Event::Drain(true)), (3, PASSES)], &[Gone; 4]),
        (
            "time that goes back is none",
            &[(1000, EJECT), (10, PASS), (1300, PASS), (20, Event::Time)],
            &[Ejected, Ejected, Warming, Warming],
        ),
    ];
    for (name, steps, states) in rows {
        assert_eq!(run(&mut machine(), steps), *states, "{name}");
    }
}

#[test]
fn a_state_tells_why_and_since_when() {
    let mut one = machine();
    assert_eq!((one.reason().as_str(), one.since()), ("no probe is configured", 0));
    let change = one.on(EJECT, 10).unwrap();
    assert_eq!(
        (change.from, change.to, change.reason.as_str()),
        (State::Ready, State::Ejected, "5 failures in a row")
    );
    assert_eq!(one.since(), 10);
    assert!(one.on(FAIL, 260).is_none(), "no change of state");
    assert_eq!(one.reason(), "5 failures in a row; the last check failed: connection refused");
    let change = one.on(PASS, 1510).unwrap();
    assert_eq!(change.reason, "a check passed after 1.5 s of ejection; 10 % of its share");
    one.on(Event::Time, 2010);
    assert_eq!(one.reason(), "a check passed after 1.5 s of ejection; 50 % of its share");
    assert_eq!(one.ramp() / (FULL_SHARE / 100), 50);
    let change = one.on(Event::Time, 2600).unwrap();
    assert_eq!((change.from, change.to), (State::Warming, State::Ready));
    assert_eq!((one.reason().as_str(), one.since()), ("a check passed after 1.5 s of ejection", 2600));
    assert_eq!(one.ramp(), FULL_SHARE);
    one.on(Event::Drain(true), 3000);
    assert_eq!(
        (one.reason().as_str(), one.since()),
        ("marked as draining; its checks say ready: no probe is configured", 3000)
    );
    one.on(Event::Drain(false), 4000);
    assert_eq!((one.reason().as_str(), one.since()), ("its drain mark was taken away", 4000));
    one.on(Event::Gone, 5000);
    assert_eq!((one.reason().as_str(), one.since()), ("removed from the configuration", 5000));
}

/// Ejects and lets checks pass every 250 ms from then on, after `fails` failed ones; how long the ejection lasted.
fn lasts(one: &mut Readiness, now: &mut u64, fails: usize) -> u64 {
    one.on(EJECT, *now);
    let began = *now;
    for round in 0..1000 {
        *now += 250;
        one.on(if round < fails { FAIL } else { PASS }, *now);
        if one.state() != State::Ejected {
            return *now - began;
        }
    }
    panic!("it never ends")
}

#[test]
fn only_what_passes_checks_and_fails_requests_is_held_longer_and_longer() {
    let (mut one, mut now) = (machine(), 1_000_000);
    let blind: Vec<u64> = (0..9).map(|_| lasts(&mut one, &mut now, 0)).collect();
    assert_eq!(blind, [250, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    assert_eq!(
        lasts(&mut one, &mut now, 1),
        500,
        "checks that fail meanwhile see what requests see: no hold"
    );
    assert_eq!(lasts(&mut one, &mut now, 0), 250, "and all is forgiven");
    assert_eq!(lasts(&mut one, &mut now, 0), 1000);
    now += FORGET_MS + 1000;
    assert_eq!(lasts(&mut one, &mut now, 0), 250, "as it is after a time without ejection");
}

#[test]
fn requests_that_try_it_know_better_than_checks() {
    let (mut one, mut now) = (machine(), 1_000_000);
    for _ in 0..6 {
        lasts(&mut one, &mut now, 0);
    }
    one.on(EJECT, now);
    assert_eq!(
        (one.hold_ms(), one.trial_requests()),
        (Some(32_000), 9),
        "as often as it came back for nothing"
    );
    let change = one.on(Event::Tried(true), now + 300).unwrap();
    assert_eq!(
        change.reason, "requests passed after 0.3 s of ejection; 10 % of its share",
        "the hold only stands in for them"
    );
    assert!(one.is_on_trial());

    let mut one = machine();
    assert_eq!(one.trial_requests(), 3);
    one.on(EJECT, 0);
    for at in [100, 600, 1_100] {
        assert_eq!(
            (one.on(Event::Tried(false), at), one.on(PASS, at + 300)),
            (None, None),
            "a check does not see it"
        );
    }
    assert_eq!(one.on(PASS, 3_099), None);
    assert_eq!(
        one.on(PASS, 3_100).map(|change| change.to),
        Some(State::Warming),
        "two seconds after the last failure"
    );
    one.on(EJECT, 4_000);
    for at in (4_000..70_000).step_by(500) {
        one.on(Event::Tried(false), at);
    }
    assert_eq!(one.hold_ms(), Some(60_000), "never longer than the longest");
}

#[test]
fn a_new_endpoint_begins_slowly_where_that_is_asked_for() {
    let policy = ReadinessPolicy { slow_start: Duration::from_secs(10), ..ReadinessPolicy::default() };
    let mut one = machine();
    one.set_policy(&policy);
    one.on(Event::Joined, 0);
    assert_eq!(
        run(&mut one, &[(1, Event::Time), (9_999, Event::Time), (10_000, Event::Time)]),
        [State::Warming, State::Warming, State::Ready]
    );
    assert!(!one.is_on_trial());
    assert_eq!(
        run(&mut one, &[(11_000, FAILS), (12_000, PASSES), (12_001, FAILS)]),
        [State::Failing, State::Warming, State::Failing]
    );
    let mut plain = machine();
    plain.on(Event::Joined, 0);
    assert_eq!(plain.state(), State::Ready, "not unless asked for");
}

#[test]
fn what_changes_nothing_leaves_an_endpoint_as_it_was_made() {
    for event in [Event::Time, Event::Drain(false), Event::Joined, PASS, FAIL, PASSES, Event::Lift("off")] {
        let mut one = machine();
        assert_eq!(one.on(event, 5), None);
        assert_eq!((one.story().is_none(), one.since()), (true, 0), "{event:?}");
    }
    let mut one = machine();
    assert!(one.on(Event::Gone, 0).is_some() && one.on(Event::Gone, 9).is_none());
    assert!(one.story().is_none() && one.is_gone() && one.state() == State::Gone);
    // What comes late changes no more than it would have.
    one.on(FAILS, 20);
    assert_eq!((one.state(), one.health(), one.since()), (State::Gone, Health::Failing, 0));
    assert_eq!(one.reason(), "removed from the configuration");
}

fn events() -> impl Strategy<Value = Event<'static>> {
    prop_oneof![
        1 => Just(Event::Gone),
        4 => any::<bool>().prop_map(Event::Drain),
        3 => Just(Event::Joined),
        4 => Just(FAILS),
        6 => Just(PASSES),
        2 => Just(Event::Checked(Health::Starting, "waiting for the first check")),
        8 => Just(EJECT),
        8 => Just(PASS),
        4 => Just(FAIL),
        4 => Just(Event::Tried(true)),
        4 => Just(Event::Tried(false)),
        1 => Just(Event::Lift("ejection was switched off")),
        8 => Just(Event::Time),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// One history has one answer, whatever it is asked in between; and every answer keeps the rules.
    #[test]
    fn any_history(
        steps in prop::collection::vec((0u64..1500, events()), 1..80),
        slow_start in prop_oneof![Just(0u64), Just(3000)],
    ) {
        let policy = ReadinessPolicy { slow_start: Duration::from_millis(slow_start), ..ReadinessPolicy::default() };
        let (mut one, mut other) = (machine(), machine());
        one.set_policy(&policy);
        other.set_policy(&policy);
        let mut now = 0;
        // What control and the checks said last, kept beside.
        let (mut gone, mut draining, mut health) = (false, false, Health::Ready);
        let mut ejected_at = None;
        for (wait, event) in steps {
            now += wait;
            let before = one.clone();
            let change = one.on(event, now);
            other.on(Event::Time, now);
            other.on(event, now);
            prop_assert_eq!(&one, &other, "asking changes nothing");
            match event {
                Event::Gone => gone = true,
                Event::Drain(on) => draining = on,
                Event::Checked(to, _) => health = to,
                _ => {}
            }
            let state = one.state();
            let want = match (gone, draining, health) {
                (true, _, _) => Some(State::Gone),
                (_, true, _) => Some(State::Draining),
                (_, _, Health::Starting) => Some(State::Starting),
                (_, _, Health::Failing) => Some(State::Failing),
                _ => None,
            };
            match want {
                Some(want) => prop_assert_eq!(state, want),
                None => prop_assert!(matches!(state, State::Ready | State::Warming | State::Ejected)),
            }
            prop_assert_eq!(change.is_some(), before.clone().state() != state);
            prop_assert!(one.since() <= now && !one.reason().is_empty());
            let ramp = one.story().and_then(|story| story.ramp_seen());
            prop_assert_eq!(one.is_warming(), one.ramp() < FULL_SHARE || ramp.is_some());
            prop_assert!(!(one.is_warming() && one.is_ejected()), "ejected and coming back at once");
            // Only evidence ejects, and only a check, requests, or switching it off, ends that.
            if one.is_ejected() && !before.is_ejected() {
                prop_assert_eq!(event, EJECT);
                ejected_at = Some(now);
            }
            if before.is_ejected() && !one.is_ejected() {
                prop_assert!(event == PASS || matches!(event, Event::Tried(true) | Event::Lift(_)));
                prop_assert!(matches!(event, Event::Lift(_)) || one.is_on_trial());
                ejected_at = None;
            }
            prop_assert_eq!(one.is_ejected(), ejected_at.is_some());
            // A pass is believed at the latest after the longest ejection.
            if event == PASS && let Some(since) = ejected_at {
                prop_assert!(now - since < 60_000);
            }
            if let Some((since, span_ms)) = ramp {
                prop_assert!(now - since < span_ms, "a ramp ends");
            }
        }
    }
}
