//! The words of `drive`, the load generator alone.

use crate::drive::{Pace, Plan};
use crate::failure::{Fallible, failure};
use crate::origin;
use clap::Args;
use std::net::SocketAddr;
use std::time::Duration;

/// Options of `drive`.
#[derive(Debug, Args)]
pub(crate) struct DriveOptions {
    /// Where to.
    #[arg(long)]
    to: SocketAddr,
    /// Host field; default the address.
    #[arg(long)]
    host: Option<String>,
    /// A path of the origin.
    #[arg(long, default_value = "/")]
    path: String,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Closed loop: this many requests.
    #[arg(long, conflicts_with_all = ["rate", "closed_for"])]
    requests: Option<u64>,
    /// Closed loop: for so many seconds.
    #[arg(long, conflicts_with = "rate")]
    closed_for: Option<f64>,
    /// Open loop: this many requests a second.
    #[arg(long, value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// Open loop: for so many seconds after the warm-up.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Open loop: seconds that are not recorded.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Count answers 502 and 503 as refusals, not as failures.
    #[arg(long)]
    refusals: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (1.0..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("a number from 1 to 10,000,000".to_owned()),
    }
}

impl DriveOptions {
    /// What to drive.
    pub(crate) fn plan(&self) -> Fallible<Plan> {
        let seconds = |number: f64| {
            let time = Duration::try_from_secs_f64(number);
            time.map_err(|_| failure(format!("{number} is no length of time")))
        };
        let pace = match (self.requests, self.closed_for, self.rate) {
            (Some(count), ..) => Pace::Closed(count),
            (None, Some(time), _) => Pace::ClosedFor(seconds(time)?),
            (None, None, Some(rate)) => Pace::Open(rate, seconds(self.warm_up)?, seconds(self.seconds)?),
            (None, None, None) => {
                return Err(failure("one of --requests, --closed-for and --rate is needed"));
            }
        };
        let body_len = origin::body_len(&self.path);
        Ok(Plan {
            to: self.to,
            host: self.host.clone().unwrap_or_else(|| self.to.to_string()),
            path: self.path.clone(),
            body_len: body_len.ok_or_else(|| failure(format!("the origin has no {}", self.path)))?,
            connections: self.connections.clamp(1, 10_000),
            pace,
            refusals: self.refusals,
        })
    }
}
