//! Caps of apps: what one takes beyond its own is refused there, and the app beside it sees nothing of it.

use std::fs;

use super::{Patient, asking, check_refusal};
use ekiden_tests::{Client, Ekiden, Origin, Served, Setup, cluster, until};

/// A greedy app with these caps, and these clusters and routes, beside a quiet one.
fn serve(caps: &str, greedy: &str, quiet: &Origin) -> Ekiden {
    let text = cluster("web", &[quiet.address], "") + "[[route]]\nhost = \"quiet\"\ncluster = \"web\"\n";
    let setup = Setup::new(text).top("apps = \"apps.d\"");
    let dir = setup.dir().join("apps.d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("greedy.toml"), format!("caps = {{ {caps} }}\n{greedy}")).unwrap();
    Ekiden::start(setup)
}

fn route(keys: &str) -> String {
    format!(
        "[[route]]\nhost = \"a\"\ncluster = \"web\"\ntimeout = {{ first_byte = \"10m\", connect = \"10m\" }}\n{keys}\n"
    )
}

fn used(router: &Ekiden, name: &str) -> f64 {
    router.metric(name, &["app=\"greedy\""])
}

fn is_untouched(router: &Ekiden) {
    let mut client = router.client();
    for _ in 0..20 {
        assert_eq!(client.get("quiet", "/").text(), "quiet");
    }
}

#[test]
fn requests_in_flight() {
    let (endpoint, quiet) = (Patient::start(), Origin::hello("quiet"));
    let greedy = cluster("web", &[endpoint.origin.address], "") + &route("");
    let router = serve("in_flight = 3", &greedy, &quiet);
    let mut clients: Vec<Client> = (0..3).map(|_| asking(&router, "/")).collect();
    until("three in flight", || (used(&router, "ekiden_app_in_flight") == 3.0).then_some(()));
    for _ in 0..3 {
        check_refusal(&router, &router.get("/"), "app_limited", "app_in_flight");
    }
    is_untouched(&router);
    clients.iter().for_each(|_| endpoint.answer());
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    until("none in flight", || (used(&router, "ekiden_app_in_flight") == 0.0).then_some(()));
    endpoint.answer();
    assert_eq!(router.get("/").status, 200);
    let refused =
        |cap: &str| router.metric("ekiden_app_refused_total", &["app=\"greedy\"", &format!("cap=\"{cap}\"")]);
    assert_eq!((refused("in_flight"), refused("connections")), (3.0, 0.0));
    assert!(router.table().to_string().contains("\"in_flight\":3"));
}

/// Requests that wait for a slot are in flight and hold no connection.
#[test]
fn connections_to_endpoints() {
    let (endpoint, quiet) = (Patient::start(), Origin::hello("quiet"));
    let slots = "slots = 1\nqueue = { target = \"off\" }";
    let greedy = cluster("web", &[endpoint.origin.address], "")
        + &cluster("slow", &[endpoint.origin.address], slots)
        + &route("")
        + "[[route]]\nhost = \"a\"\npath = \"/slow\"\ncluster = \"slow\"\ntimeout = { first_byte = \"10m\", connect = \"10m\" }\n";
    let router = serve("connections = 2", &greedy, &quiet);
    let mut first = asking(&router, "/slow");
    endpoint.wait_seen(1);
    let mut waiting = asking(&router, "/slow");
    until("two in flight", || (used(&router, "ekiden_app_in_flight") == 2.0).then_some(()));
    assert_eq!(used(&router, "ekiden_app_upstream_connections"), 1.0);
    let mut second = asking(&router, "/");
    endpoint.wait_seen(2);
    check_refusal(&router, &router.get("/"), "app_limited", "app_connections");
    is_untouched(&router);
    (0..3).for_each(|_| endpoint.answer());
    for client in [&mut first, &mut second, &mut waiting] {
        assert_eq!(client.response().status, 200);
    }
    until("no connection in use", || (used(&router, "ekiden_app_upstream_connections") == 0.0).then_some(()));
}

/// Responses that nobody reads fill buffers.
#[test]
fn buffered_bytes() {
    let quiet = Origin::hello("quiet");
    let endpoint = Origin::start(|conn| {
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            while conn.send([b'x'; 64 << 10]) {}
        }
    });
    let greedy = cluster("web", &[endpoint.address], "") + &route("");
    let router = serve("buffered = \"100KiB\"", &greedy, &quiet);
    let unread = [(); 2].map(|()| asking(&router, "/"));
    until("full buffers", || (used(&router, "ekiden_app_buffered_bytes") >= 102_400.0).then_some(()));
    check_refusal(&router, &router.get("/"), "app_limited", "app_buffered");
    is_untouched(&router);
    unread.into_iter().for_each(Client::reset);
    until("empty buffers", || (used(&router, "ekiden_app_buffered_bytes") == 0.0).then_some(()));
    let mut again = asking(&router, "/");
    assert_eq!(again.head().unwrap().status, 200);
}

/// The account goes on when the table changes; a cap that is raised counts at once.
#[test]
fn caps_change_with_the_table_and_the_account_stays() {
    let (endpoint, quiet) = (Patient::start(), Origin::hello("quiet"));
    let greedy = cluster("web", &[endpoint.origin.address], "") + &route("");
    let router = serve("in_flight = 1", &greedy, &quiet);
    let mut first = asking(&router, "/");
    endpoint.wait_seen(1);
    check_refusal(&router, &router.get("/"), "app_limited", "app_in_flight");
    let path = router.setup().dir().join("apps.d/greedy.toml");
    // The API shows what was published; the worker says which table it has taken.
    let taken = || router.metric("ekiden_worker_table_generation", &[]);
    let before = taken();
    router.rename_over(&path, &format!("caps = {{ in_flight = 2 }}\n{greedy}"));
    until("the new table", || (taken() > before).then_some(()));
    let mut second = asking(&router, "/");
    endpoint.wait_seen(2);
    check_refusal(&router, &router.get("/"), "app_limited", "app_in_flight");
    assert_eq!(used(&router, "ekiden_app_in_flight"), 2.0);
    (0..2).for_each(|_| endpoint.answer());
    assert_eq!((first.response().status, second.response().status), (200, 200));
}
