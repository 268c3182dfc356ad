//! One check: what passes, what fails with which words, and the conformance test of every probe.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use super::*;
use crate::probe::http::BODY_MAX;
use crate::probe::{FakeProbe, HttpProbe, Probe, REASON_MAX, Target, TcpProbe, Verdict};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs one check to its end.
fn check(probe: &dyn Probe, address: &Address) -> Verdict {
    runtime().block_on(async {
        tokio::time::timeout(LONG, probe.check(&Target::plain(address.clone()))).await.unwrap()
    })
}

fn http(body: Option<&str>) -> HttpProbe {
    HttpProbe::new("/up?deep=1".into(), None, (200, 299), body.map(Into::into))
}

fn answered(status_line_and_fields: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status_line_and_fields}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn verdicts_of_answers() {
    let long = vec![b'x'; BODY_MAX];
    let far = [&long[..], b"alive"].concat();
    let length = |body: &[u8]| answered(&format!("200 OK\r\ncontent-length: {}", body.len()), body);
    let chunked = answered("200 OK\r\ntransfer-encoding: chunked", b"3\r\nali\r\n2\r\nve\r\n0\r\n\r\n");
    let gone = "GET /up?deep=1: the connection was closed before the answer ended";
    let without = "GET /up?deep=1 answered 200 without \"alive\" in its body";
    type Case<'a> = (&'a [u8], Option<&'a str>, Result<(), &'a str>);
    let cases: &[Case<'_>] = &[
        (OK, None, Ok(())),
        (&answered("204 No Content", b""), None, Ok(())),
        (&answered("299 Odd\r\ncontent-length: 0", b""), None, Ok(())),
        (UNAVAILABLE, None, Err("GET /up?deep=1 answered 503")),
        (
            &answered("301 Moved\r\nlocation: https://example.com/up\r\ncontent-length: 0", b""),
            None,
            Err("GET /up?deep=1 answered 301 to https://example.com/up"),
        ),
        (&answered("300 Odd\r\ncontent-length: 0", b""), None, Err("GET /up?deep=1 answered 300")),
        (&length(b"it is alive!"), Some("alive"), Ok(())),
        (&chunked, Some("alive"), Ok(())),
        (&answered("200 OK", b"until close, alive"), Some("alive"), Ok(())),
        (&length(b"dead"), Some("alive"), Err(without)),
        (&length(&far), Some("alive"), Err(without)),
        (&answered("200 OK\r\ncontent-length: 9", b"ali"), Some("alive"), Err(gone)),
        (b"", None, Err(gone)),
        (b"HTTP/1.1 200", None, Err(gone)),
    ];
    for (bytes, body, expected) in cases {
        let origin = Origin::start(bytes);
        let verdict = check(&http(*body), &origin.address());
        assert_eq!(verdict, expected.map_err(str::to_owned), "{}", String::from_utf8_lossy(bytes));
    }
    let origin = Origin::start(b"SSH-2.0-OpenSSH\r\n");
    let reason = check(&http(None), &origin.address()).unwrap_err();
    assert!(reason.starts_with("GET /up?deep=1: the answer is not HTTP/1"), "{reason}");
}

#[test]
fn what_is_sent() {
    let origin = Origin::start(OK);
    check(&http(None), &origin.address()).unwrap();
    let named = HttpProbe::new("/".into(), Some("app.example".into()), (200, 200), None);
    check(&named, &origin.address()).unwrap();
    let requests = origin.requests();
    let lower = requests[0].to_lowercase();
    assert!(requests[0].starts_with("GET /up?deep=1 HTTP/1.1\r\n"), "{requests:?}");
    assert!(lower.contains(&format!("\r\nhost: {}\r\n", origin.address)), "{lower}");
    assert!(lower.contains(&format!("\r\nuser-agent: ekiden-probe/{}\r\n", env!("CARGO_PKG_VERSION"))));
    assert!(lower.contains("\r\nconnection: close\r\n"));
    assert!(requests[1].to_lowercase().contains("\r\nhost: app.example\r\n"));
}

