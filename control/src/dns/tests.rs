//! What answers and failures mean, and one real question over UDP.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use ekiden_config::model::{DnsEndpoint, Endpoint, Owner};
use ekiden_config::names::{AppName, ClusterName, EndpointId};

use super::names::{Names, next_ask};
use super::*;
use crate::overlay::ClusterKey;
use crate::placement::removals::Rules;

/// Nothing is ever held.
const FREE: Rules = Rules { share: 100, hold_ms: 0 };
/// More than half is.
const HALF: Rules = Rules { share: 50, hold_ms: 300_000 };

fn place() -> ClusterKey {
    ClusterKey { app: AppName::default_app(), cluster: ClusterName::new("web").unwrap() }
}

fn name(id: Option<&str>, text: &str) -> DnsEndpoint {
    let id = id.map(|id| EndpointId::new(id).unwrap());
    DnsEndpoint { id, name: text.into(), port: 80, weight: 3, zone: Some("z".into()), priority: 1 }
}

fn answer(addresses: &[&str]) -> Result<Answer, ResolveError> {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Ok(Answer { addresses, services: Vec::new(), ttl: Duration::from_secs(30), unknown: None })
}

fn served(names: &mut Names, all: &[DnsEndpoint]) -> Vec<String> {
    let endpoints = names.expand(&place(), all, true);
    assert!(endpoints.iter().all(|endpoint| endpoint.owner == Owner::Source && endpoint.weight == 3));
    endpoints.iter().map(|endpoint| format!("{} {}", endpoint.id, endpoint.address)).collect()
}

#[test]
fn without_an_id_each_record_is_an_endpoint_and_order_means_nothing() {
    let (mut names, web) = (Names::default(), [name(None, "web.test")]);
    let text: Arc<str> = "web.test".into();
    assert!(served(&mut names, &web).is_empty(), "unresolved: empty");
    assert!(names.absorb(&text, answer(&["10.0.0.2", "10.0.0.1", "::1"]), FREE, 1).changed);
    let want = [
        "web.test/10.0.0.1:80 10.0.0.1:80",
        "web.test/10.0.0.2:80 10.0.0.2:80",
        "web.test/[::1]:80 [::1]:80",
    ];
    assert_eq!(served(&mut names, &web), want);
    assert!(!names.absorb(&text, answer(&["::1", "10.0.0.1", "10.0.0.2"]), FREE, 2).changed);
    assert!(names.absorb(&text, answer(&["10.0.0.2"]), FREE, 3).changed);
    assert_eq!(served(&mut names, &web), want[1..2]);
}

#[test]
fn with_an_id_the_address_is_kept_while_the_answer_holds_it() {
    let (mut names, web) = (Names::default(), [name(Some("one"), "web.test")]);
    let text: Arc<str> = "web.test".into();
    for (records, want) in [
        (["10.0.0.5", "10.0.0.7"], "one 10.0.0.5:80"),
        (["10.0.0.1", "10.0.0.5"], "one 10.0.0.5:80"),
        (["10.0.0.1", "10.0.0.2"], "one 10.0.0.1:80"),
        (["10.0.0.5", "10.0.0.1"], "one 10.0.0.1:80"),
    ] {
        names.absorb(&text, answer(&records), FREE, 1);
        assert_eq!(served(&mut names, &web), [want], "{records:?}");
    }
}

#[test]
fn every_failure_keeps_the_last_addresses() {
    let (mut names, web) = (Names::default(), [name(None, "web.test")]);
    let text: Arc<str> = "web.test".into();
    names.absorb(&text, answer(&["10.0.0.1"]), FREE, 1);
    let failures = [
        Err(ResolveError::NoSuchName),
        Err(ResolveError::NoAddress),
        Err(ResolveError::Failed("x".into())),
        answer(&[]),
    ];
    for (at, failure) in failures.into_iter().enumerate() {
        let absorbed = names.absorb(&text, failure, FREE, 10 + at as u64);
        assert!(!absorbed.changed && absorbed.failed.is_some());
        assert_eq!(served(&mut names, &web), ["web.test/10.0.0.1:80 10.0.0.1:80"]);
    }
    let (_, known) = names.known().next().unwrap();
    assert_eq!(known.failing.as_ref().unwrap().1, 10, "failing since the first failure");
    let absorbed = names.absorb(&text, answer(&["10.0.0.1"]), FREE, 20);
    assert!(absorbed.recovered && !absorbed.changed);
}

