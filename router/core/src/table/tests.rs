//! Named cases of DESIGN section 3, and properties: the compiled matcher agrees with the naive one on random models,
//! compiled from nothing and one after another.

mod admission;
mod cases;
mod claims;
mod closed;
mod limits;
mod reuse;
mod words;

use std::sync::Arc;

use ekiden_config::doors::{Generation, Standing};
use ekiden_config::model::{
    App, Cluster, HostMatch, Listener, LoosePath, Model, PathMatch, Role, Route, ValueTest,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use self::words::{Head, app, check, cluster, condition, listener, model, route};
use super::naive::{self, Said};
use super::{Compiler, Facts, Table};
use crate::claims::Shown;

const HOSTS: [&str; 8] = ["", "a.b", "c.a.b", "x.c.a.b", "b", "d.b", "z", "[::1]"];
const PATHS: [&str; 20] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/c",
    "/ab",
    "//",
    "//a",
    "/a//b",
    "/a%2Fb",
    "/a;x",
    "/a;x/b",
    "/b%5Ca",
    "/x/..;/a",
    "/a%2F..;/b",
    "/a/..;",
    "/;%2Fx/a",
    "/a/b;x%5C",
    "*",
    "/A",
];
const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PURGE", "get"];

fn hosts() -> impl Strategy<Value = HostMatch> {
    prop_oneof![
        2 => select(vec!["a.b", "b", "c.a.b", "z", "[::1]"]).prop_map(|h| HostMatch::Exact(Arc::from(h))),
        2 => select(vec!["b", "a.b", "c.a.b"]).prop_map(|h| HostMatch::Wildcard(Arc::from(h))),
        1 => Just(HostMatch::Any),
    ]
}

fn paths() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        4 => select(vec!["/", "/", "/a", "/a/b", "/a/b/c", "/ab", "/b"]).prop_map(|p| PathMatch::Prefix(Arc::from(p))),
        2 => select(vec!["/", "/a", "/a/", "/a/b", "//a", "/a;x"]).prop_map(|p| PathMatch::Exact(Arc::from(p))),
        1 => select(vec!["/a.*", "/[ab]+", "/.*b", "/A"]).prop_map(words::regex_path),
    ]
}

fn tests() -> impl Strategy<Value = ValueTest> {
    prop_oneof![
        Just(ValueTest::Present),
        Just(ValueTest::Absent),
        Just(ValueTest::Equals(Arc::from("1"))),
        select(vec!["[12]", ".*"]).prop_map(|text| ValueTest::Regex(words::regex(text))),
    ]
}

fn conditions(
    names: &'static [&'static str],
) -> impl Strategy<Value = Vec<ekiden_config::model::ValueCondition>> {
    prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec((select(names), tests()), 1..3)
            .prop_map(|list| list.into_iter().map(|(name, test)| condition(name, test)).collect()),
    ]
}

fn routes() -> impl Strategy<Value = Route> {
    let methods =
        prop_oneof![2 => Just(Vec::new()), 1 => subsequence(vec!["GET", "POST", "PURGE", "LOCK"], 1..3)];
    let listeners = prop_oneof![
        3 => Just(None),
        1 => subsequence(vec!["edge", "side", "inner"], 1..3).prop_map(Some)
    ];
    let values = (
        conditions(&["x-a", "x-b"]),
        conditions(&["p", "q"]),
        conditions(&["c", "d"]),
        conditions(&["sub", "r"]),
    );
    (hosts(), paths(), methods, listeners, values, prop::bool::weighted(0.2)).prop_map(
        |(host, path, methods, listeners, (headers, query, cookies, claims), allow)| {
            let mut made = route(host, path);
            made.methods = methods.into_iter().map(Arc::from).collect();
            made.listeners = listeners.map(|names| names.into_iter().map(words::listener_name).collect());
            (made.headers, made.query, made.cookies) = (headers, query, cookies);
            made.entrance = (!claims.is_empty()).then(|| words::tokens_of("corp"));
            made.claims = claims;
            made.loose_path = if allow { LoosePath::Allow } else { LoosePath::Refuse };
            made
        },
    )
}

/// Apps `one`, `two`, `default`, each with routes and the apps it shares its hosts with.
fn models() -> impl Strategy<Value = Model> {
    let shares = || subsequence(vec!["one", "two", "default"], 0..=3);
    let apps = prop::collection::vec((prop::collection::vec(routes(), 0..8), shares()), 1..4);
    apps.prop_map(|apps| {
        let names = ["one", "two", "default"];
        model(apps.into_iter().zip(names).map(|((routes, shares), name)| app(name, routes, &shares)))
    })
}

/// A request, raw.
#[derive(Debug, Clone)]
struct Ask {
    host: &'static str,
    path: &'static str,
    method: &'static str,
    query: &'static str,
    head: Head,
    token: Option<words::Token>,
}

