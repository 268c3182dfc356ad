//! Routers that get some apps only, by the certificates they show: one of an edge, one of a pod, and one that nobody named.

use std::fs;
use std::path::Path;

use ekiden_tests::{Authority, Stamped, in_time};
use serde_json::{Value, json};

use super::{ControlHome, Node, RouterHome, app, connected, wait_router, write};

const EDGE: &str = "spiffe://example.org/router/edge-1";
const POD: &str = "spiffe://example.org/pod/shop-1";
const STRANGER: &str = "spiffe://example.org/other/one";
const FILES: &str = "[identity.link]\ncert = \"me.pem\"\nkey = \"me.key\"\n[ca.link]\nfile = \"ca.pem\"\n";

struct World {
    authority: Authority,
    home: ControlHome,
    control: Node,
}

impl World {
    fn start() -> Self {
        let authority = Authority::new();
        let keys = format!(
            "identity = \"link\"\nca = \"link\"\n\
             [[fleet.subscription]]\nrouters = [\"{EDGE}\"]\napps = [\"*\"]\n\
             [[fleet.subscription]]\nrouters = [\"spiffe://example.org/pod/shop-*\"]\napps = [\"shop\"]\n{FILES}"
        );
        let home = ControlHome::new().fleet(&keys);
        authority.make(&["localhost"]).write(home.dir.path(), "me");
        write(home.dir.path(), "ca.pem", &authority.pem);
        let control = home.start();
        Self { authority, home, control }
    }

    /// A router that shows a name, and claims another one.
    fn router(&self, shows: &str) -> (RouterHome, Node) {
        let home = RouterHome::new("edge-1");
        home.write(&format!("[fleet]\nidentity = \"link\"\nca = \"link\"\nname = \"edge-1\"\n{FILES}"));
        self.authority.make(&[shows]).write(home.dir.path(), "me");
        write(home.dir.path(), "ca.pem", &self.authority.pem);
        let url = format!("https://localhost:{}", self.home.link.port());
        let node = home.spawn(&[&url]);
        (home, node)
    }

    fn put(&self, app: &str, id: &str, address: std::net::SocketAddr) -> (u16, Value) {
        let body = json!({ "address": address.to_string() }).to_string();
        let path = format!("/v1/apps/{app}/clusters/web/endpoints/{id}");
        let answer = self.control.ask("PUT", &path, &body);
        (answer.status, answer.json()["routers"].clone())
    }
}

