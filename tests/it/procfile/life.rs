//! What a dyno is started with, how it is heard, started again, counted, ended; and what is left when nothing could be ended.

use std::fs;

use ekiden_tests::signal;

use super::{Place, patiently, runs};

#[test]
fn dynos_are_started_heard_scaled_and_ended() {
    let place = Place::new("web: exec python3 app.py\nworker: echo works; exec sleep 600\n");
    place.write(".env", "# of the app\nGREETING='good day'\n");
    let mut router = place.run_with(
        &["-m", "web=2,worker=1"],
        &[("EKIDEN_TOKEN_FILE", "/secret"), ("LISTEN_FDNAMES", "a"), ("OF_THE_SHELL", "1")],
    );
    place.serves();
    let dynos = place.settled(&[("web.1", "v1"), ("web.2", "v1"), ("worker.1", "v1")]);

    // What it was given, and what not.
    let environment = place.get("/env").unwrap();
    let has = |line: &str| environment.lines().any(|one| one == line);
    assert!(has("GREETING=good day") && has("RELEASE=v1") && has("OF_THE_SHELL=1"), "{environment}");
    assert!(has("DYNO=web.1") || has("DYNO=web.2"), "{environment}");
    let ours = environment.lines().filter(|line| line.starts_with("EKIDEN_") || line.starts_with("LISTEN_"));
    let ours: Vec<&str> = ours.filter(|line| !line.starts_with("EKIDEN_DYNO=")).collect();
    assert!(ours.is_empty(), "dynos inherit {ours:?}");
    // What this test was given without asking goes through to everybody; nothing of ekiden's own does.
    let passed: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| Some(fs::read_link(entry.unwrap().path()).ok()?.to_string_lossy().into_owned()))
        .collect();
    let given = place.get("/fds").unwrap();
    let given: Vec<&str> = given.lines().filter(|link| !passed.iter().any(|one| one == link)).collect();
    assert!(given.is_empty(), "dynos inherit {given:?}");
    // proc_pid_stat(5), behind the name: the group and the niceness.
    let stat = |process: &str| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let fields: Vec<String> =
            stat.rsplit_once(')').unwrap().1.split_whitespace().map(str::to_owned).collect();
        (fields[2].clone(), fields[16].clone())
    };
    for dyno in &dynos {
        let pid = dyno.pid.unwrap().to_string();
        let (group, niceness) = stat(&pid);
        assert_eq!(group, pid, "{} has no group of its own", dyno.name);
        assert_eq!(niceness, stat("self").1, "{} inherits the niceness of control", dyno.name);
    }

    // Heard by name, without colour.
    for line in ["web.1      | listens\n", "web.2      | listens\n", "worker.1   | works\n"] {
        patiently(line, || router.out().contains(line).then_some(()));
    }
    assert!(!router.out().contains('\u{1b}'));

    // Scaled while it runs.
    let said = place.ask(&["scale", "web=3", "worker=0"]);
    assert_eq!((said.code, said.out.as_str()), (0, "web=3\nworker=0\n"), "{}", said.errors);
    place.settled(&[("web.1", "v1"), ("web.2", "v1"), ("web.3", "v1")]);
    assert!(!runs(dynos[2].pid.unwrap()));
    place.ask(&["scale", "web=1"]);
    let left = place.settled(&[("web.1", "v1")]);

    // One that ends is started again.
    signal(left[0].pid.unwrap(), libc::SIGKILL);
    let again = patiently("another process", || {
        place.dynos().into_iter().find(|dyno| dyno.state == "ready" && dyno.pid != left[0].pid)
    });
    assert_eq!(again.name, "web.1");
    place.serves();

    router.signal(libc::SIGTERM);
    assert!(place.end_of(&mut router).code == 0);
    assert!(!runs(again.pid.unwrap()));
}

#[test]
fn a_dyno_that_falls_is_started_with_growing_waits_and_says_why() {
    let place = Place::new("web: exec python3 app.py\nclock: date +%s%N >> starts; exit 7\n");
    let _router = place.run(&[]);
    let starts = patiently("four starts", || {
        let starts = place.read("starts")?;
        let starts: Vec<u64> = starts.lines().filter_map(|line| line.parse().ok()).collect();
        (starts.len() >= 4).then_some(starts)
    });
    // A wait may be longer on a busy machine, and never shorter.
    for (pair, least_ms) in starts.windows(2).zip([250, 500, 1_000]) {
        let ms = (pair[1] - pair[0]) / 1_000_000;
        assert!(ms >= least_ms, "{ms} ms where it should be at least {least_ms}");
    }
    let clock = patiently("a wait", || {
        let dynos = place.dynos();
        dynos.into_iter().find(|dyno| dyno.name == "clock.1" && dyno.state == "waiting")
    });
    assert!(clock.reason.contains("exit status: 7"), "{clock:?}");
}

#[test]
fn the_last_lines_of_a_dyno_are_heard_and_what_it_leaves_behind_holds_nothing_open() {
    let last = "trap 'echo good bye; exit 0' TERM; echo up > up; while [ -e app.py ]; do sleep 0.1; done";
    // Each start leaves a process in a session of its own, which keeps the pipes of its output.
    let daemon = "setsid sh -c 'while [ -e app.py ]; do sleep 1; done' & echo one >> starts; exit 1";
    let place = Place::new(&format!("web: exec python3 app.py\nworker: {last}\nclock: {daemon}\n"));
    let mut router = place.run(&[]);
    patiently("the worker", || place.read("up"));
    let pipes = || {
        let links = fs::read_dir(format!("/proc/{}/fd", router.id())).unwrap();
        let links = links.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
    };
    let starts = |count: usize| {
        let what = format!("{count} starts");
        patiently(&what, || place.read("starts").filter(|starts| starts.lines().count() >= count).map(drop));
    };
    starts(1);
    let most = pipes() + 2;
    starts(5);
    patiently("pipes to be closed", || (pipes() <= most).then_some(()));
    router.signal(libc::SIGTERM);
    assert!(place.end_of(&mut router).code == 0);
    assert!(router.out().contains("worker.1   | good bye\n"), "{}", router.out());
}

