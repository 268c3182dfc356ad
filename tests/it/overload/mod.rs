//! More work than can be done, over the real binary: slots and the line for them, breakers, priorities, ceilings of the process,
//! caps of apps. Nothing is measured here (see `loadtest overload`); each test waits for what must happen.

mod breakers;
mod caps;
mod cuts;
mod priorities;
mod process;
mod slots;

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use ekiden_tests::{Client, Ekiden, Origin, Response, Served, until};

/// An endpoint that writes down whom it has got, and answers when it is told to.
struct Patient {
    origin: Origin,
    seen: Arc<Mutex<Vec<String>>>,
    go: Sender<()>,
}

impl Patient {
    fn start() -> Self {
        let (go, gate) = channel::<()>();
        let (gate, seen) = (Mutex::new(gate), Arc::<Mutex<Vec<String>>>::default());
        let noted = Arc::clone(&seen);
        let origin = Origin::start(move |conn| {
            while let Some(request) = conn.request() {
                noted.lock().unwrap().push(request.target().to_owned());
                if gate.lock().unwrap().recv().is_err() {
                    return;
                }
                conn.answer(&request, request.target());
            }
        });
        Self { origin, seen, go }
    }

    /// Whom it has got so far.
    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until it has got so many.
    fn wait_seen(&self, count: usize) {
        until(&format!("{count} requests at the endpoint"), || (self.seen().len() >= count).then_some(()));
    }

    /// Lets it answer one.
    fn answer(&self) {
        self.go.send(()).unwrap();
    }
}

/// Requests in lines.
fn depth(router: &Ekiden) -> f64 {
    router.metric("ekiden_cluster_queue_depth", &[])
}

/// Waits until so many requests stand in lines.
fn wait_depth(router: &Ekiden, count: f64) {
    until(&format!("{count} requests in line"), || (depth(router) == count).then_some(()));
}

/// Waits until no request is at an endpoint.
fn wait_idle(router: &Ekiden) {
    until("no request at an endpoint", || {
        (router.metric("ekiden_endpoint_in_flight", &[]) == 0.0).then_some(())
    });
}

/// A client that has asked for a path and waits for its answer.
fn asking(router: &impl Served, path: &str) -> Client {
    let mut client = router.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

/// As [`asking`], known to stand in line as the last of so many.
fn in_line(router: &Ekiden, path: &str, count: f64) -> Client {
    let client = asking(router, path);
    wait_depth(router, count);
    client
}

/// A refusal must say its code, when to come again, and why in the log.
fn check_refusal(router: &impl Served, response: &Response, code: &str, limit: &str) {
    assert_eq!((response.status, response.code()), (503, code), "{response:?}");
    assert_eq!(response.get("retry-after"), Some("1"));
    let id = response.get("x-request-id").unwrap().to_owned();
    let record = until("the record of a refusal", || {
        router.records(0).into_iter().find(|record| record["request_id"] == *id)
    });
    assert_eq!((&record["code"], &record["limit"]), (&code.into(), &limit.into()), "{record}");
}
