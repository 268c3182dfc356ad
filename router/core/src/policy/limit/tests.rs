//! Several limits together: all must pass, and what one refuses takes nothing from the others. Costs, exceptions, shadows.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::{Cost, KeyPart, Limit, LimitFields, LimitUnit, MissingKey, Rate};

use super::{Asked, LimitPlace, Limiters, Maker, Takes, Toll, Turn, Unheld, take};
use crate::table::Fields;

struct Head(Vec<(&'static str, &'static str)>);

impl Fields for Head {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        for (_, value) in self.0.iter().filter(|(known, _)| *known == name) {
            if !visit(value.as_bytes()) {
                return;
            }
        }
    }
}

static NONE: Head = Head(Vec::new());
const SECOND: u64 = 1_000_000_000;

fn limit(name: &str, count: u32, burst: u32) -> Limit {
    Limit {
        name: name.into(),
        unit: LimitUnit::Rate,
        rate: Rate { count, per: Duration::from_secs(1), burst },
        key: vec![KeyPart::Client],
        missing: MissingKey::Share,
        cost: Cost::default(),
        except: Vec::new(),
        shadow: false,
        fields: LimitFields::Refused,
        keys: 1024,
        shared: None,
    }
}

fn limiters(words: &[Limit]) -> Limiters {
    Limiters::new(words, &LimitPlace::default(), None, Maker { workers: 2, seed: [1, 2] })
}

fn asked(client: &str, method: &'static str, head: &'static Head) -> Asked<'static> {
    let client: Option<IpAddr> = client.parse().ok();
    Asked { client, host: "a", method, path: "/", query: "", fields: head, api_key: None, client_cert: None }
}

/// The name of the limit that refuses, or else of the shadow that would; and whether it passed.
fn judge(limits: &Limiters, asked: &Asked<'_>, now_ns: u64) -> (bool, Option<Arc<str>>) {
    let mut takes = Takes::new();
    match take(limits.list(), asked, Turn { worker: 0, now_ns }, &mut takes) {
        Ok(shadow) => (true, shadow.map(|limiter| limiter.words.name.clone())),
        Err(refusal) => {
            assert!(takes.is_empty(), "a refusal gives back");
            (false, Some(refusal.limiter.words.name.clone()))
        }
    }
}

fn passed(limits: &Limiters, client: &str, tries: usize, now_ns: u64) -> usize {
    (0..tries).filter(|_| judge(limits, &asked(client, "GET", &NONE), now_ns).0).count()
}

fn counts(limits: &Limiters, at: usize) -> (u64, u64, u64) {
    let shards = limits.list()[at].counts.shards();
    let Some(shard) = shards.first() else { return (0, 0, 0) };
    (shard.allowed.value(), shard.refused.value(), shard.shadow_refused.value())
}

#[test]
fn what_one_limit_refuses_takes_nothing_from_the_others() {
    // The first gives 10 a second, the second one: had refusals taken from the first, it would be empty.
    let limits = limiters(&[limit("wide", 10, 10), limit("narrow", 1, 1)]);
    assert_eq!(passed(&limits, "192.0.2.1", 50, 0), 1);
    let mut takes = Takes::new();
    let turn = Turn { worker: 0, now_ns: SECOND };
    assert!(take(limits.list(), &asked("192.0.2.1", "GET", &NONE), turn, &mut takes).is_ok());
    assert_eq!(takes.iter().map(|take| take.left(SECOND).units).collect::<Vec<_>>(), [9, 0]);
    assert_eq!(counts(&limits, 0), (51, 0, 0), "each limit counts its own verdicts");
    assert_eq!(counts(&limits, 1), (2, 49, 0));
    // Another client has accounts of its own.
    assert_eq!(passed(&limits, "192.0.2.2", 5, 0), 1);
}

#[test]
fn a_refusal_gives_back_what_earlier_lists_took() {
    let (outer, inner) = (limiters(&[limit("outer", 1, 2)]), limiters(&[limit("inner", 1, 1)]));
    for want in [true, false, false, false] {
        let mut takes = Takes::new();
        let (asked, turn) = (asked("192.0.2.1", "GET", &NONE), Turn { worker: 0, now_ns: 5 });
        assert!(take(outer.list(), &asked, turn, &mut takes).is_ok());
        let found = take(inner.list(), &asked, turn, &mut takes);
        assert_eq!(found.is_ok(), want);
        assert_eq!(takes.len(), if want { 2 } else { 0 });
    }
    assert_eq!(passed(&outer, "192.0.2.1", 9, 5), 1, "three refusals took nothing from the outer limit");
}

