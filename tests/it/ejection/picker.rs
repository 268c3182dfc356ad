//! Ejection beside the default picker, which goes by latency and sends little to what fails: the endpoint is ejected all the same, and
//! has its share again when it is well, whether it was ejected or not.

use ekiden_tests::{Ekiden, Flapper, Load, Refused, Served, Setup, until_true, web};

use super::{ejections, state, wait_state};

const GETS: &[&str] = &["GET / HTTP/1.1\r\nHost: a\r\n\r\n"];

/// Three endpoints by the default picker.
fn serve(all: &[Flapper; 3], cluster: &str, route: &str) -> Ekiden {
    let addresses = all.each_ref().map(|endpoint| endpoint.address);
    Ekiden::start(Setup::new(web(&addresses, cluster, route)).workers(2))
}

/// Waits until the first of them gets a fair part of what is asked.
fn wait_share(all: &[Flapper; 3], load: &Load) {
    until_true("its share", || {
        let counts = || all.each_ref().map(Flapper::requests);
        let before = counts();
        load.serve_more(300);
        let got: Vec<f64> = counts().iter().zip(before).map(|(now, then)| (now - then) as f64).collect();
        got[0] / got.iter().sum::<f64>() > 0.2
    });
}

#[test]
fn one_that_fails_is_ejected_and_has_its_share_again() {
    let all = [Flapper::start(), Flapper::start(), Flapper::start()];
    let router = serve(&all, "", "retry = { on = [\"connect\", \"reset\", 503], attempts = 4 }");
    let load = Load::start(router.address(), 4, GETS, Refused::Fails);
    wait_share(&all, &load);
    for by_status in [true, false] {
        if by_status {
            all[0].set_status(503)
        } else {
            all[0].down()
        }
        wait_state(&router, &all[0], "ejected");
        if by_status {
            all[0].set_status(200)
        } else {
            all[0].up()
        }
        wait_state(&router, &all[0], "ready");
        wait_share(&all, &load);
    }
    let tally = load.stop();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {} requests", tally.served);
    assert!(ejections(&router) >= 2.0);
}

/// Nothing but the picker keeps requests from it: a small part of its share meets the fault, and then it has its share.
#[test]
fn one_that_is_not_ejected_gets_little_and_has_its_share_again() {
    let all = [Flapper::start(), Flapper::start(), Flapper::start()];
    let router = serve(&all, "ejection = \"off\"", "");
    let load = Load::start(router.address(), 4, GETS, Refused::Fails);
    wait_share(&all, &load);
    all[0].set_status(503);
    // What was on its way when it began to fail.
    load.serve_more(100);
    let before = all[0].requests();
    load.serve_more(3_000);
    let met = all[0].requests() - before;
    // A thousand would be its share.
    assert!(met < 500, "{met} of 3000 met an endpoint that fails");
    all[0].set_status(200);
    wait_share(&all, &load);
    assert_eq!((state(&router, &all[0]).as_str(), ejections(&router)), ("ready", 0.0));
    let failed = load.stop().failed;
    assert!(!failed.is_empty() && failed.iter().all(|one| one.contains(": 503 ")), "{failed:?}");
}
