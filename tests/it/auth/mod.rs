//! What a request must show before a route serves it, over the real binary: CORS, credentials, tokens, the authorizer; who
//! goes on, what the endpoint sees, what refusals say.

mod authorizer;
mod bodies;
mod checks;
mod claims;
mod cors;
mod keys;
mod leaving;
mod passwords;
mod tokens;
mod tolls;

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER};
use ekiden_tests::{Client, Echo, Ekiden, Response, Setup, web};

/// A router with one endpoint, these keys of the route and these keys of the process file.
fn serve(echo: &Echo, route: &str, top: &str) -> Ekiden {
    Ekiden::start(Setup::new(web(&[echo.address], "", route)).top(top))
}

/// The same with files beside the process file.
fn serve_with(echo: &Echo, route: &str, top: &str, files: &[(&str, &str)]) -> Ekiden {
    let setup = Setup::new(web(&[echo.address], "", route)).top(top);
    for (name, text) in files {
        std::fs::write(setup.dir().join(name), text).unwrap();
    }
    Ekiden::start(setup)
}

/// One request with these field lines, each ended by CRLF.
fn ask(client: &mut Client, line: &str, fields: &str) -> Response {
    client.ask(format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

/// The field line of a name and a password.
fn basic(name: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64.encode(format!("{name}:{password}").as_bytes()))
}

/// A line of a file of users; the cost of bcrypt says how long it takes.
fn user(name: &str, password: &str, cost: u32) -> String {
    let salt: [u8; 16] = digest::digest(&digest::SHA256, name.as_bytes()).as_ref()[..16].try_into().unwrap();
    format!("{name}:{}\n", bcrypt::hash_with_salt(password, cost, salt).unwrap())
}

/// A line of a file of keys.
fn key(id: &str, key: &str) -> String {
    format!("{id}:{}\n", HEXLOWER.encode(digest::digest(&digest::SHA256, key.as_bytes()).as_ref()))
}

/// What steps decided so far.
fn rulings(router: &Ekiden, step: &str) -> [f64; 3] {
    ["allowed", "refused", "failed"].map(|result| {
        router
            .metric("ekiden_entrance_total", &[&format!("step=\"{step}\""), &format!("result=\"{result}\"")])
    })
}
