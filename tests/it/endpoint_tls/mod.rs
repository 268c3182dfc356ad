//! TLS with endpoints: who is believed, who is let in, sessions and kept connections, files that change, checks.

mod bodies;
mod changes;
mod matrix;
mod readme;
mod servers;

use std::fs;

use ekiden_tests::{Authority, Client, Ekiden, Made, Response, SecureOrigin, Served, Setup};

/// `[cluster.NAME]` with one endpoint and this value of `tls`, and a route `/NAME` to it.
fn cluster(name: &str, endpoint: impl std::fmt::Display, tls: &str, keys: &str) -> String {
    format!(
        "[cluster.{name}]\nendpoints = [\"{endpoint}\"]\ntls = {tls}\n{keys}\n\
         [[route]]\npath = \"/{name}\"\ncluster = \"{name}\"\n"
    )
}

/// A setup with the authority as `ca.pem` in its directory.
fn setup(text: &str, authority: &Authority) -> Setup {
    // Handshakes of a debug build take their time on a busy machine.
    let setup = Setup::new(text).top("timeout = { connect = \"15s\", connect_try = \"15s\" }");
    fs::write(setup.dir().join("ca.pem"), &authority.pem).unwrap();
    setup
}

/// One request on a connection of its own.
fn ask(router: &Ekiden, path: &str) -> Response {
    Client::connect(router.address()).get("a.test", path)
}

/// The status, and the code of the router's own answers.
fn said(router: &Ekiden, path: &str) -> (u16, String) {
    let response = ask(router, path);
    (response.status, response.code().to_owned())
}

fn good() -> (u16, String) {
    (200, String::new())
}

fn refused(code: &str) -> (u16, String) {
    (502, code.to_owned())
}

/// An endpoint with a certificate for these names.
fn origin(authority: &Authority, names: &[&str]) -> SecureOrigin {
    SecureOrigin::start(ekiden_tests::server_config(&authority.make(names), None, None))
}

/// Writes an identity as `id.pem` and `id.key`.
fn write_identity(setup: &Setup, made: &Made) {
    made.write(setup.dir(), "id");
}
