//! DNS names in clusters, from the first table to a dead name server.

use crate::bench::{Bench, SMALL, web};

fn with_names() -> String {
    SMALL.replace(r#"["127.0.0.1:13000"]"#, r#"["web.test:80", { id = "one", address = "single.test:81" }]"#)
}

#[test]
fn names_become_endpoints_follow_their_records_and_survive_failures() {
    let bench = Bench::new(&with_names());
    bench.names.set("web.test", &["10.0.0.2", "10.0.0.1"]);
    bench.names.set("single.test", &["10.1.0.5"]);
    let running = bench.start();
    let want = ["one 10.1.0.5:81", "web.test/10.0.0.1:80 10.0.0.1:80", "web.test/10.0.0.2:80 10.0.0.2:80"];
    assert_eq!(web(&running.router.latest()), want, "already in the first table");
    assert_eq!(
        running.put("web.test%2F10.0.0.1:80", r#"{"address":"10.0.0.9:1"}"#).code(),
        "owned_by_source"
    );
    assert_eq!(running.put("web.test%2F10.0.0.1:80", r#"{"drain":true}"#).status, 200);

    bench.names.set("web.test", &["10.0.0.1", "10.0.0.3"]);
    bench.names.set("single.test", &["10.1.0.1", "10.1.0.5"]);
    let want =
        ["one 10.1.0.5:81", "web.test/10.0.0.1:80 10.0.0.1:80 drain", "web.test/10.0.0.3:80 10.0.0.3:80"];
    running.router.wait("the new records", |model| web(model) == want);

    bench.names.clear();
    let status = running.wait("the failures", |status| {
        status.dns.values().filter(|name| name.failing_since_unix_ms.is_some()).count() == 2
    });
    assert_eq!(status.dns["web.test"].addresses, ["10.0.0.1", "10.0.0.3"]);
    assert_eq!(web(&running.router.latest()), want);
    running.wait("the save", |status| status.last_good_unix_ms.is_some());
    running.control.stop();

    // The name server is still dead: what is remembered serves from the first table on.
    let running = bench.start();
    assert_eq!(web(&running.router.latest()), want);
}

#[test]
fn a_name_unresolved_at_start_leaves_its_cluster_empty_until_it_answers() {
    let bench = Bench::new(&with_names());
    let running = bench.start();
    assert_eq!(running.router.count(), 1);
    assert!(web(&running.router.latest()).is_empty());
    bench.names.set("web.test", &["10.0.0.1"]);
    running.router.wait("the late answer", |model| web(model) == ["web.test/10.0.0.1:80 10.0.0.1:80"]);
    assert_eq!(
        running.put("one", r#"{"address":"10.0.0.9:1"}"#).code(),
        "owned_by_source",
        "the id is the name's"
    );
}

#[test]
fn a_record_that_is_our_own_address_is_dropped() {
    let mut bench = Bench::new(&with_names());
    bench.options.telemetry = "0.0.0.0:80".parse().unwrap();
    bench.names.set("web.test", &["127.0.0.1", "10.0.0.1"]);
    bench.names.set("single.test", &["127.0.0.1"]);
    let running = bench.start();
    let model = running.router.latest();
    // Port 81 is nobody's.
    assert_eq!(web(&model), ["one 127.0.0.1:81", "web.test/10.0.0.1:80 10.0.0.1:80"]);
}
