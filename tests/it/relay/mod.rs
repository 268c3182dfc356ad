//! Good traffic: what goes in comes out, on connections that stay open where they can.

mod bodies;
mod connections;
mod fields;
mod informational;

use ekiden_tests::{InProcess, Origin, Setup, web};

fn serve(origin: &Origin) -> InProcess {
    serve_with(origin, "")
}

fn serve_with(origin: &Origin, route: &str) -> InProcess {
    InProcess::start(Setup::new(web(&[origin.address], "", route)))
}
