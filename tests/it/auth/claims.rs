//! Claims as conditions of routes: which token leads where, and what becomes of those that are not good, not there, or signed with a
//! key that is not known yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use ekiden_tests::{Echo, Ekiden, Origin, Seen, Served, Setup, until_true, web};
use serde_json::{Value, json};

use super::ask;
use super::tokens::{Signer, WORDS, claims, from_file, now_s, set};

const AUTH: &str = "auth = { jwt = \"corp\", claims = { X-User = \"sub\" } }";

fn route(name: &str, path: &str, words: &str) -> String {
    format!(
        "[[route]]\nname = \"{name}\"\npath = \"{path}\"\n{words}\nrespond = {{ status = 200, body = \"{name}\" }}\n"
    )
}

/// Routes by claims, in front of one that lets everybody in.
fn routes(echo: &Echo) -> String {
    let of = |words: &str| format!("{AUTH}\nclaims = {words}");
    [
        web(&[echo.address], "", "path = \"/echo\"\nclaims = { sub = \"ann\" }\n") + AUTH + "\n",
        route("anyone", "/", ""),
        route("buyer", "/", &of("{ \"realm.roles\" = \"buyer\" }")),
        route("ann", "/", &of("{ \"realm.roles\" = \"buyer\", sub = { regex = 'an+' } }")),
        route("teamless", "/team", &of("{ team = { present = false } }")),
        route("team", "/team", &of("{ team = { present = true } }")),
        route("seven", "/seven", &of("{ team = \"7\" }")),
        route("pages", "/pages", &(of("{ sub = \"ann\" }") + "\ncors = { origins = [\"https://a.test\"] }")),
        route("open", "/open", "cors = { origins = [\"https://a.test\"] }"),
        route("closed", "/open", &of("{ sub = \"ann\" }")),
        route("strict", "/strict", AUTH),
        route("chosen", "/strict", &of("{ sub = \"ann\" }")),
    ]
    .concat()
}

fn serve(echo: &Echo, signer: &Signer) -> Ekiden {
    let setup = Setup::new(routes(echo)).top(&from_file());
    std::fs::write(setup.dir().join("keys.json"), set(&[signer])).unwrap();
    Ekiden::start(setup)
}

#[test]
fn a_good_token_leads_where_its_claims_do_and_any_other_where_none_is_asked_for() {
    let (echo, signer, other) = (Echo::start("one"), Signer::new("one"), Signer::new("one"));
    let router = serve(&echo, &signer);
    let mut client = router.client();
    let token = |changes: Value| signer.token(&claims(changes));
    let good = token(json!({}));
    let expired = token(json!({ "exp": now_s() - 600 }));
    for (name, path, fields, status, said) in [
        ("all of them", "/", good.clone(), 200, "ann"),
        ("one of a list", "/", token(json!({ "sub": "bob" })), 200, "buyer"),
        ("another role", "/", token(json!({ "realm": { "roles": ["seller"] } })), 200, "anyone"),
        ("a longer text", "/", token(json!({ "realm": { "roles": "buyers" } })), 200, "anyone"),
        ("no token", "/", String::new(), 200, "anyone"),
        ("signed by another", "/", other.token(&claims(json!({}))), 200, "anyone"),
        ("expired", "/", expired.clone(), 200, "anyone"),
        ("of another issuer", "/", token(json!({ "iss": "https://else.test" })), 200, "anyone"),
        ("twice", "/", good.clone() + &good, 200, "anyone"),
        ("another scheme", "/", good.replace("Bearer", "Basic"), 200, "anyone"),
        ("absent", "/team", good.clone(), 200, "teamless"),
        ("present", "/team", token(json!({ "team": { "x": 1 } })), 200, "team"),
        ("null", "/team", token(json!({ "team": null })), 200, "teamless"),
        ("absent, without a token", "/team", String::new(), 200, "anyone"),
        ("a number", "/seven", token(json!({ "team": 7 })), 200, "seven"),
        ("the chosen one", "/strict", good.clone(), 200, "chosen"),
        ("good, of somebody else", "/strict", token(json!({ "sub": "bob" })), 200, "strict"),
        ("not good where one is asked for", "/strict", expired, 401, "token_expired"),
        ("none where one is asked for", "/strict", String::new(), 401, "credentials_missing"),
    ] {
        let response = ask(&mut client, &format!("GET {path}"), &fields);
        assert_eq!(response.status, status, "{name}");
        let found = if status == 200 { response.text() } else { response.code().to_owned() };
        assert_eq!(found, said, "{name}");
    }
    // The steps of the route that was chosen are its own, those that take fields away too.
    let forged = "X-User: root\r\nx_user: root\r\n";
    let seen = Seen::from(ask(&mut client, "GET /echo", &(good + forged)));
    assert_eq!(seen.all("x-user"), ["ann"]);
    assert_eq!(ask(&mut client, "GET /echo", forged).text(), "anyone");
    assert_eq!(echo.requests(), 1);
}

