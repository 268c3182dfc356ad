//! One connection to a Redis, and the two scripts that run there. Blocks: on the thread of its store.
//!
//! The account of a key is one number, the time at which it will be even (GCRA, as `core::policy::limit` has it), in microseconds
//! of the clock of the store: routers need no common clock. Scripts run whole or not at all, so that routers which ask at the
//! same time are never given one unit twice. Keys end by themselves when they owe nothing.

use std::path::Path;
use std::time::Duration;

use ekiden_config::model::{StoreAddress, StoreSource};
use ekiden_core::policy::limit::{Due, SharedLimit};
use redis::{Client, Connection, ConnectionAddr, IntoConnectionInfo, RedisError};

/// Keys of one question.
pub(super) const KEYS_MAX: usize = 128;
/// Longest wait for a connect, and for an answer.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a router counts that says nothing, in milliseconds.
const ROUTER_MS: u32 = 5_000;
const SEED: &str = "ekiden:limits:seed";
const ROUTERS: &str = "ekiden:limits:routers";

/// Says that a router is there; gives the common seed and the number of routers. Those that spoke later than now did so before
/// the clock stepped back: who is there speaks again.
const PRESENT: &str = "
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[2], now, ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], string.format('(%d', now), '+inf')
return {redis.call('GET', KEYS[1]), tostring(redis.call('ZCARD', KEYS[2]))}";

/// No account owes more than a bound: a clock that steps back, or a wrong number of a response, is no ban.
/// For each key: what it owes at least (microseconds), units taken, units needed and units wanted. Gives units and what is owed.
/// What is wanted ahead is at most half of what is left, so that others find something too.
const TELL: &str = "
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local interval, window, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local out = {}
for i = 1, #KEYS do
  local least, debit = tonumber(ARGV[4 * i]), tonumber(ARGV[4 * i + 1])
  local need, want = tonumber(ARGV[4 * i + 2]), tonumber(ARGV[4 * i + 3])
  local even = math.max(tonumber(redis.call('GET', KEYS[i]) or now), now + least)
  even = math.min(math.max(even + debit * interval, now), now + most)
  local free = math.floor((now + window - even) / interval)
  local give = math.max(0, math.min(want, free, math.max(need, math.ceil(free / 2))))
  even = even + give * interval
  redis.call('SET', KEYS[i], string.format('%.3f', even), 'PX', math.ceil((even - now) / 1000) + 1000)
  out[2 * i - 1] = give
  out[2 * i] = math.ceil(even - now)
end
return out";

/// A connection on which both scripts are known.
pub(super) struct Link {
    connection: Connection,
    present: String,
    tell: String,
}

impl Link {
    /// Connects, and loads the scripts. The password is read each time.
    pub(super) fn open(source: &StoreSource, password: Option<&Path>) -> Result<Self, String> {
        let address = match &source.address {
            StoreAddress::Tcp(host, port) => ConnectionAddr::Tcp(host.to_string(), *port),
            StoreAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
        };
        let info = address.into_connection_info().map_err(words)?;
        let mut settings = info.redis_settings().clone().set_db(i64::from(source.database));
        if let Some(file) = password {
            let text = std::fs::read_to_string(file)
                .map_err(|error| format!("the password cannot be read: {}: {error}", file.display()))?;
            settings = settings.set_password(text.trim_end_matches(['\r', '\n']));
        }
        if let Some(user) = &source.user {
            settings = settings.set_username(user);
        }
        let client = Client::open(info.set_redis_settings(settings)).map_err(words)?;
        let mut connection = client.get_connection_with_timeout(PATIENCE).map_err(words)?;
        connection.set_read_timeout(Some(PATIENCE)).map_err(words)?;
        connection.set_write_timeout(Some(PATIENCE)).map_err(words)?;
        let mut load = |text: &str| {
            redis::cmd("SCRIPT").arg("LOAD").arg(text).query::<String>(&mut connection).map_err(words)
        };
        let (present, tell) = (load(PRESENT)?, load(TELL)?);
        Ok(Self { connection, present, tell })
    }

    /// Says that the router of this id is there. Gives the seed by which all routers hash keys, and how many routers there are.
    pub(super) fn present(&mut self, own: [u64; 2], id: &str) -> Result<([u64; 2], u32), String> {
        let [one, two] = own;
        let (seed, routers): (String, u32) = redis::cmd("EVALSHA")
            .arg(&self.present)
            .arg(2)
            .arg(SEED)
            .arg(ROUTERS)
            .arg(format!("{one:016x}{two:016x}"))
            .arg(id)
            .arg(ROUTER_MS)
            .query(&mut self.connection)
            .map_err(words)?;
        let half = |text: Option<&str>| text.and_then(|text| u64::from_str_radix(text, 16).ok());
        match (half(seed.get(..16)), half(seed.get(16..))) {
            (Some(one), Some(two)) => Ok(([one, two], routers.max(1))),
            _ => Err(format!("`{SEED}` holds something else")),
        }
    }

    /// Tells what keys of a limit owe; gives for each the units given and what all routers owe of it, in nanoseconds.
    pub(super) fn tell(
        &mut self,
        limit: &SharedLimit,
        dues: &[Due],
        was_away: bool,
    ) -> Result<Vec<(u32, u64)>, String> {
        let mut question = redis::cmd("EVALSHA");
        question.arg(&self.tell).arg(dues.len());
        for due in dues {
            question.arg(format!("ekiden:limit:{}:{:016x}", limit.name, due.key));
        }
        question.arg(micros(limit.interval_ns())).arg(micros(limit.window_ns())).arg(micros(limit.most_ns()));
        for due in dues {
            // What was taken while the store was away stands in what the account owes.
            let (least_ns, debit) = if was_away { (due.owed_ns, 0) } else { (0, due.debit) };
            question.arg(micros(least_ns)).arg(debit).arg(due.need).arg(due.want);
        }
        let answer: Vec<i64> = question.query(&mut self.connection).map_err(words)?;
        if answer.len() != dues.len() * 2 {
            return Err("the store answered something else".to_owned());
        }
        let pair = |pair: &[i64]| match pair {
            [given, owed_us] => {
                let owed_us = u64::try_from(*owed_us).unwrap_or(0);
                (u32::try_from(*given).unwrap_or(0), owed_us.saturating_mul(1_000))
            }
            _ => (0, 0),
        };
        Ok(answer.chunks(2).map(pair).collect())
    }
}

fn micros(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000, ns % 1_000)
}

fn words(error: RedisError) -> String {
    error.to_string()
}
