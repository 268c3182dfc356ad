//! The load tests: starts origin, router and peers, drives load, and reports figures as ratios.
//! This file is the command line only. Routers are processes to it; only `simulate` builds on core, whose pickers it drives.
//!
//! ```text
//! core 0: the proxy under test, one worker      core 1: origin, load generator (wrk, drive), strace
//! ```

mod attacks;
mod balance;
mod chaos;
mod chart;
mod churn;
mod drive;
mod failure;
mod figures;
mod flap;
mod fronts;
mod h2load;
mod handshakes;
mod hold;
mod http1;
mod idle;
mod instructions;
mod killable;
mod launch;
mod limits;
mod machine;
mod options;
mod origin;
mod overload;
mod peers;
mod relay;
mod results;
mod simulate;
mod sink;
mod swap;
mod trace;
mod turn;
mod usage;
mod wrk;

use clap::Parser;
use failure::{Fallible, failure};
use options::{Command, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(Options::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Fallible<()> {
    match command {
        Command::Peers(options) => {
            let wish = options.wish()?;
            if wish.kinds.iter().any(|kind| kind.is_ours()) {
                options.common.build()?;
            }
            peers::run(&wish)
        }
        Command::Swap(options) => {
            options.common.build()?;
            swap::run(&options.wish())
        }
        Command::Churn(options) => options.common.build().and_then(|()| churn::run(&options.wish())),
        Command::Idle(options) => {
            let kinds = options.kinds()?;
            if kinds.iter().any(|kind| kind.is_ours()) {
                options.common.build()?;
            }
            let count = if options.common.smoke { 500 } else { options.count };
            idle::run(&kinds, &options.speaks(), count, options.common.date.as_deref(), options.common.record)
        }
        Command::Flap(options) => {
            let wish = options.wish()?;
            if wish.kinds.iter().any(|kind| kind.is_ours()) {
                options.common.build()?;
            }
            flap::run(&wish)
        }
        Command::Instructions(options) => {
            options.common.build()?;
            instructions::run(&options.wish()?)
        }
        Command::Limits(options) => {
            options.common.build()?;
            limits::run(&options.wish()?)
        }
        Command::Attacks(options) => {
            options.common.build()?;
            attacks::run(&options.wish()?)
        }
        Command::Overload(options) => {
            let wish = options.wish()?;
            if wish.kinds.iter().any(|kind| kind.is_ours()) {
                options.common.build()?;
            }
            overload::run(&wish)
        }
        Command::Balance(options) => balance::run(&options.wish()?),
        Command::Chaos(options) => options.common.build().and_then(|()| chaos::run(&options.wish())),
        Command::Simulate(options) => simulate::run(&options.wish()),
        Command::SlowOrigin { listen, slots, service_ms } => {
            overload::endpoint::serve(&listen, slots, std::time::Duration::from_millis(service_ms))
        }
        Command::Attack(options) => attacks::crowd::run(&options),
        Command::Sink { listen } => sink::serve(listen),
        Command::Origin { listen, http2 } => origin::serve(&listen, http2),
        Command::NullRelay { listen, to } => relay::serve(listen, to),
        Command::Drive(options) => {
            let report = drive::run(&options.plan()?)?;
            println!("{}", report.json());
            if report.failed == 0 {
                return Ok(());
            }
            // An open loop reports its failures as a figure; a closed one is asked for exact counts.
            if options.rate.is_some() { Ok(()) } else { Err(failure(report.reasons.join("; "))) }
        }
        Command::Hold { to, count, path, speaks } => hold::run(to, count, &path, speaks),
        Command::Exec { cores, command } => Err(launch::become_pinned(&cores, &command)),
    }
}
