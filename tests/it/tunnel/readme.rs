//! The README's sections on WebSocket, CONNECT and the PROXY protocol, done as written, with free ports in place of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use ekiden_tests::{Client, Ekiden, Origin, Run, Served, Setup, finished, free_port};

use super::{ask, echo, switched, switching};

/// The first fenced block of a language in a section.
fn block(section: &str, language: &str) -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("README.md");
    let text = fs::read_to_string(readme).unwrap();
    let body = text.split(&format!("\n### {section}\n")).nth(1).unwrap().split("\n### ").next().unwrap();
    body.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap().to_owned()
}

/// The router of a section's file in front of an origin, and the port of its listener.
fn start(section: &str, origin: &Origin) -> (Ekiden, u16) {
    let port = free_port();
    let text = block(section, "toml");
    assert!(text.contains(":8080\"") && text.contains(":3000\""), "{text}");
    let text = text.replace("8080", &port.to_string()).replace("3000", &origin.address.port().to_string());
    (Ekiden::start_with(Setup::new(""), Run { text: Some(text), ..Run::default() }), port)
}

#[test]
fn a_websocket_route_as_written() {
    let origin = switching(echo);
    let (_router, port) = start("WebSocket", &origin);
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    client.send(ask("/chat"));
    assert_eq!(switched(&mut client).status, 101);
    client.send("hello");
    assert_eq!(client.exactly(5).unwrap(), b"hello");
}

#[test]
fn a_tunnel_as_written() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            assert_eq!((request.target(), request.get("host")), ("/today", Some("reports.internal:8000")));
            conn.answer(&request, "well");
        }
    });
    let (router, port) = start("CONNECT", &origin);
    let curl = block("CONNECT", "sh").replace("8080", &port.to_string());
    let output = finished(Command::new("bash").args(["-euc", &curl]).current_dir(router.setup().dir()));
    assert!(output.status.success() && output.stdout == b"well", "{output:?}");
}

#[test]
fn the_proxy_protocol_as_written() {
    let origin = Origin::start(|conn| {
        let fixed = conn.exactly(16).unwrap();
        assert_eq!(fixed[..13], *b"\r\n\r\n\0\r\nQUIT\n\x21");
        conn.exactly(usize::from(u16::from_be_bytes([fixed[14], fixed[15]])));
        while let Some(request) = conn.request() {
            conn.answer(&request, "well");
        }
    });
    let (router, port) = start("The PROXY protocol", &origin);
    let curl = block("The PROXY protocol", "sh").replace("8080", &port.to_string());
    let output = finished(Command::new("bash").args(["-euc", &curl]).current_dir(router.setup().dir()));
    assert!(output.status.success() && output.stdout == b"well", "{output:?}");
}
