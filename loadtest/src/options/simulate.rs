//! The words of `simulate`.

use super::CommonOptions;
use crate::simulate::Wish;
use clap::Args;

/// Options of `simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateOptions {
    /// Requests of each world that count.
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    requests: u64,
    /// Only this number of routers.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    routers: Option<u16>,
    /// Only load 0.8, exponential service.
    #[arg(long)]
    bars: bool,
    #[command(flatten)]
    common: CommonOptions,
}

impl SimulateOptions {
    /// What was asked for.
    pub(crate) fn wish(&self) -> Wish {
        let mut wish =
            Wish::new(self.common.smoke, self.requests, self.common.date.clone(), self.common.record);
        if let Some(routers) = self.routers {
            wish.routers = vec![usize::from(routers)];
        }
        if self.bars {
            wish.only_bars();
        }
        wish
    }
}
