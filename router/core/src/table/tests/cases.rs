//! Named cases: each sentence of DESIGN section 3 on matching.

use super::words::{app_name, ask, forward, rule};
use super::*;
use ekiden_config::names::RouteName;

fn table_of(apps: impl IntoIterator<Item = App>) -> Arc<Table> {
    let compiled = Compiler::new(1).compile(&Arc::new(model(apps)), Generation(1));
    assert_eq!(compiled.refused, []);
    compiled.table
}

fn rules(texts: &[&str]) -> Vec<Route> {
    texts.iter().map(|text| rule(text)).collect()
}

/// A table of the app `default` with these rules.
fn plain(texts: &[&str]) -> Arc<Table> {
    table_of([app("default", rules(texts), &[])])
}

fn taken(app: &str, route: usize) -> Said {
    Said::Route(app_name(app), RouteName::new(&format!("r{route}")).unwrap())
}

/// Checks requests against the numbers of the rules that take them; 0 is none.
fn expect(table: &Table, cases: &[(&str, usize)]) {
    for (text, number) in cases {
        check(table, text, if *number == 0 { Said::NotFound } else { taken("default", *number) });
    }
}

#[test]
fn the_most_specific_host_decides_finally() {
    let table = plain(&["- /", "*.b /", "*.a.b /", "a.b /x", "c.a.b /", "*.q.r /only"]);
    expect(
        &table,
        &[
            ("GET c.a.b /", 5),
            ("GET d.a.b /", 3),
            ("GET e.d.a.b /", 3),
            ("GET x.b /", 2),
            ("GET b /", 1),
            ("GET z /", 1),
            ("GET - /", 1),
            ("GET a.b /x/y", 4),
            ("GET a.b /", 0),
            ("GET p.q.r /", 0),
            ("GET p.q.r /only", 6),
            ("GET q.r /", 1),
            ("GET xa.b /", 2),
        ],
    );
}

#[test]
fn without_a_rule_for_any_host_an_unknown_host_is_not_found() {
    expect(&plain(&["a.b /"]), &[("GET a.b /", 1), ("GET b /", 0), ("GET - /", 0), ("GET x.a.b /", 0)]);
}

#[test]
fn exact_then_regex_then_longest_prefix() {
    let table = plain(&["- /", "- /a", "- /a/b", "- =/a/b", "- ~/a/b/[0-9]+", "- ~/a/b/.*", "- =/a/"]);
    expect(
        &table,
        &[
            ("GET x /", 1),
            ("GET x /ab", 1),
            ("GET x /a", 2),
            ("GET x /a/", 7),
            ("GET x /a/c", 2),
            ("GET x /a/b", 4),
            ("GET x /a/b/", 6),
            ("GET x /a/b/7", 5),
            ("GET x /a/b/x", 6),
            ("GET x /a/bc", 2),
            ("OPTIONS x *", 1),
        ],
    );
}

#[test]
fn expressions_of_one_length_go_by_the_ties() {
    let table = plain(&["- ~/[a-c]", "- ~/[a-d]", "- ~/[a-d] PURGE"]);
    expect(&table, &[("GET x /a", 1), ("GET x /d", 2), ("PURGE x /a", 3)]);
}

#[test]
fn conditions_before_none_and_more_before_fewer() {
    let mut list = rules(&["- /", "- /", "- /", "- / POST", "- /"]);
    list[1].query = vec![condition("q", ValueTest::Present)];
    list[2].headers = vec![condition("x-a", ValueTest::Present)];
    list[4].cookies = vec![condition("c", ValueTest::Equals(Arc::from("1")))];
    let table = table_of([app("default", list, &[])]);
    let said = |text: &str, head: &[(&'static str, &'static str)]| ask(&table, text, &Head(head.to_vec()));
    assert_eq!(said("GET x /", &[]), taken("default", 1));
    assert_eq!(said("GET x /?q", &[]), taken("default", 2));
    assert_eq!(said("GET x /?q", &[("x-a", "")]), taken("default", 3));
    assert_eq!(said("POST x /?q", &[("x-a", "")]), taken("default", 4));
    assert_eq!(said("GET x /", &[("Cookie", "b=2; c=1")]), taken("default", 5));
    assert_eq!(said("GET x /?q", &[("cookie", "c=1")]), taken("default", 2));
}

