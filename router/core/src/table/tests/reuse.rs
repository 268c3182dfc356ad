//! What a compile shares with the one before, what it refuses, and what it reports as removed.

use super::words::{app_name, cluster_name, forward, rule};
use super::*;
use crate::table::{Match, RouteEntry, Target};
use ekiden_config::model::Listener;

fn two_apps() -> (App, App) {
    let mut one = app("one", vec![rule("a.b /"), rule("a.b /x"), rule("*.b /")], &[]);
    one.clusters.insert(cluster_name("blue"), cluster("blue", &[10, 11]));
    (one, app("two", vec![rule("z /")], &[]))
}

fn with(model: &Model, app: App) -> Arc<Model> {
    let mut model = model.clone();
    model.apps.insert(app.name.clone(), Arc::new(app));
    Arc::new(model)
}

fn found<'t>(table: &'t Table, host: &str, path: &str) -> Option<&'t RouteEntry> {
    let facts = Facts {
        host,
        path,
        loose: None,
        query: "",
        method: "GET",
        fields: &Head::default(),
        client_cert: None,
        claims: Shown::Nothing,
    };
    match table.find(table.listener(&words::listener_name("edge"))?, &facts) {
        Match::Route(entry) => Some(entry),
        Match::NotFound | Match::MethodNotAllowed(_) | Match::Ambiguous => None,
    }
}

#[test]
fn an_endpoint_change_rebuilds_one_cluster_only() {
    let (one, two) = two_apps();
    let before = Arc::new(model([one.clone(), two]));
    let mut compiler = Compiler::new(1);
    let first = compiler.compile(&before, Generation(1));
    let mut changed = one;
    changed.clusters.insert(cluster_name("blue"), cluster("blue", &[10, 12]));
    let second = compiler.compile(&with(&before, changed), Generation(2));
    let (old, new) = (&first.table, &second.table);
    assert_eq!(new.generation, Generation(2));
    assert!(Arc::ptr_eq(old.app_named(&app_name("two")).unwrap(), new.app_named(&app_name("two")).unwrap()));
    let of = |table: &Arc<Table>, name: &str| {
        table.cluster_named(&app_name("one"), &cluster_name(name)).unwrap().clone()
    };
    assert!(Arc::ptr_eq(&of(old, "web"), &of(new, "web")));
    assert!(!Arc::ptr_eq(&of(old, "blue"), &of(new, "blue")));
    assert!(old.listeners.iter().zip(&new.listeners).all(|(a, b)| Arc::ptr_eq(a, b)));
    assert_eq!(second.removed.len(), 1);
    assert!(Arc::ptr_eq(&second.removed[0], &of(old, "blue").endpoints[1].cell));
    assert!(Arc::ptr_eq(&of(old, "blue").endpoints[0].cell, &of(new, "blue").endpoints[0].cell));
    assert!(std::ptr::eq(found(old, "a.b", "/").unwrap(), found(new, "a.b", "/").unwrap()));
}

#[test]
fn the_changed_clusters_of_two_tables_are_told_once_each() {
    let (one, two) = two_apps();
    let first_model = Arc::new(model([one.clone(), two.clone()]));
    let mut compiler = Compiler::new(1);
    let first = compiler.compile(&first_model, Generation(1)).table;
    let mut changed = one.clone();
    changed.clusters.insert(cluster_name("blue"), cluster("blue", &[10, 12]));
    changed.clusters.insert(cluster_name("new"), cluster("new", &[13]));
    let second_model = with(&first_model, changed);
    let second = compiler.compile(&second_model, Generation(2)).table;
    let mut less = (*second_model).clone();
    less.apps.remove(&app_name("two"));
    let mut shorter = one;
    shorter.clusters.remove("blue");
    less.apps.insert(app_name("one"), Arc::new(shorter));
    let third = compiler.compile(&Arc::new(less), Generation(3)).table;
    let told = |before: &Table, after: &Table| {
        let mut told = Vec::new();
        after.changed_clusters(before, |was, is| {
            let name = |table: &Arc<crate::cluster::ClusterTable>| table.cluster.name.to_string();
            told.push((was.map(name), is.map(name)));
        });
        told
    };
    let pair = |was: &str, is: &str| {
        let name = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (name(was), name(is))
    };
    assert_eq!(told(&first, &first), []);
    assert_eq!(told(&first, &second), [pair("blue", "blue"), pair("", "new")]);
    assert_eq!(told(&second, &third), [pair("blue", ""), pair("new", ""), pair("web", "")]);
    assert_eq!(told(&Table::empty(), &second).len(), 4);
}

#[test]
fn a_route_change_keeps_the_other_entries() {
    let (one, two) = two_apps();
    let before = Arc::new(model([one.clone(), two]));
    let mut compiler = Compiler::new(1);
    let first = compiler.compile(&before, Generation(1));
    let mut routes = (*one.routes).clone();
    routes[1] = Arc::new(Route { path: PathMatch::Prefix(Arc::from("/y")), ..(*routes[1]).clone() });
    let changed = App { routes: Arc::new(routes), ..one };
    let second = compiler.compile(&with(&before, changed), Generation(2));
    let same = |host, path| {
        std::ptr::eq(found(&first.table, host, path).unwrap(), found(&second.table, host, path).unwrap())
    };
    assert!(same("a.b", "/") && same("x.b", "/") && same("z", "/"));
    assert_eq!(found(&second.table, "a.b", "/y").unwrap().route.name.as_str(), "r2");
    assert_eq!(found(&second.table, "a.b", "/x").unwrap().route.name.as_str(), "r1");
    let cells = [("/x", &first), ("/y", &second)]
        .map(|(path, made)| found(&made.table, "a.b", path).unwrap().cell.clone());
    assert!(Arc::ptr_eq(&cells[0], &cells[1]), "the counters of a route go on");
}

