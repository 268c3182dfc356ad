//! The journal killed at every byte, damaged, full, rewritten, and read from the format before.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::disk::{Disk, NAME};
use super::state::{Draft, State};
use super::*;

fn put(key: &str, value: &str) -> Write {
    Write { key: Arc::from(key), value: Some(Arc::from(value)) }
}

fn delete(key: &str) -> Write {
    Write { key: Arc::from(key), value: None }
}

fn commit(journal: &Journal, txn: Txn) -> Result<Revision, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.commit(txn))
}

fn write(journal: &Journal, writes: Vec<Write>) -> Revision {
    commit(journal, Txn { when: Vec::new(), writes }).unwrap()
}

fn open(dir: &Path) -> (Journal, Option<String>) {
    Journal::open(dir).unwrap()
}

fn all(journal: &Journal) -> Vec<Object> {
    journal.list("", None, usize::MAX).objects
}

/// A journal after each of some transactions: its bytes, and the objects that were acknowledged.
fn written(dir: &Path) -> Vec<(Vec<u8>, Vec<Object>)> {
    let (journal, _) = open(dir);
    let transactions = [
        vec![put("a", r#"{"n":1}"#)],
        vec![put("b", r#"{"n":2}"#), put("c", r#"[1,2,"three"]"#)],
        vec![put("a", r#"{"n":3}"#), delete("nothing")],
        vec![delete("b"), put("d", "true")],
        vec![delete("a")],
    ];
    let file = dir.join(NAME);
    let mut steps = vec![(fs::read(&file).unwrap(), Vec::new())];
    for writes in transactions {
        write(&journal, writes);
        steps.push((fs::read(&file).unwrap(), all(&journal)));
    }
    steps
}

#[test]
fn cut_at_every_byte_it_reopens_to_the_last_whole_transaction_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let steps = written(dir.path());
    let whole = &steps.last().unwrap().0;
    for cut in 0..=whole.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), &whole[..cut]).unwrap();
        let (journal, loud) = open(dir.path());
        let acknowledged = steps.iter().rfind(|(bytes, _)| bytes.len() <= cut.max(frame::HEADER.len()));
        let acknowledged = &acknowledged.unwrap().1;
        assert_eq!(all(&journal), *acknowledged, "cut at {cut}: a transaction is whole or absent");
        assert_eq!(loud, None, "a torn tail is no damage: {cut}");
        write(&journal, vec![put("z", "1")]);
        let want = all(&journal);
        drop(journal);
        assert_eq!(all(&open(dir.path()).0), want, "after going on at {cut}");
    }
}

#[test]
fn a_flipped_bit_never_yields_a_wrong_object() {
    let dir = tempfile::tempdir().unwrap();
    let steps = written(dir.path());
    let (whole, last) = steps.last().unwrap();
    for at in 0..whole.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(dir.path().join(NAME), &bytes).unwrap();
        let (journal, loud) = open(dir.path());
        let found = all(&journal);
        assert!(steps.iter().any(|(_, objects)| *objects == found), "{at}: what is kept was once in force");
        assert_ne!(found, *last, "{at}");
        if frame::split(&bytes).tail == frame::Tail::Damaged {
            let loud = loud.unwrap();
            assert!(loud.contains("a copy is kept"), "{loud}");
            let aside = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
            let aside = aside.into_iter().find(|path| path.to_string_lossy().contains("damaged")).unwrap();
            assert_eq!(fs::read(aside).unwrap(), bytes);
        }
    }
}

#[test]
fn a_snapshot_that_is_not_whole_is_damage_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let (mut disk, state, _) = Disk::open(dir.path()).unwrap();
    disk.rewrite(&state).unwrap();
    let whole = fs::read(dir.path().join(NAME)).unwrap();
    let head = frame::HEADER.len() + frame::size(&entry::of_snapshot(5, 2).unwrap()) as usize;
    for cut in head..whole.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), &whole[..cut]).unwrap();
        let (journal, loud) = open(dir.path());
        assert!(loud.unwrap().contains("of its snapshot are not there"), "cut at {cut}");
        let kept = all(&journal).len();
        write(&journal, vec![put("z", "1")]);
        drop(journal);
        let (journal, loud) = open(dir.path());
        assert_eq!((all(&journal).len(), loud), (kept + 1, None), "what was kept is whole again: {cut}");
    }
}

