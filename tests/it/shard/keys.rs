//! What a key is made of, what happens without one, and which changes move it.

use std::collections::{BTreeMap, BTreeSet};

use ekiden_tests::{Ekiden, Served, Setup, until, until_true};

use super::{echoes, get, keyed, placement, places, serve, text, who};

const TRUSTING: &str = "trust = [\"127.0.0.0/8\"]";

#[test]
fn keys_of_each_kind() {
    let echoes = echoes(&["a", "b", "c", "d", "e"]);
    // What is hashed, a request with the key N, and another one with the same key.
    type Row = (&'static str, fn(usize) -> String, fn(usize) -> String);
    let rows: &[Row] = &[
        ("header:X-Key", |n| keyed(n), |n| get("/other", &format!("x-key: {n}\r\n"))),
        (
            "cookie:session",
            |n| get("/", &format!("Cookie: session={n}\r\n")),
            |n| get("/b", &format!("Cookie: x=1; session={n}\r\n")),
        ),
        ("query:id", |n| get(&format!("/?id={n}x"), ""), |n| get(&format!("/b?z=1&id={n}%78"), "")),
        ("query", |n| get(&format!("/?id={n}"), ""), |n| get(&format!("/b?id={n}"), "")),
        ("path:2", |n| get(&format!("/a/{n}"), ""), |n| get(&format!("/b/{n}/more"), "")),
        ("path", |n| get(&format!("/a/{n}"), ""), |n| get(&format!("/x/../a/{n}?q"), "")),
        (
            "host",
            |n| format!("GET / HTTP/1.1\r\nHost: h{n}\r\n\r\n"),
            |n| format!("GET /b HTTP/1.1\r\nHost: H{n}:80\r\n\r\n"),
        ),
        (
            "client",
            |n| get("/", &format!("X-Forwarded-For: 192.0.2.{n}\r\n")),
            |n| get("/b", &format!("X-Forwarded-For: 192.0.2.{n}\r\n")),
        ),
        (
            "client",
            |n| get("/", &format!("X-Forwarded-For: 2001:db8:0:{n}::1\r\n")),
            |n| get("/b", &format!("X-Forwarded-For: 2001:db8:0:{n}:ffff::9\r\n")),
        ),
        ("{header:x-key}@{host}", |n| keyed(n), |n| get("/other", &format!("x-key: {n}\r\n"))),
    ];
    for (by, one, other) in rows {
        let setup = Setup::new(text(&places(&echoes), "", &format!("by = \"{by}\", bound = \"off\"")))
            .listener(TRUSTING);
        let router = Ekiden::start(setup.workers(2));
        let (mut client, mut second) = (router.client(), router.client());
        let mut seen = BTreeSet::new();
        for n in 1..40 {
            let name = who(&mut client, &one(n));
            assert_eq!(who(&mut second, &other(n)), name, "{by} {n}");
            seen.insert(name);
        }
        assert!(seen.len() >= 4, "{by}: {seen:?}");
    }
}

#[test]
fn requests_without_a_key() {
    let echoes = echoes(&["a", "b", "c"]);
    let without = get("/", "");
    let refusing = serve(&echoes, "", "by = \"header:x-key\", fallback = \"refuse\", bound = \"off\"");
    let answer = refusing.client().ask(&without);
    assert_eq!((answer.status, answer.code()), (400, "shard_key_missing"));
    who(&mut refusing.client(), &keyed(1));

    let balanced = serve(&echoes, "balance = \"round_robin\"", "by = \"header:x-key\"");
    let mut client = balanced.client();
    let seen: BTreeSet<String> = (0..3).map(|_| who(&mut client, &without)).collect();
    assert_eq!(seen.len(), 3, "{seen:?}");

    let by_path = serve(
        &echoes,
        "balance = \"round_robin\"",
        "by = \"header:x-key\", fallback = \"path\", bound = \"off\"",
    );
    let mut client = by_path.client();
    for path in ["/1", "/2", "/3", "/4"] {
        let first = who(&mut client, &get(path, ""));
        assert!((0..5).all(|_| who(&mut client, &get(path, "")) == first), "{path}");
    }
}

#[test]
fn a_rewritten_path_does_not_change_the_key() {
    let echoes = echoes(&["a", "b", "c", "d", "e"]);
    let text = text(&places(&echoes), "", "by = \"path\", bound = \"off\"")
        + "[[route]]\npath = \"/old\"\ncluster = \"web\"\nrewrite = { prefix = \"/new\" }\n";
    let router = Ekiden::start(Setup::new(text));
    let mut client = router.client();
    let rewritten: Vec<String> = (0..30).map(|n| who(&mut client, &get(&format!("/old/{n}"), ""))).collect();
    let asked: Vec<String> = (0..30).map(|n| who(&mut client, &get(&format!("/new/{n}"), ""))).collect();
    assert_ne!(rewritten, asked, "the path that was asked for decides");
}

#[test]
fn changes_move_the_keys_they_state_and_no_others() {
    const KEYS: usize = 60;
    for algorithm in ["rendezvous", "ring", "maglev"] {
        let shard = format!("by = \"header:x-key\", bound = \"off\", algorithm = \"{algorithm}\"");
        let echoes = echoes(&["a", "b", "c", "d"]);
        let router = serve(&echoes, "", &shard);
        let mut client = router.client();
        let before = placement(&mut client, KEYS);
        let digest = digest(&router);
        // Two endpoints change places: keys stay with ids, so the echoes they come to are exchanged.
        let mut places = places(&echoes);
        (places[0].1, places[1].1) = (places[1].1, places[0].1);
        router.rewrite(&router.setup().config_with(&text(&places, "", &shard)));
        let exchanged = |name: &String| match name.as_str() {
            "a" => "b".to_owned(),
            "b" => "a".to_owned(),
            other => other.to_owned(),
        };
        let want: BTreeMap<usize, String> =
            before.iter().map(|(key, name)| (*key, exchanged(name))).collect();
        until_true("the change of places", || placement(&mut client, KEYS) == want);
        assert_eq!(super::keys::digest(&router), digest, "{algorithm}");
        // One leaves: its keys move, and no others (of maglev some).
        router.rewrite(&router.setup().config_with(&text(&places[..3], "", &shard)));
        until_true("the endpoint to leave", || super::keys::digest(&router) != digest);
        let after = placement(&mut client, KEYS);
        for (key, name) in &want {
            if name == "d" {
                assert_ne!(after[key], "d");
            } else if algorithm != "maglev" {
                assert_eq!(after[key], *name, "{algorithm} {key}");
            }
        }
    }
}

/// The digest of the map, which API and metric tell alike.
fn digest(router: &Ekiden) -> String {
    until("API and metric to agree", || {
        let table = router.table();
        let digest = table["apps"][0]["clusters"][0]["shard"]["digest"].as_str().unwrap().to_owned();
        (router.metric("ekiden_shard_map_info", &[&digest, "cluster=\"web\""]) == 1.0).then_some(digest)
    })
}

#[test]
fn two_routers_place_every_key_alike() {
    let echoes = echoes(&["a", "b", "c", "d"]);
    for algorithm in ["rendezvous", "ring", "maglev", "ketama"] {
        let shard = format!("by = \"header:x-key\", bound = \"off\", algorithm = \"{algorithm}\"");
        let (one, two) = (serve(&echoes, "", &shard), serve(&echoes, "", &shard));
        assert_eq!(digest(&one), digest(&two));
        assert_eq!(placement(&mut one.client(), 40), placement(&mut two.client(), 40), "{algorithm}");
    }
}
