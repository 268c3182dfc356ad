//! The words of `churn`.

use super::CommonOptions;
use crate::churn;
use clap::Args;
use std::time::Duration;

/// Options of `churn`.
#[derive(Debug, Args)]
pub(crate) struct ChurnOptions {
    /// Routes of the large table, in apps of 100.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    routes: u32,
    /// Endpoints of the large table.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    endpoints: u32,
    /// Changes a second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Seconds of changes in one process; the other windows take a quarter of it each.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Simulated routers of one control process.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    routers: u32,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl ChurnOptions {
    /// What was asked for.
    pub(crate) fn wish(&self) -> churn::Wish {
        let smoke = self.common.smoke;
        let of = |count: u32, least: usize| if smoke { least } else { count as usize };
        churn::Wish {
            routes: of(self.routes, 300),
            endpoints: of(self.endpoints, 3_000),
            rate: f64::from(self.rate),
            window: if smoke { Duration::from_millis(800) } else { Duration::from_secs(self.seconds) },
            routers: of(self.routers, 20),
            spread_changes: if smoke { 3 } else { 50 },
            date: self.common.date.clone(),
            record: self.common.record,
        }
    }
}