#[test]
fn only_the_first_of_two_who_read_the_same_revision_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let on = |key: &str, modified: Revision, value: &str| Txn {
        when: vec![(Arc::from(key), modified)],
        writes: vec![put(key, value)],
    };
    assert_eq!(commit(&journal, on("a", 0, "1")), Ok(1));
    let lost = StoreError::Conflict { key: Arc::from("a"), modified: 1 };
    assert_eq!(commit(&journal, on("a", 0, "2")), Err(lost));
    assert_eq!(commit(&journal, on("a", 1, "3")), Ok(2));
    let lost = StoreError::Conflict { key: Arc::from("a"), modified: 2 };
    assert_eq!(commit(&journal, on("a", 1, "4")), Err(lost));
    let object = journal.get("a").unwrap();
    assert_eq!((&*object.value, object.created, object.modified), ("3", 1, 2));
    assert_eq!(journal.revision(), 2, "a refused one takes no revision");
}

#[test]
fn those_that_wait_are_written_together_and_judged_in_order() {
    let state = State::default();
    let mut draft = Draft::default();
    let txn = |key: &str, modified: Revision| Txn {
        when: vec![(Arc::from(key), modified)],
        writes: vec![put(key, "1")],
    };
    assert_eq!(draft.judge(&state, &txn("a", 0)), Ok(1));
    assert!(matches!(draft.judge(&state, &txn("a", 0)), Err(StoreError::Conflict { modified: 1, .. })));
    assert_eq!(draft.judge(&state, &txn("a", 1)), Ok(2));
    assert_eq!(draft.judge(&state, &txn("b", 0)), Ok(3));
    let bad = Txn { when: Vec::new(), writes: vec![put("c", "not json")] };
    assert!(matches!(draft.judge(&state, &bad), Err(StoreError::TooLarge(_))));
    let long = Txn { when: Vec::new(), writes: vec![put("c", &format!("\"{}\"", "x".repeat(VALUE_MAX)))] };
    assert!(matches!(draft.judge(&state, &long), Err(StoreError::TooLarge(_))));
    assert_eq!(draft.accepted.len(), 3);
}

#[test]
fn a_failed_write_changes_nothing_now_or_later() {
    // ENOSPC, EDQUOT and EIO on Linux.
    for (code, full) in [(28, true), (122, true), (5, false)] {
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, mut state, _) = Disk::open(dir.path()).unwrap();
        let mut append = |disk: &mut Disk, key: &str| {
            let mut draft = Draft::default();
            draft.judge(&state, &Txn { when: Vec::new(), writes: vec![put(key, "1")] }).unwrap();
            let end = disk.append(&draft.block, &state);
            if end.is_ok() {
                draft.accepted.into_iter().for_each(|(revision, writes)| state.apply(revision, writes));
            }
            end
        };
        append(&mut disk, "a").unwrap();
        disk.fault = Some(code);
        let error = append(&mut disk, "b").unwrap_err();
        assert_eq!(matches!(error, StoreError::Full(_)), full, "{error:?}");
        append(&mut disk, "c").unwrap();
        // After a failed sync it is rewritten before it is used.
        disk.broken = true;
        fs::write(dir.path().join(NAME), b"what the kernel made of it").unwrap();
        append(&mut disk, "d").unwrap();
        let keys: Vec<String> =
            all(&open(dir.path()).0).iter().map(|object| object.key.to_string()).collect();
        assert_eq!(keys, ["a", "c", "d"]);
    }
}

