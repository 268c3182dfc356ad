//! Limits before signatures: who sends bad tokens runs out of the limits by client, whether a token is looked at to let a request in or to
//! find its route, and nothing is counted twice.

use ekiden_tests::{Ekiden, Served, Setup};
use serde_json::json;

use super::ask;
use super::tokens::{Signer, claims, from_file, now_s, set};

const AUTH: &str = "auth = { jwt = \"corp\" }";

/// A route for one who has a claim, in front of one that lets everybody in.
fn serve(signer: &Signer, top: &str, limits: &str) -> Ekiden {
    let route = |name: &str, words: &str| {
        format!("[[route]]\nname = \"{name}\"\n{words}\nrespond = {{ status = 200, body = \"{name}\" }}\n")
    };
    let chosen = format!("path = \"/\"\n{AUTH}\nclaims = {{ sub = \"ann\" }}\n{limits}");
    let strict =
        format!("path = \"/strict\"\n{AUTH}\nlimit = [{{ rate = \"2/h\", burst = 2, key = \"client\" }}]");
    let routes =
        [route("chosen", &chosen), route("anyone", "path = \"/\""), route("strict", &strict)].concat();
    let setup = Setup::new(routes).top(&from_file()).top(top);
    std::fs::write(setup.dir().join("keys.json"), set(&[signer])).unwrap();
    Ekiden::start(setup)
}

fn verified(router: &Ekiden) -> f64 {
    router.metric("ekiden_tokens_verified_total", &[])
}

const TWO: &str = "limit = [{ rate = \"2/h\", burst = 2, key = \"client\" }]";

#[test]
fn bad_tokens_run_out_of_the_limit_before_they_are_verified() {
    let (signer, other) = (Signer::new("one"), Signer::new("one"));
    for (path, code, status) in [("/", "", 200), ("/strict", "credentials_refused", 401)] {
        let router = serve(&signer, "", TWO);
        let mut client = router.client();
        let mut say = |number: u32| {
            let bad = other.token(&claims(json!({ "jti": number })));
            ask(&mut client, &format!("GET {path}"), &bad)
        };
        for number in 0..2 {
            let response = say(number);
            assert_eq!(response.status, status, "{path}");
            assert!(response.status == 200 || response.code() == code, "{path}: {}", response.code());
        }
        assert_eq!(verified(&router), 2.0, "{path}");
        for number in 2..4 {
            let response = say(number);
            assert_eq!((response.status, response.code()), (429, "rate_limited"), "{path}");
            assert!(response.get("retry-after").is_some(), "{path}");
        }
        assert_eq!(verified(&router), 2.0, "{path}: no signature was looked at");
        // The record is that of the route whose limit it is.
        let record = router.records(4).pop().unwrap();
        let route = if path == "/" { "chosen" } else { "strict" };
        assert_eq!((&record["route"], &record["code"]), (&route.into(), &"rate_limited".into()));
    }
}

/// Who shows no token, or one of another issuer, asks for no look.
#[test]
fn what_needs_no_look_pays_nothing() {
    let (signer, other) = (Signer::new("one"), Signer::new("one"));
    let router = serve(&signer, "", TWO);
    let mut client = router.client();
    for _ in 0..2 {
        assert_eq!(ask(&mut client, "GET /", &other.token(&claims(json!({})))).text(), "anyone");
    }
    let foreign = other.token(&claims(json!({ "iss": "https://else.test" })));
    for fields in ["", foreign.as_str()] {
        assert_eq!(ask(&mut client, "GET /", fields).text(), "anyone");
    }
    assert_eq!(ask(&mut client, "GET /", &other.token(&claims(json!({})))).status, 429);
}

#[test]
fn good_tokens_are_counted_once_and_where_they_lead() {
    let signer = Signer::new("one");
    let router = serve(&signer, "", TWO);
    let mut client = router.client();
    // Good, and not for this route: what they paid for the look comes back.
    for number in 0..5 {
        let bob = signer.token(&claims(json!({ "sub": "bob", "jti": number })));
        assert_eq!(ask(&mut client, "GET /", &bob).text(), "anyone");
    }
    let ann = |number: u32| signer.token(&claims(json!({ "jti": number })));
    for number in 0..2 {
        assert_eq!(ask(&mut client, "GET /", &ann(number)).text(), "chosen");
    }
    assert_eq!(verified(&router), 7.0);
    // The limit is met before its token is looked at, and after it is known.
    for number in [2, 1] {
        let response = ask(&mut client, "GET /", &ann(number));
        assert_eq!((response.status, response.code()), (429, "rate_limited"));
    }
    assert_eq!(verified(&router), 7.0);
}

