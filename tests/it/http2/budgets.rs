//! Each budget of frames, gone over by frames from the test: GOAWAY(ENHANCE_YOUR_CALM), a count, a code. And what honest
//! clients do goes through.

use ekiden_tests::http2::{END, END_HEADERS, Frames, frame, get, kind, request};
use ekiden_tests::{Client, Echo, Ekiden, Origin, Served, Setup, until_true, web};

const ENHANCE_YOUR_CALM: u32 = 11;

fn serve(origin: std::net::SocketAddr) -> Ekiden {
    Ekiden::start(Setup::new(web(&[origin], "", "")).listener("h2c = true"))
}

fn repeated(bytes: &[u8], times: usize) -> Vec<u8> {
    bytes.repeat(times)
}

/// A budget, and frames that go over it.
fn floods() -> Vec<(&'static str, Vec<u8>)> {
    let open = frame(kind::HEADERS, END_HEADERS, 1, &request("POST", &[]));
    let resets = (0..400).flat_map(|number: u32| {
        let stream = number * 2 + 1;
        let mut both = frame(kind::HEADERS, END | END_HEADERS, stream, &get(&[]));
        both.extend(frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        both
    });
    let faulty = (0..600).flat_map(|number: u32| {
        // The router is made to reset: a window that overflows is a stream error.
        let stream = number * 2 + 1;
        let mut both = frame(kind::HEADERS, END_HEADERS, stream, &request("POST", &[]));
        both.extend(frame(kind::WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]));
        both
    });
    let malformed = (0..200_u32)
        .flat_map(|number| frame(kind::HEADERS, END | END_HEADERS, number * 2 + 1, &get(&[("x", b" y")])));
    let begun = frame(kind::HEADERS, END, 1, &get(&[]));
    vec![
        ("ping", repeated(&frame(kind::PING, 0, 0, &[1; 8]), 200)),
        ("settings", repeated(&frame(kind::SETTINGS, 0, 0, &[]), 100)),
        ("priority", repeated(&frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 1]), 300)),
        ("empty_data", [open.clone(), repeated(&frame(kind::DATA, 0, 1, &[]), 200)].concat()),
        (
            "window_update",
            [open.clone(), repeated(&frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), 600)].concat(),
        ),
        ("continuation", [begun, repeated(&frame(kind::CONTINUATION, 0, 1, &[]), 20)].concat()),
        ("other", repeated(&frame(0xbe, 0, 0, &[]), 200)),
        ("reset", resets.collect()),
        ("codec", faulty.collect()),
        ("malformed", malformed.collect()),
    ]
}

#[test]
fn each_budget_ends_the_connection_with_its_word() {
    let echo = Echo::start("a");
    let router = serve(echo.address);
    let normal = &mut Client::connect(router.setup().address());
    for (budget, bytes) in floods() {
        let mut frames = Frames::connect(router.setup().address());
        frames.bytes(&bytes);
        let goaway = frames.first(kind::GOAWAY);
        assert_eq!(goaway.error(), Some(ENHANCE_YOUR_CALM), "{budget}");
        while frames.receive().is_some() {}
        let label = format!("\"{budget}\"");
        until_true(budget, || router.metric("ekiden_http2_calmed_total", &[&label]) == 1.0);
        assert_eq!(normal.get("a", "/").status, 200, "a normal client is served after {budget}");
    }
    assert_eq!(router.metric("ekiden_http2_calmed_total", &[]), 10.0);
    router.wait_error("HTTP/2 connection is over a budget");
}

/// A head of a few bytes that names a long field again and again is refused by the codec, and leaves a record: a client has only so
/// many of them.
#[test]
fn heads_that_are_too_large_count_as_malformed() {
    let echo = Echo::start("a");
    let router = serve(echo.address);
    let mut frames = Frames::connect(router.setup().address());
    // It goes into the table of the connection; from then on each naming of it is a byte.
    let long = [&[0x40, 1, b'a', 0x7f, 0xbd, 0x1d][..], &[b'v'; 3_900]].concat();
    let mut answered = 0;
    let ended = (0..200_u32).any(|number| {
        let first = if number == 0 { long.as_slice() } else { &[] };
        let block = [get(&[]).as_slice(), first, &[0xbe; 20]].concat();
        frames.send(kind::HEADERS, END | END_HEADERS, number * 2 + 1, &block);
        loop {
            match frames.receive() {
                Some(frame) if frame.kind == kind::HEADERS => {
                    answered += 1;
                    return false;
                }
                Some(frame) if frame.kind != kind::GOAWAY => {}
                Some(_) | None => return true,
            }
        }
    });
    assert!(ended && (100..=102).contains(&answered), "{answered}");
    until_true("calm", || router.metric("ekiden_http2_calmed_total", &["\"malformed\""]) == 1.0);
    assert_eq!(echo.requests(), 0);
}

