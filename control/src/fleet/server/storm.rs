//! After a takeover all routers are back at once: each gets its share, and what that costs control is bounded by what they get. Over
//! pipes in memory, so that nothing of it depends on sockets or on how fast they are.

use std::collections::BTreeSet;

use ekiden_config::model::Subscription;
use ekiden_config::names::AppName;
use h2::client;
use serde_json::{Value, json};
use tokio::io::{DuplexStream, duplex};
use tokio::task::yield_now;

use super::super::subscription::Subscriptions;
use super::super::wire::{Applied, Down, Up, VERSION, line};
use super::*;
use crate::election::{Elector, Role};

/// Routers that come back, each with the share of a pod.
const ROUTERS: usize = 1_000;
/// Routers that get everything and read nothing of it.
const STUCK: usize = 20;
/// Apps, each with the routers of its pods.
const APPS: usize = 100;
/// Endpoints of an app.
const ENDPOINTS: usize = 100;
/// Of the control that was there before.
const TERM_BEFORE: u64 = 1;
/// Of this one.
const TERM: u64 = 2;
/// What the other side of a pipe may leave unread, in bytes.
const PIPE: usize = 64 << 10;
/// The same of a stream, as HTTP/2 begins with.
const STREAM: u64 = 65_535;
/// Longest that all of it may take; it takes a second or two.
const WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Leads;

impl Elector for Leads {
    fn role(&self) -> watch::Receiver<Role> {
        watch::Sender::new(Role::Leading { term: TERM }).subscribe()
    }

    fn leads(&self) -> bool {
        true
    }

    fn beat(&self) {}
}

fn app(number: usize) -> AppName {
    AppName::new(&format!("app{number:03}")).unwrap()
}

/// Control that has just taken over, with all apps and endpoints in its first generation.
fn control() -> Fleet {
    let pods = (0..APPS).map(|at| Subscription {
        routers: vec![Arc::from(format!("pod/{}/*", app(at)))],
        apps: vec![app(at)].into_iter().collect(),
        everything: false,
    });
    let edge =
        Subscription { routers: vec![Arc::from("edge/*")], apps: Default::default(), everything: true };
    let all: Vec<Subscription> = pods.chain([edge]).collect();
    let fleet = Fleet::new(Arc::new(Leads), Subscriptions::new(&all));
    fleet.take(&Role::Leading { term: TERM }, true);
    let mut ledger = fleet.ledger();
    ledger.advance();
    let mut put = |key: String, value: Value| ledger.put(&key, line(&Down::Put(key.clone(), value)));
    for app in (0..APPS).map(app) {
        put(format!("app/{app}"), json!({ "cluster": { "web": {} } }));
        for at in 0..ENDPOINTS {
            let value = json!({ "address": format!("10.0.0.{at}:80"), "weight": 1, "owner": "file" });
            put(format!("endpoint/{app}/web/{at}"), value);
        }
    }
    drop(ledger);
    fleet.0.newest.send_replace(1);
    fleet
}

/// A link from a router of this name; what control makes of it runs beside.
fn link(fleet: &Fleet, name: &str, links: &Arc<Semaphore>, stop: &watch::Receiver<bool>) -> DuplexStream {
    let (near, far) = duplex(PIPE);
    let (stranger, _) = Strangers::default().enter();
    let until = tokio::time::Instant::now() + WITHIN;
    let entry = Entry { stranger, until, links: Arc::clone(links), stop: stop.clone() };
    let peer = Peer { from: "memory".to_owned(), identity: Some(name.to_owned()) };
    let fleet = fleet.clone();
    tokio::spawn(async move { speak(&fleet, far, peer, entry).await });
    near
}

/// What a router has open: both directions of its stream.
type Open = (h2::SendStream<Bytes>, h2::RecvStream, client::SendRequest<Bytes>);

