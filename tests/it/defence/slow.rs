//! Slow and endless clients: each is cut at its bound with its code, holds little memory until then, and does not keep a
//! normal client waiting.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{HOSTILE, NORMAL, client_from, connect_from};
use ekiden_tests::{Ekiden, Origin, Served, Setup, until, web};

/// Attackers at once.
const CROWD: usize = 60;
/// Memory that one may hold.
const PER_CONNECTION: u64 = 64 << 10;
/// Memory of the process that belongs to no connection: allocator, log, metrics.
const SLACK: u64 = 6 << 20;

/// An attack: what the listener is set to, what is sent first and then again and again, and what ends it.
struct Attack {
    what: &'static str,
    listener: &'static str,
    idle: &'static str,
    first: String,
    drip: &'static [u8],
    reads: bool,
    metric: &'static str,
    label: &'static str,
}

fn attack(
    what: &'static str,
    listener: &'static str,
    first: impl Into<String>,
    code: &'static str,
) -> Attack {
    Attack {
        what,
        listener,
        idle: "700ms",
        first: first.into(),
        drip: b"",
        reads: false,
        metric: "ekiden_outcomes_total",
        label: code,
    }
}

fn attacks() -> Vec<Attack> {
    let get = "GET /good HTTP/1.1\r\nHost: a\r\n";
    let post = "POST /sink HTTP/1.1\r\nHost: a\r\n";
    let long = format!("{post}Content-Length: 1000000\r\n\r\n");
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    vec![
        Attack {
            drip: b"X",
            ..attack("slow head", "limits = { head_deadline = \"500ms\" }", get, "head_timeout")
        },
        attack("silent body", "limits = { body_idle = \"500ms\" }", long.clone(), "body_timeout"),
        Attack {
            drip: b"x",
            ..attack(
                "slow body",
                "limits = { body_idle = \"500ms\", min_body_rate = \"100MB\" }",
                long,
                "body_too_slow",
            )
        },
        Attack {
            drip: b"1\r\nx\r\n",
            ..attack(
                "slow chunked body",
                "limits = { body_idle = \"500ms\", min_body_rate = \"100MB\" }",
                chunked.clone(),
                "body_too_slow",
            )
        },
        Attack {
            drip: b"40\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n",
            ..attack("endless chunked body", "limits = { body = 5000 }", chunked, "body_too_large")
        },
        attack("unread response", "", "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n", "client_idle"),
        Attack {
            reads: true,
            // The kernel tells of progress only after many bytes: it must do so within the idle timeout.
            idle: "2s",
            ..attack(
                "slow reader",
                "limits = { min_response_rate = \"1GB\" }",
                "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n",
                "client_too_slow",
            )
        },
        attack("many fields", "", format!("{get}{}", "X: y\r\n".repeat(101)), "too_many_fields"),
        attack("giant field", "", format!("{get}X: {}", "y".repeat(20_000)), "field_too_large"),
        Attack {
            metric: "ekiden_connections_idle_closed_total",
            ..attack("idle flood", "limits = { keepalive_idle = \"500ms\" }", "", "")
        },
    ]
}

fn origin() -> Origin {
    Origin::start(|conn| {
        while let Some(mut request) = conn.head() {
            match request.target() {
                "/sink" => return conn.until_closed(),
                "/flood" => {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
                    while conn.send([b'x'; 64 << 10]) {}
                    return;
                }
                _ => {
                    if conn.body(&mut request).is_none() {
                        return;
                    }
                    conn.answer(&request, "good");
                }
            }
        }
    })
}

/// Anonymous memory: pages of the binary that a request touches for the first time belong to nobody.
fn resident(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// One that does not read has a small receive buffer, so that the router feels it at once.
fn hostile(router: &Ekiden, attack: &Attack) -> TcpStream {
    let mut stream = connect_from(HOSTILE, router.address());
    if attack.label == "client_idle" {
        socket2::SockRef::from(&stream).set_recv_buffer_size(16 << 10).unwrap();
    }
    stream.write_all(attack.first.as_bytes()).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

fn go_on(stream: &mut TcpStream, attack: &Attack) {
    // The router may have cut it: that is what is waited for.
    let _cut = stream.write_all(attack.drip);
    if attack.reads {
        let mut piece = [0; 64 << 10];
        match stream.read(&mut piece) {
            Ok(count) => {
                assert!(piece.iter().take(count).all(|byte| byte.is_ascii()), "not what the origin sent")
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset), "{error}")
            }
        }
    }
}

fn run(attack: &Attack) {
    let origin = origin();
    let setup =
        Setup::new(web(&[origin.address], "", &format!("timeout = {{ idle = \"{}\" }}", attack.idle)));
    let router = Ekiden::start(setup.listener(attack.listener));
    let mut normal = client_from(NORMAL, router.address());
    assert_eq!(normal.get("a", "/good").status, 200);
    let before = resident(router.id());
    let mut crowd: Vec<_> = (0..CROWD).map(|_| hostile(&router, attack)).collect();
    let mut most = 0;
    until(&format!("the end of: {}", attack.what), || {
        crowd.iter_mut().for_each(|stream| go_on(stream, attack));
        most = most.max(resident(router.id()));
        normal = client_from(NORMAL, router.address());
        normal.patience(Duration::from_secs(2));
        assert_eq!(normal.get("a", "/good").status, 200, "{}: a normal client suffers", attack.what);
        let label = format!("\"{}\"", attack.label);
        let words: &[&str] = if attack.label.is_empty() { &[] } else { &[&label] };
        (router.metric(attack.metric, words) >= CROWD as f64).then_some(())
    });
    let bound = CROWD as u64 * PER_CONNECTION + SLACK;
    assert!(most.saturating_sub(before) <= bound, "{}: from {before} to {most} bytes", attack.what);
}

#[test]
fn each_attack_meets_its_bound() {
    attacks().iter().for_each(run);
}