#[test]
fn a_request_that_ends_with_its_connection_says_why() {
    let origin = Origin::start(|conn| {
        conn.request();
        conn.until_closed();
    });
    let router = serve(origin.address);
    let mut frames = Frames::connect(router.setup().address());
    frames.send(kind::HEADERS, END | END_HEADERS, 1, &get(&[]));
    origin.wait_connections(1);
    origin.wait_received(1, 10);
    frames.bytes(&repeated(&frame(kind::PING, 0, 0, &[1; 8]), 200));
    assert_eq!(frames.first(kind::GOAWAY).error(), Some(ENHANCE_YOUR_CALM));
    let record = router.records(1).remove(0);
    assert_eq!((&record["code"], &record["status"]), (&"http2_over_budget".into(), &499.into()));
    assert_eq!(router.metric("ekiden_outcomes_total", &["http2_over_budget"]), 1.0);
    origin.ended(1);
}

/// Frames of one byte wait in the codec when the endpoint takes nothing: each costs more than it carries.
#[test]
fn small_data_frames_hold_bounded_memory() {
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::start(move |conn| {
        conn.head();
        let _until_the_end_of_the_test = wait.lock().unwrap().recv();
    });
    let router = serve(origin.address);
    let mut frames = Frames::connect(router.setup().address());
    frames.send(kind::HEADERS, END_HEADERS, 1, &request("POST", &[]));
    let tiny = repeated(&frame(kind::DATA, 0, 1, b"x"), 10_000);
    while frames.bytes(&tiny) {}
    until_true("calm", || router.metric("ekiden_http2_calmed_total", &["\"codec\""]) == 1.0);
    drop(stop);
}

#[test]
fn what_honest_clients_do_goes_through() {
    let echo = Echo::start("a");
    let router = serve(echo.address);
    let mut frames = Frames::connect(router.setup().address());
    // A page of two hundred requests, each with a priority of its own, half of them cancelled; and a ping each ten.
    for number in 0..200_u32 {
        let stream = number * 2 + 1;
        frames.send(kind::HEADERS, END | END_HEADERS, stream, &get(&[]));
        frames.send(kind::PRIORITY, 0, stream, &[0, 0, 0, 0, 1]);
        if number % 2 == 1 {
            frames.send(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        } else {
            frames.until(kind::DATA);
        }
        if number % 10 == 0 {
            frames.send(kind::PING, 0, 0, &[2; 8]);
        }
        frames.send(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]);
    }
    frames.send(kind::HEADERS, END | END_HEADERS, 1001, &get(&[]));
    while frames.first(kind::HEADERS).stream != 1001 {}
    assert_eq!(router.metric("ekiden_http2_calmed_total", &[]), 0.0);
}

/// A request that is taken back before it has begun asks nothing of an endpoint.
#[test]
fn what_is_reset_at_once_reaches_no_endpoint() {
    let echo = Echo::start("a");
    let router = serve(echo.address);
    let mut frames = Frames::connect(router.setup().address());
    let all: Vec<u8> = (0..20_u32)
        .flat_map(|number| {
            let stream = number * 2 + 1;
            let mut both = frame(kind::HEADERS, END | END_HEADERS, stream, &get(&[]));
            both.extend(frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            both
        })
        .collect();
    // In one piece, so that each reset is there when its request is.
    frames.bytes(&all);
    frames.send(kind::HEADERS, END | END_HEADERS, 101, &get(&[]));
    assert_eq!(frames.first(kind::HEADERS).stream, 101);
    until_true("the records", || router.metric("ekiden_outcomes_total", &["\"client_gone\""]) == 20.0);
    assert_eq!(echo.requests(), 1);
}
