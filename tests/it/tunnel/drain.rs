//! What a drain does to tunnels: a Close frame where a frame ends, masked towards the server; never inside a frame, and
//! never in a protocol whose frames the router does not know.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use ekiden_tests::{DEADLINE, Served};

use super::{SWITCH, record, serve, switching, tunnel};

/// Close with 1001, as a server says it.
const CLOSE: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

fn unmasked(frame: &[u8]) -> Vec<u8> {
    let (head, rest) = frame.split_at(2);
    let (key, payload) = rest.split_at(4);
    let plain = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
    [head[0], head[1] & 0x7f].into_iter().chain(plain).collect()
}

#[test]
fn both_sides_are_told_to_go_at_a_boundary() {
    let origin = switching(|conn| {
        // A whole frame, so that the way down is at a boundary that is not its beginning.
        conn.send(b"\x81\x02hi");
        conn.exactly(8);
        conn.send(CLOSE);
        conn.until_closed();
    });
    let router = serve(&origin, "");
    let mut client = tunnel(&router);
    assert_eq!(client.exactly(4).unwrap(), b"\x81\x02hi");
    router.router().drain();
    assert_eq!(client.exactly(4).unwrap(), CLOSE);
    // The answer to it ends the connection.
    client.send(b"\x88\x82\0\0\0\0\x03\xe9");
    assert!(client.rest().is_empty() && !client.was_reset());
    origin.over(1);
    let received = origin.received(1);
    let frame = &received[received.len() - 8..];
    assert_eq!(frame[..2], [0x88, 0x82], "a client's frames are masked");
    assert_eq!(unmasked(frame), CLOSE);
    assert_eq!(record(&router), ("drained".to_owned(), 101));
    assert!(router.router().await_idle(DEADLINE, || false));
}

/// A frame is half sent in each direction when the drain begins. The rest of it comes first, then the Close.
#[test]
fn nothing_is_written_inside_a_frame() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let origin = switching(move |conn| {
        conn.send(b"\x82\x05hel");
        let _told = wait.lock().unwrap().recv();
        conn.send(b"lo");
        conn.until_closed();
    });
    let router = serve(&origin, "");
    let mut client = tunnel(&router);
    client.send(b"\x82\x85\0\0\0\0wor");
    assert_eq!(client.exactly(5).unwrap(), b"\x82\x05hel");
    origin.wait_received(1, origin.received(1).len().max(1));
    router.router().drain();
    // Longer than the time over which a drain spreads its frames.
    assert!(client.is_quiet(Duration::from_secs(6)));
    assert!(!origin.received(1).ends_with(&[0xe9]));
    client.send(b"ld");
    go.send(()).unwrap();
    assert_eq!(client.exactly(6).unwrap(), [b"lo".as_slice(), &CLOSE].concat());
    client.send(b"\x88\x82\0\0\0\0\x03\xe9");
    client.finish();
    assert!(client.rest().is_empty());
    origin.over(1);
    let received = origin.received(1);
    let at = received.windows(5).position(|bytes| bytes == b"world").unwrap();
    assert_eq!(unmasked(&received[at + 5..]), CLOSE, "right behind the frame, and nothing more");
}

/// A side that has said Close itself is not told again.
#[test]
fn a_close_under_way_is_left_alone() {
    let origin = switching(|conn| {
        conn.exactly(8);
        conn.send("\u{1}");
        conn.until_closed();
    });
    let router = serve(&origin, "");
    let mut client = tunnel(&router);
    client.send(b"\x88\x82\0\0\0\0\x03\xe8");
    assert_eq!(client.exactly(1).unwrap(), [1], "half a header: the way down is inside a frame");
    router.router().drain();
    assert!(!router.router().await_idle(Duration::from_secs(6), || false));
    client.finish();
    origin.over(1);
    assert!(origin.received(1).ends_with(b"\x88\x82\0\0\0\0\x03\xe8"));
}

/// Other protocols go on until the time of the drain is over.
#[test]
fn a_protocol_without_frames_gets_no_byte() {
    let origin = ekiden_tests::Origin::start(|conn| {
        if conn.head().is_some() {
            conn.send(SWITCH.replace("websocket", "tcp"));
            conn.until_closed();
        }
    });
    let router = serve(&origin, "upgrades = [\"tcp\"]");
    let mut client = router.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    assert_eq!(client.head().unwrap().status, 101);
    router.router().drain();
    assert!(!router.router().await_idle(Duration::from_secs(6), || false), "it is in flight");
    let log = router.setup().log();
    drop(router);
    assert!(client.rest().is_empty());
    let text = std::fs::read_to_string(log);
    assert!(text.map_or(true, |text| text.contains("drained")));
}
