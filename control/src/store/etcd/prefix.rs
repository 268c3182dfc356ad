//! The keys behind a prefix of an etcd, as others write them: read whole once, then change by change.
//!
//! A watch that ends, falls behind or was compacted away is begun anew, at another member; what cannot be told change by change is read
//! whole again. An etcd that does not answer, or has no majority, is told of; what was read of it stays. Knows keys and texts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::{sleep, sleep_until, timeout};

use super::gateway::{Failure, Gateway, Places, Watching};
use super::words::{Happened, Num, Range, Watched, b64, end_of};

/// Most keys behind one prefix.
const KEYS_MAX: usize = 10_000;
/// Keys read at once.
const PAGE: usize = 1_000;
/// Longest time for one page, and for one look.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Time between two looks at whether it answers and the watch has kept up.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Looks in a row that find the watch behind.
const BEHIND_MAX: u8 = 2;
/// Changes within so long are told together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Pause after what failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Values by key, the prefix left out.
pub(crate) type Values = Arc<BTreeMap<Arc<str>, Arc<str>>>;

/// One that follows.
pub(crate) struct Prefix {
    gateway: Gateway,
    asking: Gateway,
    prefix: String,
    keys: Values,
    /// Everything up to this revision is taken in.
    revision: u64,
    whole: bool,
    watching: Option<Watching>,
    /// Looks in a row that found something else than the watch had told.
    behind: u8,
    /// When the next look is due.
    look_at: tokio::time::Instant,
    /// It was told that nobody can be asked.
    failing: bool,
}

impl Prefix {
    /// Of an etcd.
    pub(crate) fn new(places: &Arc<Places>, prefix: &str) -> Self {
        Self {
            gateway: Gateway::new(places),
            asking: Gateway::new(places),
            prefix: prefix.to_owned(),
            keys: Values::default(),
            revision: 0,
            whole: false,
            watching: None,
            behind: 0,
            look_at: tokio::time::Instant::now() + LOOK_EVERY,
            failing: false,
        }
    }

