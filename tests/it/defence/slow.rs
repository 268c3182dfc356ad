//! Slow and endless clients: each is cut at its bound with its code, holds little memory until then, and does not keep a
//! normal client waiting.

use std::fs;
use std::time::Instant;

use super::{HOSTILE, NORMAL, client_from};
use ekiden_loadtest::hostile::{Attack, Hostile, Tally, attacks};
use ekiden_tests::http2::{END, END_HEADERS, Frames, PREFACE, fields, kind};
use ekiden_tests::{DEADLINE, Ekiden, Origin, Served, Setup, web};

/// Attackers at once.
const CROWD: usize = 60;
/// Memory that one may hold.
const PER_CONNECTION: u64 = 64 << 10;
/// Memory that one stream of HTTP/2 may hold beside: a request under way, its connection to the endpoint, a task, and next to
/// nothing of its response, which waits for the client.
const PER_STREAM: u64 = 8 << 10;
/// Streams that the attacks of HTTP/2 have open at once, at most, on a connection.
const STREAMS: u64 = 8;
/// Bytes that the kernel may hold of what one of them does not read: what the router lets it have beyond the window, the
/// largest packet of loopback, and the window, which grows with what is read. Without a bound it is megabytes.
const QUEUED: u64 = 512 << 10;
/// Memory of the process that belongs to no connection: log, metrics, and what the allocator takes for the first of a size.
const SLACK: u64 = 8 << 20;

/// What holds an attack: how the listener is set, and which metric says that a connection was ended by it. Labels that
/// are all right stand between bars.
struct Bound {
    attack: &'static str,
    listener: &'static str,
    idle: &'static str,
    metric: &'static str,
    label: &'static str,
}

/// A bound whose metric is the outcome's code.
fn bound(attack: &'static str, listener: &'static str, code: &'static str) -> Bound {
    Bound { attack, listener, idle: "700ms", metric: "ekiden_outcomes_total", label: code }
}

/// A budget of HTTP/2, at its default.
fn calmed(attack: &'static str, budget: &'static str) -> Bound {
    Bound { metric: "ekiden_http2_calmed_total", ..bound(attack, "h2c = true", budget) }
}

const SLOW_BODY: &str = "limits = { body_idle = \"500ms\", min_body_rate = \"100MB\" }";
const SLOW_READ: &str = "limits = { min_response_rate = \"1GB\" }";

