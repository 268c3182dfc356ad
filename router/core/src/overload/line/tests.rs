//! Who goes first, who makes room, until when one may wait: tables, and a property over random comings and goings.

use super::*;
use proptest::prelude::*;

use Priority::{Critical, High, Low, Normal};

const RULES: Rules = Rules { max: 4, wait_us: 5_000, target_us: Some(100), interval_us: 1_000 };

/// Joins a line; the wakers of tests are names.
fn join(line: &mut Line<char, u32>, priority: Priority, now_us: u64, name: char) -> Option<Place> {
    let (place, _, _) = line.join(priority, &[], &RULES, now_us)?;
    line.look(place, &name);
    Some(place)
}

/// A line that these have joined, at these times.
fn line(joins: &[(Priority, u64)]) -> (Line<char, u32>, Vec<Option<Place>>) {
    let mut line = Line::default();
    let places = joins.iter().zip('a'..).map(|((priority, at), name)| join(&mut line, *priority, *at, name));
    let places = places.collect();
    (line, places)
}

/// The order in which a line is served.
fn served(line: &mut Line<char, u32>) -> String {
    std::iter::from_fn(|| line.admit(1, 0).ok()).flatten().collect()
}

#[test]
fn the_order_of_service() {
    for (name, joins, want) in [
        ("the oldest first", &[(Normal, 0), (Normal, 1), (Normal, 2)][..], "abc"),
        ("the most important first", &[(Low, 0), (Normal, 1), (Critical, 2), (High, 3)], "cdba"),
        ("the newest first once it does not empty", &[(Normal, 0), (Normal, 10), (Normal, 1_000)], "cba"),
        ("by priority all the same", &[(Low, 0), (High, 10), (Low, 1_000), (High, 1_001)], "dbca"),
        ("a moment before, still the oldest", &[(Normal, 0), (Normal, 10), (Normal, 999)], "abc"),
    ] {
        assert_eq!(served(&mut line(joins).0), want, "{name}");
    }
}

#[test]
fn a_line_that_empties_begins_anew() {
    let (mut line, _) = line(&[(Normal, 0)]);
    assert_eq!(served(&mut line), "a");
    join(&mut line, Normal, 5_000, 'b').unwrap();
    join(&mut line, Normal, 5_500, 'c').unwrap();
    assert_eq!(served(&mut line), "bc");
}

#[test]
fn who_makes_room_in_a_full_line() {
    // Joins, the newcomer, and whose place it takes; `-` when it is refused, ` ` when there is room.
    for (name, joins, newcomer, displaced) in [
        ("room", &[(Normal, 0); 3][..], (Normal, 1), ' '),
        ("equals stay", &[(Normal, 0); 4], (Normal, 1), '-'),
        ("the less important do not come in", &[(Normal, 0); 4], (Low, 1), '-'),
        ("the last of the least goes", &[(Low, 0), (Low, 1), (High, 2), (High, 3)], (Normal, 4), 'b'),
        (
            "in a standing line the one that waits longest goes",
            &[(Low, 0), (Low, 1), (High, 2), (High, 3)],
            (Normal, 1_000),
            'a',
        ),
        ("also for its equal", &[(Normal, 0), (Normal, 1), (Normal, 2), (Normal, 3)], (Normal, 1_000), 'a'),
        ("and not for a lesser one", &[(Normal, 0), (High, 1), (Normal, 2), (Normal, 3)], (Low, 1_000), '-'),
    ] {
        let (mut line, places) = line(joins);
        let joined = line.join(newcomer.0, &[], &RULES, newcomer.1);
        let got = match &joined {
            None => '-',
            Some((_, _, wakers)) => wakers.first().copied().unwrap_or(' '),
        };
        assert_eq!(got, displaced, "{name}");
        let settled = places.into_iter().flatten().zip('a'..).filter_map(|(place, name)| {
            let look = line.look(place, &name);
            (look == Look::Settled(Verdict::Displaced)).then_some(name)
        });
        let settled: String = settled.collect();
        assert_eq!(settled, if displaced.is_alphabetic() { displaced.to_string() } else { String::new() });
        assert_eq!(line.len(), u32::try_from(joins.len()).unwrap() + u32::from(displaced == ' '), "{name}");
    }
}

