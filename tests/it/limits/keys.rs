//! Who is counted as whom: keys of each kind, costs and exceptions.

use ekiden_tests::{Echo, Ekiden, Served};

use super::{get, is_served, passed, serve};

const TRUSTING: &str = "trust = [\"127.0.0.0/8\"]";

/// Of two requests on a route whose burst is one, the second one's fate: served means that it is another key.
fn differ(router: &Ekiden, path: &str, one: &str, other: &str) -> bool {
    let mut client = router.client();
    assert!(is_served(&client.ask(one.replace("PATH", path))), "{path}: {one}");
    is_served(&client.ask(other.replace("PATH", path)))
}

/// `GET` of a path below the route's with these fields.
fn request(rest: &str, fields: &str) -> String {
    get(&format!("PATH{rest}"), fields)
}

fn from(client: &str) -> String {
    request("", &format!("X-Forwarded-For: {client}\r\n"))
}

#[test]
fn keys_of_each_kind() {
    let echo = Echo::start("one");
    let header = |value: &str| request("", &format!("X-User: {value}\r\n"));
    let cookie = |value: &str| request("", &format!("Cookie: a=b; session={value}\r\n"));
    let user_from =
        |user: &str, client: &str| request("", &format!("X-User: {user}\r\nX-Forwarded-For: {client}\r\n"));
    let groups = "groups = { office = [\"192.0.2.0/24\"], lab = [\"192.0.2.128/25\", \"2001:db8::/32\"] }, ";
    let template = "{client}:{header:x-user}";
    let rows: Vec<(&str, &str, String, String, bool)> = vec![
        ("client", "", from("192.0.2.1"), from("192.0.2.2"), true),
        ("client", "", from("192.0.2.1"), from("192.0.2.1"), false),
        ("client", "", from("192.0.2.1, 127.0.0.9"), from("198.51.100.1, 192.0.2.1"), false),
        ("client", "", from("2001:db8::1"), from("2001:db8::ffff:0:0:1"), false),
        ("client", "", from("2001:db8::1"), from("2001:db8:0:1::1"), true),
        ("client", "", from("::ffff:192.0.2.1"), from("192.0.2.1"), false),
        ("header:X-User", "", header("ann"), header("bob"), true),
        ("header:X-User", "", header("ann"), request("/b", "x-user: ann\r\n"), false),
        ("header:X-User", "", request("", ""), request("/b", ""), false),
        ("header:X-User", "missing = \"skip\", ", request("", ""), request("/b", ""), true),
        ("cookie:session", "", cookie("1"), cookie("2"), true),
        ("cookie:session", "", cookie("1"), request("", "Cookie: session=1\r\n"), false),
        ("query:key", "", request("?key=a", ""), request("?key=b", ""), true),
        ("query:key", "", request("?key=a%20b", ""), request("?x=1&key=a+b", ""), false),
        ("path:2", "", request("/a", ""), request("/b", ""), true),
        ("path:2", "", request("/a/x", ""), request("/%61/y", ""), false),
        ("group", groups, from("192.0.2.1"), from("192.0.2.2"), false),
        ("group", groups, from("192.0.2.1"), from("192.0.2.129"), true),
        ("group", groups, from("192.0.2.129"), from("2001:db8::1"), false),
        ("group", groups, from("198.51.100.1"), from("198.51.100.2"), false),
        (template, "", user_from("ann", "192.0.2.1"), user_from("ann", "192.0.2.2"), true),
        (template, "", user_from("ann", "192.0.2.1"), user_from("bob", "192.0.2.1"), true),
        (template, "", user_from("ann", "192.0.2.1"), user_from("ann", "192.0.2.1"), false),
    ];
    let routes: String = rows
        .iter()
        .enumerate()
        .map(|(at, (key, words, ..))| {
            format!(
                "[[route]]\npath = \"/r{at}\"\ncluster = \"web\"\n\
                 limit = [{{ rate = \"1/h\", {words}key = \"{key}\" }}]\n"
            )
        })
        .collect();
    let router = serve(&echo, &routes, TRUSTING);
    for (at, (key, words, one, other, want)) in rows.iter().enumerate() {
        assert_eq!(differ(&router, &format!("/r{at}"), one, other), *want, "{key} {words}:\n{one}{other}");
    }
}

#[test]
fn exceptions_are_not_counted() {
    let echo = Echo::start("one");
    let limit = "limit = [{ rate = \"1/h\", except = [\"192.0.2.0/24\", \"2001:db8::/32\"] }]";
    let router = serve(&echo, limit, TRUSTING);
    let mut client = router.client();
    for client_address in ["192.0.2.7", "2001:db8::7"] {
        assert_eq!(passed(&mut client, &from(client_address).replace("PATH", "/"), 3), 3);
    }
    assert_eq!(passed(&mut client, &from("198.51.100.1").replace("PATH", "/"), 3), 1);
    assert_eq!(passed(&mut client, &from("192.0.2.7").replace("PATH", "/"), 3), 3);
    // What nobody trusted says counts for nothing.
    let strict = serve(&echo, limit, "");
    let mut client = strict.client();
    assert_eq!(passed(&mut client, &from("192.0.2.7").replace("PATH", "/"), 3), 1);
}

#[test]
fn costs_by_method_and_by_header_within_bounds() {
    let echo = Echo::start("one");
    let cost = "cost = { methods = { POST = 4, OPTIONS = 0 }, header = \"X-Cost\", least = 1, most = 6, otherwise = 2 }";
    let router =
        serve(&echo, &format!("limit = [{{ rate = \"1/h\", burst = 12, key = \"path:1\", {cost} }}]"), "");
    let mut client = router.client();
    for (at, (method, fields, want)) in [
        ("GET", "", 6),
        ("POST", "Content-Length: 0\r\n", 3),
        ("OPTIONS", "", 20),
        ("GET", "X-Cost: 0\r\n", 12),
        ("GET", "X-Cost: 6\r\n", 2),
        ("GET", "X-Cost: 999999\r\n", 2),
        ("GET", "X-Cost: many\r\n", 6),
        ("POST", "X-Cost: 3\r\nContent-Length: 0\r\n", 4),
    ]
    .into_iter()
    .enumerate()
    {
        let request = format!("{method} /{at} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(passed(&mut client, &request, 20), want, "{request}");
    }
}

#[test]
fn more_keys_than_accounts_stay_bounded_and_free_nobody() {
    let echo = Echo::start("one");
    let limit = "limit = [{ rate = \"20/h\", burst = 20, key = \"header:x-user\", keys = 64 }]\n\
                 [[route]]\npath = \"/fixed\"\nrespond = {}\n\
                 limit = [{ rate = \"20/h\", burst = 20, key = \"header:x-user\", keys = 64 }]";
    let router = serve(&echo, limit, "");
    let user = |name: &str| get("/fixed", &format!("X-User: {name}\r\n"));
    let mut client = router.client();
    assert_eq!(passed(&mut client, &user("heavy"), 25), 20);
    // Each once, from many clients: 100 times what the table holds.
    for batch in 0..64 {
        let requests: String = (0..100).map(|at| user(&format!("{batch}-{at}"))).collect();
        client.send(requests);
        for _ in 0..100 {
            is_served(&client.response());
        }
        assert_eq!(passed(&mut client, &user("heavy"), 1), 0, "the flood freed a key that was at its limit");
    }
    assert!(router.metric("ekiden_limit_keys", &["route=\"route-2\""]) <= 64.0);
    assert!(router.metric("ekiden_limit_crowded_total", &["route=\"route-2\""]) > 0.0);
}
