//! Tests of TLS without sockets: certificates, the index, tickets, and the hub over real files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use ekiden_config::{Format, HostOwners, Input, Source};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::ProducesTickets;

use super::certificate::{Age, Certificate, Fault, Rank, SOON_S};
use super::hub::Hub;
use super::store::Index;
use super::tickets::{LIFETIME_S, OwnSecrets, ROTATE_S, Secret, Tickets, parse_secrets, unix_s};

fn rank(number: u32) -> Rank {
    Rank { source: number, ordinary: false, stem: "".into() }
}

fn pem(names: &[&str], key: &KeyPair) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).unwrap().self_signed(key).unwrap().pem()
}

fn certificate(names: &[&str], number: u32) -> Arc<Certificate> {
    let key = KeyPair::generate().unwrap();
    let (cert, key) = (pem(names, &key), key.serialize_pem());
    Arc::new(Certificate::new(cert.as_bytes(), key.as_bytes(), rank(number), &default_provider()).unwrap())
}

#[test]
fn what_a_certificate_covers() {
    let certificate = certificate(&["a.test", "*.b.test", "127.0.0.1", "::1"], 0);
    for (host, covered) in [
        ("a.test", true),
        ("x.b.test", true),
        ("b.test", false),
        ("x.y.b.test", false),
        (".b.test", false),
        ("xa.test", false),
        ("127.0.0.1", true),
        ("127.0.0.2", false),
        ("::1", true),
        ("", false),
        ("*.b.test", true),
    ] {
        assert_eq!(certificate.covers(host), covered, "{host:?}");
    }
    let now_s = unix_s();
    let mut aged = Certificate { not_before: now_s - 10, ..Arc::into_inner(certificate).unwrap() };
    for (left_s, age) in [
        (SOON_S + 1, Age::Good),
        (SOON_S - 1, Age::Ending(13)),
        (1, Age::Ending(0)),
        (0, Age::Expired),
        (-1, Age::Expired),
    ] {
        aged.not_after = now_s + left_s;
        assert_eq!(aged.age(now_s), age, "{left_s}");
    }
    aged.not_before = now_s + 5;
    aged.not_after = now_s + 10;
    assert_eq!(aged.age(now_s), Age::Early);
}

#[test]
fn an_index_changes_by_name() {
    let all: Vec<_> = [&["a.test", "b.test"][..], &["*.c.test"], &["b.test", "x.c.test"]]
        .iter()
        .enumerate()
        .map(|(number, names)| certificate(names, number as u32))
        .collect();
    let index = Index::default().changed(&[], &all, all.first());
    let first = |index: &Index, host: &str| index.find(host).and_then(|slot| slot.iter().next().cloned());
    let is = |index: &Index, host: &str, number: Option<usize>| {
        let found = first(index, host);
        let same = match number {
            Some(number) => found.is_some_and(|found| Arc::ptr_eq(&found, &all[number])),
            None => found.is_none(),
        };
        assert!(same, "{host}");
    };
    for (host, number) in [
        ("a.test", Some(0)),
        ("b.test", Some(0)),
        ("y.c.test", Some(1)),
        ("x.c.test", Some(2)),
        ("c.test", None),
        ("x.y.c.test", None),
        ("", None),
        (".", None),
        ("test", None),
    ] {
        is(&index, host, number);
    }
    // Without the first, its names go to others or to nobody; the index before is what it was.
    let fewer = index.changed(&all[..1], &[], all.get(1));
    is(&fewer, "a.test", None);
    is(&fewer, "b.test", Some(2));
    is(&index, "a.test", Some(0));
    assert_eq!((index.count, fewer.count), (3, 2));
    assert!(Arc::ptr_eq(fewer.default_slot().iter().next().unwrap(), &all[1]));
    // A change back gives back.
    let again = fewer.changed(&[], &all[..1], all.first());
    is(&again, "b.test", Some(0));
}

#[test]
fn keys_that_do_not_fit_are_told_apart() {
    let (one, two) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let good = pem(&["a.test"], &one);
    let make = |cert: &str, key: &str| {
        Certificate::new(cert.as_bytes(), key.as_bytes(), rank(0), &default_provider()).err()
    };
    let key = one.serialize_pem();
    assert_eq!(make(&good, &key), None);
    assert_eq!(make(&good, &two.serialize_pem()), Some(Fault::Mismatch));
    assert_eq!(make(&good, ""), Some(Fault::NoKey));
    assert_eq!(make("", &key), Some(Fault::NoCertificate));
    assert_eq!(make(&good.repeat(17), &key), Some(Fault::ChainTooLong));
    // The key may stand in the same file, before or behind the certificate.
    assert_eq!(make(&format!("{key}{good}"), &format!("{good}{key}")), None);
}

static NOW_S: AtomicI64 = AtomicI64::new(1_000_000);

fn clock() -> i64 {
    NOW_S.load(Ordering::Relaxed)
}

