//! The words of `attacks`.

use super::CommonOptions;
use crate::attacks::{self, crowd};
use crate::failure::Fallible;
use clap::Args;
use ekiden_loadtest::hostile;
use std::time::Duration;

/// Options of `attacks`.
#[derive(Debug, Args)]
pub(crate) struct AttacksOptions {
    /// Rounds over all attacks, each with a router of its own.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Seconds of each window, after half a second that is discarded.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Requests a second of normal traffic, over 32 connections.
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// Attacks by name; default all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl AttacksOptions {
    /// What was asked for.
    pub(crate) fn wish(&self) -> Fallible<attacks::Wish> {
        let smoke = self.common.smoke;
        let named: Vec<_> = self.only.iter().map(|name| crowd::named(name)).collect::<Fallible<_>>()?;
        Ok(attacks::Wish {
            rounds: if smoke { 1 } else { usize::try_from(self.rounds).unwrap_or(3) },
            window: if smoke { Duration::from_millis(300) } else { Duration::from_secs(self.seconds) },
            warm_up: Duration::from_millis(if smoke { 100 } else { 500 }),
            rate: if smoke { 300.0 } else { self.rate.clamp(1.0, 1_000_000.0) },
            attacks: match (named.is_empty(), smoke) {
                (false, _) => named,
                (true, false) => hostile::attacks(),
                (true, true) => one_of_each_class(),
            },
            smoke,
            date: self.common.date.clone(),
            record: self.common.record,
        })
    }
}

/// Enough to show that everything works.
fn one_of_each_class() -> Vec<hostile::Attack> {
    let mut few: Vec<hostile::Attack> = Vec::new();
    for attack in hostile::attacks() {
        if few.iter().all(|known| known.class != attack.class) {
            few.push(attack);
        }
    }
    few
}
