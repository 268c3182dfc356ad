//! The life of a connection: idle, leaving in two steps, and what is counted of it.

use std::time::Duration;

use ekiden_tests::http2::{END, END_HEADERS, Frames, ask, get, get_of, kind, talk};
use ekiden_tests::{Ekiden, Origin, Served, Setup, until_true, web};

use super::{serve, serve_with};

const NO_ERROR: Option<u32> = Some(0);
const ALL: u32 = 0x7fff_ffff;

/// An origin that answers `/slow` when the test says so.
fn patient() -> (Origin, std::sync::mpsc::Sender<()>) {
    let (go, wait) = std::sync::mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/slow" {
                wait.lock().unwrap().recv().unwrap();
            }
            conn.answer(&request, "done");
        }
    });
    (origin, go)
}

fn slow() -> Vec<u8> {
    ekiden_tests::http2::fields(&[
        (":method", b"GET"),
        (":scheme", b"http"),
        (":authority", b"a"),
        (":path", b"/slow"),
    ])
}

/// Clients that are written down frame by frame, as those of other proxies' tests, expect this order.
#[test]
fn the_whole_window_comes_with_the_first_request() {
    let origin = Origin::hello("hi");
    let router = serve(&origin);
    let mut client = Frames::connect(router.setup().address());
    let (settings, acknowledged) = (client.receive().unwrap(), client.receive().unwrap());
    assert_eq!((settings.kind, settings.flags), (kind::SETTINGS, 0));
    assert_eq!((acknowledged.kind, acknowledged.flags), (kind::SETTINGS, END), "and nothing between");
    client.send(kind::HEADERS, END | END_HEADERS, 1, &get(&[]));
    let told = client.until(kind::HEADERS);
    let wider =
        told.iter().find(|frame| frame.kind == kind::WINDOW_UPDATE).map(|frame| frame.payload.clone());
    assert_eq!(wider, Some(((1 << 20) - 65_535_u32).to_be_bytes().to_vec()));
}

#[test]
fn an_idle_connection_is_told_and_closed() {
    let origin = Origin::hello("hi");
    let router = serve_with(&origin, "[listener.edge.limits]\nkeepalive_idle = \"300ms\"\n");
    let mut frames = Frames::connect(router.setup().address());
    frames.send(kind::HEADERS, END | END_HEADERS, 1, &get(&[]));
    assert_eq!(frames.first(kind::HEADERS).stream, 1);
    let told = frames.first(kind::GOAWAY);
    assert_eq!(
        (told.error(), told.last_stream()),
        (NO_ERROR, ALL),
        "the first step takes what is on its way"
    );
    let ping = frames.first(kind::PING);
    frames.send(kind::HEADERS, END | END_HEADERS, 3, &get(&[]));
    frames.send(kind::PING, END, 0, &ping.payload);
    let last = frames.until(kind::GOAWAY);
    assert_eq!((last.last().unwrap().error(), last.last().unwrap().last_stream()), (NO_ERROR, 3));
    let rest: Vec<_> = std::iter::from_fn(|| frames.receive()).collect();
    let served = last.iter().chain(&rest).any(|frame| frame.kind == kind::HEADERS && frame.stream == 3);
    assert!(served, "a request on its way is served: {last:?} {rest:?}");
}

#[test]
fn an_idle_client_that_answers_nothing_is_closed_all_the_same() {
    let origin = Origin::hello("hi");
    let router = serve_with(&origin, "[listener.edge.limits]\nkeepalive_idle = \"200ms\"\n");
    let mut frames = Frames::connect(router.setup().address());
    let mut told = 0;
    while let Some(frame) = frames.receive() {
        told += usize::from(frame.kind == kind::GOAWAY);
    }
    assert_eq!(told, 2, "both steps");
}

#[test]
fn a_client_that_goes_away_is_answered_and_then_closed() {
    let origin = Origin::hello("hi");
    let router = serve(&origin);
    let mut frames = Frames::connect(router.setup().address());
    frames.send(kind::HEADERS, END | END_HEADERS, 1, &get(&[]));
    frames.send(kind::GOAWAY, 0, 0, &[0; 8]);
    frames.first(kind::DATA);
    frames.send(kind::PING, 0, 0, &[1; 8]);
    assert_eq!(frames.first(kind::PING).flags, END);
    assert_eq!(frames.first(kind::GOAWAY).error(), NO_ERROR);
    assert!(frames.receive().is_none());
}

