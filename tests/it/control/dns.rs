//! Endpoints that are DNS names, asked of a small name server of the test.

use ekiden_tests::{Ekiden, Nameserver, Run, Served, Setup, Stamped, cluster, free_port, until_true};

use super::{EVEN, problem, who};

/// Two origins on the same port of two addresses.
fn pair() -> (Stamped, Stamped, u16) {
    let port = free_port();
    (Stamped::on(&format!("127.0.0.1:{port}"), "one"), Stamped::on(&format!("127.0.0.2:{port}"), "two"), port)
}

fn start(names: &Nameserver, endpoints: &str) -> Ekiden {
    let text = format!("[cluster.web]\n{EVEN}\nendpoints = [{endpoints}]\n[[route]]\ncluster = \"web\"\n");
    let arguments = vec!["--resolver".to_owned(), names.address.to_string()];
    Ekiden::start_with(Setup::new(text).top("drain_grace = \"0s\""), Run { arguments, ..Run::default() })
}

#[test]
fn a_name_stands_for_its_records_and_follows_them() {
    let (names, (one, two, port)) = (Nameserver::start(), pair());
    names.set("web.test", &["127.0.0.2", "127.0.0.1"]);
    let router = start(&names, &format!("\"web.test:{port}\""));
    assert_eq!(who(&router, "/", 100), ["one", "two"], "not every record serves from the first table on");
    let id = format!("web.test%2F127.0.0.1:{port}");
    let seen = router.control("GET", &Ekiden::endpoint_path("web", &id), "").json();
    assert_eq!(seen["owner"], "source", "{seen}");
    let body = "{\"address\":\"127.0.0.1:1\"}";
    assert_eq!(
        problem(&router.control("PUT", &Ekiden::endpoint_path("web", &id), body)).1,
        "owned_by_source"
    );

    // Another order is no change: connections and state would be lost at every answer.
    let before = router.table()["generation"].clone();
    names.set("web.test", &["127.0.0.1", "127.0.0.2"]);
    names.answer_more(4);
    assert_eq!(router.table()["generation"], before, "the order of records means something");

    names.set("web.test", &["127.0.0.2"]);
    until_true("the record to leave", || who(&router, "/", 20) == ["two"]);
    let served = one.requests();

    // Nothing, in every way there is.
    names.set("web.test", &[]);
    names.answer_more(4);
    names.forget("web.test");
    names.answer_more(4);
    until_true("the status to tell of the failure", || {
        router.control("GET", "/v1/status", "").json()["dns"]["web.test"]["error"].is_string()
    });
    assert_eq!(who(&router, "/", 20), ["two"], "a failing name server takes the endpoints away");
    until_true("a loud word of it", || {
        router.errors().lines().any(|line| line.contains("ERROR") && line.contains("web.test"))
    });
    assert_eq!((one.requests(), router.readyz().0), (served, 200));

    names.set("web.test", &["127.0.0.1"]);
    until_true("the new record", || who(&router, "/", 20) == ["one"]);
    assert!(two.requests() > 0);
}

#[test]
fn a_name_with_an_id_keeps_its_address_while_it_is_there() {
    let (names, (_one, _two, port)) = (Nameserver::start(), pair());
    names.set("db.test", &["127.0.0.2"]);
    let router = start(&names, &format!("{{ id = \"db\", address = \"db.test:{port}\" }}"));
    assert_eq!(who(&router, "/", 20), ["two"]);
    names.set("db.test", &["127.0.0.1", "127.0.0.2"]);
    names.answer_more(4);
    assert_eq!(who(&router, "/", 20), ["two"], "the endpoint jumps though its address still stands");
    names.set("db.test", &["127.0.0.1"]);
    until_true("the other address", || who(&router, "/", 20) == ["one"]);
    let path = Ekiden::endpoint_path("web", "db");
    assert_eq!(router.control("GET", &path, "").json()["address"], format!("127.0.0.1:{port}"));
}

#[test]
fn an_unresolved_name_leaves_its_cluster_empty_and_the_process_running() {
    let (names, (_one, _two, port)) = (Nameserver::start(), pair());
    let fixed = Stamped::start("fixed");
    let text = cluster("other", &[fixed.address], "")
        + &format!("[cluster.web]\nendpoints = [\"late.test:{port}\"]\n")
        + "[[route]]\ncluster = \"web\"\n[[route]]\npath = \"/other\"\ncluster = \"other\"\n";
    let arguments = vec!["--resolver".to_owned(), names.address.to_string()];
    let setup = Setup::new(text).top("drain_grace = \"0s\"");
    let router = Ekiden::start_with(setup, Run { arguments, ..Run::default() });
    assert_eq!(who(&router, "/other", 5), ["fixed"], "one unresolved name stops everything");
    let empty = router.get("/");
    assert_eq!((empty.status, empty.code()), (503, "no_endpoints"));
    names.set("late.test", &["127.0.0.1"]);
    until_true("the late answer", || router.get("/").text() == "one");
    until_true("the table to be saved with the addresses", || {
        let saved =
            std::fs::read_to_string(router.setup().dir().join("run/last-good.json")).unwrap_or_default();
        saved.contains("127.0.0.1") && saved.contains("late.test")
    });

    // The name server dies, and the machine reboots.
    let run = Run { arguments: vec!["--resolver".to_owned(), "127.0.0.1:1".to_owned()], ..Run::default() };
    let router = Ekiden::start_with(router.stop(), run);
    assert_eq!(router.get("/").text(), "one", "after a reboot without DNS the last addresses are lost");
}

#[test]
fn a_record_that_is_the_process_itself_is_dropped() {
    let (names, telemetry) = (Nameserver::start(), std::net::SocketAddr::from(([127, 0, 0, 1], free_port())));
    names.set("self.test", &["127.0.0.1"]);
    let text = format!(
        "[cluster.web]\nendpoints = [\"self.test:{}\"]\n[[route]]\ncluster = \"web\"\n",
        telemetry.port()
    );
    let arguments = vec!["--resolver".to_owned(), names.address.to_string()];
    let run = Run { arguments, telemetry: Some(telemetry), ..Run::default() };
    let router = Ekiden::start_with(Setup::new(text), run);
    let answer = router.get("/metrics");
    assert_eq!(
        (answer.status, answer.code()),
        (503, "no_endpoints"),
        "a DNS record opens the metrics to clients"
    );
    router.wait_error(&telemetry.to_string());
}