#[test]
fn until_when_one_may_wait() {
    let due = |rules: Rules, before: u64, now_us: u64| {
        let mut line: Line<char, u32> = Line::default();
        line.join(Normal, &[], &rules, before).unwrap();
        line.join(Normal, &[], &rules, now_us).unwrap().1
    };
    let late = Some(Shed::QueueTime);
    for (name, rules, before, now, want) in [
        ("a young line lets wait until it is old", RULES, 0, 10, Due { at_us: 1_000, shed: late }),
        ("in an old one the target counts", RULES, 0, 2_000, Due { at_us: 2_100, shed: late }),
        ("no target", Rules { target_us: None, ..RULES }, 0, 2_000, Due { at_us: 7_000, shed: None }),
        ("the longest wait is shorter", Rules { wait_us: 50, ..RULES }, 0, 10, Due { at_us: 60, shed: None }),
    ] {
        assert_eq!(due(rules, before, now), want, "{name}");
    }
}

#[test]
fn nobody_is_given_an_endpoint_that_it_has_tried() {
    let mut line: Line<char, u32> = Line::default();
    let (first, _, _) = line.join(Normal, &[7], &RULES, 0).unwrap();
    assert_eq!(line.admit(7, 1), Err(1));
    let (second, _, _) = line.join(Low, &[], &RULES, 0).unwrap();
    assert!(line.admit(7, 1).is_ok());
    assert_eq!(line.look(second, &'b'), Look::Settled(Verdict::Admitted(1)));
    assert_eq!(line.look(first, &'a'), Look::Wait);
    assert!(line.admit(8, 2).is_ok());
    assert_eq!(line.leave(first), (Some(2), false), "given and not taken");
}

#[test]
fn a_search_is_passed_on_by_whoever_does_not_do_it() {
    let mut line: Line<char, u32> = Line::default();
    let a = join(&mut line, Normal, 0, 'a').unwrap();
    let b = join(&mut line, Normal, 0, 'b').unwrap();
    let c = join(&mut line, Normal, 0, 'c').unwrap();
    assert_eq!(line.search(), Some('a'));
    assert_eq!(line.admit(1, 1).unwrap().as_slice(), ['a', 'b'], "the next is told");
    assert_eq!(line.leave(b), (None, true));
    assert_eq!(line.look(c, &'c'), Look::Wait);
    assert_eq!(line.search(), Some('c'));
    assert_eq!(line.look(c, &'c'), Look::Search);
    assert_eq!(line.look(c, &'c'), Look::Wait, "told once");
    assert_eq!(line.look(a, &'a'), Look::Settled(Verdict::Admitted(1)));
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize, u64),
    Admit(u32),
    Leave(usize),
    Look(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..4usize, 0..400u64).prop_map(|(priority, after)| Step::Join(priority, after)),
        2 => (0..100u32).prop_map(Step::Admit),
        1 => (0..16usize).prop_map(Step::Leave),
        1 => (0..16usize).prop_map(Step::Look),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Whatever comes and goes: the bound holds, the count is right, each slot that was given is taken or comes back, once,
    /// and nobody is served while one of higher priority waits.
    #[test]
    fn no_place_and_no_slot_is_lost(steps in steps()) {
        let mut line: Line<usize, u32> = Line::default();
        let mut places: Vec<(Place, bool)> = Vec::new();
        let (mut now_us, mut given, mut back) = (0, 0u32, 0u32);
        for step in steps {
            match step {
                Step::Join(priority, after) => {
                    now_us += after;
                    if let Some((place, due, _)) = line.join(Priority::ALL[priority], &[], &RULES, now_us) {
                        prop_assert!(due.at_us > now_us && due.at_us <= now_us + RULES.wait_us);
                        line.look(place, &places.len());
                        places.push((place, true));
                    }
                }
                Step::Admit(slot) => {
                    let highest = (0..4).rev().find(|at| !line.by_priority[*at].is_empty());
                    let before = highest.map(|at| line.by_priority[at].len());
                    match line.admit(1, slot) {
                        Ok(_) => {
                            given += 1;
                            let after = highest.map(|at| line.by_priority[at].len() + 1);
                            prop_assert_eq!(before, after, "the highest priority is served");
                        }
                        Err(_) => prop_assert!(line.is_empty()),
                    }
                }
                Step::Leave(at) => if let Some((place, here @ true)) = places.get_mut(at) {
                    back += u32::from(line.leave(*place).0.is_some());
                    *here = false;
                },
                Step::Look(at) => if let Some((place, here @ true)) = places.get_mut(at)
                    && let Look::Settled(verdict) = line.look(*place, &at) {
                    back += u32::from(matches!(verdict, Verdict::Admitted(_)));
                    *here = false;
                },
            }
            let count: usize = line.by_priority.iter().map(BTreeMap::len).sum();
            prop_assert_eq!(count, line.len() as usize);
            prop_assert!(line.len() <= RULES.max);
        }
        for (place, _) in places.iter().filter(|(_, here)| *here) {
            back += u32::from(line.leave(*place).0.is_some());
        }
        prop_assert_eq!((given, line.len(), line.settled.len()), (back, 0, 0));
    }
}