#[test]
fn one_that_does_not_end_is_killed_with_all_that_it_started() {
    // The shell and its child both live on after SIGTERM.
    let stubborn = "trap '' TERM; sleep 60 & echo $! > child; echo up > up; wait; wait; while [ -e app.py ]; do sleep 1; done";
    let place = Place::new(&format!("worker: {stubborn}\n"));
    let mut router = place.run(&["--stop-timeout", "1"]);
    patiently("the start", || place.read("up"));
    let child: u32 = place.read("child").unwrap().trim().parse().unwrap();
    let pid = place.settled(&[("worker.1", "v1")])[0].pid.unwrap();
    router.signal(libc::SIGTERM);
    assert!(place.end_of(&mut router).code == 0);
    assert!(!runs(pid) && !runs(child), "something of the dyno is left");
}

#[test]
fn after_a_kill_the_next_start_ends_what_is_left_before_it_starts_anything() {
    // The shell hears of its parent's end by the signal it asked for, and its child does not.
    let orphan = "(trap '' TERM; echo $(exec sh -c 'echo $PPID') >> children; while [ -e app.py ]; do sleep 1; done) & exec python3 app.py";
    let place = Place::new(&format!("web: {orphan}\n"));
    let mut first = place.run(&["-m", "web=2"]);
    place.serves();
    let before = place.settled(&[("web.1", "v1"), ("web.2", "v1")]);
    let children: Vec<u32> = patiently("children", || {
        let ids: Vec<u32> = place.read("children")?.lines().filter_map(|line| line.parse().ok()).collect();
        (ids.len() == 2).then_some(ids)
    });
    first.signal(libc::SIGKILL);
    patiently("the end", || first.ended());
    for dyno in &before {
        patiently("the end of a dyno whose parent died", || (!runs(dyno.pid.unwrap())).then_some(()));
    }
    assert!(children.iter().all(|pid| runs(*pid)), "nothing is left to be ended: the test says nothing");
    fs::remove_file(place.file("children")).unwrap();

    let mut second = place.run(&["-m", "web=2", "--stop-timeout", "1"]);
    // When the first of the new ones is there, none of the old ones is.
    patiently("new dynos", || place.read("children"));
    assert!(!children.iter().any(|pid| runs(*pid)), "the next start left {children:?}");
    place.serves();
    assert!(second.errors().contains("ending what an earlier run left"), "{}", second.errors());
    second.signal(libc::SIGTERM);
    assert!(place.end_of(&mut second).code == 0);
}

#[test]
fn a_release_that_is_recorded_while_an_earlier_run_is_ended_is_followed_to_its_end() {
    // What the first run left takes its time to end, and the second begins with no dyno before that.
    let orphan =
        "(trap '' TERM; echo up > child; while [ -e app.py ]; do sleep 1; done) & exec python3 app.py";
    let place = Place::new(&format!("web: {orphan}\n"));
    let mut first = place.run(&[]);
    place.serves();
    patiently("the child", || place.read("child"));
    first.signal(libc::SIGKILL);
    patiently("the end", || first.ended());
    let _second = place.run(&["--stop-timeout", "1"]);
    // Refused by nobody: there is a socket soon, and no dyno yet.
    let said = patiently("a process to ask", || {
        let said = place.ask(&["deploy"]);
        (said.code == 0 || said.out.contains("v2")).then_some(said)
    });
    assert_eq!(said.code, 0, "{} {}", said.out, said.errors);
    assert!(said.out.contains("v2: done"), "{}", said.out);
    assert_eq!(place.serves(), "web.1 v2");
}

#[test]
fn the_release_that_a_process_begins_with_has_a_rollout_that_ends() {
    let place = Place::new("web: exec python3 app.py\n");
    let _router = place.run(&[]);
    place.serves();
    let rollout = patiently("its end", || {
        let said = place.ask(&["get", "apps/default/rollout?release=1"]);
        said.out.contains("\"done\"").then_some(said.out)
    });
    assert!(rollout.contains("the process began with this release"), "{rollout}");
}

#[test]
fn a_procfile_that_cannot_be_run_is_refused_with_its_place() {
    let place = Place::new("web: exec python3 app.py\nnonsense\n");
    let said = place.ask(&["run", "Procfile"]);
    assert_eq!(said.code, 1);
    assert!(
        said.errors.contains("Procfile:2") && said.errors.contains("write TYPE: COMMAND"),
        "{}",
        said.errors
    );
    let place = Place::new("web: exec python3 app.py\n");
    let said = place.ask(&["run", "Procfile", "-m", "wen=1"]);
    assert_eq!(said.code, 1);
    assert!(said.errors.contains("no process type `wen`"), "{}", said.errors);
    place.write("other.toml", "[listener.web]\naddress = \"127.0.0.1:1\"\n");
    let said = place.ask(&["run", "other.toml", "-m", "web=1"]);
    assert_eq!(said.code, 2, "{}", said.errors);
}
