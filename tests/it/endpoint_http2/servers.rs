//! nginx as endpoint: HTTP/2 with prior knowledge, and by the choice of its TLS handshake.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use ekiden_tests::{Authority, Background, Ekiden, Setup, free_port, pattern, until, until_true};

use super::get;

/// Three servers: HTTP/2 in clear text, HTTP/2 or HTTP/1 over TLS, and HTTP/1 over TLS.
fn configuration(dir: &Path, clear: SocketAddr, secure: SocketAddr, old: SocketAddr) -> String {
    let root = dir.display();
    let pair = format!("ssl_certificate {root}/site.pem; ssl_certificate_key {root}/site.key;");
    let places =
        "location = / { return 200 \"$server_protocol $connection\"; } location = /up { return 200; }";
    format!(
        "daemon off; worker_processes 1; pid {root}/pid; error_log stderr; user root;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; default_type text/plain; root {root};\n\
           client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
           uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
           server {{ listen {clear} http2; {places} }}\n\
           server {{ listen {secure} ssl http2; {pair} {places} }}\n\
           server {{ listen {old} ssl; {pair} {places} }} }}\n"
    )
}

/// nginx that ends TLS before a server of WebSocket: HTTP/2 by the handshake's choice, without extended CONNECT, and HTTP/1.
pub(super) fn websocket_over_tls(dir: &Path, behind: SocketAddr) -> (Background, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let root = dir.display();
    let text = format!(
        "daemon off; worker_processes 1; pid {root}/pid; error_log stderr; user root;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; default_type text/plain;\n\
           client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
           uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
           server {{ listen {address} ssl http2; ssl_certificate {root}/site.pem; ssl_certificate_key {root}/site.key;\n\
             location = /page {{ return 200 \"$server_protocol\"; }}\n\
             location / {{ proxy_pass http://{behind}; proxy_http_version 1.1;\n\
               proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection Upgrade; }} }} }}\n"
    );
    fs::write(dir.join("nginx.conf"), text).unwrap();
    let server = started(dir);
    until("nginx", || TcpStream::connect(address).ok());
    (server, address)
}

/// nginx with the file of a directory.
fn started(dir: &Path) -> Background {
    let mut command = Command::new("nginx");
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    command.env("PATH", path).arg("-c").arg(dir.join("nginx.conf")).arg("-p").arg(dir);
    Background::start(command.args(["-e", "stderr"]))
}

#[test]
fn nginx() {
    let [clear, secure, old] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let tls = "tls = { ca = \"ca.pem\", name = \"a.test\" }";
    let probe = "probe = { path = \"/up\", interval = \"100ms\" }";
    let text: String = [
        ("clear", clear, "protocol = \"h2\"".to_owned()),
        ("checked", clear, format!("protocol = \"h2\"\n{probe}")),
        ("secure", secure, format!("protocol = \"h2\"\n{tls}\n{probe}")),
        ("auto", secure, format!("protocol = \"auto\"\n{tls}")),
        ("old", old, format!("protocol = \"auto\"\n{tls}\n{probe}")),
        ("http1", secure, tls.to_owned()),
    ]
    .map(|(name, address, keys)| {
        format!(
            "[cluster.{name}]\nendpoints = [\"{address}\"]\n{keys}\n\
             [[route]]\npath = \"/{name}\"\ncluster = \"{name}\"\nrewrite = {{ prefix = \"/\" }}\n"
        )
    })
    .concat();
    let setup = Setup::new(text).top("timeout = { connect = \"15s\", connect_try = \"15s\" }");
    let dir = setup.dir().to_owned();
    let authority = Authority::new();
    fs::write(dir.join("ca.pem"), &authority.pem).unwrap();
    authority.make(&["a.test"]).write(&dir, "site");
    fs::write(dir.join("big"), pattern(1 << 20)).unwrap();
    let text = configuration(&dir, clear, secure, old);
    fs::write(dir.join("nginx.conf"), text).unwrap();
    let mut server = started(&dir);
    until("nginx", || TcpStream::connect(old).ok());
    let router = Ekiden::start(setup);
    for (name, version) in [
        ("clear", "HTTP/2.0"),
        ("checked", "HTTP/2.0"),
        ("secure", "HTTP/2.0"),
        ("auto", "HTTP/2.0"),
        ("old", "HTTP/1.1"),
        ("http1", "HTTP/1.1"),
    ] {
        let first = get(&router, &format!("/{name}"));
        assert!(
            first.status == 200 && first.text().starts_with(version),
            "{name}: {} {}",
            first.status,
            first.text()
        );
        assert_eq!(get(&router, &format!("/{name}")).text(), first.text(), "{name}: the connection is kept");
        let big = get(&router, &format!("/{name}/big"));
        assert!(big.status == 200 && big.body == pattern(1 << 20), "{name}: {} bytes", big.body.len());
    }
    until_true("checks that pass", || {
        ["checked", "secure", "old"].iter().all(|name| {
            router.metric("ekiden_cluster_endpoints_ready", &[&format!("cluster=\"{name}\"")]) > 0.5
        })
    });
    server.signal(libc::SIGTERM);
    server.wait();
}
