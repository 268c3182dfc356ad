//! Values of fields, queries, hosts and marks, as clients and endpoints send them: reading never panics, what is read reads the same
//! when it is written again, and nobody makes a mark of affinity without the key.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ekiden_config::model::{
    AffinityCookie, Carrier, Cost, KeyPart, Limit, LimitFields, LimitUnit, MissingKey, Rate, SameSite,
};
use ekiden_config::names::{AppName, ClusterName};
use ekiden_core::cell::load::Load;
use ekiden_core::grpc::status::GrpcStatus;
use ekiden_core::grpc::{Kind, timeout};
use ekiden_core::host::{HOST_MAX, host_of};
use ekiden_core::policy::limit::{Asked, LimitPlace, Limiters, Maker, Takes, Turn, give_back, take};
use ekiden_core::resilience::deadline;
use ekiden_core::{cookie, query};
use ekiden_router::affinity::{Keys, MARK_TEXT, Mark, Opened};
use ekiden_router::exchange::affinity::{field_without, read_head};
use ekiden_router::exchange::evidence::retry_after;
use ekiden_router::head::Head;
use ekiden_router::wire::is_value_byte;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    numbers(data);
    cookies(data);
    if let Ok(text) = std::str::from_utf8(data) {
        queries(text);
    }
    hosts(data);
    marks(data);
    limits(data);
});

/// Deadlines, times, loads and statuses.
fn numbers(data: &[u8]) {
    if let Some(time) = deadline::asked(data.split(|byte| *byte == b',')) {
        assert!(time <= Duration::from_millis(9_999_999_999));
    }
    if let Some(us) = timeout::read(data) {
        let again = timeout::read(timeout::write(us).as_bytes());
        assert!(again.is_some_and(|again| again <= us), "{us} us");
    }
    if let Some(load) = Load::parse(data) {
        assert_eq!(Load::parse(load.to_string().as_bytes()), Some(load));
    }
    let status = GrpcStatus::read(data);
    assert_eq!(GrpcStatus::at(status.number()), Some(status));
    if let Some((_, rest)) = Kind::of(data) {
        assert!(matches!(rest.first(), None | Some(b'+')));
    }
    if data.iter().copied().all(is_value_byte) {
        let mut head = Head::default();
        head.append(b"Retry-After", data);
        let _wait = retry_after(&head, 1_700_000_000_000_000);
    }
}

fn carrier(name: &str) -> Carrier {
    let words = AffinityCookie {
        name: Arc::from(name),
        path: Arc::from("/"),
        same_site: SameSite::Lax,
        secure: None,
    };
    Carrier::Cookie(words)
}

fn cookies(data: &[u8]) {
    for value in cookie::values(data, "a") {
        assert!(!value.contains(&b';'), "{value:?}");
    }
    let count = cookie::values(data, "b").count();
    let carrier = carrier("a");
    if let Some(left) = field_without(&carrier, b"Cookie", data) {
        assert_eq!(cookie::values(&left, "a").count(), 0, "{left:?}");
        assert_eq!(cookie::values(&left, "b").count(), count, "{left:?}");
    }
    let mut head = Head::default();
    head.append(b"Cookie", data);
    let carried = read_head(&head, &carrier, |_| None);
    assert_eq!(carried.is_there, cookie::values(data, "a").next().is_some());
}

fn queries(text: &str) {
    for part in query::parameters(text).flat_map(|(name, value)| [name, value]) {
        let mut runs = Vec::new();
        query::each_octet_run(part, &mut |run| runs.extend_from_slice(run));
        let decoded = query::decoded(part);
        assert_eq!(decoded.as_deref().unwrap_or(part.as_bytes()), runs);
        if let Ok(meant) = std::str::from_utf8(&runs) {
            assert!(query::is_text(part, meant), "{part:?}");
        }
    }
}

fn hosts(data: &[u8]) {
    let (mut first, mut second) = (String::new(), String::new());
    let Ok(authority) = host_of(data, &mut first) else { return };
    let host = authority.host;
    assert!(!host.is_empty() && host.len() <= HOST_MAX && !host.bytes().any(|b| b.is_ascii_uppercase()));
    assert_eq!(host_of(host.as_bytes(), &mut second).map(|again| again.host), Ok(host));
    let written = format!("{host}:{}", authority.port.unwrap_or(80));
    let again = host_of(written.as_bytes(), &mut second);
    assert!(again.is_ok_and(|again| again.same_as(&authority, 80)));
}

static MARKS: LazyLock<(Keys, AppName, ClusterName)> = LazyLock::new(|| {
    let keys = Keys::read("0123456789abcdef".repeat(4).as_bytes(), Vec::new()).unwrap();
    (keys, AppName::default_app(), ClusterName::new("web").unwrap())
});

fn marks(data: &[u8]) {
    let (keys, app, cluster) = &*MARKS;
    let mark = Mark { endpoint: 7, end_s: 100 };
    let good = keys.seal((app, cluster), mark, 1).unwrap().into_bytes();
    assert_eq!(good.len(), MARK_TEXT);
    let opened = Opened { mark, is_current: true };
    assert_eq!(keys.open((app, cluster), &good, 99), Some(opened));
    // Nobody has the key: neither what came nor what it makes of a good one is a mark.
    let mut bent = good.clone();
    for pair in data.chunks_exact(2) {
        let at = usize::from(pair[0]) % bent.len();
        bent[at] = pair[1];
    }
    for text in [data, &bent] {
        assert_eq!(keys.open((app, cluster), text, 99).is_some(), text == good);
    }
}

/// One limit by each key that a client writes, and one by several.
static LIMITS: LazyLock<Limiters> = LazyLock::new(|| {
    let name = || Arc::from("a");
    let keys = [
        vec![KeyPart::Cookie(name())],
        vec![KeyPart::Query(name())],
        vec![KeyPart::Header(name())],
        vec![KeyPart::Path(2)],
        vec![KeyPart::Client, KeyPart::Host, KeyPart::WholePath, KeyPart::WholeQuery],
    ];
    let limit = |(at, key): (usize, Vec<KeyPart>)| Limit {
        name: Arc::from(format!("limit-{at}")),
        unit: LimitUnit::Rate,
        rate: Rate { count: 1, per: Duration::from_secs(3_600), burst: 10 },
        key,
        missing: MissingKey::Share,
        cost: Cost { header: Some(Arc::from("cost")), least: 1, most: 10, ..Cost::default() },
        except: Vec::new(),
        shadow: false,
        fields: LimitFields::Never,
        keys: 64,
        shared: None,
    };
    let all: Vec<Limit> = keys.into_iter().enumerate().map(limit).collect();
    Limiters::new(&all, &LimitPlace::default(), None, Maker { workers: 1, seed: [1, 2] })
});

/// Lines of the input are path, query, cookie, header and cost.
fn limits(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut text = || lines.next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or("");
    let (path, query) = (text(), text());
    let mut head = Head::default();
    for name in [&b"Cookie"[..], b"a", b"cost"] {
        head.append(name, text().as_bytes());
    }
    let asked = Asked {
        client: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host: "a",
        method: "GET",
        path,
        query,
        fields: &head,
        api_key: None,
        client_cert: None,
    };
    let turn = Turn { worker: 0, now_ns: 1_000_000 };
    for limit in LIMITS.list() {
        let mut takes = Takes::new();
        let one = std::slice::from_ref(limit);
        // What is given back can be taken again: nothing else happens at this moment.
        assert!(take(one, &asked, turn, &mut takes).is_ok(), "{}", limit.words.name);
        give_back(&mut takes);
    }
}