#[test]
fn a_rule_whose_conditions_fail_passes_to_the_next() {
    let mut list = rules(&["- =/a/b", "- ~/a/b", "- /a/b", "- /a"]);
    list[0].headers = vec![condition("x", ValueTest::Equals(Arc::from("1")))];
    list[1].headers = vec![condition("x", ValueTest::Equals(Arc::from("2")))];
    list[2].headers = vec![condition("x", ValueTest::Regex(words::regex("[1-3]")))];
    let table = table_of([app("default", list, &[])]);
    let said = |value: &'static str| ask(&table, "GET h /a/b", &Head(vec![("x", value)]));
    let numbers = ["1", "2", "3", "4", "11"].map(said);
    assert_eq!(numbers, [1, 2, 3, 4, 4].map(|number| taken("default", number)));
    check(&table, "GET h /b", Said::NotFound);
}

#[test]
fn value_conditions() {
    let equals = |text: &str| ValueTest::Equals(Arc::from(text));
    let cases: [(&str, ValueTest, &str, bool); 10] = [
        ("q", equals("a b"), "/?q=a+b", true),
        ("q", equals("a b"), "/?q=x&q=a%20b", true),
        ("q", equals("a b"), "/?q=ab", false),
        ("a b", ValueTest::Present, "/?a%20b", true),
        ("q", ValueTest::Absent, "/?p=q", true),
        ("q", ValueTest::Absent, "/?q", false),
        ("q", ValueTest::Regex(words::regex("a b+")), "/?q=a%20bb", true),
        ("q", ValueTest::Regex(words::regex("a b+")), "/?q=a%20bbc", false),
        ("q", ValueTest::Regex(words::regex(".*")), "/?q=%FF", false),
        ("q", ValueTest::Present, "/?Q", false),
    ];
    for (name, test, request, holds) in cases {
        let mut list = rules(&["- /"]);
        list[0].query = vec![condition(name, test.clone())];
        let table = table_of([app("default", list, &[])]);
        let expected = if holds { taken("default", 1) } else { Said::NotFound };
        check(&table, &format!("GET h {request}"), expected);
    }
}

#[test]
fn header_values_are_fields() {
    let mut list = rules(&["- /", "- /absent"]);
    list[0].headers = vec![condition("x", ValueTest::Equals(Arc::from("2")))];
    list[1].headers = vec![condition("x", ValueTest::Absent)];
    let table = table_of([app("default", list, &[])]);
    let said = |path: &str, head: &[(&'static str, &'static str)]| ask(&table, path, &Head(head.to_vec()));
    assert_eq!(said("GET h /", &[("x", "1"), ("X", "2")]), taken("default", 1));
    assert_eq!(said("GET h /", &[("x", "1, 2")]), Said::NotFound);
    assert_eq!(said("GET h /absent", &[]), taken("default", 2));
    assert_eq!(said("GET h /absent", &[("x", "")]), Said::NotFound);
}

