//! Tests of the record path from a worker's call to the written line.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ekiden_config::model::{AccessLog, LogFormat, LogTarget};
use ekiden_core::outcome::{Cause, Phase};
use proptest::prelude::*;

use super::TlsAccess;
use super::*;

/// Long enough for any machine; nothing waits for it unless it is broken.
const LONG: Duration = Duration::from_secs(20);

fn access() -> Access<'static> {
    Access {
        outcome: Cause::Complete.at(Phase::Relay),
        status: 200,
        grpc_status: None,
        method: "GET",
        target: "/x?y=1",
        host: "example.com",
        request_id: "0123456789abcdef0123",
        forwarded_for: "1.2.3.4",
        client: Some(SocketAddr::from(([1, 2, 3, 4], 5678))),
        listener: "edge",
        route: RouteNames::new("defaultroute-1", 7),
        cluster: "web",
        endpoint: b"web.1",
        attempts: 1,
        retry_cause: None,
        limit: "",
        started_unix_us: 1_709_210_096_007_999,
        queue_us: NONE_US,
        connect_us: 1_200,
        first_byte_us: 900,
        service_us: 17_500,
        total_us: 19_004,
        bytes_in: 80,
        bytes_out: 13,
        protocol: Protocol::Http11,
        tls: None,
        generation: 7,
        user_agent: b"curl/8",
    }
}

fn refused() -> Access<'static> {
    let cause = Cause::ALL.iter().find(|cause| cause.at(Phase::Connect).h_code() == Some("H21")).unwrap();
    Access {
        outcome: cause.at(Phase::Connect),
        status: 503,
        endpoint: b"",
        attempts: 2,
        retry_cause: Some(*cause),
        connect_us: NONE_US,
        first_byte_us: NONE_US,
        service_us: NONE_US,
        queue_us: 5_000,
        client: None,
        protocol: Protocol::Http10,
        ..access()
    }
}

fn json_of(access: &Access<'_>) -> String {
    let mut out = Vec::new();
    json::push_line(&mut out, access);
    String::from_utf8(out).unwrap()
}

fn logfmt_of(access: &Access<'_>) -> String {
    let mut out = Vec::new();
    logfmt::push_line(&mut out, access);
    String::from_utf8(out).unwrap()
}

#[test]
fn golden_json() {
    assert_eq!(
        json_of(&access()),
        concat!(
            r#"{"ts":"2024-02-29T12:34:56.007Z","at":"info","code":"complete","phase":"relay","method":"GET","#,
            r#""path":"/x?y=1","host":"example.com","request_id":"0123456789abcdef0123","fwd":"1.2.3.4","#,
            r#""client":"1.2.3.4:5678","listener":"edge","app":"default","route":"route-1","cluster":"web","#,
            r#""dyno":"web.1","attempts":1,"connect_ms":1.200,"first_byte_ms":0.900,"service_ms":17.500,"#,
            r#""total_ms":19.004,"status":200,"bytes":13,"bytes_in":80,"protocol":"http1.1","tls":false,"#,
            r#""generation":7,"user_agent":"curl/8"}"#,
            "\n"
        )
    );
    let line = json_of(&refused());
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["at"], "error");
    assert_eq!(value["code"], refused().outcome.code());
    assert_eq!(value["retry_cause"], refused().outcome.code());
    assert_eq!(value["h_code"], "H21");
    assert_eq!(value["phase"], "connect");
    assert_eq!(value["client"], "unix");
    assert_eq!(value["queue_ms"], 5.0);
    assert_eq!(value.get("connect_ms"), None);
    assert_eq!(value.get("limit"), None);
    let limited = Access { limit: "few", ..access() };
    assert!(
        json_of(&limited).contains(r#""attempts":1,"limit":"few","connect_ms""#),
        "{}",
        json_of(&limited)
    );
    assert!(logfmt_of(&limited).ends_with(" protocol=http1.1 limit=few\n"), "{}", logfmt_of(&limited));
}

