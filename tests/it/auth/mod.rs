//! What a request must show before a route serves it, over the real binary: CORS, credentials, tokens, the authorizer; who
//! goes on, what the endpoint sees, what refusals say.

mod cors;

use ekiden_tests::{Client, Echo, Ekiden, Response, Setup, web};

/// A router with one endpoint, these keys of the route and these keys of the process file.
fn serve(echo: &Echo, route: &str, top: &str) -> Ekiden {
    Ekiden::start(Setup::new(web(&[echo.address], "", route)).top(top))
}

/// One request with these field lines, each ended by CRLF.
fn ask(client: &mut Client, line: &str, fields: &str) -> Response {
    client.ask(format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}
