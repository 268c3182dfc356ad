//! Affinity over the real binary: who a client comes back to, what its mark holds through, and what it tells.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use ekiden_tests::{
    Client, Echo, Ekiden, Flapper, Origin, Response, Run, Seen, Served, Setup, http2, until_true,
};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER_KEY: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A cluster `web` of endpoints with ids and weights, and these keys.
fn text(endpoints: &[(&str, SocketAddr, u32)], keys: &str) -> String {
    let list: Vec<String> = endpoints
        .iter()
        .map(|(id, address, weight)| {
            format!("{{ id = \"{id}\", address = \"{address}\", weight = {weight} }}")
        })
        .collect();
    format!("[cluster.web]\nendpoints = [{}]\n{keys}\n[[route]]\ncluster = \"web\"\n", list.join(", "))
}

const COOKIE: &str = "balance = \"round_robin\"\naffinity = { cookie = \"srv\" }";

struct World {
    echoes: Vec<(&'static str, Echo)>,
}

impl World {
    fn new(names: &[&'static str]) -> Self {
        Self { echoes: names.iter().map(|name| (*name, Echo::start(name))).collect() }
    }

    fn text(&self, keys: &str) -> String {
        text(&self.places(1), keys)
    }

    fn places(&self, weight: u32) -> Vec<(&'static str, SocketAddr, u32)> {
        self.echoes.iter().map(|(name, echo)| (*name, echo.address, weight)).collect()
    }
}

fn ask(client: &mut Client, fields: &str) -> Response {
    client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

/// Who answered.
fn who(response: &Response) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    Seen(response.json()).text("origin")
}

/// The mark in a response, and what stands behind it.
fn mark(response: &Response) -> Option<(String, String)> {
    let cookie = response.get("set-cookie")?.strip_prefix("srv=")?;
    let (mark, attributes) = cookie.split_once("; ").unwrap();
    Some((mark.to_owned(), attributes.to_owned()))
}

/// A new client: who serves it, and its mark.
fn begin(router: &impl Served) -> (String, String) {
    let response = ask(&mut router.client(), "");
    let (mark, _) = mark(&response).unwrap_or_else(|| panic!("no mark: {response:?}"));
    (who(&response), mark)
}

/// Comes back with a mark on a connection of its own.
fn back(router: &impl Served, mark: &str) -> Response {
    ask(&mut router.client(), &format!("Cookie: srv={mark}\r\n"))
}

#[test]
fn a_client_comes_back_and_its_endpoint_sees_no_mark() {
    let world = World::new(&["one", "two", "three"]);
    let router = Ekiden::start(Setup::new(world.text(COOKIE)).workers(2));
    let mut clients: Vec<(String, String)> = (0..9).map(|_| begin(&router)).collect();
    let names: BTreeSet<&str> = clients.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 3, "new clients go where the balance says");
    clients.sort();
    for (name, mark) in &clients {
        let fields = format!("Cookie: a=1; srv={mark}; b=2\r\n");
        let mut client = router.client();
        for _ in 0..4 {
            let response = ask(&mut client, &fields);
            assert_eq!(&who(&response), name);
            assert_eq!(response.get("set-cookie"), None, "a good mark is kept");
            let seen = Seen(response.json());
            assert_eq!(seen.all("cookie"), ["a=1; b=2"], "the endpoint sees the others only");
        }
        // Alone, and in a field of its own.
        let response = back(&router, mark);
        assert_eq!((&who(&response), Seen(response.json()).all("cookie").len()), (name, 0));
        let response = ask(&mut router.client(), &format!("Cookie: a=1\r\nCookie: srv={mark}\r\n"));
        assert_eq!((&who(&response), Seen(response.json()).all("cookie")), (name, vec!["a=1".to_owned()]));
        // It tells nothing of the endpoint, and no two are alike.
        assert!(!mark.contains(name.as_str()), "{mark}");
    }
    let marks: BTreeSet<&str> = clients.iter().map(|(_, mark)| mark.as_str()).collect();
    assert_eq!(marks.len(), 9);
    assert!(router.metric("ekiden_cluster_affinity_total", &["result=\"kept\""]) >= 54.0);
    assert_eq!(router.metric("ekiden_cluster_affinity_total", &["result=\"begun\""]), 9.0);
    // What the explanation says of a mark is what becomes of it.
    let (name, mark) = &clients[0];
    let told = router.control("GET", &format!("/v1/explain?url=/&header=cookie:srv={mark}"), "").json();
    assert_eq!(told["destination"]["endpoint"], name.as_str(), "{told}");
}

#[test]
fn a_mark_that_is_not_ours_is_replaced() {
    let world = World::new(&["one", "two"]);
    let more = "[cluster.api]\nendpoints = [\"127.0.0.1:1\"]\naffinity = { cookie = \"srv\" }\n";
    let router = Ekiden::start(Setup::new(world.text(COOKIE) + more));
    let (_, good) = begin(&router);
    let mut forged = good.clone().into_bytes();
    let last = forged.last_mut().unwrap();
    *last = if *last == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    for bad in [forged.as_str(), "", "x", "127.0.0.1:3000", &"A".repeat(48), &"A".repeat(4000)] {
        let response = back(&router, bad);
        assert!(mark(&response).is_some(), "{bad}: {response:?}");
        assert_eq!(Seen(response.json()).all("cookie").len(), 0, "a bad mark goes no further");
    }
    assert_eq!(router.metric("ekiden_cluster_affinity_total", &["web", "result=\"refused\""]), 6.0);
}

#[test]
fn weights_addresses_and_new_endpoints_move_nobody() {
    let mut world = World::new(&["one", "two"]);
    let router = Ekiden::start(Setup::new(world.text(COOKIE)));
    let clients: Vec<(String, String)> = (0..4).map(|_| begin(&router)).collect();
    let check = |router: &Ekiden| {
        for (name, mark) in &clients {
            let response = back(router, mark);
            assert_eq!((&who(&response), response.get("set-cookie")), (name, None));
        }
    };
    let reload = |text: &str| {
        router.rewrite(&router.setup().config_with(text));
        let answer = router.control("POST", "/v1/reload", "");
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let mut places = world.places(1);
    places[0].2 = 1000;
    reload(&text(&places, COOKIE));
    check(&router);
    world.echoes.push(("another", Echo::start("another")));
    reload(&world.text(COOKIE));
    check(&router);
    // The same endpoint elsewhere: it is known by its id.
    world.echoes[0].1 = Echo::start("one");
    reload(&world.text(COOKIE));
    check(&router);
}

#[test]
fn with_a_key_marks_outlive_the_process_and_without_they_do_not() {
    let world = World::new(&["one", "two", "three"]);
    let keyed = "balance = \"round_robin\"\naffinity = { cookie = \"srv\", key = \"k\" }";
    let with_key = |keys: &str| world.text(keys) + "[affinity_key.k]\nfile = \"marks.key\"\n";
    let setup = Setup::new(with_key(keyed));
    let file = setup.dir().join("marks.key");
    fs::write(&file, KEY).unwrap();
    let router = Ekiden::start(setup);
    let clients: Vec<(String, String)> = (0..3).map(|_| begin(&router)).collect();
    let setup = router.stop();
    // A newer key signs, and the older one is still believed.
    fs::write(&file, format!("# the new one first\n{OTHER_KEY}\n{KEY}\n")).unwrap();
    let router = Ekiden::start_with(setup, Run { keep_file: true, ..Run::default() });
    let mut again = Vec::new();
    for (name, old) in &clients {
        let response = back(&router, old);
        assert_eq!(&who(&response), name);
        // The client gets the same mark of the new key, so that the older one can go some day.
        let (new, _) = mark(&response).expect("a mark of the new key");
        let response = back(&router, &new);
        assert_eq!((&who(&response), response.get("set-cookie")), (name, None));
        again.push((name, new));
    }
    let (name, new) = begin(&router);
    // The older one goes: its marks are none any more, those of the newer one are. No restart is needed.
    fs::write(&file, OTHER_KEY).unwrap();
    until_true("the older key to be forgotten", || mark(&back(&router, &clients[0].1)).is_some());
    assert_eq!(who(&back(&router, &new)), name);
    for (name, new) in &again {
        let response = back(&router, new);
        assert_eq!((&&who(&response), response.get("set-cookie")), (name, None));
    }
    // A file that cannot be used keeps the one before.
    fs::write(&file, "no key").unwrap();
    router.wait_error("is not 32 bytes");
    let response = back(&router, &new);
    assert_eq!((who(&response), response.get("set-cookie")), (name, None));
    drop(router);

    let router = Ekiden::start(Setup::new(world.text(COOKIE)));
    let (_, own) = begin(&router);
    let setup = router.stop();
    let router = Ekiden::start_with(setup, Run { keep_file: true, ..Run::default() });
    assert!(mark(&back(&router, &own)).is_some(), "a key that was made ends with its process");
}

#[test]
fn it_falls_over_when_its_endpoint_leaves_and_gets_a_new_mark() {
    let world = World::new(&["one", "two"]);
    let router = Ekiden::start(Setup::new(world.text(COOKIE)));
    let (name, old) = begin(&router);
    router.control("PUT", &Ekiden::endpoint_path("web", &name), "{\"drain\":true}");
    let response = back(&router, &old);
    let other = who(&response);
    assert_ne!(other, name, "a draining endpoint gets no new request");
    let (new, _) = mark(&response).expect("a new mark");
    assert_eq!(router.metric("ekiden_cluster_affinity_total", &["result=\"moved\""]), 1.0);
    // It stays there when the first is back.
    router.control("PUT", &Ekiden::endpoint_path("web", &name), "{\"drain\":false}");
    for _ in 0..4 {
        let response = back(&router, &new);
        assert_eq!((who(&response), response.get("set-cookie")), (other.clone(), None));
    }
}

#[test]
fn a_request_that_its_endpoint_fails_is_retried_elsewhere_and_moves() {
    let alive = Echo::start("alive");
    let dead = Flapper::start();
    let places = [("alive", alive.address, 1), ("dead", dead.address, 1)];
    let router = Ekiden::start(Setup::new(text(&places, COOKIE)));
    // Round robin: one of two clients begins at the one that will die.
    let mark_of_dead = (0..2).find_map(|_| {
        let response = ask(&mut router.client(), "");
        (!response.text().contains("alive")).then(|| mark(&response).unwrap().0)
    });
    let mark_of_dead = mark_of_dead.expect("each endpoint gets one of two new clients");
    dead.down();
    let response = back(&router, &mark_of_dead);
    assert_eq!(who(&response), "alive", "a failed connect goes to another endpoint");
    let (new, _) = mark(&response).expect("a new mark");
    let response = back(&router, &new);
    assert_eq!((who(&response), response.get("set-cookie")), ("alive".to_owned(), None));
}

#[test]
fn a_busy_endpoint_lends_its_client_and_keeps_it() {
    // The first answers when it is told to: until then its one slot is taken.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let slow = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/hold" {
                let _told = released.lock().unwrap().recv();
            }
            conn.answer(&request, "slow");
        }
    });
    let quick = Echo::start("quick");
    let keys = "balance = \"round_robin\"\nslots = 1\naffinity = { cookie = \"srv\" }";
    let places = [("slow", slow.address, 1), ("quick", quick.address, 1)];
    let router = Ekiden::start(Setup::new(text(&places, keys)));
    let mark_of_slow = (0..4)
        .find_map(|_| {
            let response = ask(&mut router.client(), "");
            (response.text() == "slow").then(|| mark(&response).unwrap().0)
        })
        .expect("round robin comes to it");
    let before = slow.connections();
    let mut holding = router.client();
    holding.send(format!("GET /hold HTTP/1.1\r\nHost: a\r\nCookie: srv={mark_of_slow}\r\n\r\n"));
    until_true("the slot to be taken", || {
        let table = router.table();
        let endpoints = table["apps"][0]["clusters"][0]["endpoints"].as_array().unwrap().clone();
        endpoints.iter().any(|one| one["id"] == "slow" && one["in_flight"] == 1)
    });
    let response = back(&router, &mark_of_slow);
    assert_eq!((who(&response).as_str(), response.get("set-cookie")), ("quick", None), "it is lent");
    release.send(()).unwrap();
    assert_eq!(holding.response().text(), "slow");
    until_true("the slot to be free", || back(&router, &mark_of_slow).text() == "slow");
    assert!(slow.connections() >= before);
    assert!(router.metric("ekiden_cluster_affinity_total", &["result=\"lent\""]) >= 1.0);
}

