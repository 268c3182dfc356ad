//! The life of one dyno's process: started in a group of its own, heard, found ready, ended with all that it started.
//!
//! Runs on the one thread that lives as long as the process, since the signal that a dyno gets when its parent dies follows
//! the thread that forked it. Starts it once; whether there is a next time is the supervisor's word.

use std::cell::RefCell;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::ledger::{Ledger, MARK, Record};
use super::lines::Lines;
use super::system::{self, End};
use super::{Launcher, readiness};

/// How long what a dyno left behind by crashing gets between SIGTERM and SIGKILL.
const CRASHED_ENDS: Duration = Duration::from_secs(2);
/// How long the kernel may take to end what got SIGKILL before nobody waits any more.
const KILLED_ENDS: Duration = Duration::from_secs(5);
/// How long the last lines of a dyno may take to come when all of its group has ended.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Time between two looks at a group that ends.
const LOOK: Duration = Duration::from_millis(10);

/// What is to be started.
#[derive(Debug)]
pub(super) struct Plan {
    /// Tells this dyno's events from those of others.
    pub(super) serial: u64,
    /// `web.1`.
    pub(super) name: String,
    /// Place among the types of the Procfile; chooses the colour.
    pub(super) place: usize,
    /// A shell's command.
    pub(super) command: String,
    /// All of its environment but the mark.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub(super) dir: PathBuf,
    pub(super) launcher: Launcher,
    /// Where it should listen and what it is asked; none when nobody connects to it.
    pub(super) listens: Option<(u16, Option<String>)>,
    pub(super) boot_timeout: Duration,
    pub(super) stop_timeout: Duration,
}

/// What a dyno is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Run.
    Run,
    /// SIGTERM, and SIGKILL when its time is over.
    End,
    /// SIGKILL at once.
    Kill,
}

/// What happened to a dyno.
#[derive(Debug)]
pub(super) enum Event {
    /// It has this process id.
    Started(u32),
    /// It is not ready; why.
    NotYet(String),
    /// It is ready; where, if it listens.
    Ready(Option<SocketAddr>),
    /// Its first process has ended by itself; how. What it started may be there still.
    Died(String),
    /// Nothing of it is left; how it ended.
    Ended(String),
}

/// Where events go, with the serial of their dyno.
pub(super) type Events = mpsc::UnboundedSender<(u64, Event)>;

/// Runs a dyno to its end. Tells of it by events, of which the last is [`Event::Ended`].
pub(super) async fn live(
    plan: Plan,
    mut orders: watch::Receiver<Order>,
    events: Events,
    ledger: Rc<RefCell<Ledger>>,
    lines: Lines,
) {
    let serial = plan.serial;
    // The supervisor may be gone when the process ends.
    let tell = |event| drop(events.send((serial, event)));
    let (mut child, pid, heard) = match start(&plan, &ledger, &lines).await {
        Ok(started) => started,
        Err(why) => {
            tell(Event::Ended(format!("it could not be started: {why}")));
            return;
        }
    };
    tell(Event::Started(pid));
    let note_members = || ledger.borrow_mut().note_members(pid);
    let ended = watched(&plan, pid, &mut child, &mut orders, (&tell, &note_members)).await;
    let words = match ended {
        Watched::ByItself(words) => {
            tell(Event::Died(words.clone()));
            system::end_group(pid, End::Ask);
            clear(pid, Instant::now() + CRASHED_ENDS, &orders).await;
            words
        }
        Watched::Asked => asked(&plan, pid, &mut child, &mut orders).await,
        Watched::TooLate(why) => {
            let seconds = plan.boot_timeout.as_secs();
            let words = asked(&plan, pid, &mut child, &mut orders).await;
            format!("it was not ready within {seconds} s ({why}), so it was ended: {words}")
        }
    };
    hear_out(heard).await;
    ledger.borrow_mut().remove(pid);
    tell(Event::Ended(words));
}

