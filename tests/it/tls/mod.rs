//! TLS with clients: which certificate for which name, what is done with their files, sessions, and HTTP/1.1 over it.

mod clients;
mod files;
mod handshakes;
mod identity;
mod names;
mod readme;
mod sessions;
mod sslyze;
mod streams;

use ekiden_tests::{Authority, Ekiden, Setup};

/// A route that answers by itself.
const HELLO: &str = "[[route]]\nrespond = { status = 200, body = \"hello\" }\n";

/// A setup whose listener `edge` serves these pairs (names of files without extension), with these keys.
fn setup(text: &str, stems: &[&str], keys: &str) -> Setup {
    let pairs: Vec<String> =
        stems.iter().map(|stem| format!("{{ cert = \"{stem}.pem\", key = \"{stem}.key\" }}")).collect();
    Setup::new(text).listener(&format!("tls = [{}]\n{keys}", pairs.join(", ")))
}

/// The binary with one certificate for `a.test` and the answer `hello`.
fn hello(authority: &Authority, keys: &str) -> Ekiden {
    let setup = setup(HELLO, &["site"], keys);
    authority.make(&["a.test"]).write(setup.dir(), "site");
    Ekiden::start(setup)
}
