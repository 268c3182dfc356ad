//! Priorities of routes: who is served first, who makes room, who is refused when a line does not empty.

use super::{Patient, asking, check_refusal, in_line, wait_depth, wait_idle};
use ekiden_tests::{Ekiden, Setup, cluster, until};

/// One slot, a line with these keys, and a route for each priority.
fn serve(endpoint: &Patient, queue: &str) -> Ekiden {
    let keys = format!("slots = 1\nqueue = {{ {queue} }}");
    let mut text = cluster("web", &[endpoint.origin.address], &keys);
    for priority in ["low", "normal", "high", "critical"] {
        text.push_str(&format!(
            "[[route]]\npath = \"/{priority}\"\ncluster = \"web\"\npriority = \"{priority}\"\n\
             timeout = {{ connect = \"10m\", first_byte = \"10m\" }}\n"
        ));
    }
    Ekiden::start(Setup::new(text))
}

fn shed(router: &Ekiden, priority: &str, reason: &str) -> f64 {
    let (priority, reason) = (format!("priority=\"{priority}\""), format!("reason=\"{reason}\""));
    router.metric("ekiden_shed_total", &[&priority, &reason])
}

#[test]
fn the_most_important_is_served_first() {
    let endpoint = Patient::start();
    let router = serve(&endpoint, "max = 100, target = \"off\"");
    let mut first = asking(&router, "/normal");
    endpoint.wait_seen(1);
    let waiting = ["/low", "/normal", "/high", "/critical", "/low", "/critical"];
    let mut clients: Vec<_> =
        (1u8..).zip(waiting).map(|(count, path)| in_line(&router, path, f64::from(count))).collect();
    (0..7).for_each(|_| endpoint.answer());
    assert_eq!(first.response().status, 200);
    for (client, path) in clients.iter_mut().zip(waiting) {
        assert_eq!(client.response().text(), path);
    }
    assert_eq!(endpoint.seen()[1..], ["/critical", "/critical", "/high", "/normal", "/low", "/low"]);
    assert!(router.table().to_string().contains("\"priority\":\"critical\""));
}

#[test]
fn a_full_line_makes_room_for_the_more_important() {
    let endpoint = Patient::start();
    let router = serve(&endpoint, "max = 2, target = \"off\"");
    let mut first = asking(&router, "/low");
    endpoint.wait_seen(1);
    let mut low = in_line(&router, "/low", 1.0);
    let mut high = in_line(&router, "/high", 2.0);
    assert_eq!(asking(&router, "/low").response().code(), "queue_full", "an equal makes no room");
    let mut critical = asking(&router, "/critical");
    check_refusal(&router, &low.response(), "overloaded", "displaced:low");
    wait_depth(&router, 2.0);
    (0..3).for_each(|_| endpoint.answer());
    for client in [&mut first, &mut high, &mut critical] {
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(endpoint.seen(), ["/low", "/critical", "/high"]);
    assert_eq!((shed(&router, "low", "displaced"), shed(&router, "high", "displaced")), (1.0, 0.0));
    wait_idle(&router);
}

/// A line that does not empty is a standing one: who waits longer than the target is refused, and the newest is next.
#[test]
fn a_standing_line_refuses_by_time_and_serves_the_newest() {
    let endpoint = Patient::start();
    let router = serve(&endpoint, "max = 100, wait = \"10m\", target = \"100ms\", interval = \"100ms\"");
    let mut first = asking(&router, "/normal");
    endpoint.wait_seen(1);
    let mut late = asking(&router, "/normal");
    check_refusal(&router, &late.response(), "overloaded", "queue_time:normal");
    assert_eq!(shed(&router, "normal", "queue_time"), 1.0);
    let outcomes = router.metric("ekiden_outcomes_total", &["code=\"overloaded\""]);
    assert_eq!(outcomes, 1.0);
    endpoint.answer();
    assert_eq!(first.response().status, 200);
    // The line has emptied: a wait for a slot that comes free is no overload.
    until("a wait that ends well", || {
        let seen = endpoint.seen().len();
        let mut first = asking(&router, "/high");
        endpoint.wait_seen(seen + 1);
        let mut second = asking(&router, "/high");
        endpoint.answer();
        endpoint.answer();
        assert_eq!(first.response().status, 200);
        // On a machine that stands still for a tenth of a second it may be refused.
        let is_served = second.response().status == 200;
        if !is_served {
            // The answer that was meant for it is still to be had.
            assert_eq!(asking(&router, "/high").response().status, 200);
        }
        is_served.then_some(())
    });
}