#[test]
fn attributes_of_the_cookie() {
    let world = World::new(&["one"]);
    let rows = [
        ("cookie = \"srv\"", "", "Path=/; HttpOnly; SameSite=Lax"),
        ("cookie = \"srv\"", "X-Forwarded-Proto: https\r\n", "Path=/; HttpOnly; SameSite=Lax; Secure"),
        (
            "cookie = \"srv\", secure = false",
            "X-Forwarded-Proto: https\r\n",
            "Path=/; HttpOnly; SameSite=Lax",
        ),
        (
            "cookie = \"srv\", secure = true, same_site = \"none\", path = \"/shop\", lifetime = \"1h\"",
            "",
            "Path=/shop; HttpOnly; SameSite=None; Secure; Max-Age=3600",
        ),
        ("cookie = \"srv\", same_site = \"strict\"", "", "Path=/; HttpOnly; SameSite=Strict"),
    ];
    for (words, fields, wanted) in rows {
        let text = world.text(&format!("affinity = {{ {words} }}"));
        let router = Ekiden::start(Setup::new(text).listener("trust = [\"127.0.0.0/8\"]"));
        let response = ask(&mut router.client(), fields);
        assert_eq!(mark(&response).unwrap().1, wanted, "{words}");
    }
    // Nobody is believed who is not trusted.
    let router = Ekiden::start(Setup::new(world.text("affinity = { cookie = \"srv\" }")));
    let response = ask(&mut router.client(), "X-Forwarded-Proto: https\r\n");
    assert_eq!(mark(&response).unwrap().1, "Path=/; HttpOnly; SameSite=Lax");
}

