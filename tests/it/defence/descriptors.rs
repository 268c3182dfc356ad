//! Descriptors run out: accepting pauses without spinning, what is open goes on, and it recovers by itself.

use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ekiden_tests::{Client, Ekiden, Origin, Run, Served, Setup, until, web};

/// CPU time of a process in clock ticks of 10 ms.
fn ticks(id: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn pauses(scrape: &mut Client) -> u64 {
    let text = scrape.get("localhost", "/metrics").text();
    let line = "ekiden_accept_pauses_total{cause=\"descriptors\"} ";
    text.lines().find_map(|text| text.strip_prefix(line)?.parse::<f64>().ok()).unwrap() as u64
}

#[test]
fn accepting_pauses_when_descriptors_run_out_and_recovers() {
    const DESCRIPTORS: usize = 100;
    let origin = Origin::hello("good");
    let setup = Setup::new(web(&[origin.address], "", "")).top("max_connections = 1000");
    let limited = format!("ulimit -n {DESCRIPTORS}; exec \"$@\"");
    let wrapper = ["sh", "-c", &limited, "sh"].map(str::to_owned).to_vec();
    let router = Ekiden::start_with(setup, Run { wrapper, ..Run::default() });
    router.wait_error("max_connections is more than the open files suffice for");

    let mut open = router.client();
    assert_eq!(open.get("a", "/").status, 200);
    let mut scrape = Client::connect(router.telemetry);
    assert_eq!(pauses(&mut scrape), 0);
    let crowd: Vec<TcpStream> =
        (0..DESCRIPTORS).map(|_| TcpStream::connect(router.address()).unwrap()).collect();
    until("a pause", || (pauses(&mut scrape) > 0).then_some(()));
    let mut late = router.client();
    late.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");

    let (before, paused) = (ticks(router.id()), pauses(&mut scrape));
    let began = Instant::now();
    assert!(late.is_quiet(Duration::from_secs(1)), "no descriptor was left, and a connection was accepted");
    let (used, more) = (ticks(router.id()) - before, pauses(&mut scrape) - paused);
    assert!(used <= 25, "{used} ticks of CPU time in a second of waiting: it spins");
    // One each tenth of a second, of one worker.
    let most = began.elapsed().as_secs_f64() * 10.0 + 2.0;
    assert!(more >= 3 && more as f64 <= most, "{more} pauses, at most {most}");
    for _ in 0..20 {
        assert_eq!(open.get("a", "/").status, 200, "an open connection does not go on");
    }
    let told = router.errors().matches("accept failed; pausing").count();
    assert!(told <= 10, "{told} log lines");

    drop(crowd);
    assert_eq!(late.response().status, 200, "it does not recover");
    assert_eq!(router.client().get("a", "/").status, 200);
    assert_eq!(open.get("a", "/").status, 200);
}