/// The limit of the app is met by the look and by the route that is chosen: it counts the request once.
#[test]
fn the_limit_of_the_app_counts_a_request_once() {
    let (signer, other) = (Signer::new("one"), Signer::new("one"));
    let router =
        serve(&signer, "limit = [{ name = \"app\", rate = \"4/h\", burst = 4, key = \"client\" }]", "");
    let mut client = router.client();
    let tokens = [
        other.token(&claims(json!({}))),
        signer.token(&claims(json!({ "exp": now_s() - 600 }))),
        signer.token(&claims(json!({ "sub": "bob" }))),
        signer.token(&claims(json!({}))),
    ];
    for token in &tokens {
        assert_eq!(ask(&mut client, "GET /", token).status, 200);
    }
    assert_eq!(ask(&mut client, "GET /", &other.token(&claims(json!({ "jti": 1 })))).status, 429);
    assert_eq!(verified(&router), 4.0);
    let allowed = router.metric("ekiden_limit_requests_total", &["limit=\"app\"", "result=\"allowed\""]);
    assert_eq!(allowed, 4.0);
}

/// What is no client's own allowance is not emptied by strangers, and a shadow refuses nothing.
#[test]
fn other_limits_are_met_by_those_who_are_let_in() {
    let (signer, other) = (Signer::new("one"), Signer::new("one"));
    let limits = "limit = [{ name = \"all\", rate = \"1/h\", burst = 1 }, { name = \"few\", concurrency = 1 }, \
                  { name = \"shadow\", rate = \"1/h\", burst = 1, key = \"client\", shadow = true }]";
    let router = serve(&signer, "", limits);
    let mut client = router.client();
    for number in 0..3 {
        let bad = other.token(&claims(json!({ "jti": number })));
        assert_eq!(ask(&mut client, "GET /", &bad).text(), "anyone");
    }
    let good = signer.token(&claims(json!({})));
    assert_eq!(ask(&mut client, "GET /", &good).text(), "chosen");
    assert_eq!(ask(&mut client, "GET /", &good).status, 429);
    let shadowed =
        router.metric("ekiden_limit_requests_total", &["limit=\"shadow\"", "result=\"shadow_refused\""]);
    assert_eq!(shadowed, 3.0);
}

/// What the look took is kept where the route that the request leads to refuses it, by its own limit or before its limits.
#[test]
fn a_refusal_by_the_route_gives_nothing_back() {
    let (signer, other) = (Signer::new("one"), Signer::new("one"));
    let app = "limit = [{ name = \"app\", rate = \"4/h\", burst = 4, key = \"client\" }]";
    let own = "limit = [{ name = \"own\", rate = \"1/h\", burst = 1 }]";
    for (words, fields, statuses) in [
        (own, "", [200, 429, 429, 429]),
        ("allow = { methods = [\"POST\"] }", "", [405; 4]),
        ("body_limit = 3", "Content-Length: 9\r\n", [413; 4]),
    ] {
        let route = |name: &str, words: &str| {
            format!("[[route]]\nname = \"{name}\"\npath = \"/\"\n{words}\nrespond = {{ status = 200 }}\n")
        };
        let chosen = route("chosen", &format!("{AUTH}\nclaims = {{ sub = \"ann\" }}"));
        let setup = Setup::new([chosen, route("anyone", words)].concat()).top(&from_file()).top(app);
        std::fs::write(setup.dir().join("keys.json"), set(&[&signer])).unwrap();
        let router = Ekiden::start(setup);
        let say = |number: u32| {
            let bad = other.token(&claims(json!({ "jti": number })));
            // A body that is refused ends its connection.
            ask(&mut router.client(), "GET /", &format!("{bad}{fields}"))
        };
        for (number, status) in (0..).zip(statuses) {
            assert_eq!(say(number).status, status, "{words}: {number}");
        }
        for number in 4..6 {
            assert_eq!(say(number).status, 429, "{words}: {number}");
        }
        assert_eq!(verified(&router), 4.0, "{words}");
        let count = |result: &str| {
            router.metric("ekiden_limit_requests_total", &["limit=\"app\"", &format!("result=\"{result}\"")])
        };
        assert_eq!((count("allowed"), count("refused")), (4.0, 2.0), "{words}");
        let record = router.records(6).pop().unwrap();
        assert_eq!(record["route"], "chosen", "{words}");
    }
}