#[test]
fn a_mark_ends_with_its_lifetime() {
    let world = World::new(&["one"]);
    let text = world.text("affinity = { cookie = \"srv\", lifetime = \"1s\" }");
    let router = Ekiden::start(Setup::new(text));
    let (_, old) = begin(&router);
    until_true("the mark to end", || mark(&back(&router, &old)).is_some());
}

#[test]
fn programs_carry_it_in_a_field() {
    let world = World::new(&["one", "two", "three"]);
    let keys = "balance = \"round_robin\"\naffinity = { header = \"X-Affinity\" }";
    let router = Ekiden::start(Setup::new(world.text(keys)));
    for _ in 0..3 {
        let response = ask(&mut router.client(), "");
        assert_eq!(response.get("set-cookie"), None);
        let (name, mark) = (who(&response), response.get("x-affinity").unwrap().to_owned());
        for _ in 0..3 {
            let response = ask(&mut router.client(), &format!("x-affinity: {mark}\r\n"));
            assert_eq!((who(&response), response.get("x-affinity")), (name.clone(), None));
            assert_eq!(Seen(response.json()).field("x-affinity"), None, "the endpoint sees no mark");
        }
    }
}

#[test]
fn clients_of_http2_split_their_cookies() {
    let world = World::new(&["one", "two", "three"]);
    let router = Ekiden::start(Setup::new(world.text(COOKIE)).listener("h2c = true"));
    let (name, mark) = begin(&router);
    let cookie = format!("srv={mark}");
    let fields: &[(&str, &[u8])] = &[("cookie", b"a=1"), ("cookie", cookie.as_bytes()), ("cookie", b"b=2")];
    for _ in 0..3 {
        let answer = http2::talk(router.address(), async |sender| {
            let mut request = http2::get_of("a", "/");
            for (name, value) in fields {
                let value = http::HeaderValue::from_bytes(value).unwrap();
                request.headers_mut().append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
            http2::ask(&sender, request).await.unwrap()
        });
        assert_eq!((answer.status, answer.field("set-cookie")), (200, ""), "{answer:?}");
        let seen = Seen(serde_json::from_slice(&answer.body).unwrap());
        assert_eq!(seen.text("origin"), name);
        assert_eq!(seen.all("cookie").join("; "), "a=1; b=2");
    }
}

/// What a mark is is for the router to say: an endpoint that sends what stands in the place of one would lose its client.
#[test]
fn what_an_endpoint_says_in_the_place_of_a_mark_goes_no_further() {
    let origin = Origin::start(|conn| {
        while conn.request().is_some() {
            let fields =
                "X-Affinity: junk\r\nSet-Cookie: a=1\r\nSet-Cookie: srv=junk; Path=/\r\nSet-Cookie: b=2";
            conn.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let places = [("one", origin.address, 1)];
    let router = Ekiden::start(Setup::new(text(&places, "affinity = { cookie = \"srv\" }")));
    let cookies = |response: &Response| -> Vec<String> {
        response.all("set-cookie").iter().map(|cookie| (*cookie).to_owned()).collect()
    };
    let first = cookies(&ask(&mut router.client(), ""));
    let own = first.iter().find_map(|cookie| cookie.strip_prefix("srv=")).unwrap();
    let (own, _) = own.split_once("; ").unwrap();
    assert_eq!((first.len(), own == "junk"), (3, false), "{first:?}");
    assert_eq!(cookies(&back(&router, own)), ["a=1", "b=2"], "a good mark is kept");
    drop(router);

    let router = Ekiden::start(Setup::new(text(&places, "affinity = { header = \"X-Affinity\" }")));
    let first = ask(&mut router.client(), "");
    assert_eq!(first.all("x-affinity").len(), 1, "{first:?}");
    let own = first.get("x-affinity").unwrap();
    assert_ne!(own, "junk");
    let response = ask(&mut router.client(), &format!("X-Affinity: {own}\r\n"));
    assert_eq!(response.get("x-affinity"), None, "{response:?}");
}

/// Its own endpoint is busy, and the first that stands in for it refuses the connect: that is no fault of its own.
#[test]
fn a_stand_in_that_fails_costs_no_client_its_mark() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let own = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/hold" {
                let _told = released.lock().unwrap().recv();
            }
            conn.answer(&request, "own");
        }
    });
    let (quick, dead) = (Echo::start("quick"), Flapper::start());
    let keys = "balance = \"round_robin\"\nejection = \"off\"\nslots = 1\naffinity = { cookie = \"srv\" }";
    let places = [("own", own.address, 1), ("quick", quick.address, 1), ("dead", dead.address, 1)];
    let router = Ekiden::start(Setup::new(text(&places, keys)));
    let mark_of_own = (0..6)
        .find_map(|_| {
            let response = ask(&mut router.client(), "");
            (response.text() == "own").then(|| mark(&response).unwrap().0)
        })
        .expect("round robin comes to it");
    dead.down();
    let mut holding = router.client();
    holding.send(format!("GET /hold HTTP/1.1\r\nHost: a\r\nCookie: srv={mark_of_own}\r\n\r\n"));
    until_true("the slot to be taken", || {
        let table = router.table();
        let endpoints = table["apps"][0]["clusters"][0]["endpoints"].as_array().unwrap().clone();
        endpoints.iter().any(|one| one["id"] == "own" && one["in_flight"] == 1)
    });
    let failed = || router.metric("ekiden_cluster_connects_total", &["failed"]);
    until_true("a stand-in to fail", || {
        let response = back(&router, &mark_of_own);
        assert_eq!((who(&response).as_str(), response.get("set-cookie")), ("quick", None), "it is lent");
        failed() > 0.0
    });
    release.send(()).unwrap();
    assert_eq!(holding.response().text(), "own");
}

