//! Caches and stores: what a failure does to the keys of an endpoint, replicas, and bounds on loads.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use ekiden_tests::{Client, Ekiden, Flapper, Origin, Served, Setup, until, until_true};

use super::{keyed, text};

/// Checks alone find a dead endpoint, and one that is back.
const PROBED: &str = "ejection = \"off\"\nprobe = { tcp = true, interval = \"100ms\", fall = 1, rise = 1 }";

/// A router before endpoints `0`, `1` ...; none are ejected unless a request fails.
fn serve(endpoints: &[Flapper], keys: &str, shard: &str) -> Ekiden {
    let names: Vec<String> = (0..endpoints.len()).map(|number| number.to_string()).collect();
    let places: Vec<(&str, SocketAddr)> =
        names.iter().zip(endpoints).map(|(name, one)| (name.as_str(), one.address)).collect();
    Ekiden::start(Setup::new(text(&places, keys, shard)).workers(2))
}

/// So many endpoints, each of which says its number with every answer.
fn flappers(count: usize) -> Vec<Flapper> {
    let flapper = |number: usize| {
        let flapper = Flapper::start();
        flapper.set_fields(&format!("X-Number: {number}\r\n"));
        flapper
    };
    (0..count).map(flapper).collect()
}

/// The endpoint that serves a key.
fn owner(client: &mut Client, key: usize) -> usize {
    let answer = client.ask(keyed(key));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.get("x-number").and_then(|number| number.parse().ok()).unwrap()
}

fn owners(client: &mut Client, keys: usize) -> BTreeMap<usize, usize> {
    (0..keys).map(|key| (key, owner(client, key))).collect()
}

fn state(router: &Ekiden, number: usize) -> String {
    let path = Ekiden::endpoint_path("web", &number.to_string());
    router.control("GET", &path, "").json()["state"].as_str().unwrap_or("").to_owned()
}

fn wait_state(router: &Ekiden, number: usize, wanted: &str) {
    until_true(&format!("{number} to be {wanted}"), || state(router, number) == wanted);
}

#[test]
fn a_cache_serves_the_keys_of_a_dead_endpoint_elsewhere_and_gives_them_back() {
    for algorithm in ["rendezvous", "ring", "maglev", "ketama"] {
        let all = flappers(4);
        let shard = format!("by = \"header:x-key\", bound = \"off\", algorithm = \"{algorithm}\"");
        let router = serve(&all, "", &shard);
        let mut client = router.client();
        let before = owners(&mut client, 40);
        all[2].down();
        // Idempotent: not one request is lost, whatever is known of the endpoint.
        let during = owners(&mut client, 40);
        for (key, owner) in &before {
            assert_eq!(during[key] == *owner, *owner != 2, "{algorithm}: {key} of {owner}");
        }
        all[2].up();
        until_true("all keys at their places again", || owners(&mut client, 40) == before);
    }
}

#[test]
fn a_store_fails_the_keys_of_a_dead_endpoint_and_those_alone() {
    for algorithm in ["rendezvous", "ring", "maglev", "ketama"] {
        let all = flappers(3);
        let shard = format!("by = \"header:x-key\", kind = \"store\", algorithm = \"{algorithm}\"");
        let router = serve(&all, PROBED, &shard);
        let mut client = router.client();
        let before = owners(&mut client, 30);
        all[1].down();
        let served = [all[0].requests(), all[2].requests()];
        let own = *before.iter().find(|(_, owner)| **owner == 1).unwrap().0;
        until("a refusal with the store's code", || {
            let answer = client.ask(keyed(own));
            assert_eq!(answer.status, 503, "{answer:?}");
            (answer.code() == "shard_unavailable").then_some(())
        });
        assert_eq!([all[0].requests(), all[2].requests()], served, "{algorithm}: none was served elsewhere");
        for (key, owner) in before.iter().filter(|(_, owner)| **owner != 1) {
            assert_eq!(self::owner(&mut client, *key), *owner);
        }
        // All are down.
        all[0].down();
        all[2].down();
        for number in [0, 1, 2] {
            let key = *before.iter().find(|(_, owner)| **owner == number).unwrap().0;
            until_true("every shard to be given up", || client.ask(keyed(key)).code() == "shard_unavailable");
        }
        all.iter().for_each(Flapper::up);
        (0..3).for_each(|number| wait_state(&router, number, "ready"));
        assert_eq!(owners(&mut client, 30), before, "{algorithm}");
    }
}

