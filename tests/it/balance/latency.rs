//! `peak_ewma`: a slow endpoint gets less, fast failures draw nothing, and one that asks to be left alone is.

use std::time::Duration;

use ekiden_tests::{Ekiden, Served, Setup, web};

use super::Steady;

/// The router before these endpoints, which are set aside by nothing but the picker.
fn serve(endpoints: &[&Steady], balance: &str) -> Ekiden {
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.origin.address).collect();
    let keys = format!("balance = \"{balance}\"\nejection = \"off\"");
    Ekiden::start(Setup::new(web(&addresses, &keys, "")))
}

/// One client, one request after the other.
fn ask(router: &Ekiden, count: usize) {
    let mut client = router.client();
    for _ in 0..count {
        assert!(matches!(client.get("a", "/").status, 200 | 500 | 503));
    }
}

#[test]
fn a_slow_endpoint_gets_less() {
    for balance in ["peak_ewma", "prequal"] {
        let quick = [Steady::start(Duration::ZERO, "200 OK"), Steady::start(Duration::ZERO, "200 OK")];
        let slow = Steady::start(Duration::from_millis(150), "200 OK");
        let router = serve(&[&quick[0], &quick[1], &slow], balance);
        ask(&router, 300);
        // A hundred would be its share. It is tried again when what is known of it is some seconds old: more often on a slow machine.
        assert!(slow.count() <= 70, "{balance}: {}", slow.count());
        assert_eq!(slow.count() + quick[0].count() + quick[1].count(), 300);
    }
}

#[test]
fn fast_failures_draw_no_requests() {
    let failing = Steady::start(Duration::ZERO, "500 No");
    let good = Steady::start(Duration::from_millis(10), "200 OK");
    let router = serve(&[&failing, &good], "peak_ewma");
    ask(&router, 100);
    assert!(failing.count() <= 30, "{}", failing.count());
}

#[test]
fn an_endpoint_that_asks_to_be_left_alone_is() {
    let busy = Steady::start(Duration::ZERO, "503 Busy\r\nRetry-After: 60");
    let good = Steady::start(Duration::ZERO, "200 OK");
    let router = serve(&[&busy, &good], "peak_ewma");
    let mut client = router.client();
    let mut turns = 0;
    while busy.count() == 0 {
        client.get("a", "/");
        turns += 1;
        assert!(turns < 1_000, "it is never asked");
    }
    let before = good.count();
    ask(&router, 50);
    assert_eq!((busy.count(), good.count() - before), (1, 50));
}