/// Starts the process. It runs nothing of the app before its group is on record.
async fn start(plan: &Plan, ledger: &RefCell<Ledger>, lines: &Lines) -> Result<(Child, u32, Heard), String> {
    let mark = format!("{:x}-{:x}-{}", std::process::id(), crate::clock::unix_ms(), plan.serial);
    let Launcher { program, before } = &plan.launcher;
    let mut command = Command::new(program);
    command
        .args(before)
        .arg(std::process::id().to_string())
        .arg(&plan.command)
        .env_clear()
        .envs(plan.environment.iter().map(|(name, value)| (name, value)))
        .env(MARK, &mark)
        .current_dir(&plan.dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let Some(pid) = child.id() else { return Err("it ended at once".to_owned()) };
    let start = system::stat(pid).map_or(0, |stat| stat.start);
    ledger.borrow_mut().add(Record { name: plan.name.clone(), pid, start, mark, members: Vec::new() });
    let prefix = lines.prefix(&plan.name, plan.place);
    let mut heard = Heard::new();
    if let Some(pipe) = child.stdout.take() {
        heard.push(tokio::task::spawn_local(lines.clone().follow(prefix.clone(), pipe)));
    }
    if let Some(pipe) = child.stderr.take() {
        heard.push(tokio::task::spawn_local(lines.clone().follow(prefix, pipe)));
    }
    // On record: now it may go on. One that has ended meanwhile is seen as ended.
    if let Some(mut pipe) = child.stdin.take() {
        let _ = pipe.write_all(b"\n").await;
    }
    Ok((child, pid, heard))
}

/// The tasks that read what a dyno says.
type Heard = Vec<tokio::task::JoinHandle<()>>;

/// Waits for the last lines of a dyno that has ended. What left its group and holds its output open is heard no more.
async fn hear_out(heard: Heard) {
    let end = Instant::now() + LAST_LINES;
    for mut task in heard {
        if timeout_at(end, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// Why a dyno's run is over.
enum Watched {
    ByItself(String),
    Asked,
    TooLate(String),
}

async fn watched(
    plan: &Plan,
    pid: u32,
    child: &mut Child,
    orders: &mut watch::Receiver<Order>,
    (tell, note_members): (&impl Fn(Event), &impl Fn()),
) -> Watched {
    let boot = Instant::now() + plan.boot_timeout;
    let last = RefCell::new("it does not listen".to_owned());
    let becoming = async {
        let Some((port, path)) = &plan.listens else { return None };
        let note = |why: String| {
            if *last.borrow() != why {
                last.replace(why.clone());
                tell(Event::NotYet(why));
            }
        };
        Some(readiness::ready(pid, *port, path.as_deref(), note).await)
    };
    tokio::pin!(becoming);
    let mut ready = false;
    loop {
        tokio::select! {
            // A dyno that has ended is not ready, whoever answers on its port.
            biased;
            ended = child.wait() => return Watched::ByItself(ended_words(ended)),
            _ = orders.wait_for(|order| *order > Order::Run) => return Watched::Asked,
            address = &mut becoming, if !ready => {
                ready = true;
                // What it has started by now is what it works with.
                note_members();
                tell(Event::Ready(address));
            }
            () = sleep_until(boot), if !ready => return Watched::TooLate(last.borrow().clone()),
        }
    }
}

/// Ends a dyno that runs: SIGTERM to its group, once, and SIGKILL when its time is over. A shell in front of the app may be
/// gone at once while the app finishes what it has: the time is that of the group.
async fn asked(plan: &Plan, pid: u32, child: &mut Child, orders: &mut watch::Receiver<Order>) -> String {
    let end = Instant::now() + plan.stop_timeout;
    if *orders.borrow() < Order::Kill {
        system::end_group(pid, End::Ask);
        let ended = tokio::select! {
            ended = child.wait() => Some(ended),
            _ = orders.wait_for(|order| *order == Order::Kill) => None,
            () = sleep_until(end) => None,
        };
        if let Some(ended) = ended {
            clear(pid, end, orders).await;
            return ended_words(ended);
        }
        tracing::warn!(dyno = %plan.name, pid, "it has not ended after SIGTERM: SIGKILL");
    }
    system::end_group(pid, End::Force);
    let ended = child.wait().await;
    clear(pid, Instant::now(), orders).await;
    ended_words(ended)
}

/// Waits for the end of what a dyno's first process left of its group; from `end` on it gets SIGKILL.
async fn clear(pid: u32, end: Instant, orders: &watch::Receiver<Order>) {
    let mut killed: Option<Instant> = None;
    while system::is_group(pid) {
        match killed {
            None if Instant::now() >= end || *orders.borrow() == Order::Kill => {
                system::end_group(pid, End::Force);
                killed = Some(Instant::now());
            }
            Some(killed) if killed.elapsed() >= KILLED_ENDS => {
                tracing::error!(group = pid, "processes of a dyno do not end");
                return;
            }
            None | Some(_) => {}
        }
        sleep(LOOK).await;
    }
}

fn ended_words(ended: std::io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("its end is not known: {error}"),
    }
}
