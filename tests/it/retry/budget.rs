//! The retry budget: what is sent again is a share of what comes in, and what is not gets the answer that there is.

use ekiden_tests::{Ekiden, Flapper, Served, Setup, web};

const ROUTE: &str = "retry = { on = [503], attempts = 3, backoff = \"off\" }";

fn ask(budget: &str, requests: usize) -> (u64, Ekiden) {
    let endpoints = [Flapper::start(), Flapper::start(), Flapper::start()];
    endpoints.iter().for_each(|endpoint| endpoint.set_status(503));
    let addresses = endpoints.each_ref().map(|endpoint| endpoint.address);
    let keys = format!("ejection = \"off\"\nretry_budget = {budget}");
    let router = Ekiden::start(Setup::new(web(&addresses, &keys, ROUTE)).workers(2));
    for _ in 0..requests {
        let response = router.get("/");
        assert_eq!((response.status, response.code()), (503, ""), "the answer of an endpoint");
    }
    (endpoints.iter().map(Flapper::requests).sum(), router)
}

#[test]
fn a_budget_bounds_what_is_sent_again() {
    // The window is longer than the test can be.
    let (sent, router) = ask("{ percent = 20, floor = 0, window = \"60s\" }", 100);
    assert_eq!(sent, 120, "a fifth more");
    assert_eq!(router.metric("ekiden_cluster_resends_total", &["status"]), 20.0);
    let withheld = router.metric("ekiden_cluster_resends_withheld_total", &["budget"]);
    assert!(withheld >= 80.0, "{withheld}");
    assert_eq!(router.metric("ekiden_cluster_retry_budget_left", &[]), 0.0);
    let records = router.records(100);
    let named = records.iter().filter(|record| record["limit"] == "retry_budget").count();
    assert_eq!(named as f64, withheld);
}

#[test]
fn a_floor_is_there_without_requests_and_off_is_off() {
    let (sent, _router) = ask("{ percent = 1, floor = 1, window = \"60s\" }", 10);
    assert_eq!(sent, 30, "two more for each are within the floor");
    let (sent, router) = ask("\"off\"", 50);
    assert_eq!(sent, 150);
    assert!(!router.metrics().contains("ekiden_cluster_retry_budget_left{"));
}