#[test]
fn a_shadow_counts_and_refuses_nothing() {
    let limits = limiters(&[
        Limit { shadow: true, ..limit("one", 1, 2) },
        Limit { shadow: true, ..limit("two", 1, 1) },
        limit("real", 1, 4),
    ]);
    let seen: Vec<_> = (0..5).map(|_| judge(&limits, &asked("192.0.2.1", "GET", &NONE), 0)).collect();
    let name = |text: &str| Some(Arc::from(text));
    assert_eq!(
        seen,
        [(true, None), (true, name("two")), (true, name("one")), (true, name("one")), (false, name("real"))]
    );
    assert_eq!(counts(&limits, 0), (2, 0, 3));
    assert_eq!(counts(&limits, 1), (1, 0, 4));
}

#[test]
fn exceptions_are_not_counted() {
    let limits = limiters(&[Limit { except: vec!["192.0.2.0/24".parse().unwrap()], ..limit("one", 1, 1) }]);
    assert!(limits.asks_client());
    assert_eq!(passed(&limits, "192.0.2.7", 9, 0), 9);
    assert_eq!(passed(&limits, "::ffff:192.0.2.8", 9, 0), 9);
    assert_eq!(passed(&limits, "198.51.100.1", 9, 0), 1);
    assert_eq!(passed(&limits, "unix", 9, 0), 1, "nobody is in no network");
    assert!(!limiters(&[Limit { key: Vec::new(), ..limit("one", 1, 1) }]).asks_client());
}

#[test]
fn costs() {
    let cost = Cost {
        methods: vec![("POST".into(), 5), ("GET".into(), 2), ("OPTIONS".into(), 0)],
        header: Some("x-cost".into()),
        response: None,
        least: 1,
        most: 10,
        otherwise: 3,
    };
    let heads: [(&'static str, u32); 8] = [
        ("7", 7),
        ("0", 1),
        ("11", 10),
        ("99999999999999999999", 2),
        ("-1", 2),
        ("", 2),
        ("1 ", 2),
        ("007", 7),
    ];
    for (text, want) in heads {
        let head = Head(vec![("x-cost", text), ("x-cost", "4")]);
        assert_eq!(
            super::cost::of(&cost, &Asked { fields: &head, ..asked("-", "GET", &NONE) }),
            want,
            "{text:?}"
        );
    }
    for (method, want) in [("POST", 5), ("GET", 2), ("HEAD", 2), ("OPTIONS", 0), ("PUT", 3), ("post", 3)] {
        assert_eq!(super::cost::of(&cost, &asked("-", method, &NONE)), want, "{method}");
    }
    let limits = limiters(&[Limit { cost, ..limit("one", 1, 10) }]);
    let tries = |method, count| {
        (0..count).filter(|_| judge(&limits, &asked("192.0.2.1", method, &NONE), 0).0).count()
    };
    assert_eq!((tries("POST", 1), tries("GET", 9), tries("PUT", 1), tries("OPTIONS", 9)), (1, 2, 0, 9));
}

#[test]
fn accounts_go_on_under_their_name_while_their_words_are_the_same() {
    let old = limiters(&[limit("one", 1, 3), limit("two", 1, 3)]);
    assert_eq!(passed(&old, "192.0.2.1", 9, 0), 3);
    let again = |words: &[Limit], seed| {
        Limiters::new(words, &LimitPlace::default(), Some(&old), Maker { workers: 2, seed })
    };
    let left = |words: Limit| passed(&again(&[words], [1, 2]), "192.0.2.1", 9, 0);
    let one = || limit("one", 1, 3);
    assert_eq!(
        left(Limit { fields: LimitFields::Always, except: vec!["10.0.0.0/8".parse().unwrap()], ..one() }),
        0
    );
    assert_eq!(left(Limit { missing: MissingKey::Skip, ..one() }), 0);
    assert_eq!(left(Limit { cost: Cost { otherwise: 2, ..Cost::default() }, ..one() }), 0);
    for (what, words) in [
        ("name", limit("other", 1, 3)),
        ("rate", Limit { rate: Rate { count: 2, ..one().rate }, ..one() }),
        ("key", Limit { key: vec![KeyPart::Path(1)], ..one() }),
        ("keys", Limit { keys: 2048, ..one() }),
    ] {
        assert_eq!(left(words), 3, "another {what} begins anew");
    }
    assert_eq!(left(limit("one", 1, 5)), 5, "another burst begins anew");
    // The counts go on in any case.
    let changed = again(&[limit("one", 2, 3)], [1, 2]);
    assert_eq!(counts(&changed, 0), counts(&old, 0));
}

#[test]
fn what_nobody_comes_to_hold_is_given_back() {
    let words = Limit { unit: LimitUnit::AtATime, ..limit("few", 1, 1) };
    let limits = limiters(&[words]);
    let (asked, turn) = (asked("10.0.0.1", "GET", &NONE), Turn { worker: 0, now_ns: 0 });
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut unheld = Unheld::default();
        assert!(take(limits.list(), &asked, turn, &mut unheld.0).is_ok());
        panic!("between take and hold");
    }));
    assert!(unwound.is_err());
    assert!(judge(&limits, &asked, 0).0, "the place is there again");
}

