//! The hidden subcommand `attack`: a crowd of hostile clients, or of honest ones of the same class, at a stated strength,
//! until standard input ends. Prints `ready` when all connections stand, and what it did as one line of JSON at the end.

use super::honest::Honest;
use crate::failure::{Failure, Fallible, failure};
use clap::Args;
use ekiden_loadtest::hostile::{self, Attack, Class, Hostile, Tally, attacks};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where attacks come from: not where normal traffic comes from.
const HOSTILE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Longest sleep between two looks at what is due.
const TICK: Duration = Duration::from_millis(1);
/// Between the last open and `ready`: what the opens cost the other side is not a cost of the turns.
const SETTLE: Duration = Duration::from_millis(300);

/// Options of `attack`.
#[derive(Debug, Args)]
pub(crate) struct CrowdOptions {
    /// Where to.
    #[arg(long)]
    to: SocketAddr,
    /// Which attack.
    #[arg(long)]
    name: String,
    /// Honest traffic of the attack's class instead.
    #[arg(long)]
    honest: bool,
    /// Connections at a time.
    #[arg(long)]
    connections: usize,
    /// Turns a second, of all connections together.
    #[arg(long)]
    rate: f64,
}

/// A client that takes turns.
trait Takes {
    fn turn(&mut self, buffer: &mut [u8], tally: &mut Tally) -> Fallible<()>;
    fn unanswered(&self) -> u64;
}

impl Takes for Hostile<'_> {
    fn turn(&mut self, buffer: &mut [u8], tally: &mut Tally) -> Fallible<()> {
        Hostile::turn(self, buffer, tally).map_err(Failure::from)
    }

    fn unanswered(&self) -> u64 {
        Hostile::unanswered(self)
    }
}

impl Takes for Honest {
    fn turn(&mut self, buffer: &mut [u8], tally: &mut Tally) -> Fallible<()> {
        Honest::turn(self, buffer, tally)
    }

    fn unanswered(&self) -> u64 {
        0
    }
}

/// The attack of that name.
pub(crate) fn named(name: &str) -> Fallible<Attack> {
    let all = attacks();
    let known: Vec<&str> = all.iter().map(|attack| attack.name).collect();
    let words = || failure(format!("unknown attack {name:?}; there are {}", known.join(", ")));
    all.iter().find(|attack| attack.name == name).cloned().ok_or_else(words)
}

/// Runs the crowd.
pub(crate) fn run(options: &CrowdOptions) -> Fallible<()> {
    let attack = named(&options.name)?;
    let mut tally = Tally::default();
    if options.honest && attack.class == Class::Frames {
        let honest = hostile::honest();
        let open = |_| Hostile::open(&honest, HOSTILE, options.to, &mut tally).map_err(Failure::from);
        let mut crowd: Vec<Hostile<'_>> = (0..options.connections).map(open).collect::<Fallible<_>>()?;
        keep_on(&mut crowd, options.rate, &mut tally)?;
        if tally.cut > 0 { Err(failure("an honest client was cut")) } else { Ok(()) }
    } else if options.honest {
        let open = |_| Honest::open(&attack, options.to);
        let mut crowd: Vec<Honest> = (0..options.connections).map(open).collect::<Fallible<_>>()?;
        tally.opened = crowd.len() as u64;
        keep_on(&mut crowd, options.rate, &mut tally)
    } else {
        let open = |_| Hostile::open(&attack, HOSTILE, options.to, &mut tally).map_err(Failure::from);
        let mut crowd: Vec<Hostile<'_>> = (0..options.connections).map(open).collect::<Fallible<_>>()?;
        keep_on(&mut crowd, options.rate, &mut tally)
    }
}

/// Turns until standard input ends. Bytes are reported without those of the beginning, connections with it.
fn keep_on(crowd: &mut [impl Takes], rate: f64, tally: &mut Tally) -> Fallible<()> {
    std::thread::sleep(SETTLE);
    let before = *tally;
    println!("ready");
    io::stdout().flush()?;
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    std::thread::spawn(move || {
        let _ended_or_broken = io::copy(&mut io::stdin(), &mut io::sink());
        told.store(true, Ordering::Release);
    });
    let mut buffer = vec![0; 64 << 10];
    let (started, mut turns) = (Instant::now(), 0_u64);
    while !over.load(Ordering::Acquire) {
        let due = (started.elapsed().as_secs_f64() * rate) as u64;
        // What a slow machine missed is not made up for in one burst.
        turns = turns.max(due.saturating_sub(rate as u64));
        while turns < due && !over.load(Ordering::Relaxed) {
            let place = usize::try_from(turns).unwrap_or(0) % crowd.len();
            crowd[place].turn(&mut buffer, tally)?;
            turns += 1;
        }
        std::thread::sleep(TICK);
    }
    let unanswered: u64 = crowd.iter().map(Takes::unanswered).sum();
    let report = serde_json::json!({
        "turns": turns, "seconds": started.elapsed().as_secs_f64(), "opened": tally.opened, "cut": tally.cut,
        "sent": tally.sent - before.sent, "read": tally.read - before.read, "unanswered": unanswered,
    });
    println!("{report}");
    Ok(())
}
