//! Request smuggling and desynchronisation: a corpus made by grammars, with real servers behind the router.
//!
//! A case is refused, or router and endpoint see the same request. `oracle` has an independent judge look at every
//! byte that goes upstream; `splitting` is the same question for responses.

mod cases;
mod chunks;
mod early;
mod endpoints;
mod framing;
mod http2;
mod http2_cases;
mod lane;
mod lines;
mod oracle;
mod splitting;

use endpoints::Kind;

#[test]
fn nginx_sees_what_the_router_sees() {
    lane::run(Kind::Nginx);
}

#[test]
fn haproxy_sees_what_the_router_sees() {
    lane::run(Kind::Haproxy);
}

#[test]
fn node_sees_what_the_router_sees() {
    lane::run(Kind::Node);
}

#[test]
fn a_lenient_node_sees_what_the_router_sees() {
    lane::run(Kind::NodeLenient);
}

#[test]
fn the_server_of_python_sees_what_the_router_sees() {
    lane::run(Kind::Stdlib);
}

#[test]
fn waitress_sees_what_the_router_sees() {
    lane::run(Kind::Waitress);
}

#[test]
fn nginx_sees_of_http2_what_the_router_sees() {
    http2::run(Kind::Nginx);
}

#[test]
fn haproxy_sees_of_http2_what_the_router_sees() {
    http2::run(Kind::Haproxy);
}

#[test]
fn node_sees_of_http2_what_the_router_sees() {
    http2::run(Kind::Node);
}

#[test]
fn a_lenient_node_sees_of_http2_what_the_router_sees() {
    http2::run(Kind::NodeLenient);
}

#[test]
fn the_server_of_python_sees_of_http2_what_the_router_sees() {
    http2::run(Kind::Stdlib);
}

#[test]
fn waitress_sees_of_http2_what_the_router_sees() {
    http2::run(Kind::Waitress);
}