/// What is left for a client, of each limit.
fn left(limits: &Limiters, client: &str) -> Vec<u64> {
    let mut takes = Takes::new();
    let turn = Turn { worker: 1, now_ns: 0 };
    assert!(take(limits.list(), &asked(client, "GET", &NONE), turn, &mut takes).is_ok());
    let left = takes.iter().map(|take| take.left(0).units + 1).collect();
    super::give_back(&mut takes);
    left
}

#[test]
fn a_toll_is_given_back_or_kept() {
    let (app, route) = (limiters(&[limit("app", 1, 9)]), limiters(&[limit("route", 1, 5)]));
    let (asked, turn) = (asked("192.0.2.1", "GET", &NONE), Turn { worker: 0, now_ns: 0 });
    let pay = || {
        let mut toll = Toll::default();
        // Both forms of a path may lead to the same rule: it is paid once.
        for _ in 0..2 {
            assert!([&app, &route].into_iter().all(|limits| toll.pay(limits.list(), &asked, turn).is_ok()));
        }
        assert_eq!((left(&app, "192.0.2.1"), left(&route, "192.0.2.1")), (vec![8], vec![4]));
        toll
    };
    let mut good = pay();
    good.give_back();
    assert_eq!((left(&app, "192.0.2.1"), left(&route, "192.0.2.1")), (vec![9], vec![5]));
    assert_eq!((counts(&app, 0), counts(&route, 0)), ((0, 0, 0), (0, 0, 0)), "nothing was counted");
    // It leads to another route of the app, which takes it as its own.
    let mut bad = pay();
    let mut takes = Takes::new();
    assert!(bad.take(app.list(), &asked, turn, &mut takes).is_ok_and(|shadow| shadow.is_none()));
    assert_eq!(takes.iter().map(|take| take.left(0).units).collect::<Vec<_>>(), [8]);
    assert_eq!(bad.keep(0), None);
    assert_eq!((counts(&app, 0), counts(&route, 0)), ((1, 0, 0), (1, 0, 0)), "each counted once");
    assert_eq!((left(&app, "192.0.2.1"), left(&route, "192.0.2.1")), (vec![8], vec![4]));
}