#[test]
fn reasons_are_one_bounded_line() {
    let location = "x".repeat(3000);
    let origin =
        Origin::start(&answered(&format!("302 F\r\nlocation: {location}\t\r\ncontent-length: 0"), b""));
    let reason = check(&http(None), &origin.address()).unwrap_err();
    assert!(reason.len() <= REASON_MAX && reason.ends_with("..."), "{reason}");
    let origin = Origin::start(&answered("302 F\r\nlocation: a\x1b\tb\r\ncontent-length: 0", b""));
    let reason = check(&http(None), &origin.address()).unwrap_err();
    assert!(!reason.chars().any(char::is_control), "{reason:?}");
}

#[test]
fn a_path_that_is_no_path_is_a_reason() {
    let origin = Origin::start(OK);
    let probe = HttpProbe::new("/a b\0".into(), None, (200, 299), None);
    let reason = check(&probe, &origin.address()).unwrap_err();
    assert!(reason.contains("cannot be asked"), "{reason}");
}

#[test]
fn unix_sockets() {
    let path = std::env::temp_dir().join(format!("ekiden-probe-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let address = Address::Unix(path.to_str().unwrap().into());
    assert_eq!(check(&TcpProbe, &address), Err("no such socket".to_owned()));
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(check(&TcpProbe, &address), Ok(()));
    let server = std::thread::spawn(move || {
        // The first connection is the one above, which sent nothing.
        let (_, mut stream) = (listener.accept().unwrap(), listener.accept().unwrap().0);
        let mut head = [0; 1024];
        let count = stream.read(&mut head).unwrap();
        std::io::Write::write_all(&mut stream, OK).unwrap();
        String::from_utf8_lossy(&head[..count]).to_lowercase()
    });
    assert_eq!(check(&http(None), &address), Ok(()));
    assert!(server.join().unwrap().contains("\r\nhost: localhost\r\n"));
    std::fs::remove_file(&path).unwrap();
}

/// An address that refuses: bound once, and closed again.
fn refusing() -> Address {
    Address::Tcp(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

/// What every [`Probe`] must do. `good` passes, `bad` fails, `silent` takes a connection and never answers (none for
/// a probe that needs no answer).
fn conforms(probe: &dyn Probe, good: &Address, bad: &Address, silent: Option<&Address>) {
    for _ in 0..2 {
        assert_eq!(check(probe, good), Ok(()), "passes, again and again");
        let reason = check(probe, bad).expect_err("fails");
        assert!(!reason.is_empty() && reason.len() <= REASON_MAX, "{reason:?}");
        assert!(!reason.chars().any(char::is_control), "{reason:?}");
    }
    let (up, down) = (Target::plain(good.clone()), Target::plain(bad.clone()));
    runtime().block_on(async {
        let (one, two) = tokio::join!(probe.check(&up), probe.check(&down));
        assert!(one.is_ok() && two.is_err(), "two checks at once do not mix");
        if let Some(silent) = silent {
            let silent = Target::plain(silent.clone());
            let cut = tokio::time::timeout(Duration::from_millis(50), probe.check(&silent)).await;
            assert!(cut.is_err(), "waits as long as the caller lets it");
        }
    });
}

#[test]
fn embedded_probes_conform() {
    let good = Origin::start(OK);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = Address::Tcp(silent.local_addr().unwrap());
    conforms(&http(None), &good.address(), &refusing(), Some(&silent_address));
    conforms(
        &http(Some("ok")),
        &good.address(),
        &Origin::start(UNAVAILABLE).address(),
        Some(&silent_address),
    );
    conforms(&TcpProbe, &good.address(), &refusing(), None);
    // What was cut off is closed: the reads end.
    for _ in 0..2 {
        let (mut stream, _) = silent.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.read_to_end(&mut Vec::new()).expect("the connection was closed");
    }
    let (yes, no, never) = (good.address(), refusing(), silent_address);
    let fake = FakeProbe::new({
        let (yes, never) = (yes.clone(), never.clone());
        move |address| match address {
            address if *address == yes => Some(Ok(())),
            address if *address == never => None,
            _ => Some(Err("refused".to_owned())),
        }
    });
    conforms(&fake, &yes, &no, Some(&never));
}
