//! The faults, each a scene: start what it needs, let clients and writer work, break something, mend it, count.

use super::disk::{Disk, may_mount};
use super::load::{CONNECTIONS, Load, Tally};
use super::place::{Place, Ports, ekiden, origin};
use super::writes::{Writer, Written};
use super::{Came, Wish};
use crate::failure::{Fallible, failure};
use crate::launch::{self, LOAD_CORE, Launch, find_program};
use rustix::process::{Resource, Signal};
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// A scene.
pub(super) struct Scene {
    pub(super) name: &'static str,
    /// What is missing for it, if anything.
    pub(super) needs: fn() -> Result<(), String>,
    pub(super) play: fn(&Wish, &Path) -> Fallible<Came>,
}

fn nothing() -> Result<(), String> {
    Ok(())
}

/// All of them.
pub(super) const ALL: [Scene; 13] = [
    Scene { name: "an endpoint is killed", needs: nothing, play: endpoint_killed },
    Scene { name: "the process is killed", needs: nothing, play: process_killed },
    Scene { name: "control is killed", needs: nothing, play: control_killed },
    Scene { name: "a router without control is killed", needs: nothing, play: router_killed },
    Scene { name: "disk full: journal, snapshot and log", needs: nothing, play: disk_full },
    Scene { name: "disk full: a real one", needs: may_mount, play: disk_really_full },
    Scene { name: "disk full: killed and started on it", needs: nothing, play: disk_full_at_start },
    Scene { name: "disk full: access log on /dev/full", needs: nothing, play: log_full },
    Scene { name: "no descriptors left", needs: nothing, play: no_descriptors },
    Scene { name: "time stands still (SIGSTOP)", needs: nothing, play: stopped },
    Scene { name: "the wall clock jumps", needs: faketime, play: clock_jumps },
    Scene { name: "Redis is killed", needs: redis, play: redis_killed },
    Scene { name: "the authorizer is killed", needs: nothing, play: authorizer_killed },
];

/// The cluster that the writer fills.
const SCRATCH: &str = "/v1/apps/default/clusters/scratch";
/// How long something may take to be well again.
const WELL_WITHIN: Duration = Duration::from_secs(20);

/// An ekiden that is both planes, before two endpoints.
struct Stage {
    place: Place,
    ports: Ports,
    endpoints: [Place; 2],
    file: PathBuf,
    dir: PathBuf,
}

impl Stage {
    fn new(dir: &Path, more: &str) -> Fallible<Self> {
        Self::with(dir, more, &[], "off")
    }

    /// With further tables, words before the program, and an access log.
    fn with(dir: &Path, more: &str, before: &[OsString], log: &str) -> Fallible<Self> {
        let (one, two) = (launch::free_address()?, launch::free_address()?);
        let endpoints = [origin("one", one, dir)?, origin("two", two, dir)?];
        let ports = Ports::free()?;
        let file = dir.join("ekiden.toml");
        let text = format!(
            "drain_grace = \"0s\"\n[access_log]\nto = {log:?}\n[listener.edge]\naddress = \"{}\"\n{}{more}",
            ports.edge,
            web(one, two)
        );
        fs::write(&file, text)?;
        let launch = ekiden("run", &file, ports, dir, before)?;
        // Not by a request, whose end may be counted a moment after its answer.
        let place = Place::start(launch, dir, (ports.telemetry, "/readyz"))?;
        Ok(Self { place, ports, endpoints, file, dir: dir.to_owned() })
    }
}

/// Two endpoints and a place to write.
fn web(one: SocketAddr, two: SocketAddr) -> String {
    format!(
        "[cluster.web]\nendpoints = [\"{one}\", \"{two}\"]\n[cluster.scratch]\nendpoints = [\"127.0.0.1:1\"]\n\
         [[route]]\nname = \"web\"\ncluster = \"web\"\n"
    )
}

/// What goes on while things break.
struct Work {
    load: Load,
    writer: Writer,
    /// Ends that the router had counted before.
    before: u64,
}

impl Work {
    fn start(ports: Ports, api: SocketAddr, cluster: &str) -> Fallible<Self> {
        let before = ports.outcomes()?;
        let load = Load::start(ports.edge, "chaos.test", CONNECTIONS);
        Ok(Self { load, writer: Writer::start(api, cluster), before })
    }