#[test]
fn when_only_the_method_failed_the_answer_allows_those_that_would_do() {
    let mut list = rules(&["- /a GET,PURGE", "- /a POST", "- =/a/b DELETE", "- /a PUT", "- ~/a/[bc] LOCK"]);
    list[3].headers = vec![condition("x", ValueTest::Present)];
    let table = table_of([app("default", list, &[])]);
    let allowed =
        |methods: &[&str]| Said::MethodNotAllowed(methods.iter().map(|m| (*m).to_owned()).collect());
    check(&table, "PATCH h /a", allowed(&["GET", "HEAD", "PURGE", "POST"]));
    check(&table, "PATCH h /a/b", allowed(&["GET", "HEAD", "PURGE", "POST", "DELETE", "LOCK"]));
    check(&table, "PATCH h /b", Said::NotFound);
    check(&table, "LOCK h /a", allowed(&["GET", "HEAD", "PURGE", "POST"]));
    check(&table, "HEAD h /a", taken("default", 1));
    check(&table, "PURGE h /a", taken("default", 1));
    check(&table, "purge h /a", allowed(&["GET", "HEAD", "PURGE", "POST"]));
    let edge = table.listener(&words::listener_name("edge")).unwrap();
    let head = Head::default();
    let facts = Facts {
        host: "h",
        path: "/a",
        loose: None,
        query: "",
        method: "PUT",
        fields: &head,
        client_cert: None,
        claims: Shown::Nothing,
    };
    let crate::table::Match::MethodNotAllowed(allow) = table.find(edge, &facts) else {
        panic!("not refused")
    };
    assert_eq!(allow.to_string(), "GET, HEAD, POST, PURGE");
}

#[test]
fn more_methods_than_bits_still_match() {
    let names: Vec<String> = (0..80).map(|n| format!("M{n}")).collect();
    let table = plain(&[&format!("- / {}", names.join(","))]);
    for name in &names {
        check(&table, &format!("{name} h /"), taken("default", 1));
    }
    assert!(matches!(ask(&table, "M80 h /", &Head::default()), Said::MethodNotAllowed(_)));
}

#[test]
fn ties_go_to_the_owner_then_the_app_name_then_the_file() {
    let shared = [
        app("a", rules(&["h /", "h /"]), &[]),
        app("b", rules(&["h /", "h /"]), &["a", "c"]),
        app("c", rules(&["h /"]), &[]),
    ];
    check(&table_of(shared), "GET h /", taken("b", 1));
    let nobody = [app("b", rules(&["h /"]), &[]), app("a", rules(&["h /", "h /"]), &[])];
    check(&table_of(nobody), "GET h /", taken("a", 1));
    let mutual = [app("a", rules(&["h /"]), &["default"]), app("default", rules(&["h /"]), &["a"])];
    check(&table_of(mutual), "GET h /", taken("default", 1));
}

#[test]
fn a_longer_prefix_of_a_guest_wins_over_the_owner() {
    let apps = [app("owner", rules(&["h /"]), &["guest"]), app("guest", rules(&["h /g"]), &[])];
    let table = table_of(apps);
    check(&table, "GET h /g/x", taken("guest", 1));
    check(&table, "GET h /", taken("owner", 1));
}

#[test]
fn routes_apply_to_edges_unless_they_name_listeners() {
    let mut list = rules(&["- /", "- /named"]);
    list[1].listeners = Some(vec![words::listener_name("inner"), words::listener_name("unknown")]);
    let table = table_of([app("default", list, &[])]);
    let found = |listener: &str, path: &str| {
        let index = table.listener(&words::listener_name(listener)).unwrap();
        let facts = Facts {
            host: "h",
            path,
            loose: None,
            query: "",
            method: "GET",
            fields: &Head::default(),
            client_cert: None,
            claims: Shown::Nothing,
        };
        Said::from(table.find(index, &facts))
    };
    assert_eq!(found("edge", "/named"), taken("default", 1));
    assert_eq!(found("side", "/"), taken("default", 1));
    assert_eq!(found("inner", "/named"), taken("default", 2));
    assert_eq!(found("inner", "/"), Said::NotFound);
}

