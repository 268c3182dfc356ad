//! Asks endpoints for their load: a small request to the ambassador beside each, on connections that are kept, so many for each
//! pick and so many at once. Runs on the probe thread, and no request waits for it: workers count what their picks are worth, and
//! the thread looks at the counts. What is done with an answer is core's `prequal`.

use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::{Address, LOAD_PATH, ProxyVersion};
use ekiden_config::names::{AppName, ClusterName};
use ekiden_core::cell::EndpointCell;
use ekiden_core::cell::load::Load;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderName, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::task::JoinSet;

use super::http::AGENT;
use super::shared::Shared;
use crate::exchange::proxy_out::own_header;
use crate::tls::upstream::open;

/// How often the counts are looked at, while there are requests: a report that comes so much later is still news.
const TICK: Duration = Duration::from_millis(2);
/// The same, when there was nothing to ask for [`QUIET_TICKS`].
const QUIET_TICK: Duration = Duration::from_millis(20);
/// Looks without anything to ask, after which kept connections are closed and looks come seldom.
const QUIET_TICKS: u32 = 5_000;
/// Longest wait for an answer: what comes later says nothing of now.
const PATIENCE: Duration = Duration::from_millis(500);
/// Connections that are kept; more endpoints than that are connected to anew each time.
const KEPT_MAX: usize = 256;
/// How much of a body is read so that its connection can be kept, in bytes.
const BODY_MAX: usize = 4 << 10;
/// What an answer says.
const FIELD: HeaderName = HeaderName::from_static("x-router-load");

type Sender = SendRequest<Empty<Bytes>>;

/// An endpoint that was asked, with its connection if that can be used again.
type Asked = (u64, Option<Sender>);

/// Asks the endpoints of one cluster for as long as it wants that.
pub(super) async fn run(shared: Arc<Shared>, app: AppName, name: ClusterName) {
    let mut asking = JoinSet::new();
    let mut kept: FxHashMap<u64, Sender> = FxHashMap::default();
    let mut random = fastrand::Rng::with_seed(shared.seed);
    let (mut quiet, mut seen) = (0, None);
    loop {
        tokio::time::sleep(if quiet < QUIET_TICKS { TICK } else { QUIET_TICK }).await;
        while let Some(ended) = asking.try_join_next() {
            if let Ok((uid, Some(sender))) = ended
                && kept.len() < KEPT_MAX
            {
                kept.insert(uid, sender);
            }
        }
        let table = (shared.hooks.table)();
        let Some(cluster) = table.cluster_named(&app, &name) else { return };
        let policy = &cluster.cluster.policy;
        let Some(probes) = &policy.probe_load else { return };
        // Connections to endpoints that are gone would take the places of others, and hold up their drain.
        let now = Arc::as_ptr(cluster).addr();
        if seen.replace(now) != Some(now) {
            let uids: FxHashSet<u64> = cluster.endpoints.iter().map(|entry| entry.cell.uid()).collect();
            kept.retain(|uid, sender| !sender.is_closed() && uids.contains(uid));
        }
        let under_way = u32::try_from(asking.len()).unwrap_or(u32::MAX);
        let count = cluster.take_load_probes(probes.at_once.saturating_sub(under_way));
        quiet = if count == 0 { quiet.saturating_add(1) } else { 0 };
        if quiet == QUIET_TICKS {
            kept.clear();
        }
        for _ in 0..count {
            let index = cluster.draw_ready(&mut || random.u64(..));
            let Some(entry) = index.and_then(|index| cluster.endpoint(index)) else { break };
            let question = Question {
                shared: Arc::clone(&shared),
                cell: Arc::clone(&entry.cell),
                host: probes.host.clone(),
                send_proxy: policy.send_proxy,
            };
            asking.spawn(question.ask(kept.remove(&entry.cell.uid())));
        }
    }
}

/// One question to one endpoint.
struct Question {
    shared: Arc<Shared>,
    cell: Arc<EndpointCell>,
    host: Option<Arc<str>>,
    send_proxy: Option<ProxyVersion>,
}

impl Question {
    /// Asks within the time, and has the answer taken in.
    async fn ask(self, kept: Option<Sender>) -> Asked {
        let uid = self.cell.uid();
        let answer = tokio::time::timeout(PATIENCE, self.exchange(kept)).await;
        let (load, sender) = answer.ok().flatten().unwrap_or((None, None));
        self.tell(load);
        (uid, sender)
    }

    /// Tells the cluster in force, where the endpoint is still one of it.
    fn tell(&self, load: Option<Load>) {
        let at = self.cell.incarnation();
        let (app, cluster) = at.place();
        let table = (self.shared.hooks.table)();
        let Some(cluster) = table.cluster_named(app, cluster) else { return };
        let Some(load) = load else { return cluster.cell.load_probes.failed.add(1) };
        cluster.cell.load_probes.answered.add(1);
        let index = cluster.position(at.id());
        if let Some((index, entry)) = index.and_then(|index| Some((index, cluster.endpoint(index)?)))
            && entry.cell.uid() == self.cell.uid()
        {
            let now_us = u64::try_from(self.shared.hooks.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            cluster.report(index, load, (now_us, now_us));
        }
    }

    /// What the endpoint says, on a connection that is kept or a new one; a kept one may have been closed meanwhile.
    async fn exchange(&self, kept: Option<Sender>) -> Option<(Option<Load>, Option<Sender>)> {
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
            && let Ok(response) = sender.send_request(self.request()?).await
        {
            return Some(read(response, sender).await);
        }
        let mut sender = self.connect().await?;
        let response = sender.send_request(self.request()?).await.ok()?;
        Some(read(response, sender).await)
    }

    async fn connect(&self) -> Option<Sender> {
        let incarnation = self.cell.incarnation();
        if self.cell.is_gone() || (self.shared.hooks.is_own)(incarnation.address()) {
            return None;
        }
        let target = (self.shared.hooks.target)(incarnation).ok()?;
        let header = self.send_proxy.map(own_header);
        // HTTP/1 always: an ambassador speaks it whatever else it speaks.
        let stream = open(&target.address, target.secure.as_ref(), header.as_deref(), true).await.ok()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(async move {
            let _told_to_its_sender = connection.await;
        });
        Some(sender)
    }

    fn request(&self) -> Option<Request<Empty<Bytes>>> {
        let host = match (&self.host, self.cell.incarnation().address()) {
            (Some(host), _) => host.to_string(),
            (None, Address::Tcp(address)) => address.to_string(),
            (None, Address::Unix(_)) => "localhost".to_owned(),
        };
        let request = Request::get(LOAD_PATH).header(HOST, host).header(USER_AGENT, AGENT);
        request.body(Empty::new()).ok()
    }
}

/// What a response says, and its connection if all of it was read.
async fn read(response: Response<Incoming>, sender: Sender) -> (Option<Load>, Option<Sender>) {
    let said = (response.status() == StatusCode::OK).then(|| response.headers().get(FIELD)).flatten();
    let load = said.and_then(|text| Load::parse(text.as_bytes()));
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return (load, None) };
        length += frame.data_ref().map_or(0, Bytes::len);
        if length > BODY_MAX {
            return (load, None);
        }
    }
    (load, Some(sender))
}