    /// Waits until requests are served and writes taken, both after this call.
    fn await_well(&self, writes: bool) -> Fallible<()> {
        let (good, taken) = (self.load.good(), self.writer.acknowledged());
        let until = Instant::now() + WELL_WITHIN;
        while self.load.good() < good + 20 || (writes && self.writer.acknowledged() < taken + 3) {
            if Instant::now() > until {
                let what = if self.load.good() < good + 20 {
                    "requests are not served"
                } else {
                    "writes are not taken"
                };
                return Err(failure(format!("{what} {WELL_WITHIN:?} after the fault")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends both. The counts of the router are compared where it lived.
    fn stop(self, ports: Ports, lived: bool, look: impl FnOnce() -> Fallible<()>) -> Fallible<Came> {
        let tally = self.load.stop();
        let counted =
            if lived { Some(settled(ports, self.before + tally.answered())? - self.before) } else { None };
        let written: Written = self.writer.stop(look)?;
        Ok(Came { tally, written, counted, ..Came::default() })
    }
}

/// The ends that a router has counted, once it has counted so many or had time to.
fn settled(ports: Ports, expected: u64) -> Fallible<u64> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let counted = ports.outcomes()?;
        if counted >= expected || Instant::now() > until {
            return Ok(counted);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until something is so.
fn until(what: &str, mut is: impl FnMut() -> Fallible<bool>) -> Fallible<()> {
    let deadline = Instant::now() + WELL_WITHIN;
    while !is()? {
        if Instant::now() > deadline {
            return Err(failure(format!("{what}: not so within {WELL_WITHIN:?}")));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Kills the stage and starts it again, so that what it says next comes from its disk.
fn reborn(place: &mut Place) -> Fallible<()> {
    place.kill()?;
    place.again()
}

fn endpoint_killed(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let mut stage = Stage::new(dir, "")?;
    let work = Work::start(stage.ports, stage.ports.api, SCRATCH)?;
    for round in 0..wish.rounds as usize {
        thread::sleep(wish.well);
        let [one, two] = &mut stage.endpoints;
        let victim = if round % 2 == 0 { one } else { two };
        victim.kill()?;
        thread::sleep(wish.down);
        victim.again()?;
        work.await_well(true)?;
    }
    let Stage { place, ports, .. } = &mut stage;
    let mut came = work.stop(*ports, true, || reborn(place))?;
    came.note = "the other endpoint goes on".to_owned();
    Ok(came)
}

fn process_killed(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let mut stage = Stage::new(dir, "")?;
    let work = Work::start(stage.ports, stage.ports.api, SCRATCH)?;
    for _ in 0..wish.rounds {
        thread::sleep(wish.well);
        stage.place.kill()?;
        thread::sleep(wish.down);
        stage.place.again()?;
        work.await_well(true)?;
    }
    let Stage { place, ports, .. } = &mut stage;
    let mut came = work.stop(*ports, false, || reborn(place))?;
    came.kills = u64::from(wish.rounds);
    came.note = "both planes in one process; connects are refused until it is back".to_owned();
    Ok(came)
}

/// Control and a router as processes of their own.
struct Fleet {
    control: Place,
    control_ports: Ports,
    router: Place,
    ports: Ports,
    _endpoints: [Place; 2],
}

/// The cluster that the writer fills where control is a process of its own.
const FLEET_SCRATCH: &str = "/v1/apps/shop/clusters/scratch";

impl Fleet {
    fn new(dir: &Path) -> Fallible<Self> {
        let (one, two) = (launch::free_address()?, launch::free_address()?);
        let endpoints = [origin("one", one, dir)?, origin("two", two, dir)?];
        let (control_ports, ports, link) = (Ports::free()?, Ports::free()?, launch::free_address()?);
        fs::create_dir_all(dir.join("apps"))?;
        let app = web(one, two).replace("[[route]]\n", "[[route]]\nhost = \"chaos.test\"\n");
        fs::write(dir.join("apps/shop.toml"), app)?;
        let control_file = dir.join("control.toml");
        fs::write(&control_file, format!("apps = \"apps\"\n[fleet]\nlisten = \"{link}\"\n"))?;
        let launch = ekiden("control", &control_file, control_ports, dir, &[])?;
        let control = Place::start(launch, dir, (control_ports.api, "/v1/status"))?;
        let router_file = dir.join("router.toml");
        let text = format!(
            "drain_grace = \"0s\"\n[access_log]\nto = \"off\"\n[listener.edge]\naddress = \"{}\"\n[fleet]\nname = \"edge-1\"\n",
            ports.edge
        );
        fs::write(&router_file, text)?;
        let launch =
            ekiden("router", &router_file, ports, dir, &[])?.args(["--control", &format!("http://{link}")]);
        let router = Place::start(launch, dir, (ports.telemetry, "/readyz"))?;
        Ok(Self { control, control_ports, router, ports, _endpoints: endpoints })
    }
}

fn control_killed(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let mut fleet = Fleet::new(dir)?;
    let work = Work::start(fleet.ports, fleet.control_ports.api, FLEET_SCRATCH)?;
    for _ in 0..wish.rounds {
        work.await_well(true)?;
        thread::sleep(wish.well);
        fleet.control.kill()?;
        work.await_well(false)?;
        thread::sleep(wish.down);
        fleet.control.again()?;
        work.await_well(true)?;
    }
    let Fleet { control, ports, .. } = &mut fleet;
    let mut came = work.stop(*ports, true, || reborn(control))?;
    if came.tally.of(200) != came.tally.answered() {
        came.wrong.push("a request was not served while control was away".to_owned());
    }
    came.note = "the router goes on with the table that it has".to_owned();
    Ok(came)
}

fn router_killed(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let mut fleet = Fleet::new(dir)?;
    let work = Work::start(fleet.ports, fleet.control_ports.api, FLEET_SCRATCH)?;
    for _ in 0..wish.rounds {
        work.await_well(true)?;
        thread::sleep(wish.well);
        fleet.control.kill()?;
        fleet.router.kill()?;
        thread::sleep(wish.down);
        fleet.router.again()?;
        work.await_well(false)?;
        fleet.control.again()?;
        work.await_well(true)?;
    }
    let Fleet { control, ports, .. } = &mut fleet;
    let mut came = work.stop(*ports, false, || reborn(control))?;
    came.kills = u64::from(wish.rounds);
    came.note = "started again while control is away, from the table that it kept".to_owned();
    Ok(came)
}

/// Every regular file is full: RLIMIT_FSIZE of nothing, with which each write to one fails with EFBIG. Pipes and sockets are not
/// bounded by it.
fn disk_full(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let log = dir.join("access.log");
    let mut stage = Stage::with(dir, "", &[], &log.display().to_string())?;
    let work = Work::start(stage.ports, stage.ports.api, SCRATCH)?;
    for _ in 0..wish.rounds {
        thread::sleep(wish.well);
        let refused = work.writer.refused();
        stage.place.limit(Resource::Fsize, Some(0))?;
        work.await_well(false)?;
        until("writes are refused", || Ok(work.writer.refused() > refused))?;
        thread::sleep(wish.down);
        stage.place.alive()?;
        stage.place.limit(Resource::Fsize, None)?;
        work.await_well(true)?;
    }
    let drops = stage.ports.lost_lines()?;
    let Stage { place, ports, .. } = &mut stage;
    let mut came = work.stop(*ports, true, || reborn(place))?;
    came.note = format!("RLIMIT_FSIZE (EFBIG); {drops} lines of the log lost and counted");
    Ok(came)
}

/// No block is left on the disk that holds the run directory and the access log.
fn disk_really_full(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let disk = Disk::over(dir)?;
    let log = dir.join("access.log");
    let mut stage = Stage::with(dir, "", &[], &log.display().to_string())?;
    let work = Work::start(stage.ports, stage.ports.api, SCRATCH)?;
    for _ in 0..wish.rounds {
        thread::sleep(wish.well);
        let refused = work.writer.refused();
        disk.fill()?;
        work.await_well(false)?;
        until("writes are refused", || Ok(work.writer.refused() > refused))?;
        thread::sleep(wish.down);
        stage.place.alive()?;
        disk.clear()?;
        work.await_well(true)?;
    }
    let drops = stage.ports.lost_lines()?;
    let Stage { place, ports, .. } = &mut stage;
    let mut came = work.stop(*ports, true, || reborn(place))?;
    came.note = format!("ENOSPC on a tmpfs; {drops} lines of the log lost and counted");
    Ok(came)
}

fn disk_full_at_start(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let mut stage = Stage::new(dir, "")?;
    let work = Work::start(stage.ports, stage.ports.api, SCRATCH)?;
    let roomy = ekiden("run", &stage.file, stage.ports, &stage.dir, &[])?;
    let full: Vec<OsString> =
        ["sh", "-c", "ulimit -S -f 0; exec \"$@\"", "sh"].iter().map(Into::into).collect();
    let full = ekiden("run", &stage.file, stage.ports, &stage.dir, &full)?;
    for _ in 0..wish.rounds {
        work.await_well(true)?;
        thread::sleep(wish.well);
        stage.place.kill()?;
        stage.place.set_launch(full.clone());
        stage.place.again()?;
        work.await_well(false)?;
        thread::sleep(wish.down);
        stage.place.kill()?;
        stage.place.set_launch(roomy.clone());
        stage.place.again()?;
    }
    work.await_well(true)?;
    let Stage { place, ports, .. } = &mut stage;
    let mut came = work.stop(*ports, false, || reborn(place))?;
    came.kills = 2 * u64::from(wish.rounds);
    came.note = "serves from what is on the disk, and takes no write".to_owned();
    Ok(came)
}

fn log_full(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let mut stage = Stage::with(dir, "", &[], "/dev/full")?;
    let work = Work::start(stage.ports, stage.ports.api, SCRATCH)?;
    thread::sleep(wish.well + wish.down);
    work.await_well(true)?;
    until("lines of the log are lost", || Ok(stage.ports.lost_lines()? > 0))?;
    let drops = stage.ports.lost_lines()?;
    let Stage { place, ports, .. } = &mut stage;
    let mut came = work.stop(*ports, true, || reborn(place))?;
    came.note = format!("ENOSPC; {drops} lines lost and counted");
    Ok(came)
}

fn no_descriptors(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let mut stage = Stage::new(dir, "")?;
    let work = Work::start(stage.ports, stage.ports.api, SCRATCH)?;
    let (mut crowd, mut made) = (Tally::default(), 0);
    // Nobody can be asked whether accept has paused while it has: where it did not, the crowd came too late, and comes again.
    while made < wish.rounds || (stage.ports.metric("ekiden_accept_pauses_total", "")? == 0 && made < 20) {
        made += 1;
        thread::sleep(wish.well);
        let used = stage.place.descriptors()?;
        stage.place.limit(Resource::Nofile, Some(used))?;
        let more = Load::start(stage.ports.edge, "chaos.test", 4 * CONNECTIONS);
        work.await_well(false)?;
        thread::sleep(wish.down);
        stage.place.alive()?;
        stage.place.limit(Resource::Nofile, Some(4096))?;
        work.await_well(true)?;
        crowd.add(&more.stop());
    }
    let pauses = stage.ports.metric("ekiden_accept_pauses_total", "")?;
    let before = work.before;
    let tally = work.load.stop();
    let mut all = tally.clone();
    all.add(&crowd);
    let counted = settled(stage.ports, before + all.answered())? - before;
    let Stage { place, .. } = &mut stage;
    let written = work.writer.stop(|| reborn(place))?;
    let mut came = Came { tally: all, written, counted: Some(counted), ..Came::default() };
    if pauses == 0 {
        came.wrong.push("accept never paused: there were descriptors left".to_owned());
    }
    came.note = format!(
        "RLIMIT_NOFILE at what is open, {} more connections come; accept paused {pauses} times",
        4 * CONNECTIONS
    );
    Ok(came)
}

/// To the process this is a jump of every clock, with all of its deadlines due at once.
fn stopped(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let mut stage = Stage::new(dir, "")?;
    let work = Work::start(stage.ports, stage.ports.api, SCRATCH)?;
    for _ in 0..wish.rounds {
        thread::sleep(wish.well);
        stage.place.signal(Signal::STOP);
        thread::sleep(wish.down);
        stage.place.signal(Signal::CONT);
        work.await_well(true)?;
    }
    let Stage { place, ports, .. } = &mut stage;
    let mut came = work.stop(*ports, true, || reborn(place))?;
    came.note = "a jump of every clock: all deadlines come due at once".to_owned();
    Ok(came)
}

fn faketime_library() -> Option<PathBuf> {
    let entries = fs::read_dir("/usr/lib").ok()?.flatten();
    let found = entries.map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    found.chain([PathBuf::from("/usr/lib/faketime/libfaketime.so.1")]).find(|path| path.is_file())
}

fn faketime() -> Result<(), String> {
    faketime_library()
        .map(drop)
        .ok_or_else(|| "libfaketime is not installed (apt install faketime)".to_owned())
}

fn clock_jumps(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let library = faketime_library().ok_or_else(|| failure("no libfaketime"))?;
    let clock = dir.join("clock");
    fs::write(&clock, "+0\n")?;
    let before: Vec<OsString> = vec![
        "env".into(),
        format!("LD_PRELOAD={}", library.display()).into(),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()).into(),
        "FAKETIME_NO_CACHE=1".into(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
    ];
    let mut stage = Stage::with(dir, "", &before, "off")?;
    let work = Work::start(stage.ports, stage.ports.api, SCRATCH)?;
    for round in 0..wish.rounds {
        for jump in ["+86400\n", "-86400\n", "+0\n"] {
            thread::sleep(wish.well / 2);
            // Replaced and not written: it is read with every look at the clock.
            let fresh = dir.join(format!("clock-{round}"));
            fs::write(&fresh, jump)?;
            fs::rename(&fresh, &clock)?;
            work.await_well(true)?;
        }
    }
    let Stage { place, ports, .. } = &mut stage;
    let mut came = work.stop(*ports, true, || reborn(place))?;
    came.note = "a day on, two back, one on (libfaketime, CLOCK_REALTIME alone)".to_owned();
    Ok(came)
}

fn redis() -> Result<(), String> {
    find_program("redis-server").map(drop).ok_or_else(|| "redis-server is not installed".to_owned())
}

fn redis_killed(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let address = launch::free_address()?;
    let port = address.port().to_string();
    let program = find_program("redis-server").ok_or_else(|| failure("no redis-server"))?;
    let launch = Launch::new("redis", program, LOAD_CORE);
    let launch = launch.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let store = format!("[store.counts]\nredis = \"redis://{address}\"\n");
    let mut running = launch.start(dir)?;
    let more = format!(
        "[[route]]\nname = \"limited\"\nhost = \"chaos.test\"\ncluster = \"web\"\n\
         limit = [{{ rate = \"1000000/s\", shared = \"counts\" }}]\n{store}"
    );
    let mut stage = Stage::new(dir, &more)?;
    await_store(stage.ports, 1)?;
    let work = Work::start(stage.ports, stage.ports.api, SCRATCH)?;
    for _ in 0..wish.rounds {
        thread::sleep(wish.well);
        running.signal(Signal::KILL);
        running.ended_within(WELL_WITHIN)?;
        await_store(stage.ports, 0)?;
        work.await_well(true)?;
        thread::sleep(wish.down);
        running = launch.start(dir)?;
        await_store(stage.ports, 1)?;
        work.await_well(true)?;
    }
    let Stage { place, ports, .. } = &mut stage;
    let mut came = work.stop(*ports, true, || reborn(place))?;
    if came.tally.of(200) != came.tally.answered() {
        came.wrong.push("a request was refused while the store was away".to_owned());
    }
    came.note = "the router's own share goes on; `ekiden_store_up` says so".to_owned();
    Ok(came)
}

fn await_store(ports: Ports, up: u64) -> Fallible<()> {
    until("ekiden_store_up", || Ok(ports.metric("ekiden_store_up", "")? == up))
}

fn authorizer_killed(wish: &Wish, dir: &Path) -> Fallible<Came> {
    let address = launch::free_address()?;
    let mut authorizer = origin("authorizer", address, dir)?;
    let route = |name: &str, host: &str, fail: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nhost = \"{host}\"\ncluster = \"web\"\n\
             authorizer = {{ cluster = \"asked\", path = \"/\", timeout = \"500ms\", fail = \"{fail}\" }}\n"
        )
    };
    let more = format!(
        "{}{}[cluster.asked]\nendpoints = [\"{address}\"]\n",
        route("closed", "chaos.test", "closed"),
        route("open", "open.test", "open")
    );
    let mut stage = Stage::new(dir, &more)?;
    let work = Work::start(stage.ports, stage.ports.api, SCRATCH)?;
    let open = Load::start(stage.ports.edge, "open.test", CONNECTIONS);
    for _ in 0..wish.rounds {
        thread::sleep(wish.well);
        let refused = work.load.bad();
        authorizer.kill()?;
        until("requests are refused without the authorizer", || Ok(work.load.bad() > refused))?;
        thread::sleep(wish.down);
        authorizer.again()?;
        work.await_well(true)?;
    }
    let open = open.stop();
    let before = work.before;
    let tally = work.load.stop();
    let mut all = tally.clone();
    all.add(&open);
    let counted = settled(stage.ports, before + all.answered())? - before;
    let Stage { place, .. } = &mut stage;
    let written = work.writer.stop(|| reborn(place))?;
    let mut came = Came { tally: all, written, counted: Some(counted), ..Came::default() };
    if open.of(200) != open.answered() {
        came.wrong.push(format!("a route that fails open refused: {}", open.others()));
    }
    came.note = "one route fails closed, one open".to_owned();
    Ok(came)
}
