//! Real servers as endpoints: nginx with client certificates, `openssl s_server`, DNS names, and the system's authorities.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use ekiden_tests::{
    Authority, Background, Ekiden, Kind, Life, Nameserver, Run, free_port, until, until_true,
};

use super::{ask, cluster, good, origin, refused, said, setup};

/// nginx with TLS, asking clients for certificates of `people.pem`.
fn nginx(dir: &Path, address: SocketAddr) -> Background {
    let root = dir.display();
    let text = format!(
        "daemon off; worker_processes 1; pid {root}/pid; error_log stderr; user root;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; default_type text/plain;\n\
           client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
           uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; ssl_session_cache shared:a:1m; ssl_protocols TLSv1.2 TLSv1.3;\n\
           server {{ listen {address} ssl; ssl_certificate {root}/site.pem; ssl_certificate_key {root}/site.key;\n\
             ssl_client_certificate {root}/people.pem; ssl_verify_client on;\n\
             location / {{ return 200 \"$ssl_client_verify $ssl_server_name $connection $ssl_protocol\"; }}\n\
             location /once {{ keepalive_timeout 0; return 200 \"$ssl_session_reused\"; }} }} }}\n"
    );
    fs::write(dir.join("nginx.conf"), text).unwrap();
    let mut command = Command::new("nginx");
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    command.env("PATH", path).arg("-c").arg(dir.join("nginx.conf")).arg("-p").arg(dir);
    let process = Background::start(command.args(["-e", "stderr"]));
    until("nginx", || TcpStream::connect(address).ok());
    process
}

#[test]
fn nginx_with_client_certificates() {
    let (servers, people) = (Authority::new(), Authority::new());
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let tls = |identity: &str| format!("{{ ca = \"ca.pem\", name = \"a.test\"{identity} }}");
    let rows = [
        ("none", "", 400),
        ("stranger", ", identity = \"stranger\"", 400),
        ("expired", ", identity = \"expired\"", 400),
        ("right", ", identity = \"right\"", 200),
    ];
    let mut text: String =
        rows.iter().map(|(name, identity, _)| cluster(name, address, &tls(identity), "")).collect();
    text.push_str(&cluster("misnamed", address, "{ ca = \"ca.pem\", name = \"b.test\" }", ""));
    text.push_str("[[route]]\npath = \"/once\"\ncluster = \"right\"\n");
    for name in ["stranger", "expired", "right"] {
        text.push_str(&format!("[identity.{name}]\ncert = \"{name}.pem\"\nkey = \"{name}.key\"\n"));
    }
    let setup = setup(&text, &servers);
    let dir = setup.dir().to_owned();
    servers.make(&["a.test"]).write(&dir, "site");
    fs::write(dir.join("people.pem"), &people.pem).unwrap();
    Authority::new().make(&["router.test"]).write(&dir, "stranger");
    people.make_as(&["router.test"], Kind::Ecdsa, Life(-30, -1)).write(&dir, "expired");
    people.make(&["router.test"]).write(&dir, "right");
    let mut server = nginx(&dir, address);
    let router = Ekiden::start(setup);
    for (name, _, status) in rows {
        let response = ask(&router, &format!("/{name}"));
        // nginx makes the handshake and refuses the request.
        assert_eq!((response.status, response.code()), (status, ""), "{name}: {}", response.text());
    }
    assert_eq!(said(&router, "/misnamed"), refused("tls_certificate_invalid"));
    let first = ask(&router, "/right").text();
    assert!(first.starts_with("SUCCESS a.test ") && first.ends_with(" TLSv1.3"), "{first}");
    assert_eq!(ask(&router, "/right").text(), first, "the connection is kept");
    until_true("a session that is resumed", || ask(&router, "/once").text() == "r");
    server.signal(libc::SIGTERM);
    server.wait();
}

/// `openssl s_server` refuses a handshake with an alert.
#[test]
fn openssl_with_client_certificates() {
    let (servers, people) = (Authority::new(), Authority::new());
    let mut text = String::new();
    let rows = [("none", false), ("stranger", false), ("expired", false), ("right", true)];
    let mut places = Vec::new();
    for version in ["tls1_2", "tls1_3"] {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        places.push((version, address));
        for (who, _) in rows {
            let identity = if who == "none" { String::new() } else { format!(", identity = \"{who}\"") };
            let tls = format!("{{ ca = \"ca.pem\", name = \"a.test\"{identity} }}");
            text.push_str(&cluster(&format!("{who}-{version}"), address, &tls, ""));
        }
    }
    for name in ["stranger", "expired", "right"] {
        text.push_str(&format!("[identity.{name}]\ncert = \"{name}.pem\"\nkey = \"{name}.key\"\n"));
    }
    let setup = setup(&text, &servers);
    let dir = setup.dir().to_owned();
    servers.make(&["a.test"]).write(&dir, "site");
    fs::write(dir.join("people.pem"), &people.pem).unwrap();
    Authority::new().make(&["router.test"]).write(&dir, "stranger");
    people.make_as(&["router.test"], Kind::Ecdsa, Life(-30, -1)).write(&dir, "expired");
    people.make(&["router.test"]).write(&dir, "right");
    let _servers: Vec<Background> = places
        .iter()
        .map(|(version, address)| {
            let mut command = Command::new("openssl");
            command.args(["s_server", "-quiet", "-www", "-accept", &address.to_string()]);
            command.args(["-cert", "site.pem", "-key", "site.key", "-CAfile", "people.pem"]);
            command.args(["-Verify", "1", "-verify_return_error"]).arg(format!("-{version}"));
            let server = Background::start(command.current_dir(&dir).stdin(Stdio::null()));
            until("s_server", || TcpStream::connect(address).ok());
            server
        })
        .collect();
    let router = Ekiden::start(setup);
    for (version, _) in places {
        for (who, welcome) in rows {
            let want = if welcome { good() } else { refused("tls_alert") };
            assert_eq!(said(&router, &format!("/{who}-{version}")), want, "{version} {who}");
        }
    }
}

/// The name that is asked for is the one that was written, not what it resolves to; and `true` believes the authorities of the
/// system, which are this test's own here.
#[test]
fn dns_names_and_the_authorities_of_the_system() {
    let ours = Authority::new();
    let (named, other) = (origin(&ours, &["api.test"]), origin(&ours, &["other.test"]));
    let names = Nameserver::start();
    names.set("api.test", &["127.0.0.1"]);
    let written = |port: u16| format!("Api.Test.:{port}");
    let text = [
        cluster("right", written(named.address.port()), "true", ""),
        cluster("wrong", written(other.address.port()), "true", ""),
        cluster("address", named.address, "true", ""),
    ]
    .concat();
    let setup = setup(&text, &ours);
    let system = setup.dir().join("ca.pem").display().to_string();
    let run = Run {
        arguments: vec!["--resolver".to_owned(), names.address.to_string()],
        environment: vec![
            ("SSL_CERT_FILE".to_owned(), system),
            ("SSL_CERT_DIR".to_owned(), "/nowhere".to_owned()),
        ],
        ..Run::default()
    };
    let router = Ekiden::start_with(setup, run);
    let right = ask(&router, "/right");
    assert!(right.text().starts_with("name=api.test "), "{} {}", right.status, right.text());
    assert_eq!(said(&router, "/wrong"), refused("tls_certificate_invalid"));
    assert_eq!(
        said(&router, "/address"),
        refused("tls_certificate_invalid"),
        "the certificate has no address"
    );
}