#[test]
fn a_path_that_another_server_reads_as_another_rule_is_refused() {
    let table = plain(&["- /", "- /admin", "h /open", "p ~/p;v=[0-9]"]);
    for path in [
        "//admin",
        "/%2Fadmin",
        "/x%2F..%2Fadmin",
        "/x/..;/admin",
        "/admin;x",
        "/admin%5Cx",
        "/x%5C..%5Cadmin",
        // Both forms select the open rule, and a server that decodes slashes only makes `/admin/..;/x` of it.
        "/admin%2F..;/x",
        "/admin%2F..%5C",
        "/x%2F..%2Fadmin%2F..;",
        // A server that drops parameters before it decodes makes `//admin` of it.
        "/;%2Fx/admin",
    ] {
        check(&table, &format!("GET x {path}"), Said::Ambiguous);
    }
    expect(&table, &[("GET x /a%2Fb", 1), ("GET x //", 1), ("GET x /admin/x;y", 2), ("GET x /admin//x", 2)]);
    // Nothing in normal form, a rule in loose form; and the other way round.
    check(&table, "GET h //open", Said::Ambiguous);
    check(&table, "GET h //closed", Said::NotFound);
    check(&table, "GET p /p;v=1", Said::Ambiguous);
}

#[test]
fn a_rule_may_allow_loose_paths() {
    let mut list = rules(&["- /", "- /admin"]);
    list[0].loose_path = LoosePath::Allow;
    let table = table_of([app("default", list, &[])]);
    check(&table, "GET x //admin", taken("default", 1));
    check(&table, "GET x /admin%2F..%2F", taken("default", 1));
    check(&table, "GET x /admin/..;/", Said::Ambiguous);
}

#[test]
fn a_long_path_of_slashes_costs_no_more_than_the_tree() {
    let table = plain(&["- /a/b", "- /"]);
    let edge = table.listener(&words::listener_name("edge")).unwrap();
    let path = "/a".repeat(100_000);
    let facts = Facts {
        host: "h",
        path: &path,
        loose: None,
        query: "",
        method: "GET",
        fields: &Head::default(),
        client_cert: None,
        claims: Shown::Nothing,
    };
    assert_eq!(Said::from(table.find(edge, &facts)), taken("default", 2));
}

#[test]
fn a_node_with_many_children_finds_each() {
    let texts: Vec<String> = (0..100).map(|n| format!("h /s{n}/x")).collect();
    let table = plain(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    for n in 0..100 {
        expect(&table, &[(&format!("GET h /s{n}/x/y"), n + 1), (&format!("GET h /s{n}"), 0)]);
    }
}

#[test]
fn many_hosts_find_each() {
    let texts: Vec<String> = (0..2000)
        .map(|n| format!("{}h{n}.a-rather-long-domain-name.example /", if n % 2 == 0 { "*." } else { "" }))
        .collect();
    let table = plain(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    for n in 0..2000 {
        let sub = if n % 2 == 0 { "www." } else { "" };
        let host = format!("h{n}.a-rather-long-domain-name.example");
        expect(
            &table,
            &[
                (&format!("GET {sub}{host} /x"), n + 1),
                (&format!("GET {}{host} /", if n % 2 == 0 { "" } else { "www." }), 0),
            ],
        );
    }
}

#[test]
fn a_cluster_named_twice_is_one_side() {
    let mut list = rules(&["- /"]);
    list[0].action = forward(&[("web", 2), ("web", 3)]);
    let table = table_of([app("default", list, &[])]);
    let edge = table.listener(&words::listener_name("edge")).unwrap();
    let facts = Facts {
        host: "",
        path: "/",
        loose: None,
        query: "",
        method: "GET",
        fields: &Head::default(),
        client_cert: None,
        claims: Shown::Nothing,
    };
    let crate::table::Match::Route(entry) = table.find(edge, &facts) else { panic!("not found") };
    let crate::table::Target::Clusters(sides) = &entry.target else { panic!("no clusters") };
    assert_eq!(sides.iter().map(|side| side.weight).collect::<Vec<_>>(), [5]);
    assert_eq!(crate::split::side(entry, 1), Some(0));
}
