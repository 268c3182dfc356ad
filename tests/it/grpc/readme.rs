//! The README's section on gRPC, done as written, with free ports in place of its own.

use std::fs;
use std::path::Path;

use ekiden_tests::{Client, Ekiden, Run, Setup, until_true};

use super::{Server, framed, talk};

#[test]
fn a_grpc_route_as_written() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("README.md");
    let text = fs::read_to_string(readme).unwrap();
    let section = text.split("\n### gRPC\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let file = section.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(file.contains(":8080\"") && file.contains(":50051\""), "{file}");
    let (server, port) = (Server::start(), ekiden_tests::free_port());
    let file = file.replace("8080", &port.to_string()).replace("50051", &server.address.port().to_string());
    let router = Ekiden::start_with(Setup::new(""), Run { text: Some(file), ..Run::default() });
    until_true("a check that passes", || router.metric("ekiden_endpoint_ready", &["shop"]) > 0.5);
    let address = ([127, 0, 0, 1], port).into();
    talk(address, "unary");
    talk(address, "streams");
    let mut browser = Client::connect(address);
    let body = framed(b"abc");
    let head = format!(
        "POST /t.Test/Unary HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let reply = browser.ask([head.as_bytes(), &body].concat());
    assert!(reply.status == 200 && reply.body.starts_with(&body), "{reply:?}");
}