    /// All that is there, when that differs or can be asked again; or why it cannot be asked, again and again.
    pub(crate) async fn next(&mut self) -> Result<Values, String> {
        loop {
            if !self.whole {
                return match self.load().await {
                    Ok(()) => Ok(self.told()),
                    Err(error) => Err(self.failed(error).await),
                };
            }
            let mut watching = match self.watching.take() {
                Some(watching) => watching,
                None => match self.begin().await {
                    Ok(watching) => watching,
                    Err(why) => {
                        // One member may be gone: whether all are, a look says. Where nobody lets it watch, looking has to do.
                        match self.look().await {
                            Ok(range) => self.compare(&range),
                            Err(error) => return Err(self.failed(error).await),
                        }
                        if self.failing {
                            return Ok(self.told());
                        }
                        tracing::debug!(%why, "following keys of etcd goes on at another member");
                        sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            let watched = tokio::select! {
                watched = watching.next() => Some(watched),
                () = sleep_until(self.look_at) => None,
            };
            let Some(watched) = watched else {
                self.watching = Some(watching);
                let looked = self.look().await;
                self.look_at = tokio::time::Instant::now() + LOOK_EVERY;
                match looked {
                    Ok(range) => self.compare(&range),
                    Err(error) => return Err(self.failed(error).await),
                }
                if self.failing {
                    return Ok(self.told());
                }
                continue;
            };
            let mut changed = self.take(watched, watching);
            let until = Instant::now() + TOGETHER;
            while let (true, Some(mut watching)) = (self.whole, self.watching.take()) {
                let left = until.saturating_duration_since(Instant::now());
                let Ok(watched) = timeout(left, watching.next()).await else {
                    self.watching = Some(watching);
                    break;
                };
                changed |= self.take(watched, watching);
            }
            if changed && self.whole {
                return Ok(self.told());
            }
        }
    }

    fn told(&mut self) -> Values {
        self.failing = false;
        Arc::clone(&self.keys)
    }

    async fn failed(&mut self, error: Failure) -> String {
        self.failing = true;
        sleep(PAUSE).await;
        error.text()
    }

    /// Reads everything, as of one revision.
    async fn load(&mut self) -> Result<(), Failure> {
        let (mut from, end) = (self.prefix.clone().into_bytes(), end_of(&self.prefix));
        let (mut keys, mut revision) = (BTreeMap::new(), 0);
        loop {
            let body = json!({
                "key": b64(&from), "range_end": b64(&end), "limit": PAGE.to_string(), "revision": revision.to_string(),
            });
            let until = Instant::now() + ANSWER_WAIT;
            let page: Range = self.asking.call("/v3/kv/range", &body, until).await?;
            if revision == 0 {
                revision = page.header.revision.0;
            }
            if let Some(last) = page.kvs.last() {
                from = [last.key.bytes(), b"\0"].concat();
            }
            for kv in page.kvs {
                if let Some(key) = kv.key.0.strip_prefix(&self.prefix) {
                    keys.insert(Arc::from(key), Arc::from(kv.value.0));
                }
            }
            if keys.len() > KEYS_MAX {
                return Err(too_many());
            }
            if !page.more {
                break;
            }
        }
        self.keys = Arc::new(keys);
        (self.revision, self.whole, self.watching, self.behind) = (revision, true, None, 0);
        Ok(())
    }

    async fn begin(&mut self) -> Result<Watching, String> {
        let body = json!({ "create_request": {
            "key": b64(&self.prefix), "range_end": b64(end_of(&self.prefix)),
            "start_revision": (self.revision + 1).to_string(),
        } });
        self.gateway.watch(&body).await
    }

    /// Takes in what a watch says, and keeps the watch when it goes on; whether anything differs.
    fn take(&mut self, watched: Result<Watched, String>, watching: Watching) -> bool {
        let Watched { canceled, compact_revision: Num(compacted), cancel_reason, events } = match watched {
            Ok(watched) => watched,
            Err(why) => {
                tracing::debug!(%why, "a watch of etcd ended; it goes on at another member");
                self.gateway.next();
                return false;
            }
        };
        if compacted > 0 {
            tracing::info!(compacted, prefix = %self.prefix, "changes were compacted away: the keys are read anew");
            self.whole = false;
            return false;
        }
        if canceled {
            tracing::debug!(%cancel_reason, "etcd ended a watch; it goes on at another member");
            self.gateway.next();
            return false;
        }
        self.watching = Some(watching);
        self.behind = 0;
        let (before, mut changed) = (self.revision, false);
        for Happened { kind, kv } in events {
            let Some(key) = kv.key.0.strip_prefix(&self.prefix) else { continue };
            if kv.mod_revision.0 <= before {
                continue;
            }
            self.revision = self.revision.max(kv.mod_revision.0);
            let keys = Arc::make_mut(&mut self.keys);
            if kind == "DELETE" {
                keys.remove(key);
            } else {
                keys.insert(Arc::from(key), Arc::from(kv.value.0.as_str()));
            }
            changed = true;
        }
        // Reading them anew says what is wrong.
        self.whole &= self.keys.len() <= KEYS_MAX;
        changed
    }

    /// One read that needs a majority: how many keys there are, and the newest of them.
    async fn look(&mut self) -> Result<Range, Failure> {
        let body = json!({
            "key": b64(&self.prefix), "range_end": b64(end_of(&self.prefix)), "limit": "1", "keys_only": true,
            "sort_order": "DESCEND", "sort_target": "MOD",
        });
        self.asking.call("/v3/kv/range", &body, Instant::now() + ANSWER_WAIT).await
    }

    /// Whether the watch has told what is there.
    fn compare(&mut self, range: &Range) {
        if range.header.revision.0 < self.revision {
            tracing::warn!(prefix = %self.prefix, "it is another etcd than before, its revision is lower: the keys are read anew");
            self.whole = false;
            return;
        }
        let newest = range.kvs.first().map_or(0, |kv| kv.mod_revision.0);
        let same = newest <= self.revision && range.count.0 == self.keys.len() as u64;
        self.behind = if same { 0 } else { self.behind + 1 };
        if self.behind >= BEHIND_MAX {
            tracing::info!(prefix = %self.prefix, "a watch of etcd fell behind: the keys are read anew");
            self.gateway.next();
            self.whole = false;
        }
    }
}

fn too_many() -> Failure {
    Failure::Refused(format!("there are more than {KEYS_MAX} keys behind the prefix"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use ekiden_config::model::EtcdMember;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A gateway of one key that lets nobody watch, and refuses everything while it is told to.
    async fn gateway(listener: TcpListener, is_out: Arc<AtomicBool>) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut asked, mut some) = (Vec::new(), [0; 4_096]);
            while !asked.ends_with(b"}") {
                let count = stream.read(&mut some).await.unwrap();
                assert_ne!(count, 0, "a request that does not end");
                asked.extend_from_slice(&some[..count]);
            }
            let is_watch = asked.starts_with(b"POST /v3/watch");
            let (status, body) = match is_watch || is_out.load(Ordering::SeqCst) {
                true => ("400 Bad Request", r#"{"code":7,"message":"etcdserver: permission denied"}"#),
                false => (
                    "200 OK",
                    r#"{"header":{"revision":"5"},"kvs":[{"key":"L3cvYQ==","value":"eA==","mod_revision":"4"}],"count":"1"}"#,
                ),
            };
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_etcd_that_lets_nobody_watch_is_told_well_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let member = EtcdMember { secure: false, host: "127.0.0.1".into(), port };
        let places = Places { members: vec![member], ca: None, identity: None, user: None };
        let is_out = Arc::new(AtomicBool::new(false));
        tokio::spawn(gateway(listener, Arc::clone(&is_out)));
        let mut prefix = Prefix::new(&Arc::new(places), "/w/");
        let keys = prefix.next().await.unwrap();
        assert_eq!(keys.get("a").map(|value| &**value), Some("x"));
        is_out.store(true, Ordering::SeqCst);
        assert!(prefix.next().await.is_err());
        is_out.store(false, Ordering::SeqCst);
        // It would look for ever.
        let told = timeout(Duration::from_secs(60), prefix.next()).await.unwrap();
        assert_eq!(told, Ok(keys));
    }
}
