//! Leading: a lease, the leader key that it holds, a term; kept up while control's loop lives and etcd answers in time.
//!
//! The key is made only where there is none, so one process has it. Everything that is written names the revision that made it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::gateway::{Failure, Gateway, Places};
use super::words::{Compared, Kept, Lease, Nothing, Num, TxnAnswer, b64, is, read};
use super::{Handle, LeaderWords, Shared, Tenure};
use crate::clock::unix_ms;
use crate::election::{Leader, Role, begin_term};
use crate::plane::stopped;
use crate::store::StoreError;

/// Pause after what failed, and between looks at what nobody tells.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest time for giving a lease back.
const GIVE_BACK: Duration = Duration::from_millis(800);

/// One that may lead.
pub(super) struct Lead {
    gateway: Gateway,
    handle: Handle,
    lease: Duration,
    me: Leader,
    /// Tries so far, for ids.
    tries: u64,
}

impl Lead {
    pub(super) fn new(places: &Arc<Places>, handle: Handle, lease: Duration, me: Leader) -> Self {
        Self { gateway: Gateway::new(places), handle, lease, me, tries: 0 }
    }

    /// Tries to lead, and leads, until told to stop.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut asked = stop.clone();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = vacant(&self.handle.shared) => {}
            }
            let taken = tokio::select! {
                () = stopped(&mut stop) => return,
                taken = self.take() => taken,
            };
            match taken {
                Ok(Some((tenure, lease))) => {
                    let why = self.reign(&tenure, lease, &mut asked).await;
                    self.end(lease, &why).await;
                }
                Ok(None) => {}
                Err(error) => {
                    let reason = format!("etcd cannot be asked for the lead: {}", error.text());
                    self.follows(reason);
                }
            }
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = sleep(PAUSE) => {}
            }
        }
    }

    fn follows(&self, reason: String) {
        let leader = self.handle.shared.known.borrow().leader.clone().map(|(_, words)| words.leader);
        self.handle.shared.role.send_replace(Role::Following { leader, reason });
    }

    /// Takes the leader key; none when another one was faster.
    async fn take(&mut self) -> Result<Option<(Arc<Tenure>, Num)>, Failure> {
        let begun = Instant::now();
        let until = begun + self.lease;
        let seconds = self.lease.as_secs().max(1).to_string();
        let lease: Lease =
            self.gateway.call("/v3/lease/grant", &json!({ "TTL": seconds, "ID": "0" }), until).await?;
        self.tries += 1;
        let id = format!("{}-{}-{}", std::process::id(), unix_ms(), self.tries);
        let words = LeaderWords { id: id.clone(), leader: self.me.clone() };
        let value = serde_json::to_string(&words).unwrap_or_default();
        let key = &self.handle.shared.keys.leader;
        let body = json!({
            "compare": [is(key, Compared::Created, 0)],
            "success": [{ "request_put": { "key": b64(key), "value": b64(&value), "lease": lease.id.0.to_string() } }],
            "failure": [read(key)],
        });
        let answer: TxnAnswer = self.gateway.call("/v3/kv/txn", &body, until).await?;
        let mine = |kv: &&super::words::Kv| {
            serde_json::from_str::<LeaderWords>(&kv.value.0).is_ok_and(|words| words.id == id)
        };
        let made = if answer.succeeded {
            Some(answer.header.revision.0)
        } else {
            // A try before this one may have been carried out.
            answer.read(0).filter(mine).map(|kv| kv.create_revision.0)
        };
        let Some(key) = made else {
            self.give_back(lease.id).await;
            return Ok(None);
        };
        let valid_ms = AtomicU64::new(self.handle.shared.ms(begun + self.safe()));
        Ok(Some((Arc::new(Tenure { key, valid_ms, over: watch::Sender::new(None) }), lease.id)))
    }

    /// How long after it was asked for a lease is surely not over, whatever the clocks are like.
    fn safe(&self) -> Duration {
        self.lease - self.lease / 10
    }

    /// Leads; the text says why it ended.
    async fn reign(&mut self, tenure: &Arc<Tenure>, lease: Num, stop: &mut watch::Receiver<bool>) -> String {
        let handle = self.handle.clone();
        let shared = &handle.shared;
        shared.tenure.send_replace(Some(Arc::clone(tenure)));
        let safe = self.safe();
        let (mut over, mut known) = (tenure.over.subscribe(), shared.known.subscribe());
        let key = tenure.key;
        // Not before it is in memory: then everything written before is too.
        let lost = async {
            let came = known.wait_for(|known| known.revision >= key).await.is_ok();
            let gone = |known: &super::Known| known.leader.as_ref().is_none_or(|(made, _)| *made != key);
            let _ = known.wait_for(gone).await;
            if came { "the lease was taken away" } else { "this process ends" }.to_owned()
        };
        let begin = async {
            let mut known = shared.known.subscribe();
            let _ = known.wait_for(|known| known.revision >= key).await;
            let end = match begin_term(&handle, unix_ms()).await {
                Ok(term) => {
                    tracing::info!(term, "this process leads");
                    shared.role.send_replace(Role::Leading { term });
                    // It goes on until something ends it.
                    std::future::pending::<StoreError>().await
                }
                Err(error) => error,
            };
            format!("its term could not be written down: {end}")
        };
        let gateway = &mut self.gateway;
        tokio::select! {
            why = keep(shared, gateway, tenure, (lease, self.lease, safe)) => why,
            why = begin => why,
            why = lost => why,
            Ok(why) = over.wait_for(Option::is_some) => why.clone().unwrap_or_default(),
            () = stopped(stop) => "this process ends".to_owned(),
        }
    }

    /// Gives everything back.
    async fn end(&mut self, lease: Num, why: &str) {
        tracing::warn!(%why, "this process does not lead any more");
        self.handle.shared.tenure.send_replace(None);
        self.follows(why.to_owned());
        self.give_back(lease).await;
    }

    /// So that the next one need not wait. Best effort: it runs out by itself.
    async fn give_back(&mut self, lease: Num) {
        let body = json!({ "ID": lease.0.to_string() });
        let call = self.gateway.call::<Nothing>("/v3/lease/revoke", &body, Instant::now() + GIVE_BACK);
        let _ = timeout(GIVE_BACK, call).await;
    }
}

