//! Keys of programs: where they stand, whose they are, what is counted by them.

use ekiden_tests::{Echo, Ekiden, Seen, Served, Setup, until_true, web};

use super::{ask, basic, key, rulings, serve_with, user};

const TOP: &str = "api_keys.partners = { file = \"keys\" }\nusers.staff = { file = \"staff\" }";
const ROUTE: &str = "auth = { api_keys = \"partners\", api_key_query = \"k\", id_header = \"X-Partner\" }";

fn keys() -> String {
    key("acme", "first key") + &key("acme", "second-key") + &key("other", "third/key+")
}

#[test]
fn a_key_in_a_field_or_in_the_query() {
    let echo = Echo::start("one");
    let route = format!("{ROUTE}\nallow = {{ methods = [\"GET\"] }}");
    let router = serve_with(&echo, &route, TOP, &[("keys", &keys()), ("staff", "")]);
    let mut client = router.client();
    for (line, fields, id) in [
        ("GET /", "X-API-Key: first key\r\n", "acme"),
        ("GET /", "x-api-key: second-key\r\nX-Partner: forged\r\n", "acme"),
        ("GET /?a=1&k=third%2Fkey%2B&b=2", "", "other"),
        ("GET /?k=first+key", "", "acme"),
        ("GET /?k=wrong", "X-API-Key: second-key\r\n", "acme"),
    ] {
        let seen = Seen::from(ask(&mut client, line, fields));
        assert_eq!(seen.all("x-partner"), [id], "{line}");
        assert!(
            !seen.text("line").contains("key") && !seen.text("line").contains("wrong"),
            "{}",
            seen.text("line")
        );
    }
    let seen = Seen::from(ask(&mut client, "GET /?a=1&k=third%2Fkey%2B&b=2", ""));
    assert_eq!(seen.text("line"), "GET /?a=1&k=**************&b=2 HTTP/1.1");
    for (line, fields, code) in [
        ("GET /", "", "credentials_missing"),
        ("GET /?k", "", "credentials_refused"),
        ("GET /", "X-API-Key: wrong\r\n", "credentials_refused"),
        ("GET /", "X-API-Key:\r\n", "credentials_refused"),
        ("GET /?k=second-key", "X-API-Key: wrong\r\n", "credentials_refused"),
        ("GET /", "X-API-Key: second-key\r\nX-API-Key: second-key\r\n", "credentials_refused"),
        ("GET /?k=second-key&k=second-key", "", "credentials_refused"),
        ("GET /?K=second-key", "", "credentials_missing"),
    ] {
        let response = ask(&mut client, line, fields);
        assert_eq!((response.status, response.code()), (401, code), "{line} {fields}");
        assert_eq!(response.all("www-authenticate"), ["ApiKey realm=\"restricted\", header=\"x-api-key\""]);
    }
    // What the route refuses for another reason says no secret either.
    assert_eq!(ask(&mut client, "DELETE /?k=second-key", "").code(), "method_denied");
    assert_eq!(echo.requests(), 6);
    until_true("the counts", || rulings(&router, "api_key") == [6.0, 6.0, 0.0]);
    let log = router.log_lines(15).join("\n") + &router.errors() + &router.table().to_string();
    for secret in ["first+key", "first key", "third%2F", "k=second-key"] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[test]
fn limits_count_by_the_id_and_wrong_keys_too() {
    let echo = Echo::start("one");
    let route = format!("{ROUTE}\nlimit = [{{ rate = \"2/h\", key = \"api_key\" }}, {{ rate = \"9/h\" }}]");
    let router = serve_with(&echo, &route, TOP, &[("keys", &keys()), ("staff", "")]);
    let mut client = router.client();
    let mut status = |key: &str| ask(&mut client, "GET /", &format!("X-API-Key: {key}\r\n")).status;
    // Two keys of one id share an account.
    assert_eq!([status("first key"), status("second-key"), status("first key")], [200, 200, 429]);
    assert_eq!([status("third/key+"), status("third/key+"), status("third/key+")], [200, 200, 429]);
    // Those without an id share one as well, and run out.
    assert_eq!([status("wrong"), status("wronger"), status("wrongest")], [401, 401, 429]);
}

#[test]
fn several_kinds_and_the_one_that_is_shown_decides() {
    let echo = Echo::start("one");
    let route = "auth = { api_keys = \"partners\", users = \"staff\", id_header = \"X-Id\", hide_credentials = true }";
    let router = serve_with(&echo, route, TOP, &[("keys", &keys()), ("staff", &user("ann", "x", 4))]);
    let mut client = router.client();
    let seen = Seen::from(ask(&mut client, "GET /", "X-API-Key: second-key\r\n"));
    assert_eq!((seen.all("x-id"), seen.field("x-api-key")), (vec!["acme".to_owned()], None));
    let seen = Seen::from(ask(&mut client, "GET /", &basic("ann", "x")));
    assert_eq!((seen.all("x-id"), seen.field("authorization")), (vec!["ann".to_owned()], None));
    // Nobody has judged the password: the endpoint must not take it for judged.
    let both = format!("X-API-Key: second-key\r\n{}", basic("root", "forged"));
    let seen = Seen::from(ask(&mut client, "GET /", &both));
    assert_eq!((seen.all("x-id"), seen.field("authorization")), (vec!["acme".to_owned()], None));
    let wrong = ask(&mut client, "GET /", &format!("X-API-Key: wrong\r\n{}", basic("ann", "x")));
    assert_eq!(wrong.code(), "credentials_refused");
    assert_eq!(ask(&mut client, "GET /", "").all("www-authenticate").len(), 2);
}

#[test]
fn an_app_uses_what_the_process_gives_it() {
    let echo = Echo::start("one");
    let text = |apps: &str| format!("[api_keys.partners]\nfile = \"keys\"\napps = [{apps}]\n");
    let setup = Setup::new(text("\"shop\"")).top("apps = \"apps.d\"");
    std::fs::write(setup.dir().join("keys"), keys()).unwrap();
    std::fs::create_dir(setup.dir().join("apps.d")).unwrap();
    let shop = web(&[echo.address], "", "auth = { api_keys = \"partners\" }");
    std::fs::write(setup.dir().join("apps.d/shop.toml"), shop).unwrap();
    let router = Ekiden::start(setup);
    let fields = "X-API-Key: second-key\r\n";
    let mut client = router.client();
    assert_eq!(ask(&mut client, "GET /", fields).status, 200);
    // The app keeps its last good version, and loses the keys at once all the same.
    router.rewrite(&router.setup().config_with(&text("")));
    until_true("the loss", || ask(&mut client, "GET /", fields).code() == "credentials_unavailable");
}
