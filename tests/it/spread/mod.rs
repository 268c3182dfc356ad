//! How requests are shared out: zones, priorities, subsets, and a limit that follows latency. On the real binary.

mod limit;

use ekiden_tests::{Ekiden, Flapper, Served, Setup, until_true};
use serde_json::Value;

/// A cluster of endpoints with keys of their own, named `e0` and so on.
fn cluster(endpoints: &[(&Flapper, String)], keys: &str) -> String {
    let list = endpoints.iter().enumerate().map(|(number, (flapper, words))| {
        format!("{{ id = \"e{number}\", address = \"{}\"{words} }}", flapper.address)
    });
    let list: Vec<String> = list.collect();
    format!("[cluster.web]\nendpoints = [{}]\n{keys}\n[[route]]\ncluster = \"web\"\n", list.join(", "))
}

fn flappers(count: usize) -> Vec<Flapper> {
    (0..count).map(|_| Flapper::start()).collect()
}

/// Requests of one client after another, all answered; how many each endpoint got of them.
fn ask(router: &Ekiden, endpoints: &[Flapper], count: usize) -> Vec<u64> {
    let before: Vec<u64> = endpoints.iter().map(Flapper::requests).collect();
    let mut client = router.client();
    for _ in 0..count {
        assert_eq!(client.get("a", "/").status, 200);
    }
    endpoints.iter().zip(before).map(|(one, before)| one.requests() - before).collect()
}

