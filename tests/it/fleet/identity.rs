//! Who is believed on the link: a router by its certificate, control by its own; plain only where nobody else listens.

use ekiden_tests::{Authority, Stamped, binary, finished, until};
use std::process::Command;

use super::{ControlHome, Node, RouterHome, app, connected};

const NAME: &str = "spiffe://example.org/router/edge-1";
const LINK: &str = "[fleet]\nidentity = \"link\"\nca = \"link\"\n";
const FILES: &str = "[identity.link]\ncert = \"me.pem\"\nkey = \"me.key\"\n[ca.link]\nfile = \"ca.pem\"\n";

struct World {
    home: ControlHome,
    control: Node,
    authority: Authority,
}

fn world() -> World {
    let authority = Authority::new();
    let keys = format!("identity = \"link\"\nca = \"link\"\nrouters = [\"{NAME}\"]\n{FILES}");
    let home = ControlHome::new().fleet(&keys);
    give(&home.dir, &authority, &authority, &["localhost"]);
    let control = home.start();
    World { home, control, authority }
}

/// Writes the certificates of one side: who it is, and whom it believes.
fn give(dir: &tempfile::TempDir, by: &Authority, believed: &Authority, names: &[&str]) {
    by.make(names).write(dir.path(), "me");
    super::write(dir.path(), "ca.pem", &believed.pem);
}

fn router(world: &World, by: &Authority, believed: &Authority, names: &[&str]) -> (RouterHome, Node) {
    let home = RouterHome::new("claims-another-name");
    home.write(&format!("{LINK}name = \"claims-another-name\"\n{FILES}"));
    give(&home.dir, by, believed, names);
    let node = home.spawn(&[&url(world)]);
    (home, node)
}

fn url(world: &World) -> String {
    format!("https://localhost:{}", world.home.link.port())
}

#[test]
fn a_router_is_who_its_certificate_says() {
    let world = world();
    let origin = Stamped::start("served");
    world.home.app("shop", &app("shop.example", origin.address, ""));
    let (home, node) = router(&world, &world.authority, &world.authority, &[NAME, "edge-1.example"]);
    let node = node.wait_ready();
    let view = connected(&world.control, NAME);
    assert_eq!(view["identity"], NAME);
    home.wait_says("shop.example", "served");
    // A renewed certificate counts from the next link on, without a restart of anything.
    let renewed = Authority::new();
    world.authority.make(&[NAME]).write(home.dir.path(), "me");
    renewed.make(&["localhost"]).write(world.home.dir.path(), "me");
    super::write(home.dir.path(), "ca.pem", &format!("{}{}", world.authority.pem, renewed.pem));
    world.control.process.signal(libc::SIGTERM);
    node.process.wait_error("the link to control is lost");
    let mut ended = world.control;
    assert!(ended.process.wait().success());
    let control = world.home.start();
    connected(&control, NAME);
}

#[test]
fn others_are_turned_away_by_name() {
    let world = world();
    let stranger = Authority::new();
    // Vouched for by nobody control knows; known and not on the list; and a control that nobody the router knows vouches for.
    let (_a, wrong_ca) = router(&world, &stranger, &world.authority, &[NAME]);
    let (_b, wrong_name) =
        router(&world, &world.authority, &world.authority, &["spiffe://example.org/router/other"]);
    let (_c, wrong_control) = router(&world, &world.authority, &stranger, &[NAME]);
    // Each for a reason of its own: the second by its name, the first by control's verifier, the third by its own.
    for why in [
        "spiffe://example.org/router/other is not among `fleet.routers`",
        "invalid peer certificate",
        "received fatal alert",
    ] {
        world.control.process.wait_error(why);
    }
    until("turned away", || (world.control.metric("ekiden_fleet_turned_away_total") >= 3.0).then_some(()));
    for node in [&wrong_ca, &wrong_name, &wrong_control] {
        // Telemetry answers before the first try has failed.
        until("a failure", || {
            (node.readyz().0 == 503 && node.metric("ekiden_link_failures_total") >= 1.0).then_some(())
        });
    }
    let error = |node: &Node| node.get("/v1/status")["link"]["error"].as_str().unwrap_or_default().to_owned();
    until("the reason", || error(&wrong_control).contains("certificate").then_some(()));
    // A plain link to an encrypted address gets nowhere either.
    let plain = RouterHome::new(NAME.rsplit('/').next().unwrap());
    let node = plain.spawn(&[&world.home.url()]);
    until("a failure", || {
        (node.readyz().0 == 503 && node.metric("ekiden_link_failures_total") >= 1.0).then_some(())
    });
    assert_eq!(world.control.get("/v1/routers")["routers"], serde_json::json!([]));
}