#[test]
fn golden_logfmt() {
    assert_eq!(
        logfmt_of(&access()),
        "at=info method=GET path=\"/x?y=1\" host=example.com request_id=0123456789abcdef0123 fwd=\"1.2.3.4\" \
         dyno=web.1 connect=1ms service=18ms status=200 bytes=13 protocol=http1.1\n"
    );
    assert_eq!(
        logfmt_of(&refused()),
        format!(
            "at=error code=H21 desc=\"Backend connection refused\" method=GET path=\"/x?y=1\" host=example.com \
             request_id=0123456789abcdef0123 fwd=\"1.2.3.4\" dyno= connect= service= status=503 bytes=13 \
             protocol=http1.0 error={}\n",
            refused().outcome.code()
        )
    );
}

#[test]
fn every_outcome_has_a_level_and_both_lines() {
    for cause in Cause::ALL {
        for phase in Phase::ALL {
            let one = Access { outcome: cause.at(*phase), ..access() };
            let value: serde_json::Value = serde_json::from_str(&json_of(&one)).unwrap();
            assert_eq!(value["code"], cause.code());
            assert_eq!(value["phase"], phase.word());
            let line = logfmt_of(&one);
            let failed = !line.starts_with("at=info ");
            assert_eq!(failed, line.ends_with(&format!(" error={}\n", cause.code())), "{line}");
            assert_eq!(value["at"] != "info", failed);
        }
    }
}