#[test]
fn an_app_that_cannot_be_compiled_keeps_its_last_good_version() {
    let (one, two) = two_apps();
    let good = Arc::new(model([one.clone(), two]));
    let mut compiler = Compiler::new(1);
    compiler.compile(&good, Generation(1));
    let mut route = rule("a.b /new");
    route.action = forward(&[("missing", 1)]);
    let bad = with(&good, app("one", vec![route.clone()], &[]));
    let refused = compiler.compile(&bad, Generation(2));
    assert_eq!(refused.refused.len(), 1);
    assert_eq!(refused.refused[0].part, "app:one");
    assert!(refused.refused[0].reason.contains("missing"));
    assert_eq!(refused.removed.len(), 0);
    assert_eq!(found(&refused.table, "a.b", "/new").unwrap().route.name.as_str(), "r1");
    assert!(refused.table.cluster_named(&app_name("one"), &cluster_name("blue")).is_some());
    // It stays refused while others change, and ends when it is good or gone.
    let still = compiler.compile(&with(&bad, app("two", vec![rule("y /")], &[])), Generation(3));
    assert_eq!(still.refused.len(), 1);
    assert_eq!(compiler.compile(&good, Generation(4)).refused, []);
    compiler.compile(&bad, Generation(5));
    let mut without = (*bad).clone();
    without.apps.remove("one");
    let gone = compiler.compile(&Arc::new(without), Generation(6));
    assert_eq!(gone.refused, []);
    assert_eq!(gone.removed.len(), 3);
    assert!(found(&gone.table, "a.b", "/").is_none());
    // One that never was good stays out.
    let mut fresh = Compiler::new(1);
    let out = fresh.compile(&with(&good, app("one", vec![route], &[])), Generation(1));
    assert_eq!(out.refused.len(), 1);
    assert!(out.table.app_named(&app_name("one")).is_none());
    assert!(out.table.app_named(&app_name("two")).is_some());
}

#[test]
fn a_slot_that_was_given_away_is_not_mistaken() {
    let (one, two) = two_apps();
    let mut split = one.clone();
    split.routes = Arc::new(vec![Arc::new(Route { action: forward(&[("web", 1)]), ..rule("a.b /") })]);
    let before = Arc::new(model([split.clone(), two]));
    let mut compiler = Compiler::new(1);
    let first = compiler.compile(&before, Generation(1)).table;
    let entry = found(&first, "a.b", "/").unwrap();
    let Target::Clusters(sides) = &entry.target else { panic!("no clusters") };
    let slot = sides[0].slot;
    let web = |table: &Table| table.cluster_again(entry, slot).map(|table| table.cluster.name.to_string());
    assert_eq!(web(&first).as_deref(), Some("web"));
    // A cluster before it leaves: the slot means nothing now, the name still does.
    split.clusters.remove("blue");
    split.clusters.insert(cluster_name("zebra"), cluster("zebra", &[1]));
    let second = compiler.compile(&with(&before, split), Generation(2)).table;
    assert_eq!(web(&second).as_deref(), Some("web"));
    let now = found(&second, "a.b", "/").unwrap();
    let Target::Clusters(sides) = &now.target else { panic!("no clusters") };
    assert_eq!(second.cluster(now.app, sides[0].slot).unwrap().cluster.name.as_str(), "web");
    // The app leaves and another takes its slot.
    let mut without = (*before).clone();
    without.apps.remove("one");
    let third = compiler.compile(&with(&without, app("three", vec![rule("t /")], &[])), Generation(3)).table;
    assert_eq!(web(&third), None);
    assert_eq!(found(&third, "t", "/").unwrap().app, entry.app);
}

#[test]
fn a_listener_change_keeps_its_hosts_unless_the_role_changed() {
    let (one, two) = two_apps();
    let before = Arc::new(model([one, two]));
    let mut compiler = Compiler::new(1);
    let first = compiler.compile(&before, Generation(1)).table;
    let mut changed = (*before).clone();
    let edge = words::listener_name("edge");
    let slower = Listener { merge_slashes: true, ..(*changed.listeners[&edge]).clone() };
    changed.listeners.insert(edge.clone(), Arc::new(slower));
    let second = compiler.compile(&Arc::new(changed.clone()), Generation(2)).table;
    let at = |table: &Table| table.listeners[table.listener(&edge).unwrap() as usize].clone();
    assert!(at(&second).listener.merge_slashes);
    assert!(Arc::ptr_eq(&at(&first).hosts, &at(&second).hosts));
    changed.listeners.insert(edge.clone(), listener("edge", Role::Outbound));
    let third = compiler.compile(&Arc::new(changed), Generation(3)).table;
    assert!(found(&third, "a.b", "/").is_none());
}