/// The route that was found refuses, by a limit that took no toll: what it took itself comes back, and the toll does not.
#[test]
fn a_toll_is_kept_where_the_route_refuses() {
    let shadow = || Limit { shadow: true, ..limit("shadow", 1, 1) };
    let (listener, app) = (limiters(&[limit("listener", 1, 9)]), limiters(&[limit("app", 1, 9), shadow()]));
    let (chosen, found) =
        (limiters(&[limit("chosen", 1, 5)]), limiters(&[limit("wide", 1, 7), limit("narrow", 1, 1)]));
    let (asked, turn) = (asked("192.0.2.1", "GET", &NONE), Turn { worker: 0, now_ns: 0 });
    for round in 1..=3 {
        let (mut toll, mut takes) = (Toll::default(), Takes::new());
        assert!([&app, &chosen].into_iter().all(|limits| toll.pay(limits.list(), &asked, turn).is_ok()));
        assert!(take(listener.list(), &asked, turn, &mut takes).is_ok());
        let shadow = toll.take(app.list(), &asked, turn, &mut takes).expect("it is paid");
        assert_eq!(shadow.is_some(), round > 1, "a shadow is one still");
        assert_eq!(toll.take(found.list(), &asked, turn, &mut takes).is_ok(), round == 1);
        assert_eq!(toll.keep(0), None, "it was told of already");
        if round > 1 {
            assert!(takes.is_empty());
        }
    }
    // Of the first, and of all.
    assert_eq!((left(&listener, "192.0.2.1"), left(&app, "192.0.2.1")[0]), (vec![8], 6));
    assert_eq!((left(&chosen, "192.0.2.1"), counts(&found, 1)), (vec![2], (1, 2, 0)));
    assert_eq!((counts(&app, 0).0, counts(&app, 1).2, counts(&chosen, 0).0), (3, 2, 3));
}

#[test]
fn a_toll_that_is_refused_leaves_what_was_paid() {
    let (app, route) = (limiters(&[limit("app", 1, 9)]), limiters(&[limit("route", 1, 1)]));
    let (asked, turn) = (asked("192.0.2.1", "GET", &NONE), Turn { worker: 0, now_ns: 0 });
    let mut first = Toll::default();
    assert!(first.pay(route.list(), &asked, turn).is_ok());
    let mut second = Toll::default();
    assert!(second.pay(app.list(), &asked, turn).is_ok());
    let refusal = second.pay(route.list(), &asked, turn).expect_err("it is empty");
    assert_eq!((&*refusal.limiter.words.name, refusal.wait_ns()), ("route", SECOND));
    assert_eq!((left(&app, "192.0.2.1"), counts(&route, 0)), (vec![8], (0, 1, 0)));
    second.give_back();
    assert_eq!(left(&app, "192.0.2.1"), [9]);
}

/// What is not a client's own allowance takes no part, and a shadow refuses nothing here either.
#[test]
fn only_limits_by_client_take_a_toll() {
    let by = |name: &str, key: Vec<KeyPart>| Limit { key, ..limit(name, 1, 5) };
    let header = || KeyPart::Header("x".into());
    let limits = limiters(&[
        by("all", Vec::new()),
        by("header", vec![header()]),
        by("both", vec![KeyPart::Client, header()]),
        Limit { unit: LimitUnit::AtATime, ..limit("places", 1, 5) },
        Limit { shadow: true, ..limit("shadow", 1, 1) },
        by("client", vec![KeyPart::Client]),
    ]);
    let (asked, turn) = (asked("192.0.2.1", "GET", &NONE), Turn { worker: 0, now_ns: 0 });
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut toll = Toll::default();
        assert!(toll.pay(limits.list(), &asked, turn).is_ok());
        kept.push(toll.keep(0));
    }
    assert_eq!(kept, [None, Some(Arc::from("shadow"))]);
    let taken: Vec<_> = (0..6).map(|at| counts(&limits, at)).collect();
    let nothing = (0, 0, 0);
    assert_eq!(taken, [nothing, nothing, nothing, nothing, (1, 0, 1), (2, 0, 0)]);
}

/// A look costs as much whatever the request does.
#[test]
fn what_is_not_counted_pays_for_the_look() {
    let cost = Cost { methods: vec![("GET".into(), 0), ("POST".into(), 3)], ..Cost::default() };
    let limits = limiters(&[Limit { cost, ..limit("one", 1, 9) }]);
    let turn = Turn { worker: 0, now_ns: 0 };
    for (method, want) in [("GET", 8), ("POST", 5)] {
        let asked = asked("192.0.2.1", method, &NONE);
        let (mut toll, mut takes) = (Toll::default(), Takes::new());
        assert!(toll.pay(limits.list(), &asked, turn).is_ok());
        assert!(toll.take(limits.list(), &asked, turn, &mut takes).is_ok());
        assert_eq!(takes.iter().map(|take| take.left(0).units).collect::<Vec<_>>(), [want], "{method}");
        assert_eq!(toll.keep(0), None);
    }
}