/// Files below a directory that hold a text.
fn holding(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_router_of_a_pod_gets_the_apps_of_its_subscription_and_nothing_else() {
    let world = World::start();
    let (shop, blog) = (Stamped::start("shop"), Stamped::start("blog"));
    world.home.app("shop", &app("shop.example", shop.address, ""));
    world.home.app("blog", &app("secret-blog.example", blog.address, ""));
    let (edge_home, edge) = world.router(EDGE);
    let (pod_home, pod) = world.router(POD);
    let (edge, pod) = (edge.wait_ready(), pod.wait_ready());
    let view = connected(&world.control, POD);
    assert_eq!(view["apps"], json!(["shop"]), "it gets what it claims to be");
    assert_eq!(connected(&world.control, EDGE)["apps"], Value::Null);
    for (host, name) in [("shop.example", "shop"), ("secret-blog.example", "blog")] {
        edge_home.wait_says(host, name);
    }
    pod_home.wait_says("shop.example", "shop");

    // It has no word of the other app: not in its table, not on its disk, not after a change there.
    let (status, routers) = world.put("blog", "two", blog.address);
    assert_eq!((status, &routers["have"], &routers["of"]), (200, &json!(1), &json!(1)), "{routers}");
    world.home.app("cart", &app("secret-cart.example", blog.address, ""));
    edge_home.wait_says("secret-cart.example", "blog");
    let (status, routers) = world.put("shop", "two", shop.address);
    assert_eq!((status, &routers["have"], &routers["of"]), (200, &json!(2), &json!(2)), "{routers}");
    assert_eq!(pod_home.says("secret-blog.example"), "404");
    let apps: Vec<Value> =
        pod.get("/v1/table")["apps"].as_array().unwrap().iter().map(|app| app["name"].clone()).collect();
    // Its own top level, which has nothing, and what control sent.
    assert_eq!(apps, [json!("default"), json!("shop")]);
    in_time("its table on disk", || {
        (!holding(&pod_home.path("run"), "shop.example").is_empty()).then_some(())
    });
    for word in ["secret", &blog.address.to_string()] {
        assert_eq!(holding(&pod_home.path("run"), word), Vec::<String>::new(), "{word} came to it");
    }
    assert!(
        !holding(&edge_home.path("run"), "secret").is_empty()
            || edge_home.says("secret-blog.example") == "blog"
    );

    // A host that moves to its app comes to it, and goes again.
    world.home.app("blog", &app("other.example", blog.address, ""));
    edge_home.wait_says("other.example", "blog");
    let both = app("shop.example", shop.address, "")
        + "[[route]]\nhost = \"secret-blog.example\"\ncluster = \"web\"\n";
    world.home.app("shop", &both);
    pod_home.wait_says("secret-blog.example", "shop");
    world.home.app("shop", &app("shop.example", shop.address, ""));
    pod_home.wait_says("secret-blog.example", "404");
    world.home.app("blog", &app("secret-blog.example", blog.address, ""));
    edge_home.wait_says("secret-blog.example", "blog");
    assert_eq!(pod_home.says("secret-blog.example"), "404");
    drop((edge, pod));
}

#[test]
fn a_change_outside_its_subscription_waits_for_no_router() {
    let world = World::start();
    let (shop, blog) = (Stamped::start("shop"), Stamped::start("blog"));
    world.home.app("shop", &app("shop.example", shop.address, ""));
    world.home.app("blog", &app("blog.example", blog.address, ""));
    let (pod_home, pod) = world.router(POD);
    let pod = pod.wait_ready();
    pod_home.wait_says("shop.example", "shop");
    connected(&world.control, POD);
    // It takes nothing any more, and is there all the same.
    pod.process.signal(libc::SIGSTOP);
    let (status, routers) = world.put("blog", "two", blog.address);
    assert_eq!((status, &routers["of"]), (200, &json!(0)), "it is waited for: {routers}");
    let (status, routers) = world.put("shop", "two", shop.address);
    assert_eq!((status, &routers["have"], &routers["of"]), (202, &json!(0), &json!(1)), "{routers}");
    // Another app's change that all have says nothing of it, also not to who asks for the same again.
    let (status, routers) = world.put("blog", "three", blog.address);
    assert_eq!((status, &routers["of"]), (200, &json!(0)), "{routers}");
    let (status, routers) = world.put("shop", "two", shop.address);
    assert_eq!((status, &routers["have"], &routers["of"]), (202, &json!(0), &json!(1)), "again: {routers}");
    let (status, routers) = world.put("blog", "three", blog.address);
    assert_eq!((status, &routers["of"]), (200, &json!(0)), "again: {routers}");
    pod.process.signal(libc::SIGCONT);
    let current = in_time("its acknowledgement", || {
        let view = world.control.get("/v1/routers");
        (view["behind"] == 0 && view["connected"] == 1).then(|| view["generation"].clone())
    });
    assert!(current.is_u64());
}

#[test]
fn a_router_that_no_subscription_names_is_not_let_in() {
    let world = World::start();
    let (_home, stranger) = world.router(STRANGER);
    stranger.process.wait_error(&format!("no `fleet.subscription` names {STRANGER}"));
    assert_ne!(stranger.readyz().0, 200);
    let (_home, edge) = world.router(EDGE);
    let _edge = edge.wait_ready();
    wait_router(&world.control, EDGE, "alone", |one| one["connected"] == true);
    let names = world.control.get("/v1/routers")["routers"].as_array().unwrap().len();
    assert_eq!(names, 1, "who is not let in has no place in the fleet view");
}