#[test]
fn room_ahead_is_nothing_to_a_start_after_a_kill_and_gone_after_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAME);
    let (journal, _) = open(dir.path());
    let mut sizes = std::collections::BTreeSet::new();
    for n in 0..600 {
        // Unlike each other, so that it is not rewritten.
        write(&journal, vec![put(&format!("key-{n}"), &"9".repeat(n % 500 + 1))]);
        sizes.insert(fs::metadata(&path).unwrap().len());
    }
    let grown = sizes.iter().filter(|size| **size >= 16 << 10).count();
    assert!((2..=4).contains(&grown), "from 16 KiB on, a write seldom makes the file larger: {grown} times");
    let (want, killed) = (all(&journal), fs::read(&path).unwrap());
    let whole = frame::split(&killed).whole;
    assert!(killed.len() > whole + 1024, "there is room to look at");
    drop(journal);
    assert_eq!(fs::read(&path).unwrap(), killed[..whole]);
    let check = |bytes: &[u8], want: &[Object], what: &str| {
        fs::write(&path, bytes).unwrap();
        let (journal, loud) = open(dir.path());
        assert!(all(&journal) == want, "{what}: not as it was");
        assert_eq!(loud, None, "{what}");
        write(&journal, vec![put("z", "1")]);
        let goes_on = all(&journal);
        drop(journal);
        assert!(all(&open(dir.path()).0) == goes_on, "{what}: does not go on");
    };
    check(&killed, &want, "killed between two writes");
    check(&killed[..whole + 1], &want, "most of the room never got to the disk");
    // A write that got to the disk in part: what is behind it is zero still.
    let last = *frame::split(&killed).starts.last().unwrap();
    let before: Vec<Object> = want.into_iter().filter(|object| &*object.key != "key-599").collect();
    for torn in (last..last + 12).chain([whole - 1]) {
        let mut bytes = killed.clone();
        bytes[torn..].fill(0);
        check(&bytes, &before, &format!("torn at {torn} of {last} to {whole}"));
    }
}

#[test]
fn a_rewrite_that_fails_after_its_rename_loses_nothing_that_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disk, mut state, _) = Disk::open(dir.path()).unwrap();
    let mut append = |disk: &mut Disk, key: &str, faulty: bool| {
        let mut draft = Draft::default();
        draft.judge(&state, &Txn { when: Vec::new(), writes: vec![put(key, "1")] }).unwrap();
        disk.dir_fault = faulty.then_some(5);
        let end = disk.append(&draft.block, &state);
        if end.is_ok() {
            draft.accepted.into_iter().for_each(|(revision, writes)| state.apply(revision, writes));
        }
        end.is_ok()
    };
    assert!(append(&mut disk, "a", false));
    let snapshot = super::disk::read(&fs::read(dir.path().join(NAME)).unwrap()).state;
    disk.dir_fault = Some(5);
    disk.rewrite(&snapshot).unwrap_err();
    let found = || -> Vec<String> {
        let state = super::disk::read(&fs::read(dir.path().join(NAME)).unwrap()).state;
        state.objects().keys().map(ToString::to_string).collect()
    };
    assert!(!append(&mut disk, "b", true), "it is not trusted before its directory is synced");
    assert_eq!(found(), ["a"]);
    assert!(append(&mut disk, "c", false));
    assert_eq!(found(), ["a", "c"], "what is acknowledged is where a restart looks");
}

#[test]
fn a_file_that_cannot_be_copied_aside_is_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = written(dir.path()).pop().unwrap().0;
    bytes[frame::HEADER.len() + 10] ^= 0x10;
    fs::write(dir.path().join(NAME), &bytes).unwrap();
    let full = Disk::open_with(dir.path(), |_| Err(std::io::Error::from_raw_os_error(28))).unwrap_err();
    assert!(full.to_string().contains("could not be copied aside"), "{full}");
    assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), bytes);
    let (_, loud) = open(dir.path());
    assert!(loud.unwrap().contains("a copy is kept"));
}

#[test]
fn a_journal_of_a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = b"EKIJRNL3".to_vec();
    bytes.extend_from_slice(b"what a later version makes of it");
    fs::write(dir.path().join(NAME), &bytes).unwrap();
    for error in [Journal::open(dir.path()).unwrap_err(), peek(dir.path(), "").unwrap_err()] {
        assert!(error.to_string().contains("written by another version"), "{error}");
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((names, fs::read(dir.path().join(NAME)).unwrap()), (vec![NAME.into()], bytes));
}