/// Its own endpoint is late, so a second one is asked; then the own one fails: the client moves.
#[test]
fn an_endpoint_that_fails_while_another_is_asked_too_loses_its_client() {
    let (close, closed) = std::sync::mpsc::channel::<()>();
    let closed = std::sync::Mutex::new(closed);
    let (gone, is_gone) = std::sync::mpsc::channel::<()>();
    let is_gone = std::sync::Mutex::new(is_gone);
    let own = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/late" {
                let _told = closed.lock().unwrap().recv();
                conn.finish();
                let _heard = gone.send(());
                return;
            }
            conn.answer(&request, "own");
        }
    });
    // It answers once the own one is gone.
    let other = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/late" {
                let _heard = close.send(());
                let _told = is_gone.lock().unwrap().recv();
            }
            conn.answer(&request, "other");
        }
    });
    let places = [("own", own.address, 1), ("other", other.address, 1)];
    let words = text(&places, &format!("{COOKIE}\nejection = \"off\""));
    let router = Ekiden::start(Setup::new(format!("{words}hedge = {{ percentile = 50, min = \"1ms\" }}\n")));
    // So many that the route's latency is known.
    let mut client = router.client();
    let mut mark_of_own = None;
    for _ in 0..128 {
        let response = ask(&mut client, "");
        if response.text() == "own" {
            mark_of_own = mark(&response).map(|(mark, _)| mark);
        }
    }
    let mark_of_own = mark_of_own.expect("round robin comes to it");
    let request = format!("GET /late HTTP/1.1\r\nHost: a\r\nCookie: srv={mark_of_own}\r\n\r\n");
    let response = router.client().ask(request);
    assert_eq!((response.status, response.text().as_str()), (200, "other"), "{response:?}");
    let (new, _) = mark(&response).expect("a new mark");
    assert_eq!(back(&router, &new).text(), "other");
    assert_eq!(router.metric("ekiden_cluster_affinity_total", &["result=\"moved\""]), 1.0);
}
