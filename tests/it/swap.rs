//! Tables that change under load: no request fails, and nothing new reaches an endpoint once its removal was answered.
//!
//! Origins note the kernel's arrival time of each request, so that "after the answer" is exact. One test at a time:
//! each keeps the machine busy.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ekiden_tests::{
    Ekiden, Load, MIXED, Refused, Run, Served, Setup, Stamped, Tally, cluster, now_ns, seconds, until_true,
    web,
};

const CLIENTS: usize = 24;
/// Time between two swaps: 20 a second.
const EVERY: Duration = Duration::from_millis(50);
/// Time an origin takes for a check: long enough that a router which does not wait for it fails requests.
const CHECK: Duration = Duration::from_millis(150);
const PROBE: &str = "probe = { path = \"/healthz\", interval = \"200ms\", timeout = \"1s\" }";

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nothing_failed(tally: &Tally, what: &str) {
    let Tally { served, failed } = tally;
    let shown = &failed[..failed.len().min(20)];
    assert!(
        failed.is_empty(),
        "{what}: {} of {} requests failed: {shown:#?}",
        failed.len(),
        served + failed.len() as u64
    );
}

/// One endpoint that joins and leaves, and from when to when it was gone: answer of the DELETE to sending of the PUT.
struct Member {
    origin: Stamped,
    gone_since: Option<u64>,
    gone: Vec<(u64, u64)>,
}

impl Member {
    fn swap(&mut self, router: &Ekiden, id: &str) {
        if let Some(since) = self.gone_since.take() {
            self.gone.push((since, now_ns()));
            router.put("web", id, self.origin.address);
        } else {
            router.delete("web", id);
            self.gone_since = Some(now_ns());
        }
    }

    /// Requests that arrived while it was gone.
    fn late(&self) -> usize {
        let still = self.gone_since.map(|since| (since, u64::MAX));
        self.gone.iter().copied().chain(still).map(|(from, to)| self.origin.arrived_between(from, to)).sum()
    }
}

