//! Clients that leave (with a reset: who has only finished sending waits on) while something is found out about them: they free
//! their place at once, and what was asked for them ends.

use ekiden_tests::{Echo, Ekiden, Origin, Served, Setup, cluster, until_true, web};

use super::{basic, rulings, serve_with, user};

/// A client that asks with these fields and leaves while it is judged. Its record says so, whatever the judge would have said.
fn leave(router: &Ekiden, fields: &str, is_asked: impl FnMut() -> bool) {
    let mut client = router.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    until_true("the request to be judged", is_asked);
    client.reset();
    let records = router.records(1);
    assert_eq!(records[0]["code"], "client_gone", "{}", records[0]);
    until_true("nothing under way", || router.metric("ekiden_requests_in_flight", &[]) == 0.0);
}

fn under_way(router: &Ekiden) -> bool {
    router.metric("ekiden_requests_in_flight", &[]) == 1.0
}

#[test]
fn while_a_password_is_verified() {
    let echo = Echo::start("one");
    // Long enough to leave in between, on any machine.
    let staff = user("ann", "right", 4).replace("$2b$04$", "$2b$14$");
    let top = "users.staff = { file = \"staff\" }";
    let router = serve_with(&echo, "auth = { users = \"staff\" }", top, &[("staff", &staff)]);
    leave(&router, &basic("ann", "wrong"), || under_way(&router));
    assert_eq!(echo.requests(), 0);
    assert_eq!(rulings(&router, "password"), [0.0; 3], "it left before the verdict");
}

#[test]
fn while_keys_of_tokens_are_asked_for() {
    let echo = Echo::start("one");
    let silent = Origin::start(|conn| conn.until_closed());
    let top = format!(
        "jwt.corp = {{ jwks_url = \"http://{}/keys\", issuer = \"i\", audience = [\"shop\"], algorithms = [\"ES256\"] }}",
        silent.address
    );
    let router = serve_with(&echo, "auth = { jwt = \"corp\" }", &top, &[]);
    let token = "eyJhbGciOiJFUzI1NiIsImtpZCI6Im9uZSJ9.e30.AAAA";
    leave(&router, &format!("Authorization: Bearer {token}\r\n"), || under_way(&router));
    assert_eq!(rulings(&router, "token"), [0.0; 3], "it left before the keys were given up");
}

#[test]
fn while_the_authorizer_thinks() {
    let (echo, silent) = (Echo::start("one"), Origin::start(|conn| conn.until_closed()));
    let text = format!(
        "{}{}",
        web(&[echo.address], "", "authorizer = { cluster = \"auth\", timeout = \"10m\" }"),
        cluster("auth", &[silent.address], "")
    );
    let router = Ekiden::start(Setup::new(text));
    leave(&router, "", || silent.connections() == 1 && !silent.received(1).is_empty());
    // The question has ended too.
    until_true("the end of the question", || silent.is_ended(1));
    assert_eq!(echo.requests(), 0);
}