#[test]
fn pings_do_not_keep_a_connection_that_does_nothing() {
    let origin = Origin::hello("hi");
    let router = serve_with(&origin, "[listener.edge.limits]\nkeepalive_idle = \"300ms\"\n");
    let mut frames = Frames::connect(router.setup().address());
    for _ in 0..50 {
        if !frames.send(kind::PING, 0, 0, &[0; 8])
            || frames.first_of(&[kind::PING, kind::GOAWAY]) == kind::GOAWAY
        {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    panic!("it was kept");
}

#[test]
fn a_drain_ends_in_two_steps_and_finishes_what_is_open() {
    let (origin, go) = patient();
    let setup =
        Setup::new(web(&[origin.address], "", "")).listener("h2c = true").top("drain_grace = \"200ms\"");
    let mut router = Ekiden::start(setup);
    let mut frames = Frames::connect(router.setup().address());
    frames.send(kind::HEADERS, END | END_HEADERS, 1, &slow());
    origin.wait_connections(1);
    router.terminate();
    let told = frames.first(kind::GOAWAY);
    assert_eq!((told.error(), told.last_stream()), (NO_ERROR, ALL));
    let ping = frames.first(kind::PING);
    frames.send(kind::PING, END, 0, &ping.payload);
    let last = frames.first(kind::GOAWAY);
    assert_eq!((last.error(), last.last_stream()), (NO_ERROR, 1));
    // Beyond the last stream: not served, and safe to send elsewhere.
    frames.send(kind::HEADERS, END | END_HEADERS, 3, &get(&[]));
    go.send(()).unwrap();
    let all: Vec<_> = std::iter::from_fn(|| frames.receive()).collect();
    assert!(all.iter().any(|frame| frame.kind == kind::DATA && frame.payload == b"done"), "{all:?}");
    assert!(all.iter().all(|frame| frame.stream != 3), "{all:?}");
    assert_eq!(router.wait().code(), Some(0));
    assert_eq!(router.records(1)[0]["code"], "complete");
}

#[test]
fn a_drain_that_is_out_of_time_answers_what_is_open() {
    let origin = Origin::start(|conn| {
        conn.request();
        conn.until_closed();
    });
    let keys = "drain_grace = \"10ms\"\ndrain_timeout = \"300ms\"";
    let mut router =
        Ekiden::start(Setup::new(web(&[origin.address], "", "")).listener("h2c = true").top(keys));
    let mut frames = Frames::connect(router.setup().address());
    frames.send(kind::HEADERS, END | END_HEADERS, 1, &get(&[]));
    origin.wait_connections(1);
    router.terminate();
    let all: Vec<_> = std::iter::from_fn(|| frames.receive()).collect();
    let answered = all
        .iter()
        .any(|frame| frame.kind == kind::DATA && String::from_utf8_lossy(&frame.payload).contains("drained"));
    assert!(answered, "{all:?}");
    router.wait();
    assert_eq!(router.records(1)[0]["code"], "drained");
}

#[test]
fn an_endpoint_that_closes_does_not_close_the_client() {
    let origin = Origin::start(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
    });
    let router = serve(&origin);
    talk(router.setup().address(), async |client| {
        for _ in 0..3 {
            let reply = ask(&client, get_of("a", "/")).await.unwrap();
            assert_eq!((reply.status, reply.text().as_str()), (200, "hi"));
            assert!(reply.fields.get("connection").is_none());
        }
    });
    assert_eq!(origin.connections(), 3);
}

#[test]
fn an_endpoint_that_fails_is_answered_on_the_stream() {
    let origin = Origin::start(|conn| {
        conn.request();
    });
    let router = serve(&origin);
    talk(router.setup().address(), async |client| {
        for _ in 0..2 {
            let reply = ask(&client, get_of("a", "/")).await.unwrap();
            assert_eq!((reply.status, reply.code()), (502, "closed_without_response"));
            assert!(reply.text().contains("closed_without_response"));
        }
    });
}

#[test]
fn connections_and_streams_are_counted() {
    let (origin, go) = patient();
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", "")).listener("h2c = true"));
    let mut frames = Frames::connect(router.setup().address());
    for stream in [1, 3, 5] {
        frames.send(kind::HEADERS, END | END_HEADERS, stream, &slow());
    }
    until_true("three streams", || router.metric("ekiden_http2_streams", &[]) == 3.0);
    assert_eq!(router.metric("ekiden_http2_connections", &[]), 1.0);
    for _ in 0..3 {
        go.send(()).unwrap();
    }
    until_true("no stream", || router.metric("ekiden_http2_streams", &[]) == 0.0);
    drop(frames);
    until_true("no connection", || router.metric("ekiden_http2_connections", &[]) == 0.0);
    assert_eq!(router.metric("ekiden_http2_connections_total", &[]), 1.0);
    assert_eq!(router.metric("ekiden_http2_streams_total", &[]), 3.0);
    assert_eq!(router.metric("ekiden_connections", &["open"]), 0.0);
    assert_eq!(router.metric("ekiden_outcomes_total", &["\"complete\""]), 3.0);
}

#[test]
fn a_vanished_client_ends_its_streams() {
    let origin = Origin::start(|conn| {
        conn.request();
        conn.until_closed();
    });
    let router = serve(&origin);
    let mut frames = Frames::connect(router.setup().address());
    for stream in [1, 3] {
        frames.send(kind::HEADERS, END | END_HEADERS, stream, &slow());
    }
    origin.wait_connections(2);
    drop(frames);
    for record in router.records(2) {
        assert_eq!(record["code"], "client_gone");
    }
    for number in [1, 2] {
        origin.ended(number);
    }
}