#[test]
fn twenty_swaps_a_second_fail_nothing_and_reach_nobody_who_left() {
    let _alone = alone();
    let permanent = Stamped::start("permanent");
    let router = Ekiden::start(Setup::new(web(&[permanent.address], "", "")).workers(2));
    let mut members: Vec<Member> = (0..7)
        .map(|_| Member { origin: Stamped::start("member"), gone_since: Some(0), gone: Vec::new() })
        .collect();
    let load = Load::start(router.address(), CLIENTS, MIXED, Refused::Fails);
    load.serve_more(CLIENTS as u64);

    let (begin, time) = (Instant::now(), seconds("EKIDEN_SWAP_SECONDS", 10));
    let (mut swaps, mut draw) = (0u32, 1usize);
    while begin.elapsed() < time {
        // A linear congruence: in no order that a picker could follow.
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (draw >> 33) % members.len();
        members[at].swap(&router, &format!("member-{at}"));
        swaps += 1;
        let next = begin + EVERY * swaps;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let tally = load.stop();

    nothing_failed(&tally, &format!("{swaps} swaps"));
    let wanted = u32::try_from(time.as_millis() / EVERY.as_millis()).unwrap();
    assert!(
        swaps >= wanted * 9 / 10,
        "only {swaps} of {wanted} swaps were answered in time: a PUT or DELETE takes too long"
    );
    for (at, member) in members.iter().enumerate() {
        assert!(member.origin.requests() > 0, "member-{at} never got a request, so it proves nothing");
        assert_eq!(member.late(), 0, "requests reached member-{at} after its removal was answered");
    }
    assert!(
        router.metric("ekiden_table_generation", &[]) > f64::from(swaps),
        "a swap did not make a generation"
    );
}

/// Replaces both endpoints at once, round after round; `replace` tells when the old ones were gone. Gives the last two,
/// which must outlive the load.
fn replace_all(
    router: &Ekiden,
    load: &Load,
    mut replace: impl FnMut(usize, &[Stamped; 2]) -> u64,
) -> [Stamped; 2] {
    let fresh = || [0, 1].map(|_| Stamped::start("fresh").check_takes(CHECK));
    let mut old = fresh();
    replace(0, &old);
    for round in 1..=5 {
        let new = fresh();
        let gone_since = replace(round, &new);
        until_true("requests at both new endpoints", || new.iter().all(|origin| origin.requests() > 10));
        load.serve_more(CLIENTS as u64 * 2);
        let late: usize = old.iter().map(|origin| origin.arrived_between(gone_since, u64::MAX)).sum();
        assert_eq!(late, 0, "round {round}: requests reached endpoints after their removal was answered");
        old = new;
    }
    assert_eq!(router.readyz().0, 200, "replacing endpoints of a serving router made it unready");
    old
}

#[test]
fn replacing_every_endpoint_in_the_file_fails_nothing() {
    let _alone = alone();
    let first = Stamped::start("first").check_takes(CHECK);
    let router = Ekiden::start(Setup::new(web(&[first.address], PROBE, "")).workers(2));
    let load = Load::start(router.address(), CLIENTS, MIXED, Refused::Fails);
    load.serve_more(CLIENTS as u64);
    let _serving = replace_all(&router, &load, |round, new| {
        let addresses = new.each_ref().map(|origin| origin.address);
        router.rewrite(&router.setup().config_with(&web(&addresses, PROBE, "")));
        if round % 2 == 1 {
            // The watcher finds it by itself.
            until_true("the watcher", || new.iter().all(|origin| origin.requests() > 0));
            return now_ns();
        }
        let answer = router.control("POST", "/v1/reload", "");
        assert_eq!(answer.status, 200, "{answer:?}");
        now_ns()
    });
    nothing_failed(&load.stop(), "every endpoint replaced in the file");
}

#[test]
fn replacing_every_endpoint_by_the_api_fails_nothing() {
    let _alone = alone();
    let router = Ekiden::start(Setup::new(web(&[], PROBE, "")).workers(2));
    let id = |round: usize, at: usize| format!("r{round}-{at}");
    let first = [0, 1].map(|_| Stamped::start("first").check_takes(CHECK));
    for (at, origin) in first.iter().enumerate() {
        router.put("web", &id(0, at), origin.address);
    }
    let load = Load::start(router.address(), CLIENTS, MIXED, Refused::Fails);
    load.serve_more(CLIENTS as u64);
    let mut last = 0;
    let _serving = replace_all(&router, &load, |round, new| {
        let round = round + 1;
        for (at, origin) in new.iter().enumerate() {
            router.put("web", &id(round, at), origin.address);
        }
        // At once: the new ones have not passed their first check.
        for at in 0..2 {
            router.delete("web", &id(last, at));
        }
        last = round;
        now_ns()
    });
    nothing_failed(&load.stop(), "every endpoint replaced by the API");
}

#[test]
fn a_restart_with_probes_fails_nothing_once_it_listens() {
    let _alone = alone();
    let origins = [0, 1].map(|_| Stamped::start("file").check_takes(CHECK));
    let joined = Stamped::start("api").check_takes(CHECK);
    let text = cluster("web", &origins.each_ref().map(|origin| origin.address), PROBE)
        + "[[route]]\ncluster = \"web\"\n";
    let setup = Setup::new(text).workers(2).top("drain_grace = \"0s\"");
    let router = Ekiden::start(setup);
    router.put("web", "joined", joined.address);

    let mut setup = router.stop();
    for _ in 0..3 {
        // From before the start: the first request comes the moment the socket listens.
        let load = Load::start(setup.address(), CLIENTS, MIXED, Refused::Retries);
        let before = joined.requests();
        let router = Ekiden::start_with(setup, Run::default());
        load.serve_more(CLIENTS as u64 * 5);
        until_true("requests at the endpoint of the API", || joined.requests() > before);
        nothing_failed(&load.stop(), "after the restart");
        setup = router.stop();
    }
}