#[test]
fn times() {
    for (us, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
        (1_735_689_599_999_999, "2024-12-31T23:59:59.999Z"),
        (4_107_542_400_000_000, "2100-03-01T00:00:00.000Z"),
    ] {
        let mut out = Vec::new();
        text::push_time(&mut out, us);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

#[test]
fn injection_is_impossible() {
    let evil = "/\r\nat=error code=H99 \"quoted\\\" \x1b[2J\u{9b}\u{2028}\u{202e} \u{e4}\0";
    let one = Access {
        target: evil,
        host: "a b=c",
        user_agent: evil.as_bytes(),
        forwarded_for: evil,
        limit: evil,
        ..access()
    };
    let value: serde_json::Value = serde_json::from_str(&json_of(&one)).unwrap();
    assert_eq!(value["path"], evil);
    assert_eq!(value["user_agent"], evil);
    for line in [json_of(&one), logfmt_of(&one)] {
        let body = line.strip_suffix('\n').unwrap();
        assert!(!body.chars().any(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)), "{body:?}");
    }
    let line = logfmt_of(&one);
    assert!(
        line.contains(r#"path="/\r\nat=error code=H99 \"quoted\\\" \u001b[2J\u009b\u2028\u202e "#),
        "{line}"
    );
    assert!(line.contains(r#" host="a b=c" "#), "{line}");
}

/// Runs records through a ring of `bytes`, drained whenever the next does not fit.
fn through_ring(bytes: usize, records: &[Access<'_>]) -> Vec<String> {
    let (mut recorder, mut ring, _) = ring::pair(bytes);
    let (mut lines, mut scratch) = (Vec::new(), Vec::new());
    for record in records {
        let before = recorder.dropped();
        recorder.record(record);
        if recorder.dropped() > before {
            ring::drain(&mut ring, &mut scratch, |access| lines.push(json_of(access)));
            recorder.record(record);
        }
    }
    ring::drain(&mut ring, &mut scratch, |access| lines.push(json_of(access)));
    lines
}

proptest! {
    #[test]
    fn records_survive_the_ring(
        sizes in prop::collection::vec((0usize..2000, 0usize..900, any::<u64>(), any::<u32>(), 0usize..40), 1..80),
    ) {
        let long = "\u{e4}bc".repeat(1000);
        let records: Vec<Access<'_>> = sizes.iter().map(|(target, agent, number, small, cause)| Access {
            target: &long[..long.floor_char_boundary(*target)],
            user_agent: &long.as_bytes()[..*agent],
            bytes_in: *number,
            total_us: number.rotate_left(7),
            started_unix_us: *number >> 20,
            queue_us: *small,
            service_us: small.rotate_left(3),
            status: *small as u16,
            attempts: *small as u8,
            grpc_status: GrpcStatus::at((small % 40) as u8),
            tls: (small % 2 == 0).then_some(TlsAccess { is_13: small % 4 == 0, cipher: 0x1301, name: &long[..long.floor_char_boundary(*agent)] }),
            protocol: if small % 3 == 0 { Protocol::Http10 } else { Protocol::Http11 },
            outcome: Cause::ALL[cause % Cause::COUNT].at(Phase::ALL[cause % 8]),
            retry_cause: (small % 5 == 0).then(|| Cause::ALL[(cause * 3) % Cause::COUNT]),
            client: match small % 3 {
                0 => None,
                1 => Some(SocketAddr::from((number.to_be_bytes().map(u16::from), *small as u16))),
                _ => Some(SocketAddr::from((small.to_be_bytes(), *small as u16))),
            },
            ..access()
        }).collect();
        let expected: Vec<String> = records.iter().map(json_of).collect();
        // A ring that is a little larger than the largest record, so that records lie across its end.
        prop_assert_eq!(through_ring(4099, &records), expected);
    }

    #[test]
    fn any_text_gives_json_on_one_line(text in any::<String>()) {
        let one = Access { target: &text, ..access() };
        let line = json_of(&one);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&value["path"], &text);
    }
}

#[test]
fn long_texts_are_cut_with_a_mark() {
    let long = "\u{e4}".repeat(20_000);
    let agent = "b".repeat(1025);
    let fits = "c".repeat(1024);
    let one = Access { target: &long, user_agent: agent.as_bytes(), host: &fits, ..access() };
    let line = through_ring(RING_BYTES, &[one]).remove(0);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["path"], format!("{}...[cut]", "\u{e4}".repeat(4096)));
    assert_eq!(value["user_agent"], format!("{}...[cut]", "b".repeat(1024)));
    assert_eq!(value["host"], fits);
    let odd = Access { user_agent: b"a\xffb", ..access() };
    let line = through_ring(RING_BYTES, &[odd]).remove(0);
    assert!(line.ends_with("\"user_agent\":\"a\u{fffd}b\"}\n"), "{line}");
    // Names are bounded by their types, not cut.
    let name = "n".repeat(ekiden_config::names::NAME_MAX);
    let names = name.repeat(2);
    let everywhere = Access {
        target: &long,
        method: &long,
        host: &long,
        request_id: &long,
        forwarded_for: &long,
        listener: &name,
        route: RouteNames::new(&names, name.len()),
        cluster: &name,
        endpoint: name.as_bytes(),
        user_agent: long.as_bytes(),
        limit: &long,
        ..access()
    };
    assert_eq!(through_ring(RECORD_MAX, &[everywhere]).len(), 1, "the largest record fits RECORD_MAX");
}

#[test]
fn a_full_ring_drops_and_counts() {
    let (mut recorder, mut ring, _) = ring::pair(4096);
    for _ in 0..100 {
        recorder.record(&access());
    }
    let mut kept = 0;
    ring::drain(&mut ring, &mut Vec::new(), |_| kept += 1);
    assert!(kept > 5 && kept < 100, "{kept}");
    assert_eq!(recorder.dropped(), 100 - kept);
    recorder.record(&access());
    assert_eq!(recorder.dropped(), 100 - kept, "there is room again");
}

#[test]
fn stopping_drains_every_ring() {
    let sink = MemorySink::default();
    let (recorders, scribe) =
        Scribe::start_with(Box::new(sink.clone()), LogFormat::Logfmt, 3, RING_BYTES).unwrap();
    let meters = scribe.meters();
    let workers: Vec<_> = recorders
        .into_iter()
        .map(|mut recorder| {
            std::thread::spawn(move || {
                for _ in 0..1000 {
                    recorder.record(&access());
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert!(scribe.stop(LONG));
    assert_eq!(sink.text().lines().count(), 3000);
    assert!(sink.text().lines().all(|line| format!("{line}\n") == logfmt_of(&access())));
    assert_eq!((meters.lines(), meters.dropped(), meters.lost()), (3000, 0, 0));
}

#[test]
fn a_renamed_file_is_reopened() {
    let dir = std::env::temp_dir().join(format!("ekiden-record-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (path, old) = (dir.join("access.log"), dir.join("access.log.1"));
    let log = AccessLog { format: LogFormat::Json, to: LogTarget::File(path.clone()) };
    let (mut recorders, scribe) = Scribe::start(&log, 1).unwrap();
    recorders[0].record(&Access { target: "/before", ..access() });
    std::fs::rename(&path, &old).unwrap();
    assert!(scribe.reopen(LONG));
    recorders[0].record(&Access { target: "/after", ..access() });
    assert!(scribe.sync(LONG));
    let (before, after) = (std::fs::read_to_string(&old).unwrap(), std::fs::read_to_string(&path).unwrap());
    assert!(scribe.stop(LONG));
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(before.contains("\"/before\"") && !before.contains("\"/after\""), "{before}");
    assert!(after.contains("\"/after\"") && !after.contains("\"/before\""), "{after}");
}

#[test]
fn a_broken_sink_loses_lines_counts_them_and_recovers() {
    let sink = MemorySink::default();
    sink.set_failing(true);
    let (mut recorders, scribe) =
        Scribe::start_with(Box::new(sink.clone()), LogFormat::Json, 1, RING_BYTES).unwrap();
    let meters = scribe.meters();
    recorders[0].record(&access());
    assert!(scribe.sync(LONG));
    assert_eq!((meters.lines(), meters.lost(), meters.write_errors()), (0, 1, 1));
    sink.set_failing(false);
    recorders[0].record(&access());
    assert!(scribe.stop(LONG));
    assert_eq!((meters.lines(), sink.text().lines().count()), (1, 1));
}

/// Blocks in every write until it is let go.
struct Stuck {
    entered: Sender<()>,
    go: Receiver<()>,
}

impl AccessSink for Stuck {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        let _ = self.entered.send(());
        let _ = self.go.recv();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_sink_blocks_neither_workers_nor_the_end() {
    let ((entered, is_in), (let_go, go)) = (channel(), channel());
    let (mut recorders, scribe) =
        Scribe::start_with(Box::new(Stuck { entered, go }), LogFormat::Json, 1, 8192).unwrap();
    let meters = scribe.meters();
    recorders[0].record(&access());
    is_in.recv_timeout(LONG).unwrap();
    for _ in 0..10_000 {
        recorders[0].record(&access());
    }
    assert!(meters.dropped() > 9_000);
    assert!(!scribe.stop(Duration::from_millis(1)), "gives up on a stuck sink");
    drop(let_go);
}

#[test]
fn off_means_off() {
    let log = AccessLog { format: LogFormat::Json, to: LogTarget::Off };
    let (mut recorders, scribe) = Scribe::start(&log, 2).unwrap();
    assert_eq!(recorders.len(), 2);
    assert!(!recorders[0].is_on());
    recorders[0].record(&access());
    assert!(scribe.reopen(LONG) && scribe.sync(LONG));
    assert_eq!(recorders[0].dropped() + scribe.meters().lines(), 0);
    assert!(scribe.stop(LONG));
}

/// What every [`AccessSink`] must do; `read` gives what arrived.
fn sink_conforms(mut sink: Box<dyn AccessSink>, read: impl Fn() -> String) {
    let mut expected = VecDeque::new();
    for lines in ["one\n", "two\nthree\n", ""] {
        sink.write(lines.as_bytes()).unwrap();
        expected.push_back(lines);
    }
    sink.flush().unwrap();
    assert_eq!(read(), expected.make_contiguous().concat());
    sink.reopen().unwrap();
    sink.write(b"four\n").unwrap();
    sink.flush().unwrap();
    assert!(read().ends_with("three\nfour\n"));
}

#[test]
fn sinks_conform() {
    let memory = MemorySink::default();
    sink_conforms(Box::new(memory.clone()), || memory.text());
    assert_eq!(memory.reopened(), 1);
    let path = std::env::temp_dir().join(format!("ekiden-sink-{}", std::process::id()));
    sink_conforms(Box::new(FileSink::open(&path).unwrap()), || std::fs::read_to_string(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn without_a_chain_the_client_is_the_one_it_was_forwarded_for() {
    for (client, shown) in [
        (Some("192.0.2.7:80"), "192.0.2.7"),
        (Some("[2001:db8::1]:80"), "2001:db8::1"),
        (Some("[::ffff:192.0.2.7]:80"), "192.0.2.7"),
        (None, "unknown"),
    ] {
        let client = client.map(|client| client.parse().unwrap());
        let one = Access { forwarded_for: "", client, ..access() };
        let (mut json, mut logfmt) = (Vec::new(), Vec::new());
        json::push_line(&mut json, &one);
        logfmt::push_line(&mut logfmt, &one);
        let (json, logfmt) = (String::from_utf8(json).unwrap(), String::from_utf8(logfmt).unwrap());
        assert!(json.contains(&format!(r#","fwd":"{shown}","#)), "{json}");
        assert!(logfmt.contains(&format!(r#" fwd="{shown}" "#)), "{logfmt}");
    }
}
