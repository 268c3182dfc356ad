//! What limits count beside requests in a time: requests at a time, and what responses say that they cost.

use ekiden_tests::{Client, Ekiden, Origin, Served, Setup, until_true, web};

use super::{get, is_served};

/// An endpoint that answers `/wait` only when its connection is closed, and anything else at once, with the cost that is asked for.
pub(super) fn endpoint() -> Origin {
    Origin::start(|conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/wait" {
                return conn.until_closed();
            }
            let cost = request.get("x-say").map(|cost| format!("X-Cost: {cost}\r\n")).unwrap_or_default();
            conn.send(format!("HTTP/1.1 200 OK\r\n{cost}X-Other: 1\r\nContent-Length: 2\r\n\r\nok"));
        }
    })
}

fn refused(router: &Ekiden) -> f64 {
    router.metric("ekiden_limit_requests_total", &["\"refused\""])
}

#[test]
fn requests_at_a_time_give_their_places_back() {
    let origin = endpoint();
    let limit =
        "limit = [{ name = \"few\", concurrency = 2, key = \"header:x-user\", headers = \"always\" }]";
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", limit)).workers(2));
    let ask = |path: &str, user: &str| {
        let mut client = router.client();
        client.send(get(path, &format!("X-User: {user}\r\n")));
        client
    };
    let waiting: Vec<Client> = (0..2).map(|_| ask("/wait", "ann")).collect();
    until_true("both to be under way", || router.metric("ekiden_requests_in_flight", &[]) == 2.0);
    let answer = ask("/", "ann").response();
    assert_eq!((answer.status, answer.code(), answer.get("retry-after")), (429, "rate_limited", Some("1")));
    assert_eq!(answer.get("ratelimit-policy"), Some("\"few\";q=2;qu=\"concurrent-requests\""));
    // Somebody else has places of their own, and each answer gives one back, a moment after its client has it.
    for _ in 0..5 {
        until_true("an answer", || {
            let answer = ask("/", "bob").response();
            (answer.status, answer.get("ratelimit")) == (200, Some("\"few\";r=1"))
        });
    }
    // Who leaves gives the place back too.
    waiting.into_iter().for_each(Client::reset);
    until_true("the places", || is_served(&ask("/", "ann").response()));
    until_true("nobody to be there", || router.metric("ekiden_limit_keys", &["few"]) == 0.0);
    let table = router.table();
    let shown = &table["apps"][0]["routes"][0]["limits"][0];
    assert_eq!((&shown["concurrency"], &shown["count"]), (&2.into(), &serde_json::Value::Null));
}

#[test]
fn a_place_is_held_over_a_refusal_behind_it_only_to_its_end() {
    // The second limit refuses: what the first gave is given back at once.
    let origin = endpoint();
    let limit = "limit = [{ concurrency = 1 }, { rate = \"1/h\" }]";
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", limit)));
    let mut client = router.client();
    let statuses: Vec<u16> = (0..4).map(|_| client.ask(get("/", "")).status).collect();
    assert_eq!(statuses, [200, 429, 429, 429]);
    let names = router.records(4);
    assert!(names[1..].iter().all(|record| record["limit"] == "route-limit-2"), "{names:?}");
}

#[test]
fn a_response_says_what_it_cost() {
    let origin = endpoint();
    let limit =
        "limit = [{ rate = \"10/h\", key = \"header:x-user\", cost = { response = \"X-Cost\", most = 20 } }]";
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", limit)));
    let mut client = router.client();
    let mut ask =
        |user: &str, say: &str| client.ask(get("/", &format!("X-User: {user}\r\nX-Say: {say}\r\n")));
    // Ten: one for the request, eight more for its answer, one is left.
    let answer = ask("ann", "9");
    assert_eq!((answer.status, answer.get("x-cost"), answer.get("x-other")), (200, None, Some("1")));
    assert!(is_served(&ask("ann", "1")));
    assert!(!is_served(&ask("ann", "1")));
    // A number below what was taken, and what is no number, take nothing more.
    for say in ["0", "-5", "x", "1.5", ""] {
        assert!(is_served(&ask("bob", say)), "{say}");
    }
    assert_eq!((0..9).filter(|_| is_served(&ask("bob", "1"))).count(), 5);
    // More than the bound counts as the bound: 20 of which 10 are a debt.
    assert!(is_served(&ask("eve", "4000000000")));
    let answer = ask("eve", "1");
    let wait: u64 = answer.get("retry-after").unwrap().parse().unwrap();
    assert!((3_600..=4_000).contains(&wait), "10 of debt and 1 more at 10 in an hour: {wait}");
    assert_eq!(refused(&router), 1.0 + 4.0 + 1.0);
}

/// What an endpoint says to a limit is not for clients: also where the limit took nothing of the request, or would have refused it.
#[test]
fn what_a_response_cost_is_told_to_nobody() {
    let origin = endpoint();
    for limit in [
        "rate = \"1/h\", burst = 1, shadow = true, cost = { response = \"X-Cost\", most = 20 }",
        "rate = \"1/h\", key = \"header:x-user\", missing = \"skip\", cost = { response = \"X-Cost\", most = 20 }",
        "rate = \"1/h\", except = [\"127.0.0.0/8\"], key = \"client\", cost = { response = \"X-Cost\", most = 20 }",
    ] {
        let router =
            Ekiden::start(Setup::new(web(&[origin.address], "", &format!("limit = [{{ {limit} }}]"))));
        let mut client = router.client();
        for _ in 0..3 {
            let answer = client.ask(get("/", "X-Say: 1\r\n"));
            assert_eq!(
                (answer.status, answer.get("x-cost"), answer.get("x-other")),
                (200, None, Some("1")),
                "{limit}"
            );
        }
    }
}
