//! The words of `overload`.

use super::{CommonOptions, kinds};
use crate::failure::Fallible;
use crate::fronts::Kind;
use crate::overload;
use clap::Args;
use std::time::Duration;

/// Options of `overload`.
#[derive(Debug, Args)]
pub(crate) struct OverloadOptions {
    /// Rounds over all proxies.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Seconds of each window, after a second and a half that is discarded.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Proxies of: ekiden, haproxy, nginx.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl OverloadOptions {
    /// What was asked for.
    pub(crate) fn wish(&self) -> Fallible<overload::Wish> {
        let smoke = self.common.smoke;
        Ok(overload::Wish {
            kinds: kinds(&self.only, &[Kind::Ekiden, Kind::Haproxy, Kind::Nginx])?,
            rounds: if smoke { 1 } else { usize::try_from(self.rounds).unwrap_or(5) },
            window: if smoke { Duration::from_millis(400) } else { Duration::from_secs(self.seconds) },
            warm_up: Duration::from_millis(if smoke { 200 } else { 1_500 }),
            smoke,
            date: self.common.date.clone(),
            record: self.common.record,
        })
    }
}
