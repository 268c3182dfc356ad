//! Ceilings of the process: the least important are refused first, metrics, readiness and the API never, and it ends.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::check_refusal;
use ekiden_tests::{Client, Ekiden, Origin, Run, Served, Setup, cluster, signal, until};

fn routes(origin: &Origin) -> String {
    let mut text = cluster("web", &[origin.address], "");
    for priority in ["low", "normal", "high", "critical"] {
        text.push_str(&format!(
            "[[route]]\npath = \"/{priority}\"\ncluster = \"web\"\npriority = \"{priority}\"\n"
        ));
    }
    text
}

#[test]
fn beyond_the_ceiling_of_memory_everything_is_refused_but_the_operator() {
    let origin = Origin::hello("good");
    // No process is that small.
    let setup = Setup::new(routes(&origin)).top("[overload]\nmemory = \"1MiB\"");
    let router = Ekiden::start(setup);
    let level = || router.metric("ekiden_overload_level", &["resource=\"memory\""]);
    until("the highest level", || (level() == 4.0).then_some(()));
    for priority in ["low", "normal", "high", "critical"] {
        let response = until("a refusal", || {
            let response = router.get(&format!("/{priority}"));
            (response.status != 200).then_some(response)
        });
        check_refusal(&router, &response, "overloaded", &format!("memory:{priority}"));
        let counted = format!("priority=\"{priority}\"");
        assert_eq!(router.metric("ekiden_shed_total", &[&counted, "reason=\"memory\""]), 1.0);
    }
    // What matched no route is told so: it costs no more than a refusal.
    assert_eq!(router.get("/none").code(), "no_route");
    assert_eq!(router.readyz().0, 200);
    assert_eq!(router.control("GET", "/v1/status", "").status, 200);
    assert!(router.metric("ekiden_overload_used_ratio", &["resource=\"memory\""]) > 1.0);
    router.wait_error("near a ceiling");
}

/// Idle clients take descriptors away. How many are open in all is read from the process's own metric.
#[test]
fn as_descriptors_run_out_the_least_important_are_refused_first() {
    const DESCRIPTORS: usize = 400;
    let origin = Origin::hello("good");
    let limited = format!("ulimit -n {DESCRIPTORS}; exec \"$@\"");
    let wrapper = ["sh", "-c", &limited, "sh"].map(str::to_owned).to_vec();
    let setup = Setup::new(routes(&origin))
        .top("max_connections = 1000\n[overload]\ndescriptors = 100")
        // Nobody is closed for being idle meanwhile.
        .listener("limits = { keepalive_idle = \"1h\" }");
    let router = Ekiden::start_with(setup, Run { wrapper, ..Run::default() });
    // Held, so that neither a scrape nor a request needs a descriptor that was not counted before.
    let mut scrape = Client::connect(router.telemetry);
    let mut clients = ["low", "normal", "high", "critical"].map(|priority| (priority, router.client()));
    for (priority, client) in &mut clients {
        assert_eq!(client.get("a", &format!("/{priority}")).status, 200);
    }
    let mut metric = |name: &str| {
        let text = scrape.get("localhost", "/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        line.unwrap_or_else(|| panic!("no {name}"))
    };
    let level = "ekiden_overload_level{resource=\"descriptors\"}";
    let mut crowd = Vec::new();
    // In the middle of each level, far from what a few descriptors of the process itself move.
    for (share, want) in [(0.85, 1), (0.925, 2), (0.975, 3)] {
        let aim = share * DESCRIPTORS as f64;
        let more = aim as usize - metric("process_open_fds") as usize;
        crowd.extend((0..more).map(|_| TcpStream::connect(router.address()).unwrap()));
        until("a share of the descriptors", || (metric("process_open_fds") >= aim - 2.0).then_some(()));
        until("a level", || (metric(level) == f64::from(want)).then_some(()));
        for (number, (priority, client)) in (0..).zip(&mut clients) {
            let path = format!("/{priority}");
            if number >= want {
                // Its worker may not have looked since a level that was passed on the way.
                until("a request that is let in", || (client.get("a", &path).status == 200).then_some(()));
                continue;
            }
            let response = until("a refusal", || {
                let response = client.get("a", &path);
                (response.status != 200).then_some(response)
            });
            check_refusal(&router, &response, "overloaded", &format!("descriptors:{priority}"));
        }
    }
    drop(crowd);
    until("the level to end", || (metric(level) == 0.0).then_some(()));
    for (priority, client) in &mut clients {
        let path = format!("/{priority}");
        until("a request that is let in", || (client.get("a", &path).status == 200).then_some(()));
    }
}

/// Nanoseconds that the worker has run.
fn worker_ran(id: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten().map(|task| task.path());
    let is_worker = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("ekiden-worker"))
    };
    let times = tasks.filter(is_worker).map(|task| fs::read_to_string(task.join("schedstat")).unwrap());
    times.map(|text| text.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Set when dropped, so that a test that fails ends too.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The process is stopped, let go until its worker has run for a moment, and stopped again, so that every tick is late.
#[test]
fn a_worker_that_is_behind_refuses_the_least_important() {
    let origin = Origin::hello("good");
    let setup = Setup::new(routes(&origin)).top("[overload]\nlag = \"5ms\"");
    let router = Ekiden::start(setup);
    let (id, done) = (router.id(), AtomicBool::new(false));
    let refused = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                signal(id, libc::SIGSTOP);
                // Not a wait for anything: the lateness itself.
                thread::sleep(Duration::from_millis(60));
                let before = worker_ran(id);
                signal(id, libc::SIGCONT);
                until("the worker to run", || (worker_ran(id) > before).then_some(()));
            }
        });
        let _ends_the_other = Done(&done);
        until("a refusal", || {
            let response = router.get("/low");
            (response.status != 200).then_some(response)
        })
    });
    check_refusal(&router, &refused, "overloaded", "lag:low");
    until("an end of it", || (router.get("/low").status == 200).then_some(()));
    assert!(router.metric("ekiden_shed_total", &["priority=\"low\"", "reason=\"lag\""]) > 0.0);
}

/// Without ceilings nobody looks and nothing is refused.
#[test]
fn without_ceilings_nothing_is_refused() {
    let origin = Origin::hello("good");
    let router = Ekiden::start(Setup::new(routes(&origin)));
    assert_eq!(router.get("/low").status, 200);
    let threads = fs::read_dir(format!("/proc/{}/task", router.id())).unwrap();
    let names: Vec<String> =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok()).collect();
    assert!(names.iter().any(|name| name.starts_with("ekiden-worker")));
    assert!(names.iter().all(|name| !name.starts_with("ekiden-overload")));
}
