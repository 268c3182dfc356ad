//! Limits that several real routers share through a real Redis: what they let in together, with it and without it.
//!
//! What is asserted holds however slowly the machine runs: so many cannot have passed by now.

use std::time::{Duration, Instant};

use ekiden_tests::{Client, Echo, Ekiden, Redis, Served, Setup, until, until_true, web};

use super::{get, is_served};

/// Routers of the same words, with the limit on the app.
fn routers(count: usize, echo: &Echo, redis: &Redis, limit: &str, keys: &str) -> Vec<Ekiden> {
    let one = |_| {
        let text = format!("{}{}", web(&[echo.address], "", ""), redis.table("counts", keys));
        let setup = Setup::new(text).top(&format!("limit = [{{ {limit}, shared = \"counts\" }}]"));
        Redis::write_password(setup.dir(), "of the store\n");
        Ekiden::start(setup)
    };
    (0..count).map(one).collect()
}

fn is_up(router: &Ekiden) -> bool {
    router.metric("ekiden_store_up", &["counts"]) == 1.0
}

fn await_all(routers: &[Ekiden]) {
    let all = routers.len() as f64;
    for router in routers {
        until_true("the store and all routers", || {
            is_up(router) && router.metric("ekiden_store_routers", &["counts"]) == all
        });
    }
}

/// Asks all in turn until so many were served; gives the time since the first of them.
fn serve(clients: &mut [Client], want: u32) -> Duration {
    let (request, mut served) = (get("/", ""), 0);
    let began = Instant::now();
    while served < want {
        for client in clients.iter_mut() {
            served += u32::from(is_served(&client.ask(&request)));
        }
    }
    began.elapsed()
}

/// The rate that was held in a steady state, against the one that is written.
fn rate_of(count: usize) -> f64 {
    const RATE: u32 = 300;
    const SECONDS: u32 = 5;
    let (echo, redis) = (Echo::start("one"), Redis::start());
    let routers = routers(count, &echo, &redis, "rate = \"300/s\", burst = 20", "");
    await_all(&routers);
    let mut clients: Vec<Client> = routers.iter().map(Served::client).collect();
    // The burst, and what is not told yet, are behind us then.
    serve(&mut clients, 200);
    let took = serve(&mut clients, RATE * SECONDS);
    f64::from(RATE * SECONDS) / took.as_secs_f64() / f64::from(RATE)
}

#[test]
fn two_routers_hold_one_rate() {
    let held = rate_of(2);
    assert!((0.5..=1.02).contains(&held), "{held} of the rate");
}

#[test]
fn five_routers_hold_one_rate() {
    let held = rate_of(5);
    assert!((0.5..=1.02).contains(&held), "{held} of the rate");
}

#[test]
fn the_whole_allowance_is_there_wherever_it_is_asked_for() {
    let (echo, redis) = (Echo::start("one"), Redis::start());
    let routers = routers(2, &echo, &redis, "rate = \"60/h\", key = \"header:x-user\"", "");
    await_all(&routers);
    let (mut one, mut two) = (routers[0].client(), routers[1].client());
    let request = get("/", "X-User: ann\r\n");
    let mut served = 0;
    // One router alone gives all 60: first its share, then what the store has.
    until("the whole burst", || {
        served += u32::from(is_served(&one.ask(&request)));
        (served == 60).then_some(())
    });
    // The other does not know yet: it has its share of the burst at most, and owes it afterwards.
    let more: u32 = (0..40).map(|_| u32::from(is_served(&two.ask(&request)))).sum();
    assert!(more <= 30, "{more} more");
    until_true("the other to know", || {
        (0..20).all(|_| !is_served(&two.ask(&request)) && !is_served(&one.ask(&request)))
    });
    // Another key has its own.
    assert!(is_served(&two.ask(get("/", "X-User: bob\r\n"))));
}

#[test]
fn without_the_store_each_router_goes_on_with_its_share_and_nobody_waits() {
    let (echo, mut redis) = (Echo::start("one"), Redis::start());
    let routers = routers(2, &echo, &redis, "rate = \"100/h\", key = \"header:x-user\"", "");
    await_all(&routers);
    redis.kill();
    for router in &routers {
        // The loss is seen at the next question, which is once a second.
        until_true("the loss", || !is_up(router));
        router.wait_error("the store does not answer");
        let status = router.control("GET", "/v1/status", "").json();
        let store = &status["stores"][0];
        assert_eq!((&store["name"], &store["state"]), (&"counts".into(), &"degraded".into()));
        assert_eq!(store["routers"], 2);
        let mut client = router.client();
        let request = get("/", "X-User: ann\r\n");
        assert_eq!((0..150).filter(|_| is_served(&client.ask(&request))).count(), 50, "half of the burst");
    }
    // It is back, and knows nothing: the burst is not there a second time.
    redis.begin();
    for router in &routers {
        until_true("the return", || is_up(router));
        router.wait_error("limits are shared");
    }
    let request = get("/", "X-User: ann\r\n");
    for router in &routers {
        let mut client = router.client();
        let again = (0..50).filter(|_| is_served(&client.ask(&request))).count();
        // What the time brought meanwhile, 100 in an hour.
        assert!(again <= 2, "{again}");
    }
    let status = routers[0].control("GET", "/v1/status", "").json();
    assert_eq!(status["stores"][0]["state"], "up");
}