/// Waits until nobody is known to lead, everything is in memory, and control's loop lives. Tells meanwhile who leads.
async fn vacant(shared: &Shared) {
    let mut known = shared.known.subscribe();
    loop {
        let now = known.borrow_and_update().clone();
        let reason = match (&now.leader, &now.trouble, now.loaded) {
            (_, Some(trouble), _) => format!("etcd cannot be asked: {trouble}"),
            (Some((_, words)), None, _) => format!("{} leads", words.leader.name),
            (None, None, false) => "etcd was not read yet".to_owned(),
            (None, None, true) if shared.is_stuck() => "control's loop is stuck".to_owned(),
            (None, None, true) => return,
        };
        let role = Role::Following { leader: now.leader.map(|(_, words)| words.leader), reason };
        shared.role.send_if_modified(|old| {
            let differs = *old != role;
            *old = role;
            differs
        });
        // Nobody tells of a loop that lives again.
        let _ = timeout(PAUSE, known.changed()).await;
    }
}

/// Keeps the lease up; the text says why it ended.
async fn keep(
    shared: &Shared,
    gateway: &mut Gateway,
    tenure: &Tenure,
    (lease, span, safe): (Num, Duration, Duration),
) -> String {
    let body = json!({ "ID": lease.0.to_string() });
    loop {
        let asked = Instant::now();
        if shared.is_stuck() {
            return "control's loop is stuck".to_owned();
        }
        let kept: Result<Kept, Failure> = gateway.call("/v3/lease/keepalive", &body, asked + span / 3).await;
        match kept {
            Ok(kept) if kept.result.ttl.0 > 0 => {
                // A tenure that was ended stays so.
                let valid = shared.ms(asked + safe);
                let _ = tenure.valid_ms.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| {
                    (old != 0).then_some(valid.max(old))
                });
                sleep(span / 3).await;
            }
            Ok(_) => return "its lease was over".to_owned(),
            Err(Failure::Refused(text)) => return format!("its lease is refused: {text}"),
            Err(Failure::Unavailable(text)) => {
                if shared.ms(Instant::now()) >= tenure.valid_ms.load(Ordering::Acquire) {
                    return format!("etcd cannot be asked: {text}");
                }
            }
        }
    }
}