#[test]
fn tickets_open_for_their_own_setting_and_time() {
    let (secret, other) = (Secret::new().unwrap(), Secret::new().unwrap());
    let one = Tickets::with_clock("edge", std::slice::from_ref(&secret), clock);
    let ticket = one.encrypt(b"session").unwrap();
    assert_eq!(one.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    assert_ne!(one.encrypt(b"session"), Some(ticket.clone()), "a nonce is used once");
    // Another setting with the same secret, another secret, and any changed byte.
    let elsewhere = Tickets::with_clock("other", std::slice::from_ref(&secret), clock);
    assert_eq!(elsewhere.decrypt(&ticket), None);
    assert_eq!(Tickets::with_clock("edge", std::slice::from_ref(&other), clock).decrypt(&ticket), None);
    for at in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[at] ^= 1;
        assert_eq!(one.decrypt(&changed), None, "byte {at}");
        assert_eq!(one.decrypt(&ticket[..at]), None, "cut at {at}");
    }
    // A newer key first: the old ticket still opens, until its key goes.
    one.set(&[other.clone(), secret]);
    assert!(one.decrypt(&ticket).is_some());
    // The end of its time, whatever its key.
    NOW_S.fetch_add(i64::from(LIFETIME_S) - 1, Ordering::Relaxed);
    assert!(one.decrypt(&ticket).is_some());
    NOW_S.fetch_add(1, Ordering::Relaxed);
    assert_eq!(one.decrypt(&ticket), None);
    one.set(&[other]);
    assert_eq!(one.decrypt(&ticket), None);
}

#[test]
fn own_secrets_rotate() {
    let mut own = OwnSecrets::default();
    assert!(own.rotate(0) && !own.rotate(ROTATE_S - 1));
    let first = own.all()[0].clone();
    assert!(own.rotate(ROTATE_S) && own.rotate(2 * ROTATE_S));
    assert_eq!(own.all().last(), Some(&first), "a ticket of the first key may still be good");
    assert!(own.rotate(3 * ROTATE_S));
    assert!(own.all().len() == 3 && !own.all().contains(&first));
    assert_eq!(format!("{:?}", own.all()[0]), "Secret(..)");
}

#[test]
fn secrets_of_a_file() {
    let hex = "00".repeat(31) + "ff";
    let base64 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAP8=";
    let parsed = parse_secrets(format!("# two\n{hex}\n\n  {base64}  \n").as_bytes()).unwrap();
    assert!(parsed.len() == 2 && parsed[0] == parsed[1], "both forms of the same bytes");
    for (text, words) in [
        ("", "no key"),
        ("# only words\n", "no key"),
        ("abc", "line 1 is not 32 bytes"),
        (&hex[2..], "line 1 is not 32 bytes"),
        (&format!("{hex}\n{hex}00"), "line 2 is not 32 bytes"),
        (&format!("{hex}\n").repeat(17), "more than 16"),
    ] {
        let error = parse_secrets(text.as_bytes()).unwrap_err();
        assert!(error.contains(words) && !error.contains("0000"), "{text:?}: {error}");
    }
}

fn model(text: &str) -> Arc<ekiden_config::model::Model> {
    let source = Source { file: "ekiden.toml".to_owned(), text: text.to_owned(), format: Format::Toml };
    let hosts = HostOwners::default();
    ekiden_config::build(Input { main: &source, apps: &[], previous: None, hosts: &hosts }).unwrap().model
}

/// Certificates in a directory; the number comes from the environment where a person wants to measure.
#[test]
fn many_certificates_are_loaded_and_one_more_is_a_small_change() {
    let count: usize = std::env::var("EKIDEN_CERTIFICATES").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("certificates")).unwrap();
    let at = |stem: &str| dir.path().join("certificates").join(stem);
    let key = KeyPair::generate().unwrap();
    let write = |number: usize| {
        let name = format!("host-{number}.test");
        let chain = pem(&[&name, &format!("*.{name}")], &key);
        fs::write(at(&format!("{number}.pem")), chain.repeat(2)).unwrap();
        fs::write(at(&format!("{number}.key")), key.serialize_pem()).unwrap();
    };
    (0..count).for_each(write);
    let model = model("[listener.edge]\naddress = \"127.0.0.1:1\"\ntls = { dir = \"certificates\" }\n");
    let hub = Hub::new(dir.path().to_owned());
    let (begun, before) = (Instant::now(), resident());
    assert_eq!(hub.apply(&model), []);
    let (took, grown) = (begun.elapsed(), resident().saturating_sub(before));
    let edge = Arc::clone(hub.listeners.load().values().next().unwrap());
    assert_eq!(edge.index().count, count);
    let each = grown / count;
    println!("{count} certificates: {took:?}, {each} bytes each");
    assert!(each < 8 << 10 || count < 2_000, "{each} bytes each");
    let held: BTreeSet<usize> = addresses(&edge.index());
    write(count);
    let begun = Instant::now();
    hub.refresh(false);
    println!("one more: {:?}", begun.elapsed());
    let now = edge.index();
    assert!(now.find(&format!("host-{count}.test")).is_some() && now.find("x.host-7.test").is_some());
    let kept = addresses(&now).intersection(&held).count();
    assert_eq!(kept, count, "every other certificate is the one it was");
    assert!(took < Duration::from_secs(60));
}

fn addresses(index: &Index) -> BTreeSet<usize> {
    let hosts = (0..index.count).map(|number| format!("host-{number}.test"));
    let found =
        hosts.filter_map(|host| index.find(&host).and_then(|slot| slot.iter().next()).map(Arc::as_ptr));
    found.map(|pointer| pointer as usize).collect()
}

fn resident() -> usize {
    let text = fs::read_to_string(Path::new("/proc/self/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