#[test]
fn replicas_of_a_store_serve_its_keys_while_one_is_ready() {
    let all = flappers(4);
    let router = serve(&all, "", "by = \"header:x-key\", kind = \"store\", replicas = 2");
    let mut client = router.client();
    let before = owners(&mut client, 30);
    all[3].down();
    let during = owners(&mut client, 30);
    for (key, owner) in &before {
        assert_eq!(during[key] == *owner, *owner != 3, "{key} of {owner}");
    }
    // The second replica of a key is the same each time.
    assert_eq!(owners(&mut client, 30), during);
}

#[test]
fn replicas_share_a_key_by_load() {
    let all = flappers(4);
    let shard =
        "by = \"header:x-key\", bound = \"off\", hot_keys = \"off\", replicas = 2, replica_pick = \"p2c\"";
    let router = serve(&all, "", shard);
    let mut client = router.client();
    for _ in 0..60 {
        assert_eq!(client.ask(keyed("same")).status, 200);
    }
    let counts: Vec<u64> = all.iter().map(Flapper::requests).collect();
    assert_eq!(counts.iter().filter(|count| **count > 0).count(), 2, "{counts:?}");
}

/// Endpoints that hold every request until told, and tell of each when it has come.
struct Holding {
    origins: Vec<Origin>,
    arrived: Mutex<std::sync::mpsc::Receiver<usize>>,
    release: Arc<(Mutex<bool>, std::sync::Condvar)>,
}

impl Holding {
    fn start(count: usize) -> Self {
        let (tell, arrived) = channel();
        let release = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
        let origin = |number: usize| {
            let (tell, release) = (Mutex::new(tell.clone()), Arc::clone(&release));
            Origin::start(move |conn| {
                while let Some(request) = conn.request() {
                    let _nobody_asks_any_more = tell.lock().unwrap().send(number);
                    let held = release.0.lock().unwrap();
                    drop(release.1.wait_while(held, |released| !*released).unwrap());
                    conn.answer(&request, "held");
                }
            })
        };
        Self { origins: (0..count).map(origin).collect(), arrived: Mutex::new(arrived), release }
    }

    /// The endpoint that got the next request.
    fn next(&self) -> usize {
        self.arrived.lock().unwrap().recv_timeout(ekiden_tests::DEADLINE).unwrap()
    }

    fn release(&self) {
        *self.release.0.lock().unwrap() = true;
        self.release.1.notify_all();
    }
}

#[test]
fn loads_are_bounded_and_what_overflows_goes_to_the_others() {
    // Of 16 requests for one key over 4 endpoints, held all: 1.25 x 16 / 4 = 5 at its own.
    for (bound, most) in [("", 5), ("bound = \"off\", ", 16), ("bound = 2, ", 8)] {
        let endpoints = Holding::start(4);
        let names = ["0", "1", "2", "3"];
        let places: Vec<(&str, SocketAddr)> =
            names.into_iter().zip(&endpoints.origins).map(|(name, one)| (name, one.address)).collect();
        let shard = format!("{bound}by = \"header:x-key\", hot_keys = \"off\"");
        let router = Ekiden::start(Setup::new(text(&places, "", &shard)).workers(2));
        let mut clients: Vec<Client> = Vec::new();
        let mut counts = [0u64; 4];
        for _ in 0..16 {
            let mut client = router.client();
            client.send(keyed("same"));
            clients.push(client);
            // One after another: each is in flight before the next is sent.
            let at = endpoints.next();
            counts[at] += 1;
            let total: u64 = counts.iter().sum();
            let ceiling = match bound {
                "" => (total * 125).div_ceil(400),
                "bound = 2, " => (total * 200).div_ceil(400),
                _ => total,
            };
            assert!(counts[at] <= ceiling, "{bound}: {counts:?}");
        }
        assert_eq!(counts.iter().max(), Some(&most), "{bound}: {counts:?}");
        endpoints.release();
        for mut client in clients {
            assert_eq!(client.response().status, 200);
        }
    }
}