#[test]
fn a_store_that_hangs_holds_nobody_up() {
    let (echo, redis) = (Echo::start("one"), Redis::start());
    let routers = routers(1, &echo, &redis, "rate = \"1000000/s\"", "");
    await_all(&routers);
    redis.signal(libc::SIGSTOP);
    let mut client = routers[0].client();
    let request = get("/", "");
    // It is noticed while requests go on.
    until_true("the loss", || is_served(&client.ask(&request)) && !is_up(&routers[0]));
    redis.signal(libc::SIGCONT);
    until_true("the return", || is_served(&client.ask(&request)) && is_up(&routers[0]));
}

#[test]
fn the_password_is_in_a_file_and_read_at_each_connect() {
    let echo = Echo::start("one");
    let redis = Redis::start_with(&["--requirepass", "another one"]);
    let routers = routers(1, &echo, &redis, "rate = \"5/h\"", "password_file = \"redis.password\"");
    let router = &routers[0];
    router.wait_error("the store does not answer");
    assert!(!router.errors().contains("of the store\n") && !router.errors().contains("another one"));
    // Limits count all the same.
    let mut client = router.client();
    assert_eq!((0..9).filter(|_| is_served(&client.ask(get("/", "")))).count(), 5);
    Redis::write_password(router.setup().dir(), "another one");
    until_true("the store", || is_up(router));
}

#[test]
fn a_table_that_no_longer_names_the_store_lets_it_go() {
    let (echo, redis) = (Echo::start("one"), Redis::start());
    let routers = routers(1, &echo, &redis, "rate = \"5/h\"", "");
    await_all(&routers);
    let router = &routers[0];
    let mut client = router.client();
    assert!(is_served(&client.ask(get("/", ""))));
    let text = router.setup().config_with(&web(&[echo.address], "", ""));
    router.rewrite(&text.replace(", shared = \"counts\"", ""));
    assert_eq!(router.control("POST", "/v1/reload", "").status, 200);
    assert_eq!(router.metric("ekiden_store_up", &[]), 0.0);
    assert_eq!(router.control("GET", "/v1/status", "").json()["stores"], serde_json::json!([]));
    assert!((0..9).filter(|_| is_served(&client.ask(get("/", "")))).count() <= 5);
}

/// Neither a wrong number of a response nor a clock of the store that was set back shuts a key out for longer than ten times the
/// time of a whole allowance; and routers of a time to come are none.
#[test]
fn what_is_owed_in_the_store_has_a_bound() {
    const MOST_MS: i64 = 10 * 3_600_000;
    const OWED: &str = "return redis.call('PTTL', redis.call('KEYS', 'ekiden:limit:*')[1] or '')";
    let (origin, redis) = (super::units::endpoint(), Redis::start());
    let limit =
        "limit = [{ rate = \"10/h\", cost = { response = \"X-Cost\", most = 100000 }, shared = \"counts\" }]";
    let text = format!("{}{}", web(&[origin.address], "", ""), redis.table("counts", ""));
    let routers = [Ekiden::start(Setup::new(text).top(limit))];
    await_all(&routers);
    let mut client = routers[0].client();
    assert!(is_served(&client.ask(get("/", "X-Say: 100000\r\n"))));
    until_true("the charge", || redis.eval(OWED) > MOST_MS / 2);
    // An account is kept for a second longer than it owes.
    let owed = redis.eval(OWED);
    assert!(owed <= MOST_MS + 2_000, "{owed}");
    redis.eval("redis.call('SET', redis.call('KEYS', 'ekiden:limit:*')[1], '9000000000000000') return 1");
    until_true("the next question", || !is_served(&client.ask(get("/", ""))) && redis.eval(OWED) != -1);
    let owed = redis.eval(OWED);
    assert!(owed <= MOST_MS + 2_000, "{owed}");
    redis.eval("return redis.call('ZADD', 'ekiden:limits:routers', '9000000000000', 'later')");
    until_true("one router", || redis.eval("return redis.call('ZCARD', 'ekiden:limits:routers')") == 1);
}