fn drain(router: &Ekiden, id: &str, on: bool) {
    let answer = router.control("PUT", &Ekiden::endpoint_path("web", id), &format!("{{\"drain\":{on}}}"));
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn zone_count(router: &Ekiden, zone: &str) -> f64 {
    router.metric("ekiden_cluster_zone_attempts_total", &[&format!("zone=\"{zone}\"")])
}

fn zone_share(router: &Ekiden, zone: &str) -> f64 {
    router.metric("ekiden_cluster_zone_share_ratio", &[&format!("zone=\"{zone}\"")])
}

fn explained(router: &Ekiden) -> Value {
    let answer = router.control("GET", "/v1/explain?url=http://a/", "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["destination"].clone()
}

/// The groups of the cluster as `GET /v1/table` shows them.
fn groups(router: &Ekiden) -> Value {
    let table = router.table();
    let apps = table["apps"].as_array().unwrap();
    let clusters = apps.iter().flat_map(|app| app["clusters"].as_array().unwrap());
    clusters.into_iter().find(|cluster| cluster["name"] == "web").unwrap()["groups"].clone()
}

/// Two endpoints in the router's zone and two in another one.
fn two_zones(all: &[Flapper]) -> Ekiden {
    let zones = ["a", "a", "b", "b"].map(|zone| format!(", zone = \"{zone}\""));
    let endpoints: Vec<_> = all.iter().zip(zones).collect();
    Ekiden::start(Setup::new(cluster(&endpoints, "")).top("zone = \"a\"").workers(2))
}

#[test]
fn a_zone_that_lost_an_endpoint_spills_and_comes_back() {
    let all = flappers(4);
    let router = two_zones(&all);
    let got = ask(&router, &all, 60);
    assert_eq!((got[0] + got[1], got[2] + got[3]), (60, 0));
    assert_eq!((zone_count(&router, "local"), zone_count(&router, "spilled")), (60.0, 0.0));
    assert_eq!(zone_share(&router, "local"), 1.0);

    all[0].down();
    // Requests find out; they are all answered, as connects are tried elsewhere.
    until_true("the share of the zone to fall", || {
        ask(&router, &all, 5);
        (zone_share(&router, "local") - 2.0 / 3.0).abs() < 1e-6
    });
    let got = ask(&router, &all, 600);
    let spilled = got[2] + got[3];
    assert!((100..=300).contains(&spilled), "a third of 600: {got:?}");
    assert_eq!(got[0], 0);
    let told = groups(&router);
    assert_eq!(
        (&told[0]["kind"], &told[0]["zone"], &told[0]["ready"]),
        (&"local".into(), &"a".into(), &1.into())
    );
    assert_eq!(
        (&told[1]["kind"], &told[1]["zone"], &told[1]["ready"]),
        (&"spilled".into(), &"b".into(), &2.into())
    );
    let destination = explained(&router);
    assert_eq!(destination["groups"], told);
    let share = |at: usize| destination["endpoints"][at]["share"].as_f64().unwrap();
    assert_eq!(share(0), 0.0, "{destination}");
    assert!((share(1) - 2.0 / 3.0).abs() < 1e-6 && (share(2) - 1.0 / 6.0).abs() < 1e-6, "{destination}");

    all[0].up();
    until_true("the zone to keep all again", || {
        ask(&router, &all, 5);
        zone_share(&router, "local") == 1.0
    });
    let got = ask(&router, &all, 60);
    assert_eq!(got[2] + got[3], 0, "{got:?}");
}

#[test]
fn a_zone_without_endpoints_uses_the_other_one() {
    let all = flappers(4);
    let router = two_zones(&all);
    ["e0", "e1"].iter().for_each(|id| drain(&router, id, true));
    let got = ask(&router, &all, 40);
    assert_eq!((got[0] + got[1], got[2] + got[3]), (0, 40));
    assert_eq!((zone_count(&router, "local"), zone_count(&router, "spilled")), (0.0, 40.0));
    ["e0", "e1"].iter().for_each(|id| drain(&router, id, false));
    let got = ask(&router, &all, 40);
    assert_eq!((got[0] + got[1], got[2] + got[3]), (40, 0));
}

/// An endpoint of another zone that the API adds takes what spills; with its zone it is in no zone of ours.
#[test]
fn the_api_says_zone_and_priority_too() {
    let all = flappers(2);
    let endpoints: Vec<_> = all[..1].iter().map(|one| (one, ", zone = \"a\"".to_owned())).collect();
    let router = Ekiden::start(Setup::new(cluster(&endpoints, "")).top("zone = \"a\""));
    assert_eq!(groups(&router), serde_json::json!([]));
    let path = Ekiden::endpoint_path("web", "far");
    let body = format!(r#"{{"address":"{}","zone":"b","priority":1}}"#, all[1].address);
    let answer = router.control("PUT", &path, &body);
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    let told = router.control("GET", &path, "").json();
    assert_eq!((&told["zone"], &told["priority"]), (&"b".into(), &1.into()));
    assert_eq!(groups(&router).as_array().unwrap().len(), 2);
    assert_eq!(ask(&router, &all, 20), [20, 0]);
    drain(&router, "e0", true);
    assert_eq!(ask(&router, &all, 20), [0, 20]);
}

#[test]
fn the_next_priority_takes_what_the_first_cannot() {
    let all = flappers(3);
    let words = ["", "", ", priority = 1"].map(str::to_owned);
    let endpoints: Vec<_> = all.iter().zip(words).collect();
    let probe = "probe = { path = \"/healthz\", interval = \"100ms\", rise = 1, fall = 1 }";
    let router = Ekiden::start(Setup::new(cluster(&endpoints, probe)).workers(2));
    let share = |priority: u8| {
        router.metric("ekiden_cluster_priority_share_ratio", &[&format!("priority=\"{priority}\"")])
    };
    until_true("all to be ready", || groups(&router)[0]["ready"] == 2 && groups(&router)[1]["ready"] == 1);
    assert_eq!(ask(&router, &all, 40)[2], 0);
    all[0].set_check_status(503);
    until_true("its share to fall", || (share(0) - 0.7).abs() < 1e-6 && (share(1) - 0.3).abs() < 1e-6);
    let got = ask(&router, &all, 600);
    assert!(got[0] == 0 && (90..=280).contains(&got[2]), "0.3 of 600: {got:?}");
    all[1].set_check_status(503);
    until_true("the standby to have all", || share(1) == 1.0);
    assert_eq!(ask(&router, &all, 40), [0, 0, 40]);
    let count = router.metric("ekiden_cluster_priority_attempts_total", &["priority=\"1\""]);
    assert!(count >= 40.0 + got[2] as f64, "{count}");
    all[..2].iter().for_each(|one| one.set_check_status(200));
    until_true("the first to have all", || share(0) == 1.0);
    assert_eq!(ask(&router, &all, 40)[2], 0);
}

#[test]
fn a_router_of_many_sends_to_its_subset() {
    let all = flappers(8);
    let endpoints: Vec<_> = all.iter().map(|one| (one, String::new())).collect();
    let text = cluster(&endpoints, "subset = 2");
    let mut seen = vec![0; all.len()];
    for number in 0..4 {
        let router = Ekiden::start(Setup::new(text.clone()).top(&format!("instance = \"web.{number}\"")));
        let got = ask(&router, &all, 60);
        assert_eq!(got.iter().filter(|count| **count > 0).count(), 2, "{got:?}");
        assert_eq!(router.metric("ekiden_cluster_subset_endpoints", &[]), 2.0);
        let told = explained(&router);
        let told = told["endpoints"].as_array().unwrap();
        for (at, count) in got.iter().enumerate() {
            assert_eq!(told[at]["in_subset"] == true, *count > 0, "{told:?}");
            seen[at] += u32::from(*count > 0);
        }
        // Nothing of it is left: others serve.
        for (at, _) in got.iter().enumerate().filter(|(_, count)| **count > 0) {
            drain(&router, &format!("e{at}"), true);
        }
        let rest = ask(&router, &all, 60);
        assert!(rest.iter().zip(&got).all(|(rest, got)| *rest == 0 || *got == 0), "{got:?}, then {rest:?}");
    }
    // The four routers of one round have each endpoint once.
    assert_eq!(seen, [1; 8]);
}
