//! The words of `chaos`.

use super::CommonOptions;
use crate::chaos;
use clap::Args;
use std::time::Duration;

/// Options of `chaos`.
#[derive(Debug, Args)]
pub(crate) struct ChaosOptions {
    /// Times that each fault is made.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Milliseconds that each fault lasts.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    down_ms: u64,
    /// Milliseconds between two faults.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    well_ms: u64,
    /// Faults whose name holds one of these words.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl ChaosOptions {
    /// What was asked for.
    pub(crate) fn wish(&self) -> chaos::Wish {
        let smoke = self.common.smoke;
        chaos::Wish {
            rounds: if smoke { 1 } else { self.rounds },
            down: Duration::from_millis(if smoke { 300 } else { self.down_ms }),
            well: Duration::from_millis(if smoke { 200 } else { self.well_ms }),
            only: self.only.clone(),
            date: self.common.date.clone(),
            record: self.common.record,
        }
    }
}