#[test]
fn the_writer_holds_the_run_directory_as_long_as_it_may_write() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = crate::rundir::RunDir::open(dir.path()).unwrap();
    let (journal, _) = Journal::open_held(dir.path(), Some(run_dir.lock())).unwrap();
    drop(run_dir);
    assert!(crate::rundir::RunDir::open(dir.path()).is_err(), "another would write beside it");
    drop(journal);
    crate::rundir::RunDir::open(dir.path()).unwrap();
}

#[test]
fn it_is_rewritten_when_most_of_it_is_history_and_keeps_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let mut largest = 0;
    while journal.bytes() >= largest {
        largest = journal.bytes();
        write(&journal, (0..100).map(|n| put("a", &n.to_string())).collect());
        // The size is noted after the answer.
        write(&journal, vec![put("b", "0")]);
        assert!(largest < 10 << 20, "it is never rewritten");
    }
    let (objects, revision) = (all(&journal), journal.revision());
    drop(journal);
    assert!(fs::metadata(dir.path().join(NAME)).unwrap().len() < largest / 4);
    let (journal, loud) = open(dir.path());
    assert_eq!((all(&journal), journal.revision(), loud), (objects, revision, None));
    assert_eq!(write(&journal, vec![put("c", "0")]), revision + 1);
    assert!(journal.events(1, 10).is_err(), "what was before the snapshot is not there one by one");
    assert_eq!(journal.events(revision, 10).unwrap().len(), 1);
}

#[test]
fn changes_are_told_in_order_and_from_any_revision_that_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let mut newest = journal.watch();
    write(&journal, vec![put("a", "1"), put("b", "1")]);
    assert!(newest.has_changed().unwrap());
    assert_eq!(*newest.borrow_and_update(), 1);
    write(&journal, vec![delete("a"), delete("nothing")]);
    let events = journal.events(0, 1).unwrap();
    assert_eq!(events.len(), 2, "a transaction is told whole");
    let events = journal.events(1, 10).unwrap();
    assert_eq!((events.len(), &*events[0].key, events[0].object.is_none()), (1, "a", true));
    assert_eq!(journal.events(2, 10), Ok(Vec::new()));
    for _ in 0..super::state::EVENTS_MAX {
        // One transaction of many is forgotten whole.
        if journal.events(0, 1).is_err() {
            break;
        }
        write(&journal, (0..1000).map(|n| put(&format!("k{n}"), "1")).collect());
    }
    let Compacted { oldest } = journal.events(0, 1).unwrap_err();
    assert!(journal.events(oldest, 1).is_ok());
}

#[test]
fn lists_are_pages_in_order_of_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    write(&journal, ["apps/a", "apps/b", "apps/c", "appz", "other"].map(|key| put(key, "1")).to_vec());
    let keys = |page: &Page| page.objects.iter().map(|object| object.key.to_string()).collect::<Vec<_>>();
    let first = journal.list("apps/", None, 2);
    assert_eq!((keys(&first), first.more), (vec!["apps/a".to_owned(), "apps/b".to_owned()], true));
    let second = journal.list("apps/", Some("apps/b"), 2);
    assert_eq!((keys(&second), second.more), (vec!["apps/c".to_owned()], false));
    assert!(journal.list("apps/", Some("apps/c"), 2).objects.is_empty());
}

#[test]
fn a_journal_of_the_format_before_is_read_and_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = frame::HEADER_1.to_vec();
    for line in [
        r#"{"op":"put","app":"default","cluster":"web","id":"a","address":"127.0.0.1:3000","weight":7,"zone":"z","drain":true}"#,
        r#"{"op":"put","app":"default","cluster":"web","id":"b","address":"unix:/run/b.sock","weight":1,"drain":false}"#,
        r#"{"op":"mark","app":"default","cluster":"web","id":"f","drain":true}"#,
        r#"{"op":"mark","app":"default","cluster":"web","id":"g","drain":true}"#,
        r#"{"op":"unmark","app":"default","cluster":"web","id":"g"}"#,
        r#"{"op":"delete","app":"default","cluster":"web","id":"b"}"#,
    ] {
        frame::push(&mut bytes, line.as_bytes());
    }
    // Its last write was torn.
    bytes.extend_from_slice(b"\x40\x00\x00\x00torn");
    fs::write(dir.path().join(NAME), &bytes).unwrap();
    assert_eq!(peek(dir.path(), "").unwrap().len(), 2);
    for _ in 0..2 {
        let (journal, loud) = open(dir.path());
        assert_eq!(loud, None);
        let records: Vec<Record> =
            all(&journal).iter().map(|object| Record::read(object).unwrap().unwrap()).collect();
        let Record::Put(key, endpoint, Standing::Beside) = &records[0] else { panic!("{records:?}") };
        assert_eq!((key.id.as_str(), endpoint.weight, endpoint.drain), ("a", 7, true));
        assert_eq!(
            (endpoint.address.to_string().as_str(), endpoint.zone().map(|zone| &**zone)),
            ("127.0.0.1:3000", Some("z"))
        );
        assert!(matches!(&records[1], Record::Mark(key, true) if key.id.as_str() == "f"));
        assert_eq!(records.len(), 2);
    }
}

