//! Bounds on handshakes, what is answered to those that do not speak TLS, and what curl and openssl say.

use std::process::Command;
use std::time::{Duration, Instant};

use ekiden_tests::{Authority, Client, Served, finished, until_true};

use super::hello;

/// The first bytes of a ClientHello record that announces more than comes.
const HALF_HELLO: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00];

#[test]
fn a_slow_handshake_ends_at_its_deadline() {
    let authority = Authority::new();
    let router = hello(&authority, "limits = { handshake_deadline = \"300ms\" }");
    for bytes in [&b""[..], HALF_HELLO, &HALF_HELLO[..1]] {
        let begun = Instant::now();
        let mut client = router.client();
        client.send(bytes);
        assert_eq!(client.rest(), b"");
        assert!(begun.elapsed() >= Duration::from_millis(250), "{bytes:?} ended after {:?}", begun.elapsed());
    }
    // Byte by byte does not win time: the deadline is for the whole.
    let mut client = router.client();
    let begun = Instant::now();
    for byte in HALF_HELLO.iter().chain(&[0; 200]) {
        client.send([*byte]);
        if !client.is_quiet(Duration::from_millis(20)) {
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    until_true("the counts", || {
        router.metric("ekiden_tls_handshake_failures_total", &["cause=\"timeout\""]) >= 4.0
            && router.metric("ekiden_tls_handshakes_in_progress", &[]) < 0.5
    });
}

#[test]
fn more_handshakes_than_the_bound_are_reset_and_room_comes_back() {
    let authority = Authority::new();
    let router = hello(&authority, "max_handshakes = 2\nlimits = { handshake_deadline = \"60s\" }");
    let held: Vec<Client> = (0..2).map(|_| router.client()).collect();
    until_true("two in progress", || router.metric("ekiden_tls_handshakes_in_progress", &[]) > 1.5);
    let mut third = router.client();
    third.rest();
    assert!(third.was_reset());
    assert!((router.metric("ekiden_tls_handshakes_refused_total", &[]) - 1.0).abs() < 0.1);
    drop(held);
    until_true("room", || router.metric("ekiden_tls_handshakes_in_progress", &[]) < 0.5);
    // A connection whose handshake is over does not count.
    let clients: Vec<Client> =
        (0..4).map(|_| authority.trusting().connect(router.address(), "a.test").unwrap()).collect();
    assert_eq!(clients.len(), 4);
}

#[test]
fn plain_http_on_a_tls_port_is_told_so() {
    let authority = Authority::new();
    let router = hello(&authority, "hsts = \"max-age=1\"");
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        let mut client = router.client();
        let response = client.ask(request);
        assert_eq!((response.status, response.code()), (400, "plain_on_tls"), "{request:?}");
        assert!(response.text().contains("plain HTTP request was sent to a TLS port"), "{}", response.text());
        assert!(response.says_close() && client.rest().is_empty());
        assert_eq!(
            response.get("Strict-Transport-Security"),
            None,
            "never over plain HTTP (RFC 6797 section 7.2)"
        );
    }
    // In pieces too, and what is neither TLS nor HTTP gets nothing.
    let mut client = router.client();
    client.send_split(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().code(), "plain_on_tls");
    for bytes in [&b"\x00\x01\x02"[..], b"\x80\x2e\x01\x00\x02", b"ssh"] {
        let mut client = router.client();
        client.send(bytes);
        assert_eq!(client.rest(), b"", "{bytes:?}");
    }
    let record = &router.records(3)[0];
    assert_eq!((record["code"].as_str(), record["tls"].as_bool()), (Some("plain_on_tls"), Some(false)));
}

/// Torn, mistaken and hostile beginnings: each ends its connection alone.
#[test]
fn garbage_after_a_good_beginning_ends_one_connection() {
    let authority = Authority::new();
    let router = hello(&authority, "limits = { handshake_deadline = \"2s\" }");
    for bytes in [
        // A record longer than TLS allows, an alert, an empty handshake, a ClientHello of zeros.
        &[0x16, 0x03, 0x01, 0xff, 0xff, 0x01][..],
        &[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28],
        &[0x16, 0x03, 0x01, 0x00, 0x00],
        &[0x16, 0x03, 0x01, 0x00, 0x08, 0x01, 0x00, 0x00, 0x04, 0, 0, 0, 0],
        &[0x17, 0x03, 0x03, 0x00, 0x01, 0x00],
    ] {
        let mut client = router.client();
        client.send(bytes);
        client.finish();
        client.rest();
    }
    assert!((router.metric("ekiden_panics_total", &[])).abs() < 0.1);
    let mut good = authority.trusting().connect(router.address(), "a.test").unwrap();
    assert_eq!(good.get("a.test", "/").text(), "hello");
}

#[test]
fn curl_and_openssl_are_content() {
    let authority = Authority::new();
    let router = hello(&authority, "");
    let (dir, at) = (router.setup().dir().to_owned(), router.address());
    std::fs::write(dir.join("ca.pem"), &authority.pem).unwrap();
    let url = format!("https://a.test:{}/", at.port());
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert"]).arg(dir.join("ca.pem"));
        curl.args(["--resolve", &format!("a.test:{}:127.0.0.1", at.port())]).args(version).args([&url, &url]);
        let output = finished(&mut curl);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hellohello", "{version:?}: {output:?}");
    }
    // ALPN: offered and agreed; a client that offers nothing in common is refused.
    for (offered, wanted) in
        [("http/1.1", "ALPN protocol: http/1.1"), ("h3", "alert no application protocol")]
    {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-servername", "a.test", "-alpn", offered, "-connect", &at.to_string()]);
        let output = finished(&mut openssl);
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(wanted), "{offered}: {text}");
    }
    for old in ["-tls1", "-tls1_1"] {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-servername", "a.test", old, "-cipher", "ALL:@SECLEVEL=0", "-connect"]);
        let output = finished(openssl.arg(at.to_string()));
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let refused = text.contains("alert protocol version") || text.contains("alert handshake failure");
        assert!(refused, "{old}: {text}");
    }
}
