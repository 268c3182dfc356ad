//! Names and passwords: who is let in, what endpoints and logs see, files that change, floods of wrong passwords.

use std::fs;

use ekiden_tests::{Client, Echo, Ekiden, Seen, Served, Setup, cluster, until, until_true, web};

use super::{ask, basic, rulings, serve_with, user};

const TOP: &str = "users.staff = { file = \"staff\" }";
const ROUTE: &str = "auth = { users = \"staff\", realm = \"the shop\", id_header = \"X-User\" }";

#[test]
fn who_knows_a_password_is_let_in() {
    let echo = Echo::start("one");
    let staff = user("ann", "pa:ss", 4) + "# others\n\n" + &user("bö", "", 4);
    let router = serve_with(&echo, ROUTE, TOP, &[("staff", &staff)]);
    let mut client = router.client();
    let response = ask(&mut client, "GET /", "");
    assert_eq!((response.status, response.code()), (401, "credentials_missing"));
    assert_eq!(response.all("www-authenticate"), ["Basic realm=\"the shop\", charset=\"UTF-8\""]);
    assert!(!response.says_close());
    for (name, password) in [("ann", "pa:ss"), ("ann", "pa:ss"), ("bö", "")] {
        let seen = Seen::from(ask(&mut client, "GET /", &basic(name, password)));
        assert_eq!(seen.all("x-user"), [name]);
        assert!(seen.field("authorization").is_some(), "it is passed on unless it is to be hidden");
    }
    for (name, password) in
        [("ann", "pa:s"), ("ann", ""), ("Ann", "pa:ss"), ("bob", "pa:ss"), ("bob", "pa:ss")]
    {
        let response = ask(&mut client, "GET /", &basic(name, password));
        assert_eq!((response.status, response.code()), (401, "credentials_refused"), "{name}:{password}");
        assert_eq!(response.all("www-authenticate").len(), 1);
    }
    for (fields, code) in [
        ("Authorization: Basic !\r\n", "credentials_refused"),
        ("Authorization: Basic\r\n", "credentials_missing"),
        ("Authorization: Bearer x\r\n", "credentials_missing"),
        (&*(basic("ann", "pa:ss") + &basic("ann", "pa:ss")), "credentials_refused"),
        (&*(basic("ann", "pa:ss") + "Authorization: Bearer x\r\n"), "credentials_refused"),
    ] {
        assert_eq!(ask(&mut client, "GET /", fields).code(), code, "{fields}");
    }
    assert_eq!(echo.requests(), 3);
    // A body that is not let in is not read.
    let posted = router
        .client()
        .ask(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{}\r\nhello", basic("ann", "x")));
    assert_eq!((posted.status, posted.says_close()), (401, true));
    let seen = Seen::from(router.client().ask(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{}\r\nhello",
        basic("ann", "pa:ss")
    )));
    assert_eq!(seen.text("body"), "hello");
    until_true("the counts", || rulings(&router, "password") == [4.0, 9.0, 0.0]);
    let log = router.log_lines(14).join("\n") + &router.errors() + &router.table().to_string();
    for secret in ["pa:ss", "YW5uOnBhOnNz", "$2b$"] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[test]
fn what_only_the_router_may_say_is_taken_from_clients() {
    let echo = Echo::start("one");
    let text = format!(
        "{}[[route]]\npath = \"/open\"\ncluster = \"web\"\nauth = \"off\"\n",
        web(
            &[echo.address],
            "",
            "auth = { users = \"staff\", id_header = \"X-User-Id\", hide_credentials = true }"
        )
    );
    let setup = Setup::new(text).top(TOP).listener("allow_underscore = true");
    fs::write(setup.dir().join("staff"), user("ann", "x", 4)).unwrap();
    let router = Ekiden::start(setup);
    let forged = "X-User-Id: root\r\nx_user_id: root\r\nX-USER_id: root\r\nX-User-Idx: kept\r\n";
    let mut client = router.client();
    for version in 0..2 {
        let head =
            format!("{forged}{}Transfer-Encoding: chunked\r\nTrailer: x-user-id\r\n", basic("ann", "x"));
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n0\r\nX-User-Id: root\r\nx_user_id: root\r\nKept: 1\r\n\r\n"
        );
        let seen = Seen::from(client.ask(request));
        let of = |key: &str| {
            let pairs = seen.pairs(key).into_iter();
            pairs
                .filter(|(name, _)| name.to_lowercase().replace('_', "-") == "x-user-id")
                .map(|(_, value)| value)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("fields"), ["ann"], "{version}");
        assert_eq!(of("trailers"), Vec::<String>::new(), "{version}");
        assert_eq!(seen.pairs("trailers").len(), 1, "{version}: others are passed on");
        assert_eq!(seen.field("x-user-idx").as_deref(), Some("kept"));
        assert_eq!(seen.field("authorization"), None, "hidden");
    }
    // A route without the step says nothing of the field.
    let seen = Seen::from(ask(&mut client, "GET /open", "X-User-Id: me\r\n"));
    assert_eq!(seen.field("x-user-id").as_deref(), Some("me"));
}

