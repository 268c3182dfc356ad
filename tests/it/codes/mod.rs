//! Every code, end to end: each cause is brought about in the real binary, and response, `Proxy-Status`, access log and
//! metric say the same of it. A cause that is added without a row here does not compile.
//!
//! What a request must be for its code is held elsewhere (`refusals`, `admission`, `upstream_faults`, `retry`).

mod alone;
mod ways;
mod world;

use ekiden_core::outcome::{Cause, Phase};
use ekiden_tests::{Client, Ekiden, Response, Served, until};
use world::World;

/// What a client saw of a scenario.
struct Seen {
    /// Its address, by which its record is found.
    client: String,
    /// Records of requests it made before.
    earlier: usize,
    /// None when there was no whole response, and none is to be expected.
    response: Option<Response>,
}

/// How a cause is brought about.
enum Way {
    /// These bytes, on a connection of their own, are answered.
    Sent(Phase, String),
    /// A scenario in the world that all share.
    Run(Phase, fn(&World) -> Seen),
    /// A scenario with a router of its own. Checks the metric itself when the process is gone at the end.
    Alone(Phase, fn(Cause, Phase)),
    /// Nothing outside can bring it about: why, and what holds it.
    Elsewhere(&'static str),
}

/// The outcome of a client's request, as the log tells it, and its response.
fn check(router: &Ekiden, cause: Cause, phase: Phase, seen: &Seen) {
    let outcome = cause.at(phase);
    // By the id of the request where the client knows it: a port of a client may come again.
    let id = seen.response.as_ref().and_then(|response| response.get("x-request-id"));
    let record = until(&format!("the record of {cause:?}"), || {
        let mut records = router.records(0).into_iter();
        match id {
            Some(id) => records.find(|record| record["request_id"] == *id),
            None => {
                let of_client = records.filter(|record| record["client"] == *seen.client).skip(seen.earlier);
                of_client.into_iter().find(|record| record["code"] == cause.code())
            }
        }
    });
    assert_eq!((&record["code"], &record["phase"]), (&cause.code().into(), &phase.word().into()), "{record}");
    let status = record["status"].as_u64();
    let begun = phase == Phase::Relay && matches!(status, Some(101 | 200));
    assert!(begun || status == Some(outcome.status().into()), "{cause:?}: {record}");
    let Some(response) = &seen.response else {
        assert!(begun || outcome.status() == 499, "{cause:?}: the client was told nothing: {record}");
        return;
    };
    if cause == Cause::Complete {
        assert_eq!((response.status, response.code(), response.get("proxy-status")), (200, "", None));
        return;
    }
    assert_eq!(u64::from(response.status), status.unwrap_or(0), "{cause:?}: {response:?}");
    let h_code = outcome.h_code().map_or(String::new(), |h_code| format!(" {h_code}"));
    let said = response.get("x-router-error");
    assert_eq!(said, Some(&*format!("{}{h_code}", cause.code())), "{cause:?}");
    let error = outcome.proxy_status().map_or(String::new(), |error| format!("; error={error}"));
    let said = response.get("proxy-status");
    assert_eq!(said, Some(&*format!("ekiden{error}; details=\"{}\"", cause.code())), "{cause:?}");
    let after = outcome.retry_after().map(|seconds| seconds.to_string());
    // A rate limit knows the time better than the code does.
    if cause != Cause::RateLimited {
        assert_eq!(response.get("retry-after"), after.as_deref(), "{cause:?}");
    }
    assert_eq!(response.get("x-request-id"), record["request_id"].as_str(), "{cause:?}");
}

/// How often a cause ended a request.
fn count(router: &Ekiden, cause: Cause) -> f64 {
    router.metric("ekiden_outcomes_total", &[&format!("code=\"{}\"", cause.code())])
}

/// Sends and reads one response.
fn sent(mut client: Client, bytes: &str) -> Seen {
    let address = client.socket().local_addr().unwrap().to_string();
    let response = client.ask(bytes);
    Seen { client: address, earlier: 0, response: Some(response) }
}

#[test]
fn every_code_is_one_in_response_log_and_metric() {
    let world = World::start();
    let mut elsewhere = Vec::new();
    for cause in Cause::ALL.iter().copied() {
        let before = count(&world.router, cause);
        let (phase, seen) = match ways::of(cause) {
            Way::Sent(phase, bytes) => (phase, sent(world.router.client(), &bytes)),
            Way::Run(phase, run) => (phase, run(&world)),
            Way::Alone(phase, run) => {
                run(cause, phase);
                continue;
            }
            Way::Elsewhere(why) => {
                elsewhere.push(format!("{}: {why}", cause.code()));
                continue;
            }
        };
        check(&world.router, cause, phase, &seen);
        until(&format!("the metric of {cause:?}"), || {
            let more = count(&world.router, cause) - before;
            assert!(more <= 1.0, "{cause:?} was counted {more} times");
            (more == 1.0).then_some(())
        });
    }
    println!("not brought about from outside:\n  {}", elsewhere.join("\n  "));
}