/// A preflight carries no token: it is answered as the request that it asks about may be.
#[test]
fn a_preflight_is_answered_by_the_route_that_asks_for_claims() {
    let (echo, signer) = (Echo::start("one"), Signer::new("one"));
    let router = serve(&echo, &signer);
    let asks = "Origin: https://a.test\r\nAccess-Control-Request-Method: GET\r\n";
    // Who has a token gets another route at `/open`, which opens nothing: that takes nothing from who has none.
    for path in ["/pages", "/open"] {
        let response = ask(&mut router.client(), &format!("OPTIONS {path}"), asks);
        let origin = response.get("access-control-allow-origin");
        assert_eq!((response.status, origin), (204, Some("https://a.test")), "{path}");
    }
}

/// Who would have come in by a claim is told as well, whatever token there is.
#[test]
fn in_maintenance_claims_are_not_asked_for() {
    let (echo, signer) = (Echo::start("one"), Signer::new("one"));
    let router = serve(&echo, &signer);
    let answer = router.control("PUT", "/v1/apps/default/maintenance", "{}");
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    let good = signer.token(&claims(json!({})));
    for fields in [good.as_str(), ""] {
        let mut client = router.client();
        until_true("maintenance", || ask(&mut client, "GET /echo", fields).status == 503);
    }
}

#[test]
fn explain_shows_which_claims_hold() {
    let (echo, signer) = (Echo::start("one"), Signer::new("one"));
    let router = serve(&echo, &signer);
    let told = |token: &str| {
        let query = format!("url=/&header={}", token.trim().replace(": ", "%3A").replace(' ', "%20"));
        let answer = router.control("GET", &format!("/v1/explain?{query}"), "");
        assert_eq!(answer.status, 200, "{answer:?}");
        let told = answer.json();
        let rules = told["rules"].as_array().unwrap();
        let ann = rules.iter().find(|rule| rule["route"] == "ann").unwrap();
        let checks = ann["checks"].as_array().unwrap().iter().filter(|check| check["of"] == "claim");
        let holds: Vec<bool> = checks.map(|check| check["holds"] == true).collect();
        (told["verdict"]["route"].as_str().unwrap().to_owned(), holds)
    };
    assert_eq!(told(&signer.token(&claims(json!({})))), ("ann".to_owned(), vec![true, true]));
    let bob = signer.token(&claims(json!({ "sub": "bob" })));
    assert_eq!(told(&bob), ("buyer".to_owned(), vec![true, false]));
    assert_eq!(told("X-A: 1"), ("anyone".to_owned(), vec![false, false]));
}

/// A request whose route hangs on a key that is being asked for waits for it, and takes nothing twice from the limits of its listener.
#[test]
fn a_key_that_is_not_known_yet_is_waited_for_before_the_route_is_chosen() {
    let (echo, signer) = (Echo::start("one"), Signer::new("one"));
    let (open, keys) = (Arc::new((Mutex::new(false), Condvar::new())), set(&[&signer]));
    let (gate, asked) = (Arc::clone(&open), Arc::new(AtomicBool::new(false)));
    let is_asked = Arc::clone(&asked);
    let issuer = Origin::start(move |conn| {
        while conn.request().is_some() {
            is_asked.store(true, Ordering::SeqCst);
            drop(gate.1.wait_while(gate.0.lock().unwrap(), |open| !*open).unwrap());
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{keys}", keys.len()));
        }
    });
    let top = format!("jwt.corp = {{ jwks_url = \"http://{}/\", {WORDS} }}", issuer.address);
    let listener = "limit = [{ rate = \"2/h\", burst = 2, key = \"header:x-count\", missing = \"skip\" }]";
    let router = Ekiden::start(Setup::new(routes(&echo)).top(&top).listener(listener));
    let mut client = router.client();
    until_true("the first question", || asked.load(Ordering::SeqCst));
    client
        .send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Count: 1\r\n{}\r\n", signer.token(&claims(json!({})))));
    // Others are served meanwhile.
    assert_eq!(ask(&mut router.client(), "GET /", "").text(), "anyone");
    *open.0.lock().unwrap() = true;
    open.1.notify_all();
    assert_eq!(client.response().text(), "ann");
    // It took one of two.
    assert_eq!(ask(&mut client, "GET /", "X-Count: 1\r\n").status, 200);
    assert_eq!(ask(&mut client, "GET /", "X-Count: 1\r\n").status, 429);
}