#[test]
fn files_are_watched_and_bad_ones_keep_those_before() {
    let echo = Echo::start("one");
    let router = serve_with(&echo, ROUTE, TOP, &[("staff", &user("ann", "x", 4))]);
    let (mut client, file) = (router.client(), router.setup().dir().join("staff"));
    let status = |client: &mut Client, name: &str| ask(client, "GET /", &basic(name, "x")).status;
    assert_eq!((status(&mut client, "ann"), status(&mut client, "bob")), (200, 401));
    router.rename_over(&file, &user("bob", "x", 4));
    until_true("the new file", || status(&mut client, "bob") == 200);
    assert_eq!(status(&mut client, "ann"), 401, "what was found out by the old file is forgotten");
    router.rename_over(&file, "carl:secret-hash\n");
    router.wait_error("line 1");
    let errors = router.errors();
    assert!(errors.contains("what was read before goes on") && !errors.contains("secret-hash"), "{errors}");
    assert_eq!(status(&mut client, "bob"), 200);
    fs::remove_file(&file).unwrap();
    until("the loss of the file", || router.errors().contains("No such file").then_some(()));
    assert_eq!(status(&mut client, "bob"), 200);
    router.rename_over(&file, &user("carl", "x", 4));
    until_true("the third file", || status(&mut client, "carl") == 200);
}

#[test]
fn without_users_nobody_is_let_in() {
    let echo = Echo::start("one");
    let router = serve_with(&echo, ROUTE, TOP, &[("staff", "ann:plain\n")]);
    let mut client = router.client();
    let response = ask(&mut client, "GET /", &basic("ann", "plain"));
    assert_eq!((response.status, response.code()), (503, "credentials_unavailable"));
    assert_eq!(ask(&mut client, "GET /", "").status, 401);
    assert_eq!(echo.requests(), 0);
}

#[test]
fn who_guesses_is_held_back_and_others_are_not() {
    let echo = Echo::start("one");
    let staff = user("ann", "right", 5);
    let setup = Setup::new(web(&[echo.address], "", ROUTE)).top(TOP).listener("trust = [\"127.0.0.0/8\"]");
    fs::write(setup.dir().join("staff"), staff).unwrap();
    let router = Ekiden::start(setup);
    let mut client = router.client();
    let from =
        |address: &str, password: &str| format!("X-Forwarded-For: {address}\r\n{}", basic("ann", password));
    // The same wrong password is found out once.
    for _ in 0..30 {
        assert_eq!(ask(&mut client, "GET /", &from("192.0.2.1", "same")).code(), "credentials_refused");
    }
    let mut codes = Vec::new();
    for number in 0..60 {
        codes.push(ask(&mut client, "GET /", &from("192.0.2.1", &number.to_string())).code().to_owned());
    }
    assert_eq!(codes[0], "credentials_refused");
    let last = ask(&mut client, "GET /", &from("192.0.2.1", "another"));
    assert_eq!((last.status, last.code()), (429, "credentials_throttled"));
    assert!(last.get("retry-after").is_some());
    // Others are not held back, and what is known to be right needs no hashing.
    assert_eq!(ask(&mut client, "GET /", &from("192.0.2.2", "right")).status, 200);
    assert_eq!(ask(&mut client, "GET /", &from("192.0.2.1", "right")).status, 200);
}

#[test]
fn right_passwords_are_not_held_back() {
    let echo = Echo::start("one");
    let staff: String = (0..60).map(|number| user(&format!("user{number}"), "x", 4)).collect();
    let router = serve_with(&echo, ROUTE, TOP, &[("staff", &staff)]);
    let mut client = router.client();
    for number in 0..60 {
        assert_eq!(ask(&mut client, "GET /", &basic(&format!("user{number}"), "x")).status, 200, "{number}");
    }
}

#[test]
fn a_full_line_is_told_and_workers_go_on() {
    let echo = Echo::start("one");
    let text = format!(
        "{}\n[[route]]\npath = \"/open\"\ncluster = \"web\"\nauth = \"off\"\n",
        cluster("web", &[echo.address], "") + "[[route]]\ncluster = \"web\"\n" + ROUTE
    );
    let setup = Setup::new(text).top(TOP).listener("trust = [\"127.0.0.0/8\"]");
    // About a second each, so that the line does not move while it fills.
    fs::write(setup.dir().join("staff"), user("ann", "right", 4).replace("$04$", "$14$")).unwrap();
    let router = Ekiden::start(setup);
    let clients: Vec<Client> = (0..300)
        .map(|number| {
            let mut client = router.client();
            let fields = format!(
                "X-Forwarded-For: 192.0.{}.{}\r\n{}",
                number / 200,
                number % 200,
                basic("ann", &number.to_string())
            );
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            client
        })
        .collect();
    until_true("a full line", || {
        router.metric("ekiden_outcomes_total", &["code=\"credentials_busy\""]) >= 1.0
    });
    // Who needs no password is served, by the one worker there is.
    assert_eq!(router.get("/open").status, 200);
    drop(clients);
}

/// A page brings many requests with one password at once: they are one guess.
#[test]
fn many_requests_with_one_password_are_one_guess() {
    let echo = Echo::start("one");
    // Long enough that all of them wait for the same verdict.
    let router = serve_with(&echo, ROUTE, TOP, &[("staff", &user("ann", "right", 12))]);
    let mut clients: Vec<Client> = (0..60).map(|_| router.client()).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", basic("ann", "right"));
    for client in &mut clients {
        client.send(&request);
    }
    for client in &mut clients {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
}