/// Says hello as one that was linked to the control before.
async fn hello(near: DuplexStream, name: &str) -> Open {
    let (sender, connection) = client::handshake(near).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let request = Request::post(format!("http://control{PATH}")).body(()).unwrap();
    let (response, mut up) = sender.send_request(request, false).unwrap();
    let hello = Up::Hello {
        version: VERSION,
        router: name.to_owned(),
        instance: name.to_owned(),
        software: "test".to_owned(),
        term: TERM_BEFORE,
        generation: 7,
    };
    up.send_data(line(&hello), false).unwrap();
    (up, response.await.unwrap().into_body(), sender)
}

/// A router: takes what comes until it is whole, and says so. Answers with the bytes of the objects it got and with their keys.
async fn taken((mut up, mut down, held): Open) -> (usize, BTreeSet<String>, Open) {
    let (mut text, mut bytes, mut keys) = (Vec::new(), 0, BTreeSet::new());
    loop {
        let data = down.data().await.unwrap().unwrap();
        down.flow_control().release_capacity(data.len()).unwrap();
        text.extend_from_slice(&data);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let one: Vec<u8> = text.drain(..=end).collect();
            match serde_json::from_slice(&one).unwrap() {
                Down::Welcome { term, snapshot, .. } => {
                    assert!(term == TERM && snapshot, "what it had is of another control");
                }
                Down::Put(key, _) => {
                    bytes += one.len();
                    keys.insert(key);
                }
                Down::Commit { generation } => {
                    let applied = Applied { term: TERM, generation, table: 1, refused: Vec::new() };
                    up.send_data(line(&Up::Applied(applied)), false).unwrap();
                    return (bytes, keys, (up, down, held));
                }
                Down::Ping {} => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_thousand_that_come_back_at_once_are_all_served_and_cost_what_they_get() {
    let fleet = control();
    let links = Arc::new(Semaphore::new(LINKS_MAX));
    let (stop, stopped) = watch::channel(false);
    let storm = async {
        // These come first, and read nothing.
        let mut stuck = Vec::new();
        for at in 0..STUCK {
            let name = format!("edge/{at}");
            stuck.push(hello(link(&fleet, &name, &links, &stopped), &name).await);
        }
        let mut all = Vec::new();
        for at in 0..ROUTERS {
            let name = format!("pod/{}/{at}", app(at % APPS));
            let near = link(&fleet, &name, &links, &stopped);
            all.push(tokio::spawn(async move { taken(hello(near, &name).await).await }));
        }
        let mut open = Vec::new();
        let mut read = 0;
        for (at, one) in all.into_iter().enumerate() {
            let (bytes, keys, still) = one.await.unwrap();
            let app = app(at % APPS);
            let of_app =
                |key: &String| *key == format!("app/{app}") || key.starts_with(&format!("endpoint/{app}/"));
            assert!(keys.len() == 1 + ENDPOINTS && keys.iter().all(of_app), "router {at} of {app}: {keys:?}");
            read += bytes as u64;
            open.push(still);
        }
        while fleet.roster().spread(1).have < ROUTERS {
            yield_now().await;
        }
        (read, stuck, open)
    };
    let (read, _stuck, _open) = timeout(WITHIN, storm).await.expect("all are served");
    let meters = fleet.roster().meters(1);
    assert_eq!((meters.connected, meters.snapshots), ((ROUTERS + STUCK) as u64, (ROUTERS + STUCK) as u64));
    assert_eq!((meters.behind, meters.refused), (STUCK as u64, 0));
    let spent = fleet.ledger().spent();
    // What is on its way to those that do not read is what fits into their streams and what comes next.
    let on_its_way = STUCK as u64 * (STREAM + 2 * super::super::session::PIECE as u64);
    assert!((read..=read + on_its_way).contains(&spent.bytes), "{} bytes for {read}", spent.bytes);
    // Looking for a share passes over a few of what is not of it, whatever there is of that.
    let few = (ROUTERS * (1 + ENDPOINTS + 1_000)) as u64;
    assert!(spent.looks <= few + STUCK as u64 * 2_000, "{} objects were looked at", spent.looks);
    drop(stop);
}
