//! HTTP/2 from clients: what `wire`, `relay` and `refusals` hold for HTTP/1, and what only this version has. Clients that
//! behave are the `h2` crate, curl, h2load and Python's `h2`; the others send frames by hand.

mod bodies;
mod budgets;
mod conformance;
mod heads;
mod life;
mod other_clients;

use ekiden_tests::{InProcess, Origin, Setup, web};

/// A router in process whose listener takes HTTP/2 in clear text, in front of an origin.
fn serve(origin: &Origin) -> InProcess {
    serve_with(origin, "")
}

/// The same with more keys of the listener.
fn serve_with(origin: &Origin, keys: &str) -> InProcess {
    InProcess::start(Setup::new(web(&[origin.address], "", "")).listener(&format!("h2c = true\n{keys}")))
}
