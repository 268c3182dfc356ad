//! Limits follow their words from table to table, routes with the same words share them, and what they counted goes on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::doors::Generation;
use ekiden_config::model::{
    Cost, KeyPart, Limit, LimitFields, LimitUnit, Listener, MissingKey, Model, Rate, RouteLimits,
};

use super::words::{app, listener_name, model, rule};
use super::{Compiler, Table};
use crate::policy::limit::{Asked, Limiter, Limiters, RouteLimiters, Takes, Turn, take};
use crate::table::Fields;

struct NoFields;

impl Fields for NoFields {
    fn each(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) {}
}

fn limit(name: &str, burst: u32) -> Limit {
    Limit {
        name: name.into(),
        unit: LimitUnit::Rate,
        rate: Rate { count: 1, per: Duration::from_secs(3600), burst },
        key: vec![KeyPart::Client],
        missing: MissingKey::Share,
        cost: Cost::default(),
        except: Vec::new(),
        shadow: false,
        fields: LimitFields::Refused,
        keys: 64,
        shared: None,
    }
}

/// The words of a route with the limits of the same app as `of`'s.
fn words(of: &RouteLimits, route: &[Limit]) -> Option<Arc<RouteLimits>> {
    Some(Arc::new(RouteLimits { app: of.app.clone(), route: route.to_vec() }))
}

/// How many requests of one client pass these limits.
fn passed(limits: &Limiters) -> usize {
    passed_all(&[limits.list()])
}

/// How many requests of one client pass lists of limits, one after the other.
fn passed_all(lists: &[&[Limiter]]) -> usize {
    let client = Some(IpAddr::from([192, 0, 2, 1]));
    let asked = Asked {
        client,
        host: "a",
        method: "GET",
        path: "/",
        query: "",
        fields: &NoFields,
        api_key: None,
        client_cert: None,
    };
    let one = || {
        let mut takes = Takes::new();
        let turn = Turn { worker: 0, now_ns: 1 };
        lists.iter().all(|list| take(list, &asked, turn, &mut takes).is_ok())
    };
    (0..50).filter(|_| one()).count()
}

fn of_route(table: &Table, name: &str) -> Arc<RouteLimiters> {
    let entry = table.routes().find(|entry| entry.route.name.as_str() == name).unwrap();
    entry.limits.clone().unwrap()
}

fn with_listener(mut model: Model, limits: Option<Vec<Limit>>) -> Arc<Model> {
    let name = listener_name("edge");
    let listener = Listener { rate_limits: limits.map(Arc::new), ..(*model.listeners[&name]).clone() };
    model.listeners.insert(name, Arc::new(listener));
    Arc::new(model)
}

#[test]
fn limits_are_shared_and_what_they_counted_goes_on() {
    let of_app = RouteLimits { app: Arc::new(vec![limit("app", 9)]), route: Vec::new() };
    let plain = words(&of_app, &[]);
    let mut rules = vec![rule("- /a"), rule("- /b"), rule("- /c"), rule("- /d")];
    rules[0].rate_limits = plain.clone();
    rules[1].rate_limits = plain.clone();
    rules[2].rate_limits = words(&of_app, &[limit("own", 4)]);
    let mut compiler = Compiler::new(1);
    let before = compiler.compile(&Arc::new(model([app("one", rules.clone(), &[])])), Generation(1)).table;
    let (first, second, third) = (of_route(&before, "r1"), of_route(&before, "r2"), of_route(&before, "r3"));
    assert!(Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(first.app.as_ref().unwrap(), third.app.as_ref().unwrap()));
    assert!(before.routes().any(|entry| entry.limits.is_none()));
    assert_eq!(passed_all(&third.lists().collect::<Vec<_>>()), 4);
    assert_eq!(passed(&first.route), 50, "r1 has none of its own");

    // The routes change their places, one goes, and the words of one change but for what is counted.
    rules.remove(0);
    let shown = Limit { fields: LimitFields::Always, ..limit("own", 4) };
    rules[1].rate_limits = words(&of_app, &[shown]);
    rules[1].methods = vec![Arc::from("GET")];
    let mut moved = app("one", rules, &[]);
    for (route, name) in Arc::make_mut(&mut moved.routes).iter_mut().zip(["r2", "r3", "r4"]) {
        Arc::make_mut(route).name = ekiden_config::names::RouteName::new(name).unwrap();
    }
    let after = compiler.compile(&Arc::new(model([moved])), Generation(2)).table;
    let limits = of_route(&after, "r3");
    assert_eq!(passed(&limits.route), 0, "the route's account went on");
    assert_eq!(passed(of_route(&after, "r2").app.as_ref().unwrap()), 5, "and so did the app's");
    assert!(Arc::ptr_eq(&limits.route.list()[0].counts, &third.route.list()[0].counts));
}

#[test]
fn a_listeners_limits_go_on_while_it_and_they_are_there() {
    let made = || model([app("one", vec![rule("- /a")], &[])]);
    let mut compiler = Compiler::new(1);
    let mut left = |limits: Option<Vec<Limit>>| {
        let table = compiler.compile(&with_listener(made(), limits), Generation(1)).table;
        table.listeners[0].limits.as_ref().map(|limits| passed(limits))
    };
    assert_eq!(left(None), None);
    assert_eq!(left(Some(vec![limit("one", 3)])), Some(3));
    assert_eq!(left(Some(vec![limit("one", 3)])), Some(0));
    assert_eq!(left(Some(vec![limit("two", 2), limit("one", 3)])), Some(0));
    assert_eq!(left(Some(vec![limit("two", 2)])), Some(2), "what another limit refused took nothing");
    assert_eq!(left(None), None);
    assert_eq!(left(Some(vec![limit("one", 3)])), Some(3), "a limit that was gone begins anew");
}