#[test]
fn strangers_are_nobodys_trouble() {
    let origin = Stamped::start("served");
    let home = ControlHome::new();
    home.app("shop", &app("shop.example", origin.address, ""));
    let control = home.start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    // HTTP/1, no HTTP at all, HTTP/2 that asks for nothing and leaves, a frame that is none.
    let all: [Vec<u8>; 4] = [
        b"GET /v1/routers HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        vec![0xff; 4096],
        preface.to_vec(),
        [&preface[..], &[0xff; 64]].concat(),
    ];
    for (count, bytes) in all.iter().enumerate() {
        let mut client = ekiden_tests::Client::connect(home.link);
        client.send(bytes);
        drop(client);
        let wanted = (count + 1) as f64;
        until("one more", || (control.metric("ekiden_fleet_turned_away_total") >= wanted).then_some(()));
    }
    assert_eq!(control.get("/v1/routers")["routers"], serde_json::json!([]));
    let edge = RouterHome::new("edge");
    let _router = edge.start(&home.url());
    assert_eq!(edge.says("shop.example"), "served");
    // A router that is led to something else says what it found there.
    let lost = RouterHome::new("lost");
    let node = lost.spawn(&[&format!("http://{}", control.telemetry)]);
    until("a failure", || {
        (node.readyz().0 == 503 && node.metric("ekiden_link_failures_total") >= 1.0).then_some(())
    });
}

#[test]
fn a_plain_link_stays_on_the_machine() {
    let home = RouterHome::new("edge");
    let router = |url: &str| {
        let mut command = Command::new(binary());
        command.arg("router").arg(home.path("router.toml")).args(["--control", url, "--telemetry", "off"]);
        finished(command.arg("--run-dir").arg(home.path("run")))
    };
    let out = router("http://192.0.2.1:9903");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("is plain and leaves this machine"), "{said}");
    let out = router("https://192.0.2.1:9903");
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("needs `identity` and `ca`"));
    // Control's side of it.
    std::fs::write(home.path("control.toml"), "[fleet]\nlisten = \"0.0.0.0:9903\"\n").unwrap();
    let mut command = Command::new(binary());
    let out = finished(
        command.arg("control").arg(home.path("control.toml")).arg("--run-dir").arg(home.path("run")),
    );
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("fleet_plain"));
}

#[test]
fn a_router_reads_the_tokens_of_its_api_again_at_sighup() {
    let home = super::ControlHome::new();
    let control = home.start();
    let edge = super::RouterHome::new("edge");
    super::write(edge.dir.path(), "token", "first-token-0123456789\n");
    edge.write("[fleet]\nname = \"edge\"\n[control]\ntoken_file = \"token\"\n");
    let router = edge.start(&home.url());
    super::connected(&control, "edge");
    let status = |token: &str| {
        let head = format!("Host: {}\r\nAuthorization: Bearer {token}\r\n", router.api);
        ekiden_tests::Client::connect(router.api).ask(format!("GET /v1/table HTTP/1.1\r\n{head}\r\n")).status
    };
    assert_eq!(status("first-token-0123456789"), 200);
    super::write(edge.dir.path(), "fresh-token", "second-token-0123456789\n");
    std::fs::rename(edge.path("fresh-token"), edge.path("token")).unwrap();
    router.process.signal(libc::SIGHUP);
    ekiden_tests::until("the new token", || (status("second-token-0123456789") == 200).then_some(()));
    assert_eq!(status("first-token-0123456789"), 401, "a revoked token still works");
}