fn bounds() -> Vec<Bound> {
    let slow_head = "limits = { head_deadline = \"500ms\" }";
    vec![
        bound("slow head", slow_head, "head_timeout"),
        bound("slow long head", slow_head, "head_timeout"),
        bound("silent body", "limits = { body_idle = \"500ms\" }", "body_timeout"),
        bound("slow body", SLOW_BODY, "body_too_slow"),
        bound("slow chunked body", SLOW_BODY, "body_too_slow"),
        bound("endless chunked body", "limits = { body = 5000 }", "body_too_large"),
        bound("unread response", "", "client_idle"),
        // The kernel tells of progress only after many bytes: it must do so within the idle timeout.
        Bound { idle: "2s", ..bound("slow reader", SLOW_READ, "client_too_slow") },
        // Whether its progress is seen within the idle timeout is the kernel's and the machine's matter.
        bound("tiny window", SLOW_READ, "client_too_slow|client_idle"),
        bound("many fields", "", "too_many_fields"),
        bound("giant field", "", "field_too_large"),
        Bound {
            metric: "ekiden_connections_idle_closed_total",
            ..bound("idle flood", "limits = { keepalive_idle = \"500ms\" }", "")
        },
        bound("half-open", "", "client_gone"),
        Bound {
            metric: "ekiden_connections_refused_total",
            ..bound(
                "connection flood",
                "connection_rate_per_client = \"1/h\"\nconnection_burst_per_client = 100",
                "client_rate",
            )
        },
        calmed("ping flood", "ping"),
        calmed("unread pings", "ping"),
        calmed("settings flood", "settings"),
        calmed("priority flood", "priority"),
        calmed("empty data flood", "empty_data"),
        calmed("window update flood", "window_update"),
        calmed("unknown frames", "other"),
        calmed("rapid reset", "reset"),
        calmed("made you reset", "codec"),
        calmed("malformed requests", "malformed"),
        calmed("continuation flood", "continuation"),
        bound("header bomb", "h2c = true", "too_many_fields"),
        bound("closed windows", "h2c = true", "client_idle"),
        bound("wide windows", "h2c = true", "client_idle"),
        Bound {
            metric: "ekiden_connections_idle_closed_total",
            ..bound("silent after the preface", "h2c = true\nlimits = { keepalive_idle = \"500ms\" }", "")
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

/// Turns that an attack may take beside [`DEADLINE`]: some bounds are met by time and some by bytes, and how long a turn
/// takes is the machine's matter. The most that any needs is 72.
const TURNS: u32 = 250;

/// Bytes that wait in the kernel to be sent or acknowledged, on the connections of a listener (proc(5), /proc/net/tcp).
fn queued(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().take(5).collect();
        let is_ours = words.len() == 5 && words[1].ends_with(&local) && words[3] != "0A";
        is_ours.then(|| u64::from_str_radix(words[4].split(':').next().unwrap(), 16).unwrap())
    };
    table.lines().filter_map(row).sum()
}

fn ended(router: &Ekiden, bound: &Bound) -> f64 {
    if bound.label.is_empty() {
        return router.metric(bound.metric, &[]);
    }
    bound.label.split('|').map(|label| router.metric(bound.metric, &[&format!("\"{label}\"")])).sum()
}

fn run(attack: &Attack, bound: &Bound) {
    let origin = origin();
    let setup = Setup::new(web(&[origin.address], "", &format!("timeout = {{ idle = \"{}\" }}", bound.idle)));
    let router = Ekiden::start(setup.listener(bound.listener));
    let mut normal = client_from(NORMAL, router.address());
    assert_eq!(normal.get("a", "/good").status, 200);
    let before = resident(router.id());
    let mut tally = Tally::default();
    let open = |_| Hostile::open(attack, HOSTILE, router.address(), &mut tally).unwrap();
    let mut crowd: Vec<_> = (0..CROWD).map(open).collect();
    let (mut most, mut most_queued, mut turns, began) = (0, 0, 0, Instant::now());
    let mut buffer = vec![0; 64 << 10];
    loop {
        crowd.iter_mut().for_each(|hostile| hostile.turn(&mut buffer, &mut tally).unwrap());
        most = most.max(resident(router.id()));
        most_queued = most_queued.max(queued(router.address().port()));
        normal = client_from(NORMAL, router.address());
        let response = normal.get("a", "/good");
        assert_eq!(response.status, 200, "{}: a normal client suffers: {response:?}", attack.name);
        let ended = ended(&router, bound);
        if ended >= CROWD as f64 {
            break;
        }
        turns += 1;
        let has_time = began.elapsed() < DEADLINE || turns < TURNS;
        assert!(has_time, "{}: {ended} of {CROWD} were ended; {tally:?}", attack.name);
    }
    let streams = if attack.http2 { STREAMS } else { 0 };
    let allowed = CROWD as u64 * (PER_CONNECTION + streams * PER_STREAM) + SLACK;
    assert!(most.saturating_sub(before) <= allowed, "{}: from {before} to {most} bytes", attack.name);
    assert!(most_queued <= CROWD as u64 * QUEUED, "{}: {most_queued} bytes in the kernel", attack.name);
}

/// Connections, and streams on each, that wait for a window.
const WAITING: (usize, usize) = (2, 250);
/// [`SLACK`] where no attack was there before.
const FIRST: u64 = 2 << 20;

/// The response of each has begun, and no byte of its body can be sent: the window of each stream is closed, or that of all.
#[test]
fn hundreds_of_streams_that_wait_hold_little() {
    for window in [0_u32, 0x7fff_ffff] {
        let origin = origin();
        let router = Ekiden::start(Setup::new(web(&[origin.address], "", "")).listener("h2c = true"));
        assert_eq!(client_from(NORMAL, router.address()).get("a", "/good").status, 200);
        let before = resident(router.id());
        let (connections, streams) = WAITING;
        let section =
            fields(&[(":method", b"GET"), (":scheme", b"http"), (":authority", b"a"), (":path", b"/flood")]);
        let ask = || {
            let mut frames = Frames::bare(router.address());
            frames.bytes(PREFACE);
            frames.send(kind::SETTINGS, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat());
            for number in 0..streams {
                let stream = u32::try_from(number * 2 + 1).unwrap();
                frames.send(kind::HEADERS, END | END_HEADERS, stream, &section);
            }
            frames
        };
        let mut open: Vec<_> = (0..connections).map(|_| ask()).collect();
        for frames in &mut open {
            (0..streams).for_each(|_| drop(frames.first(kind::HEADERS)));
        }
        let held = resident(router.id()).saturating_sub(before);
        let waiting = (connections * streams) as u64;
        let allowed = connections as u64 * PER_CONNECTION + waiting * PER_STREAM + FIRST;
        assert!(held <= allowed, "window {window}: {} bytes a stream", held / waiting);
    }
}

#[test]
fn each_attack_meets_its_bound() {
    let bounds = bounds();
    for attack in attacks() {
        let bound = bounds.iter().find(|bound| bound.attack == attack.name);
        run(&attack, bound.unwrap_or_else(|| panic!("nothing is said to hold the attack {:?}", attack.name)));
    }
}