#[test]
fn something_else_is_not_taken_for_a_journal() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(NAME), b"hello, I am a text file").unwrap();
    let (journal, loud) = open(dir.path());
    assert!(all(&journal).is_empty() && loud.is_some());
}

fn some_write() -> impl Strategy<Value = Write> {
    ("[a-e]", proptest::option::of(0..100u8)).prop_map(|(key, value)| Write {
        key: Arc::from(key),
        value: value.map(|value| Arc::from(value.to_string())),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Any history, cut anywhere: what is found is what was in force after some transaction, and never less than what was
    /// durable by then.
    #[test]
    fn any_history_cut_anywhere_is_a_prefix_of_it(
        history in proptest::collection::vec(proptest::collection::vec(some_write(), 1..4), 1..12),
        rewritten_at in 0..12usize,
        cut in 0.0..1.0f64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, mut state, _) = Disk::open(dir.path()).unwrap();
        let mut steps = vec![(disk.len(), state.objects().clone())];
        for (at, writes) in history.into_iter().enumerate() {
            if at == rewritten_at {
                disk.rewrite(&state).unwrap();
                steps = vec![(disk.len(), state.objects().clone())];
            }
            let mut draft = Draft::default();
            draft.judge(&state, &Txn { when: Vec::new(), writes }).unwrap();
            disk.append(&draft.block, &state).unwrap();
            draft.accepted.into_iter().for_each(|(revision, writes)| state.apply(revision, writes));
            steps.push((disk.len(), state.objects().clone()));
        }
        let bytes = fs::read(dir.path().join(NAME)).unwrap();
        let from = steps[0].0 as usize;
        let cut = from + ((bytes.len() - from) as f64 * cut) as usize;
        let found = super::disk::read(&bytes[..cut]);
        let (_, want) = steps.iter().rfind(|(len, _)| *len as usize <= cut).unwrap();
        prop_assert_eq!(found.state.objects(), want);
        // And one that reopens agrees with the one that never closed.
        let again = super::disk::read(&bytes);
        prop_assert_eq!(again.state.objects(), state.objects());
        prop_assert_eq!(again.state.revision(), state.revision());
    }
}

#[test]
fn a_journal_that_was_closed_writes_nothing_more_beside_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (stuck, _) = open(dir.path());
    write(&stuck, vec![put("a", "1")]);
    // Asked for before, and polled only once it is closed: nobody was told that it is durable.
    let late = stuck.commit(Txn { when: Vec::new(), writes: vec![put("late", "1")] });
    assert!(stuck.close() && stuck.close(), "it may be asked again");
    let (next, _) = open(dir.path());
    write(&next, vec![put("b", "2")]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(runtime.block_on(late), Err(StoreError::Failed(_))));
    assert!(matches!(
        commit(&stuck, Txn { when: Vec::new(), writes: vec![put("a", "9")] }),
        Err(StoreError::Failed(_))
    ));
    drop(stuck);
    let keys = |journal: &Journal| all(journal).iter().map(|one| one.key.to_string()).collect::<Vec<_>>();
    assert_eq!(keys(&next), ["a", "b"]);
    drop(next);
    assert_eq!(keys(&open(dir.path()).0), ["a", "b"]);
}
