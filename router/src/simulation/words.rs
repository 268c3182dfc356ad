//! The words of a run's table. Some of it changes with each swap; what does, the bits of `change` say. Judges nothing.

use super::endpoint::Endpoint;
use super::http2_endpoint::Http2Endpoint;
use super::verdicts::{PATH, SHOWN_MOST};

/// Clusters and routes of HTTP/1. `change` leaves things out or moves them, by its bits.
pub(super) fn plain(endpoints: &[Endpoint], change: u8) -> String {
    let has = |bit: u8| change & (1 << bit) == 0;
    let address = |number: usize| endpoints.get(number).map_or_else(String::new, Endpoint::address);
    // The same id at another address is another endpoint.
    let second = if has(0) { address(1) } else { address(2) };
    let web = match has(1) {
        true => format!(
            "{{ id = \"one\", address = {:?} }}, {{ id = \"two\", address = {second:?} }}",
            address(0)
        ),
        false => format!("{{ id = \"two\", address = {second:?} }}"),
    };
    let drained = if has(2) { "" } else { ", drain = true" };
    let slots = format!("{{ id = \"one\", address = {:?}{drained} }}", address(0));
    let limited = if has(3) { "web" } else { "slots" };
    let tunnel = if has(4) {
        "[[route]]\nname = \"tunnel\"\nhost = \"sim.test\"\npath = { prefix = \"/tunnel\" }\ncluster = \"web\"\nupgrades = [\"echo\"]\n"
    } else {
        ""
    };
    let web_route = if has(5) { "" } else { "body_limit = \"100KiB\"\n" };
    // Another id is another endpoint, whatever its address.
    let judge = if has(6) { "judge" } else { "another" };
    format!(
        r#"
caps = {{ in_flight = 6, connections = 5, buffered = "4MiB" }}
timeout = {{ connect = "2s", connect_try = "500ms", first_byte = "3s", idle = "4s", total = "30s", tunnel = "5s" }}

[listener.edge]
address = "127.0.0.1:1"
limits = {{ head_deadline = "2s", keepalive_idle = "3s", body_idle = "4s", min_body_rate = "off", min_response_rate = "off" }}

[listener.http2]
address = "127.0.0.1:2"
h2c = true
limits = {{ head_deadline = "2s", keepalive_idle = "3s", body_idle = "4s", min_body_rate = "off", min_response_rate = "off" }}

[cluster.web]
pool_idle_timeout = "5s"
breaker = {{ requests = 5, pending = 2, connections = 4 }}
endpoints = [{web}]

[cluster.slots]
pool_idle_timeout = "5s"
slots = 1
queue = {{ max = 2, wait = "1s" }}
endpoints = [{slots}]

[cluster.shadow]
pool_idle = 0
endpoints = [{{ id = "three", address = {third:?} }}]

[cluster.policy]
pool_idle_timeout = "5s"
endpoints = [{{ id = "{judge}", address = {fourth:?} }}]

[[route]]
name = "web"
host = "sim.test"
path = {{ prefix = "/web" }}
cluster = "web"
{web_route}attempts = 3
retry = {{ on = ["connect", "reset", 503], attempts = 3, per_try = "2s", backoff = "5ms", buffer = "64KiB", replay = "idempotent" }}

[[route]]
name = "limited"
host = "sim.test"
path = {{ prefix = "/limited" }}
cluster = {limited:?}
limit = [{{ name = "one", concurrency = 1 }}]

{tunnel}{ROUTES}"#,
        third = address(2),
        fourth = address(3),
    )
}

/// The listener of TLS, and the routes whose requests an authorizer lets in.
pub(super) fn secure(certificate: &str, change: u8, calm: bool) -> String {
    let version = if change & (1 << 7) == 0 { "1.2" } else { "1.3" };
    let handshakes = if calm { 100 } else { 2 };
    format!(
        r#"
[listener.secure]
address = "127.0.0.1:3"
tls = [{certificate}]
min_tls_version = "{version}"
max_handshakes = {handshakes}
limits = {{ handshake_deadline = "2s", head_deadline = "2s", keepalive_idle = "3s", body_idle = "4s", min_body_rate = "off", min_response_rate = "off" }}

[[route]]
name = "guarded"
host = "sim.test"
path = {{ prefix = "/guarded" }}
cluster = "web"
upgrades = ["echo"]
authorizer = {{ cluster = "policy", path = "{PATH}", timeout = "1s", returns = ["X-May"] }}

[[route]]
name = "shown"
host = "sim.test"
path = {{ prefix = "/shown" }}
cluster = "web"
retry = {{ on = ["connect", "reset"], attempts = 2, backoff = "5ms", buffer = "64KiB", replay = "idempotent" }}
authorizer = {{ cluster = "policy", path = "{PATH}", timeout = "2s", returns = ["X-May"], body = {{ max = {SHOWN_MOST}, over = "partial" }} }}

[[route]]
name = "lenient"
host = "sim.test"
path = {{ prefix = "/lenient" }}
cluster = "web"
authorizer = {{ cluster = "policy", path = "{PATH}", timeout = "500ms", returns = ["X-May"], fail = "open" }}
"#
    )
}

/// The routes of endpoints that speak HTTP/2, and of the authorizer that is called.
pub(super) fn http2(http2_endpoints: &[Http2Endpoint], change: u8) -> String {
    let address =
        |number: usize| http2_endpoints.get(number).map_or_else(String::new, Http2Endpoint::address);
    let (one, two) = if change & 1 == 0 { (0, 1) } else { (1, 0) };
    let attempts = if change & 2 == 0 { 3 } else { 1 };
    format!(
        r#"
[cluster.streams]
protocol = "h2"
pool_idle_timeout = "5s"
endpoints = [{{ id = "five", address = {:?} }}, {{ id = "six", address = {:?} }}]

[cluster.calls]
protocol = "h2"
pool_idle_timeout = "5s"
endpoints = [{{ id = "seven", address = {:?} }}]

[[route]]
name = "streams"
host = "sim.test"
path = {{ prefix = "/streams" }}
cluster = "streams"
retry = {{ on = ["connect", "reset", 503], attempts = {attempts}, per_try = "2s", backoff = "5ms", buffer = "64KiB", replay = "idempotent" }}

[[route]]
name = "called"
host = "sim.test"
path = {{ prefix = "/called" }}
cluster = "streams"
authorizer = {{ cluster = "calls", grpc = true, timeout = "1s", returns = ["X-May"] }}
"#,
        address(one),
        address(two),
        address(2)
    )
}

/// The routes that no change touches.
const ROUTES: &str = r#"
[[route]]
name = "slots"
host = "sim.test"
path = { prefix = "/slots" }
cluster = "slots"

[[route]]
name = "hedged"
host = "sim.test"
path = { prefix = "/hedged" }
cluster = "web"
hedge = { percentile = 95, min = "10ms" }

[[route]]
name = "mirror"
host = "sim.test"
path = { prefix = "/mirror" }
cluster = "web"
mirror = { cluster = "shadow", percent = 100, body = "64KiB", in_flight = 2, timeout = "3s", diff = true }

[[route]]
name = "fixed"
host = "sim.test"
path = { prefix = "/fixed" }
respond = { status = 200, body = "fixed" }
"#;
