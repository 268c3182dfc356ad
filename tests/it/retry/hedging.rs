//! `hedge`: a second endpoint gets what the first is late with; who answers first serves it, and the other is not to blame.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ekiden_tests::{Ekiden, Origin, Served, Setup, until_true, web};

/// An endpoint that holds requests while it is told to: it answers them with their target when it is told not to any more, or
/// closes when it is told that.
struct Holding {
    origin: Origin,
    holds: Arc<AtomicBool>,
    closes: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
}

impl Holding {
    fn start() -> Self {
        let (holds, closes, held) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (told, close, count) = (Arc::clone(&holds), Arc::clone(&closes), Arc::clone(&held));
        let origin = Origin::start(move |conn| {
            while let Some(request) = conn.request() {
                if told.load(Ordering::Acquire) {
                    count.fetch_add(1, Ordering::AcqRel);
                    while told.load(Ordering::Acquire) {
                        if close.load(Ordering::Acquire) {
                            return;
                        }
                        thread::sleep(Duration::from_millis(1));
                    }
                }
                conn.answer(&request, request.target());
            }
        });
        Self { origin, holds, closes, held }
    }

    fn hold(&self, on: bool) {
        self.holds.store(on, Ordering::Release);
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }
}

/// The router before two endpoints that take turns, with so many requests behind it.
fn serve(endpoints: &[Holding; 2], cluster: &str, route: &str, warm: usize) -> Ekiden {
    let addresses = endpoints.each_ref().map(|endpoint| endpoint.origin.address);
    let cluster = format!("balance = \"round_robin\"\n{cluster}");
    let router = Ekiden::start(Setup::new(web(&addresses, &cluster, route)));
    let mut client = router.client();
    for _ in 0..warm {
        assert_eq!(client.get("a", "/warm").status, 200);
    }
    router
}

fn hedges(router: &Ekiden, answer: &str) -> f64 {
    router.metric("ekiden_cluster_hedges_total", &[&format!("answer=\"{answer}\"")])
}

const HEDGE: &str = "hedge = { percentile = 90, min = \"20ms\" }";

#[test]
fn a_second_endpoint_answers_when_the_first_is_late() {
    let endpoints = [Holding::start(), Holding::start()];
    let router = serve(&endpoints, "ejection = { consecutive = 1 }", HEDGE, 128);
    endpoints[0].hold(true);
    let mut client = router.client();
    for number in 0..10 {
        let target = format!("/{number}");
        assert_eq!(client.get("a", &target).text(), target);
    }
    let held = endpoints[0].held();
    assert!(held >= 2, "{held}");
    until_true("the metric", || hedges(&router, "second") >= 2.0);
    // The one that was late is not to blame, and its connection is gone.
    assert_eq!(router.metric("ekiden_endpoint_failures_total", &[]), 0.0);
    assert_eq!(router.metric("ekiden_cluster_ejections_total", &[]), 0.0);
    let records = router.records(138);
    for record in &records[128..] {
        assert_eq!(record["dyno"], endpoints[1].origin.address.to_string(), "{record}");
        assert!(record.get("retry_cause").is_none(), "{record}");
    }
    assert!(records[128..].iter().filter(|record| record["attempts"].as_u64() == Some(2)).count() >= 2);
    until_true("no busy connection", || router.metric("ekiden_cluster_connections", &["busy"]) == 0.0);
    until_true("nothing in flight", || router.metric("ekiden_endpoint_in_flight", &[]) == 0.0);
    endpoints[0].hold(false);
}

#[test]
fn either_of_the_two_may_answer_or_die() {
    // Which of them was asked first is the picker's to say: each is both in turn.
    for (living, dies) in [(0, false), (1, false), (0, true), (1, true)] {
        let endpoints = [Holding::start(), Holding::start()];
        let router = serve(&endpoints, "ejection = \"off\"", HEDGE, 128);
        endpoints.iter().for_each(|endpoint| endpoint.hold(true));
        let mut client = router.client();
        client.send("GET /both HTTP/1.1\r\nHost: a\r\n\r\n");
        until_true("both to have it", || endpoints.iter().all(|endpoint| endpoint.held() == 1));
        if dies {
            endpoints[1 - living].closes.store(true, Ordering::Release);
            until_true("the loss", || router.metric("ekiden_endpoint_failures_total", &[]) > 0.5);
        }
        endpoints[living].hold(false);
        assert_eq!(client.response().text(), "/both", "{living} {dies}");
        endpoints.iter().for_each(|endpoint| endpoint.hold(false));
        for _ in 0..4 {
            assert_eq!(client.get("a", "/next").text(), "/next", "{living} {dies}");
        }
    }
}

#[test]
fn what_may_not_be_sent_twice_waits() {
    let endpoints = [Holding::start(), Holding::start()];
    let route = format!("{HEDGE}\ntimeout = {{ first_byte = \"2s\" }}");
    let router = serve(&endpoints, "ejection = \"off\"", &route, 128);
    endpoints.iter().for_each(|endpoint| endpoint.hold(true));
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(router.ask(post).code(), "first_byte_timeout");
    assert_eq!(endpoints.iter().map(Holding::held).sum::<usize>(), 1);
    assert_eq!(router.records(129)[128]["attempts"].as_u64(), Some(1));
    endpoints.iter().for_each(|endpoint| endpoint.hold(false));
}

#[test]
fn nothing_is_hedged_before_enough_is_known_or_beyond_the_budget() {
    for (warm, budget, bound) in [(10, "\"off\"", ""), (128, "{ percent = 1, floor = 0 }", "budget")] {
        let endpoints = [Holding::start(), Holding::start()];
        let route = format!("{HEDGE}\ntimeout = {{ first_byte = \"2s\" }}");
        let keys = format!("ejection = \"off\"\nretry_budget = {budget}");
        let router = serve(&endpoints, &keys, &route, warm);
        endpoints[0].hold(true);
        let statuses: Vec<u16> = (0..4).map(|_| router.get("/").status).collect();
        let late = statuses.iter().filter(|status| **status == 504).count();
        assert!(late >= 1, "{statuses:?}");
        let sent = hedges(&router, "second") + hedges(&router, "first_or_none");
        let most = if bound.is_empty() { 0.0 } else { 1.0 };
        assert!(sent <= most, "{sent} at {warm}");
        if !bound.is_empty() {
            let withheld = router.metric("ekiden_cluster_resends_withheld_total", &[bound]);
            assert!(withheld as usize >= late, "{bound}: {withheld}");
        }
        endpoints[0].hold(false);
    }
}
