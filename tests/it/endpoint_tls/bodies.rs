//! Bodies to endpoints over TLS, larger than what any buffer on the way takes at once. That what TLS has taken is sent without
//! more coming is held by a test of `exchange/leg.rs`, where a full socket can be made.

use std::io::{Read, Write};

use super::{cluster, setup};
use ekiden_tests::{Authority, Client, Ekiden, SecureOrigin, Served, head, server_config};

#[test]
fn a_large_body_arrives_whole() {
    let authority = Authority::new();
    let config = server_config(&authority.make(&["127.0.0.1"]), None, None);
    let origin = SecureOrigin::with(config, |stream, _| {
        while let Some(text) = head(stream) {
            let text = text.to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            if stream.read_exact(&mut body).is_err() {
                return;
            }
            let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{sum}", sum.to_string().len());
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    });
    let router = Ekiden::start(setup(&cluster("a", origin.address, "{ ca = \"ca.pem\" }", ""), &authority));
    for size in (100_000..6_000_000).step_by(590_000) {
        let mut client = Client::connect(router.address());
        client.send(format!("POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n"));
        client.send(vec![7; size]);
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, (7 * size).to_string()), "{size}: {response:?}");
    }
}
