//! HAProxy in front of the router and behind it, and curl: the header as others write and read it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use ekiden_tests::{
    Authority, Background, Client, Echo, Ekiden, InProcess, Seen, Served, Setup, finished, free_port, until,
    web,
};

/// HAProxy with one frontend and what it does.
fn haproxy(dir: &Path, bind: &str, rest: &str) -> (Background, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = format!(
        "defaults\n  mode http\n  timeout connect 30s\n  timeout client 60s\n  timeout server 60s\n\
         frontend f\n  bind {address} {bind}\n{rest}\n"
    );
    let file = dir.join(format!("haproxy-{}.cfg", address.port()));
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", "PATH=$PATH:/usr/sbin exec haproxy -db -f \"$0\""]).arg(&file);
    let process = Background::start(&mut command);
    until("HAProxy", || std::net::TcpStream::connect(address).ok());
    (process, address)
}

#[test]
fn haproxy_in_front() {
    let echo = Echo::start("one");
    let setup = Setup::new(web(&[echo.address], "", "")).listener("accept_proxy = [\"127.0.0.1\"]");
    let router = InProcess::start(setup);
    for option in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let rest = format!(
            "  unique-id-format %{{+X}}o%ci%cp\n  default_backend b\nbackend b\n  server s {} {option}",
            router.address()
        );
        let (_front, address) = haproxy(router.setup().dir(), "", &rest);
        let mut client = Client::connect(address);
        let local = client.socket().local_addr().unwrap().to_string();
        let seen = Seen::from(client.get("a", "/"));
        assert_eq!(seen.field("x-forwarded-for").as_deref(), Some("127.0.0.1"), "{option}");
        until(&format!("a record of {local}, {option}"), || {
            router.records(0).iter().any(|record| record["client"] == *local).then_some(())
        });
    }
}

/// The header comes before the handshake, and the handshake is the client's.
#[test]
fn haproxy_in_front_of_tls() {
    let echo = Echo::start("one");
    let authority = Authority::new();
    let setup = Setup::new(web(&[echo.address], "", ""))
        .listener("accept_proxy = [\"127.0.0.1\"]\ntls = { cert = \"site.pem\", key = \"site.key\" }");
    authority.make(&["a.test"]).write(setup.dir(), "site");
    let router = Ekiden::start(setup);
    let rest = format!(
        "  mode tcp\n  default_backend b\nbackend b\n  mode tcp\n  server s {} send-proxy-v2",
        router.address()
    );
    let (_front, address) = haproxy(router.setup().dir(), "", &rest);
    let mut client = authority.trusting().connect(address, "a.test").unwrap();
    let local = client.socket().local_addr().unwrap().to_string();
    assert_eq!(client.get("a.test", "/").status, 200);
    let record = router.records(1).remove(0);
    assert_eq!((record["client"].as_str(), &record["tls"]), (Some(&*local), &true.into()), "{record}");
    // Without the header there is no handshake.
    assert!(authority.trusting().connect(router.address(), "a.test").is_err());
    let record = router.records(2).remove(1);
    assert_eq!(record["code"], "proxy_header_malformed");
}

#[test]
fn haproxy_behind() {
    let dir = tempfile::TempDir::new().unwrap();
    let told = "  http-request return status 200 content-type text/plain lf-string \
                \"%[src]:%[src_port] %[dst]:%[dst_port] %[fc_rcvd_proxy] %[fc_pp_unique_id] %[req.hdr(x-request-id)]\"";
    let (_behind, address) = haproxy(dir.path(), "accept-proxy", told);
    for version in ["v1", "v2"] {
        let keys = format!("send_proxy = \"{version}\"");
        let router = InProcess::start(Setup::new(web(&[address], &keys, "")));
        let mut client = router.client();
        for _ in 0..3 {
            let text = client.get("a", "/").text();
            let words: Vec<&str> = text.split(' ').collect();
            let local = client.socket().local_addr().unwrap().to_string();
            assert_eq!(words[..3], [&*local, &*router.address().to_string(), "1"], "{version}");
            assert_eq!(words[3], if version == "v2" { words[4] } else { "" }, "{version}: {text}");
        }
    }
}

#[test]
fn curl_sends_a_line() {
    let echo = Echo::start("one");
    let setup = Setup::new(web(&[echo.address], "", "")).listener("accept_proxy = [\"127.0.0.1\"]");
    let router = InProcess::start(setup);
    let url = format!("http://{}/", router.address());
    let output = finished(
        Command::new("curl")
            .args(["-s", "-w", "%{http_code} %{local_port}", "-o", "/dev/null"])
            .args(["--haproxy-protocol", &url]),
    );
    let told = String::from_utf8(output.stdout).unwrap();
    let (status, port) = told.split_once(' ').unwrap();
    assert_eq!(status, "200");
    assert_eq!(router.records(1)[0]["client"], format!("127.0.0.1:{port}"));
}