fn asks() -> impl Strategy<Value = Ask> {
    let fields =
        select(vec![("x-a", "1"), ("x-a", "3"), ("x-b", "2"), ("cookie", "c=1; d=2"), ("cookie", "d=\"1\"")]);
    (
        select(&HOSTS[..]),
        select(&PATHS[..]),
        select(&METHODS[..]),
        select(vec!["", "p=1", "p=2&q=%31", "q=3&q=1", "p"]),
        prop::collection::vec(fields, 0..3),
        select(vec![
            None,
            Some(&[][..]),
            Some(&[("sub", "1")]),
            Some(&[("sub", "2"), ("r", "1"), ("r", "3")]),
        ]),
    )
        .prop_map(|(host, path, method, query, head, token)| Ask {
            host,
            path,
            method,
            query,
            head: Head(head),
            token: token.map(|said| words::Token { issuer: "corp", said }),
        })
}

impl Ask {
    fn with_facts<R>(&self, then: impl FnOnce(&Facts<'_>) -> R) -> R {
        let mut scratch = String::new();
        then(&Facts {
            host: self.host,
            path: self.path,
            loose: crate::path::loose(self.path, &mut scratch),
            query: self.query,
            method: self.method,
            fields: &self.head,
            client_cert: None,
            claims: self.token.as_ref().map_or(Shown::Nothing, |token| Shown::Token(token)),
        })
    }
}

fn agree(table: &Table, model: &Model, asks: &[Ask]) -> Result<(), TestCaseError> {
    for listener in model.listeners.values() {
        let index = table.listener(&listener.name).unwrap();
        for ask in asks {
            let (fast, slow) = ask.with_facts(|facts| {
                (Said::from(table.find(index, facts)), naive::find(model, listener, facts))
            });
            prop_assert_eq!(&fast, &slow, "{:?} on {}", ask, listener.name);
            ask.with_facts(|facts| explained(table, (index, listener), facts, &fast))?;
        }
    }
    Ok(())
}

/// What is explained is what is found: each rule of the table once, and the one that is found the only one that is taken.
fn explained(
    table: &Table,
    (index, listener): (u32, &Listener),
    facts: &Facts<'_>,
    found: &Said,
) -> Result<(), TestCaseError> {
    let (stories, omitted) = table.stories(index, facts);
    prop_assert_eq!(stories.len() + omitted, table.routes().count());
    let taken: Vec<Said> = stories
        .iter()
        .filter(|story| story.standing == Standing::Taken)
        .map(|story| Said::Route(story.app.clone(), story.route.clone()))
        .collect();
    // A path that reads in two ways is refused whatever its normal form selects.
    if *found != Said::Ambiguous {
        let wanted: Vec<Said> =
            [found.clone()].into_iter().filter(|said| matches!(said, Said::Route(..))).collect();
        prop_assert_eq!(&taken, &wanted, "{:?}", facts.path);
    }
    prop_assert!(taken.len() <= 1);
    for story in &stories {
        let holds = story.checks.iter().all(|check| check.holds);
        let wanted = matches!(story.standing, Standing::Taken | Standing::Behind);
        prop_assert_eq!(holds, wanted, "{:?} on {}", story, listener.name);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2500))]

    #[test]
    fn compiled_equals_naive(model in models(), asks in prop::collection::vec(asks(), 40)) {
        let model = Arc::new(model);
        let compiled = Compiler::new(1).compile(&model, Generation(1));
        prop_assert!(compiled.refused.is_empty());
        agree(&compiled.table, &model, &asks)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Each step replaces some apps and keeps the others pointer-equal; what the compiler reuses must not show.
    #[test]
    fn one_after_another_equals_from_nothing(
        steps in prop::collection::vec((models(), 0_u8..8, any::<bool>()), 2..6),
        asks in prop::collection::vec(asks(), 40),
    ) {
        let mut compiler = Compiler::new(1);
        let mut model = Model::empty();
        for (number, (next, replaced, gains_listener)) in steps.into_iter().enumerate() {
            let mut apps = next.apps;
            for (at, name) in ["one", "two", "default"].iter().enumerate() {
                if replaced & 1 << at == 0 {
                    apps.remove(*name);
                    apps.extend(model.apps.get(*name).map(|app| (app.name.clone(), app.clone())));
                }
            }
            let mut listeners = next.listeners;
            if !gains_listener {
                listeners.remove("side");
            }
            model = Model { listeners, apps, trust: Default::default() };
            let compiled = compiler.compile(&Arc::new(model.clone()), Generation(number as u64 + 1));
            prop_assert!(compiled.refused.is_empty());
            agree(&compiled.table, &model, &asks)?;
        }
    }
}

#[test]
fn the_empty_table_finds_nothing() {
    let table = Table::empty();
    assert_eq!(table.listener(&words::listener_name("edge")), None);
    check(&table, "GET a.b /", Said::NotFound);
    assert_eq!(table.all_clusters().count(), 0);
}
