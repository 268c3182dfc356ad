//! Conditions on claims: which tokens make them hold, and which rule goes first.

use super::words::{Token, app, condition, model, rule, tokens_of};
use super::*;
use crate::table::Match;

/// The rule that takes a GET of `/`, by its position from 1; 0 for none.
fn taken(routes: &[Route], shown: Shown<'_>) -> usize {
    let model = Arc::new(model([app("default", routes.to_vec(), &[])]));
    let table = Compiler::new(1).compile(&model, Generation(1)).table;
    let edge = table.listener(&words::listener_name("edge")).unwrap();
    let head = Head::default();
    let facts = Facts {
        host: "h",
        path: "/",
        loose: None,
        query: "",
        method: "GET",
        fields: &head,
        client_cert: None,
        claims: shown,
    };
    assert_eq!(table.asks_claims(), routes.iter().any(|route| !route.claims.is_empty()));
    match table.find(edge, &facts) {
        Match::Route(entry) => table.routes().position(|one| Arc::ptr_eq(one, entry)).unwrap() + 1,
        Match::NotFound | Match::MethodNotAllowed(_) | Match::Ambiguous => 0,
    }
}

fn with(issuer: &str, tests: &[(&str, ValueTest)]) -> Route {
    let mut made = rule("- /");
    made.entrance = Some(tokens_of(issuer));
    made.claims = tests.iter().map(|(name, test)| condition(name, test.clone())).collect();
    made
}

fn equals(text: &str) -> ValueTest {
    ValueTest::Equals(Arc::from(text))
}

#[test]
fn one_value_that_passes_suffices_and_without_a_token_nothing_does() {
    let token = Token { issuer: "corp", said: &[("role", "buyer"), ("role", "admin"), ("sub", "ann")] };
    for (name, test, holds) in [
        ("role", equals("admin"), true),
        ("role", equals("adm"), false),
        ("role", ValueTest::Regex(words::regex("a.*")), true),
        ("sub", ValueTest::Present, true),
        ("sub", ValueTest::Absent, false),
        ("team", ValueTest::Absent, true),
        ("team", ValueTest::Present, false),
    ] {
        let route = with("corp", &[(name, test.clone())]);
        let said = |shown| taken(std::slice::from_ref(&route), shown) == 1;
        assert_eq!(said(Shown::Token(&token)), holds, "{name} {test:?}");
        assert!(!said(Shown::Nothing), "{name} {test:?} without a token");
        assert!(said(Shown::Any), "{name} {test:?} of a preflight");
        let other = Token { issuer: "other", ..token.clone() };
        assert!(!said(Shown::Token(&other)), "{name} {test:?} signed by another");
    }
}

#[test]
fn more_conditions_on_claims_go_first_and_a_rule_without_any_takes_the_rest() {
    let routes = [
        rule("- /"),
        with("corp", &[("role", equals("buyer"))]),
        with("corp", &[("role", equals("buyer")), ("sub", equals("ann"))]),
    ];
    let of = |said| taken(&routes, Shown::Token(&Token { issuer: "corp", said }));
    assert_eq!(of(&[("role", "buyer"), ("sub", "ann")]), 3);
    assert_eq!(of(&[("role", "buyer"), ("sub", "bob")]), 2);
    assert_eq!(of(&[("sub", "ann")]), 1);
    assert_eq!(taken(&routes, Shown::Nothing), 1);
    // Each rule looks at what its own issuer signed.
    let both = [with("corp", &[("role", equals("buyer"))]), with("login", &[("role", equals("buyer"))])];
    let login = Token { issuer: "login", said: &[("role", "buyer")] };
    assert_eq!(taken(&both, Shown::Token(&login)), 2);
}

/// A route whose entrance names no issuer, which validation refuses, takes nothing.
#[test]
fn without_an_issuer_no_condition_holds() {
    let mut route = with("corp", &[("role", ValueTest::Absent)]);
    route.entrance = None;
    assert_eq!(taken(&[route], Shown::Token(&Token { issuer: "corp", said: &[] })), 0);
}