#[test]
fn a_family_that_could_not_be_asked_keeps_its_addresses() {
    let mut names = Names::default();
    let text: Arc<str> = "web.test".into();
    names.absorb(&text, answer(&["10.0.0.1", "::1"]), FREE, 1);
    let half = Answer {
        addresses: vec!["10.0.0.9".parse().unwrap()],
        services: Vec::new(),
        ttl: Duration::ZERO,
        unknown: Some(Family::V6),
    };
    names.absorb(&text, Ok(half), FREE, 2);
    let known: Vec<String> =
        names.known().next().unwrap().1.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(known, ["10.0.0.9", "::1"]);
}

#[test]
fn two_ports_and_long_names_make_ids_of_their_own() {
    let mut names = Names::default();
    let long = format!("{}.test", ["a".repeat(60).as_str(); 3].join("."));
    names.absorb(&long.as_str().into(), answer(&["10.0.0.1"]), FREE, 1);
    let mut other = name(None, &long);
    other.port = 81;
    let ids = served(&mut names, &[name(None, &long), other]);
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn asks_again_by_ttl_within_bounds_and_ever_slower_after_failures() {
    let ttl = |secs| {
        Ok(Answer {
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            services: Vec::new(),
            ttl: Duration::from_secs(secs),
            unknown: None,
        })
    };
    for (secs, want) in [(0, 1), (30, 30), (86_400, 300)] {
        assert_eq!(next_ask(&ttl(secs), 0), Duration::from_secs(want));
    }
    for (failures, want) in [(1, 1), (2, 2), (5, 16), (6, 30), (1000, 30)] {
        assert_eq!(next_ask(&Err(ResolveError::NoSuchName), failures), Duration::from_secs(want));
    }
}

fn service(priority: u16, weight: u16, target: &str, address: &str) -> Service {
    Service { priority, target: target.into(), address: address.parse().unwrap(), weight }
}

#[test]
fn records_of_a_service_are_endpoints_with_ports_weights_and_groups_of_their_own() {
    let mut names = Names::default();
    let web = DnsEndpoint {
        id: None,
        name: "srv:_http._tcp.web.test".into(),
        port: 0,
        weight: 1,
        zone: None,
        priority: 0,
    };
    let text: Arc<str> = "srv:_http._tcp.web.test".into();
    let mut served = |services: Vec<Service>, groups: bool| -> Vec<String> {
        let told = Answer { addresses: Vec::new(), services, ttl: Duration::ZERO, unknown: None };
        names.absorb(&text, Ok(told), FREE, 1);
        let endpoints = names.expand(&place(), std::slice::from_ref(&web), groups);
        let one = |one: &Arc<Endpoint>| {
            let (weight, group) = (one.weight, one.priority);
            format!("{} {} {weight} {} {group}", one.id, one.address, one.dns_name().unwrap())
        };
        endpoints.iter().map(one).collect()
    };
    let backup = service(20, 9, "c.test", "10.0.0.3:80");
    let all = vec![
        service(10, 60, "a.test", "10.0.0.1:8001"),
        service(10, 0, "b.test", "10.0.0.2:8002"),
        backup.clone(),
        // The same address once more, as a standby of itself.
        service(30, 1, "a.test", "10.0.0.1:8001"),
    ];
    let rows = served(all.clone(), true);
    assert_eq!(
        rows,
        [
            "_http._tcp.web.test/10.0.0.1:8001 10.0.0.1:8001 60 a.test 0",
            "_http._tcp.web.test/10.0.0.2:8002 10.0.0.2:8002 1 b.test 0",
            "_http._tcp.web.test/10.0.0.3:80 10.0.0.3:80 9 c.test 1",
        ]
    );
    assert_eq!(served(all, false), rows[..2], "where keys decide there are no standbys");
    assert_eq!(served(vec![backup], true), ["_http._tcp.web.test/10.0.0.3:80 10.0.0.3:80 9 c.test 0"]);
    let many = (0..10).map(|at| service(at, 1, "t.test", &format!("10.0.1.{at}:80"))).collect();
    let groups: Vec<String> =
        served(many, true).iter().map(|row| row.rsplit(' ').next().unwrap().into()).collect();
    assert_eq!(groups.concat(), "0123456777", "the last group takes in what is left");
    let heavy = [
        (1, 65_535, "a.test", "10.0.0.1:1"),
        (1, 6_553, "b.test", "10.0.0.2:1"),
        (1, 1, "c.test", "10.0.0.3:1"),
    ];
    let weights = served(heavy.map(|(p, w, t, a)| service(p, w, t, a)).to_vec(), true);
    assert!(
        weights[0].contains(" 1000 ") && weights[1].contains(" 99 ") && weights[2].contains(" 1 "),
        "{weights:?}"
    );
}

#[test]
fn what_a_name_loses_at_once_is_kept_until_it_is_confirmed_or_over() {
    let (mut names, web) = (Names::default(), [name(None, "web.test")]);
    let text: Arc<str> = "web.test".into();
    let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
    names.absorb(&text, answer(&all), HALF, 100_000);
    let lost = names.absorb(&text, answer(&all[..1]), HALF, 200_000);
    assert_eq!((lost.changed, lost.held), (false, Some(3)));
    assert_eq!(names.absorb(&text, answer(&all[..1]), HALF, 201_000).held, None, "it is said once");
    assert_eq!(served(&mut names, &web).len(), 4);
    assert_eq!(names.known().next().unwrap().1.status().state, "held");
    // A failure changes nothing about it.
    names.absorb(&text, Err(ResolveError::NoSuchName), HALF, 202_000);
    assert_eq!((served(&mut names, &web).len(), names.due_ms()), (4, Some(500_000)));
    assert!(names.release(HALF, 499_999).is_empty());
    assert_eq!((names.release(HALF, 500_000).len(), served(&mut names, &web).len()), (1, 1));

    names.absorb(&text, answer(&all), HALF, 600_000);
    names.absorb(&text, answer(&all[..1]), HALF, 700_000);
    assert!(names.confirm("web.test", 700_001) && !names.confirm("web.test", 700_002));
    assert_eq!(served(&mut names, &web).len(), 1);
}

/// A name server of a few lines: A records of `web.test`, NXDOMAIN for the rest. Ends with its socket's test.
fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((size, from)) = socket.recv_from(&mut packet) {
            // Header of 12 bytes, the name up to its final zero, then type and class.
            let end = 12 + packet[12..size].iter().position(|byte| *byte == 0).unwrap() + 5;
            let known = packet[12..size].starts_with(b"\x03web\x04test\x00");
            let wants_a = packet[end - 4..end - 2] == [0, 1];
            let mut reply = packet[..end].to_vec();
            let count = if known && wants_a { 2 } else { 0 };
            reply[2..4].copy_from_slice(&[0x84, if known { 0x80 } else { 0x83 }]);
            reply[6..12].copy_from_slice(&[0, count, 0, 0, 0, 0]);
            for last in 1..=count {
                reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 42, 0, 4, 10, 9, 8, last]);
            }
            socket.send_to(&reply, from).unwrap();
        }
    });
    address
}

