//! The words of `balance`.

use super::{CommonOptions, kinds};
use crate::balance;
use crate::failure::Fallible;
use crate::fronts::{Kind, Picker};
use clap::Args;
use std::time::Duration;

/// Options of `balance`.
#[derive(Debug, Args)]
pub(crate) struct BalanceOptions {
    /// Rounds over all pickers.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Seconds of each.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Load in percent of what the endpoints can serve that are always up.
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u32).range(5..=95))]
    load: u32,
    /// Proxies of: ekiden, haproxy, nginx, envoy.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl BalanceOptions {
    /// What was asked for, names checked; builds the router where it takes part.
    pub(crate) fn wish(&self) -> Fallible<balance::Wish> {
        let smoke = self.common.smoke;
        let kinds = kinds(&self.only, &[Kind::Ekiden, Kind::Haproxy, Kind::Nginx, Kind::Envoy])?;
        if kinds.iter().any(|kind| kind.is_ours()) {
            self.common.build()?;
        }
        Ok(balance::Wish {
            pickers: Picker::ALL.into_iter().filter(|picker| kinds.contains(&picker.kind)).collect(),
            rounds: if smoke { 1 } else { usize::try_from(self.rounds).unwrap_or(5) },
            window: if smoke { Duration::from_millis(1_200) } else { Duration::from_secs(self.seconds) },
            load: if smoke { 0.1 } else { f64::from(self.load) / 100.0 },
            date: self.common.date.clone(),
            record: self.common.record,
        })
    }
}
