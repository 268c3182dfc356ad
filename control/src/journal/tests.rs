//! The journal killed at every byte, damaged, full and rewritten.

use ekiden_config::model::{Endpoint, Owner};
use ekiden_config::names::{AppName, ClusterName, EndpointId};

use super::*;
use crate::address::parse_address;

fn key(id: &str) -> Key {
    Key {
        app: AppName::default_app(),
        cluster: ClusterName::new("web").unwrap(),
        id: EndpointId::new(id).unwrap(),
    }
}

fn put(id: &str, port: u16) -> Record {
    let endpoint = Endpoint {
        id: EndpointId::new(id).unwrap(),
        address: parse_address(&format!("127.0.0.1:{port}")).unwrap(),
        weight: 7,
        zone: Some("zone/1".into()),
        drain: port.is_multiple_of(2),
        release: None,
        dns_name: None,
        owner: Owner::Api,
    };
    Record::Put(key(id), std::sync::Arc::new(endpoint))
}

fn open(dir: &Path) -> Opened {
    Journal::open(dir).unwrap()
}

/// A journal after each of some appends: its bytes, and the state that was acknowledged.
fn written(dir: &Path) -> Vec<(Vec<u8>, Overlay)> {
    let mut opened = open(dir);
    let appends = [
        vec![put("a", 3000)],
        vec![put("b", 3001), put("c", 3002)],
        vec![Record::Mark(key("file"), true)],
        vec![Record::Delete(key("a")), put("b", 3005)],
        vec![Record::Unmark(key("file")), put("d", 3003)],
    ];
    let file = dir.join(NAME);
    let mut steps = vec![(fs::read(&file).unwrap(), Overlay::default())];
    let mut state = Overlay::default();
    for records in appends {
        opened.journal.append(&records).unwrap();
        records.iter().for_each(|record| state.apply(record));
        steps.push((fs::read(&file).unwrap(), state.clone()));
    }
    steps
}

#[test]
fn cut_at_every_byte_it_reopens_to_the_last_whole_records_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let steps = written(dir.path());
    let whole = &steps.last().unwrap().0;
    for cut in 0..=whole.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), &whole[..cut]).unwrap();
        let mut opened = open(dir.path());
        // At least what was acknowledged by then; of a group cut in two the first part may stand.
        let at = steps.iter().rposition(|(bytes, _)| bytes.len() <= cut.max(frame::HEADER.len())).unwrap();
        if steps[at].0.len() == cut {
            assert_eq!(opened.overlay, steps[at].1, "cut at {cut}");
        }
        let kept = frame::split(&whole[..cut]).payloads.len();
        let acknowledged = frame::split(&steps[at].0).payloads.len();
        assert!(kept >= acknowledged, "cut at {cut}");
        assert_eq!(opened.loud, None, "a torn tail is no damage: {cut}");
        opened.journal.append(&[put("z", 3999)]).unwrap();
        let mut want = opened.overlay.clone();
        want.apply(&put("z", 3999));
        drop(opened);
        assert_eq!(open(dir.path()).overlay, want, "after going on at {cut}");
    }
}

#[test]
fn a_flipped_bit_never_yields_a_wrong_record() {
    let dir = tempfile::tempdir().unwrap();
    let steps = written(dir.path());
    let (whole, last) = steps.last().unwrap();
    let payloads: Vec<Vec<u8>> =
        frame::split(whole).payloads.iter().map(|payload| payload.to_vec()).collect();
    for at in 0..whole.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(dir.path().join(NAME), &bytes).unwrap();
        let split = frame::split(&bytes);
        assert_ne!(split.tail, frame::Tail::Clean);
        // What is kept is a prefix of what was written.
        assert!(split.payloads.iter().zip(&payloads).all(|(kept, written)| kept == written), "{at}");
        let opened = open(dir.path());
        assert_ne!(&opened.overlay, last, "{at}");
        if split.tail == frame::Tail::Damaged {
            let loud = opened.loud.unwrap();
            assert!(loud.contains("a copy is kept"), "{loud}");
            let aside = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
            let aside = aside.into_iter().find(|path| path.to_string_lossy().contains("damaged")).unwrap();
            assert_eq!(fs::read(aside).unwrap(), bytes);
        }
    }
}

#[test]
fn damage_in_the_middle_is_told_from_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let steps = written(dir.path());
    let mut bytes = steps.last().unwrap().0.clone();
    bytes[steps[1].0.len() + 10] ^= 1;
    fs::write(dir.path().join(NAME), &bytes).unwrap();
    let opened = open(dir.path());
    assert_eq!(opened.overlay, steps[1].1);
    assert!(opened.loud.unwrap().contains("damaged at byte"));
}

#[test]
fn a_failed_write_changes_nothing_now_or_later() {
    let dir = tempfile::tempdir().unwrap();
    // ENOSPC, EDQUOT and EIO on Linux.
    for (code, full) in [(28, true), (122, true), (5, false)] {
        let mut opened = open(dir.path());
        opened.journal.append(&[put("a", 3000)]).unwrap();
        let before = open(dir.path()).overlay;
        opened.journal.fault = Some(code);
        let error = opened.journal.append(&[put("b", 3001)]).unwrap_err();
        assert_eq!(matches!(error, JournalError::Full(_)), full, "{error:?}");
        assert_eq!(open(dir.path()).overlay, before);
        opened.journal.append(&[put("c", code as u16)]).unwrap();
        assert_eq!(
            open(dir.path()).overlay.endpoint_count(),
            before.endpoint_count() + usize::from(code == 28)
        );
    }
}

#[test]
fn after_a_failed_sync_it_is_rewritten_before_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path());
    opened.journal.append(&[put("a", 3000)]).unwrap();
    opened.journal.broken = true;
    fs::write(dir.path().join(NAME), b"what the kernel made of it").unwrap();
    opened.journal.append(&[put("b", 3001)]).unwrap();
    assert_eq!(open(dir.path()).overlay.endpoint_count(), 2);
}

#[test]
fn it_is_rewritten_when_most_of_it_is_history() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path());
    let mut state = Overlay::default();
    while !opened.journal.wants_compaction() {
        let records: Vec<Record> = (0..100).map(|n| put("a", 3000 + n)).collect();
        opened.journal.append(&records).unwrap();
        records.iter().for_each(|record| state.apply(record));
        assert!(opened.journal.len() < 10 << 20, "it never wants to");
    }
    let before = opened.journal.len();
    opened.journal.compact().unwrap();
    assert!(opened.journal.len() * 100 < before);
    assert!(!opened.journal.wants_compaction());
    opened.journal.append(&[Record::Mark(key("m"), false)]).unwrap();
    state.apply(&Record::Mark(key("m"), false));
    assert_eq!(open(dir.path()).overlay, state);
}

#[test]
fn something_else_is_not_taken_for_a_journal() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(NAME), b"hello, I am a text file").unwrap();
    let opened = open(dir.path());
    assert_eq!(opened.overlay, Overlay::default());
    assert!(opened.loud.is_some());
}