#[tokio::test]
async fn the_system_resolver_asks_a_real_server() {
    let resolve = system::SystemResolve::new(Some(name_server()));
    let answer = resolve.resolve("web.test".into()).await.unwrap();
    let mut addresses: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
    addresses.sort();
    assert_eq!(addresses, ["10.9.8.1", "10.9.8.2"]);
    assert!(
        answer.ttl > Duration::from_secs(35) && answer.ttl <= Duration::from_secs(42),
        "{:?}",
        answer.ttl
    );
    assert_eq!(answer.unknown, None, "no AAAA record is an answer");
    assert_eq!(resolve.resolve("nobody.test".into()).await, Err(ResolveError::NoSuchName));
    let local = resolve.resolve("localhost".into()).await.unwrap();
    assert!(local.addresses.iter().all(IpAddr::is_loopback), "{local:?}");
    // A server that does not exist: a failure, not an empty answer.
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = system::SystemResolve::new(Some(closed));
    assert!(matches!(nowhere.resolve("web.test".into()).await, Err(ResolveError::Failed(_))));
}

#[test]
fn answers_that_rotate_keep_no_more_than_an_answer_may_have() {
    let (mut names, web) = (Names::default(), [name(None, "web.test")]);
    let text: Arc<str> = "web.test".into();
    let records = |round: usize, count: usize| {
        let all = (0..count).map(|at| format!("10.{round}.{}.{}", at / 250, at % 250));
        all.collect::<Vec<_>>()
    };
    for round in 0..5 {
        let records = records(round, 600);
        let texts: Vec<&str> = records.iter().map(String::as_str).collect();
        names.absorb(&text, answer(&texts), HALF, 1 + round as u64);
        let served = served(&mut names, &web);
        assert!(served.len() <= RECORDS_MAX, "{}", served.len());
        assert!(records.iter().all(|one| served.iter().any(|it| it.ends_with(&format!(" {one}:80")))));
    }
    let (_, known) = names.known().next().unwrap();
    assert_eq!((known.addresses.len(), known.held().len()), (RECORDS_MAX, 400));
    assert!(known.held().iter().all(|one| one.starts_with("10.0.")), "what served first is kept");
}
