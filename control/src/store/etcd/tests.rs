//! The store against a real etcd: conditions, sizes, and writes of one that led.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::gateway::{Failure, Gateway};
use super::words::{Compared, Nothing, Range, TxnAnswer, b64, is};
use super::writer::Writing;
use super::*;
use crate::store::Write;

/// Longest wait for anything; nothing comes near it.
const PATIENCE: Duration = Duration::from_secs(120);

struct Server {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "gave up waiting for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn server() -> Server {
    loop {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (client, peer, dir) = (free(), free(), tempfile::tempdir().unwrap());
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let mut child = Command::new("etcd")
            .args(["--name", "m", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("m={peer_url}"), "--logger", "zap", "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("etcd: {error}; it is in the Debian package etcd-server"));
        let serves = until("etcd", || match child.try_wait().unwrap() {
            // Somebody else took one of the ports.
            Some(_) => Some(false),
            None => TcpStream::connect(client).ok().map(|_| true),
        });
        if serves {
            return Server { child, address: client, _dir: dir };
        }
    }
}

fn words(server: &Server) -> Words {
    let member = EtcdMember {
        secure: false,
        host: server.address.ip().to_string().into(),
        port: server.address.port(),
    };
    Words {
        members: vec![member],
        prefix: "/here".into(),
        ca: None,
        identity: None,
        user: None,
        lease: Duration::from_secs(30),
        name: None,
        api: None,
    }
}

fn start(server: &Server, name: &str) -> Etcd {
    let me = Leader { name: name.to_owned(), api: None };
    let settings = Settings::new(&words(server), None, None, None, me).unwrap();
    Etcd::start(settings, None).unwrap()
}

fn gateway(server: &Server) -> Gateway {
    let places = Places { members: words(server).members, ca: None, identity: None, user: None };
    Gateway::new(&Arc::new(places))
}

fn term(etcd: &Etcd) -> Option<u64> {
    match &*etcd.role().borrow() {
        Role::Leading { term } => Some(*term),
        Role::Following { .. } => None,
    }
}

fn put(key: &str, value: &str) -> Write {
    Write { key: Arc::from(key), value: Some(Arc::from(value)) }
}

fn txn(writes: Vec<Write>) -> Txn {
    Txn { when: Vec::new(), writes }
}

fn runtime() -> tokio::runtime::Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn it_keeps_the_contract_of_a_store() {
    let server = server();
    let etcd = start(&server, "one");
    until("the lead", || term(&etcd));
    let runtime = runtime();
    let commit = |txn: Txn| runtime.block_on(etcd.commit(txn));
    let first = commit(txn(vec![put("apps/a", "1"), put("apps/b", "1")])).unwrap();
    let on = |key: &str, modified: Revision, value: &str| Txn {
        when: vec![(Arc::from(key), modified)],
        writes: vec![put(key, value)],
    };
    let lost = StoreError::Conflict { key: Arc::from("apps/a"), modified: first };
    assert_eq!(commit(on("apps/a", 0, "2")), Err(lost));
    let second = commit(on("apps/a", first, "2")).unwrap();
    assert!(second > first);
    let object = etcd.get("apps/a").unwrap();
    assert_eq!((&*object.value, object.created, object.modified), ("2", first, second));
    let events = etcd.events(first, 10).unwrap();
    assert_eq!((events.len(), events[0].revision, &*events[0].key), (1, second, "apps/a"));
    let gone = |key: &str| Write { key: Arc::from(key), value: None };
    let third = commit(txn(vec![gone("apps/b"), gone("nothing")])).unwrap();
    assert!(third > second && etcd.get("apps/b").is_none());
    assert_eq!(commit(txn(vec![gone("nothing")])), Ok(third), "nothing happened");
    // Far more than the operations of one transaction of etcd, and its bytes.
    commit(txn((0..5_000).map(|at| put(&format!("many/{at}"), "{}")).collect())).unwrap();
    assert_eq!(etcd.list("many/", None, usize::MAX).objects.len(), 5_000);
    for bytes in [1_600_000, 3_000_000] {
        let large = commit(txn(vec![put("large", &format!("\"{}\"", "x".repeat(bytes)))]));
        assert!(matches!(large, Err(StoreError::TooLarge(_))), "{large:?}");
    }
    assert!(etcd.get("large").is_none());
    // Another one finds it all.
    let other = start(&server, "two");
    assert_eq!(other.list("", None, usize::MAX).objects, etcd.list("", None, usize::MAX).objects);
    let refused = runtime.block_on(other.commit(txn(vec![put("apps/c", "1")])));
    assert!(matches!(refused, Err(StoreError::NotLeading(_))), "{refused:?}");
    let before = term(&etcd).unwrap();
    drop(etcd);
    let after = until("the lead of the other", || term(&other));
    assert!(after > before);
    runtime.block_on(other.commit(txn(vec![put("apps/c", "1")]))).unwrap();
}

#[test]
fn a_write_of_one_that_led_changes_nothing() {
    let server = server();
    let etcd = start(&server, "one");
    let first = until("the lead", || term(&etcd));
    let (runtime, mut gateway) = (runtime(), gateway(&server));
    let shared = Arc::clone(&etcd.handle.shared);
    let tenure = shared.tenure().unwrap();
    runtime.block_on(etcd.commit(txn(vec![put("a", "1")]))).unwrap();
    let key = b64("/here/leader");
    let leader = b64("{\"id\":\"x\",\"name\":\"two\"}");
    let mut ask = |path: &str, body: Value| -> TxnAnswer {
        runtime.block_on(gateway.call(path, &body, Instant::now() + PATIENCE)).unwrap()
    };
    // Its lease runs out, and another one takes the key; unless this one is faster again.
    let taken = json!({
        "compare": [is("/here/leader", Compared::Created, 0)],
        "success": [{ "request_put": { "key": key, "value": leader } }],
    });
    while !ask("/v3/kv/txn", taken.clone()).succeeded {
        ask("/v3/kv/deleterange", json!({ "key": key }));
    }
    // It has not heard of that: as one that was stopped just before it sends.
    let late = Writing { shared: &shared, gateway: &mut gateway, tenure: &tenure };
    let end = runtime.block_on(late.commit(&txn(vec![put("late", "1")]), 1_000));
    assert!(matches!(end, Err(StoreError::NotLeading(_))), "{end:?}");
    let body = json!({ "key": b64("/here/objects/late") });
    let found: Range =
        runtime.block_on(gateway.call("/v3/kv/range", &body, Instant::now() + PATIENCE)).unwrap();
    assert!(found.kvs.is_empty() && etcd.get("late").is_none());
    until("to follow", || {
        let role = etcd.role().borrow().clone();
        matches!(role, Role::Following { leader: Some(leader), .. } if leader.name == "two").then_some(())
    });
    assert!(!etcd.leads());
    // Free again, it is taken again, under a higher term.
    let body = json!({ "key": key });
    let freed = gateway.call::<Nothing>("/v3/kv/deleterange", &body, Instant::now() + PATIENCE);
    runtime.block_on(freed).unwrap();
    let second = until("the lead again", || term(&etcd));
    assert!(second > first);
}

#[test]
fn a_no_behind_a_try_without_an_answer_says_that_there_was_one() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // The first call is refused; the first try of the second one is cut off behind the request.
    let answers = [true, false, true];
    let serving = std::thread::spawn(move || {
        let mut answers = answers.into_iter().peekable();
        while answers.peek().is_some() {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers.by_ref() {
                let mut head = Vec::new();
                while !head.ends_with(b"{}") {
                    let mut byte = [0];
                    std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
                    head.push(byte[0]);
                }
                if !answer {
                    break;
                }
                let no =
                    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 25\r\n\r\n{\"code\":3,\"message\":\"no\"}";
                std::io::Write::write_all(&mut stream, no).unwrap();
            }
        }
    });
    let members = vec![EtcdMember { host: "127.0.0.1".into(), port, secure: false }];
    let places = Arc::new(Places { members, ca: None, identity: None, user: None });
    let (runtime, mut gateway) = (runtime(), Gateway::new(&places));
    for unanswered in [false, true] {
        let end: Result<TxnAnswer, Failure> =
            runtime.block_on(gateway.call("/v3/kv/txn", &json!({}), Instant::now() + PATIENCE));
        assert!(matches!(end, Err(Failure::Refused(_))), "{end:?}");
        assert_eq!(gateway.unanswered, unanswered);
    }
    serving.join().unwrap();
}
