//! The way of a record from a worker to the log thread: its byte form and the per-worker ring. Does not format.
//!
//! A record is 14 little-endian words (sizes, numbers, text lengths) followed by the texts, all but the last of them
//! UTF-8. The producer publishes a
//! whole record at once, so that whatever the consumer can see is a sequence of whole records.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ekiden_core::grpc::GrpcStatus;
use ekiden_core::outcome::{Cause, Outcome, Phase};
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Access, Protocol, RouteNames, TlsAccess};

/// Size of one worker's ring, in bytes: some 3,000 records of usual size.
pub const RING_BYTES: usize = 1 << 20;
/// Longest target kept, in bytes, before the mark.
const TARGET_MAX: usize = 8 << 10;
/// Longest other text kept, in bytes, before the mark.
const TEXT_MAX: usize = 1 << 10;
/// Stands behind a text that was cut.
pub(super) const CUT_MARK: &str = "...[cut]";
/// Texts of a record.
const TEXTS: usize = 12;
const WORDS: usize = 14;
/// Size of the largest record, in bytes.
pub const RECORD_MAX: usize = WORDS * 8 + TARGET_MAX + (TEXTS - 1) * TEXT_MAX + TEXTS * CUT_MARK.len();

const SECURE: u64 = 1;
const HTTP10: u64 = 2;
const HAS_CLIENT: u64 = 4;
const TLS13: u64 = 8;
const HTTP2: u64 = 16;
/// No HTTP at all.
const RAW: u64 = 32;
const PASSTHROUGH: u64 = RAW | HTTP2;
/// Where the status of a call stands among the flags, one more than it is; 0 for none.
const GRPC_AT: u32 = 8;
const GRPC: u64 = 31;
const NO_RETRY: u64 = 255;

/// One worker's end: takes records, never waits. Not `Clone`; lives and dies with its worker.
#[derive(Debug)]
pub struct Recorder {
    ring: Option<Producer<u8>>,
    scratch: Vec<u8>,
    dropped: Arc<AtomicU64>,
}

/// Makes both ends of a worker's ring. Called by the scribe at start.
pub(super) fn pair(bytes: usize) -> (Recorder, Consumer<u8>, Arc<AtomicU64>) {
    let (producer, consumer) = RingBuffer::new(bytes);
    let dropped = Arc::new(AtomicU64::new(0));
    let recorder =
        Recorder { ring: Some(producer), scratch: Vec::with_capacity(RECORD_MAX), dropped: dropped.clone() };
    (recorder, consumer, dropped)
}

impl Recorder {
    /// A recorder that forgets everything: the access log is off.
    pub fn off() -> Self {
        Self { ring: None, scratch: Vec::new(), dropped: Arc::default() }
    }

    /// Whether records go anywhere; lets the exchange skip the work of filling an [`Access`].
    pub fn is_on(&self) -> bool {
        self.ring.is_some()
    }

    /// Hands one record to the log thread, or drops and counts it when the ring is full. Called by the worker once
    /// per exchange; no lock, no allocation, no system call.
    pub fn record(&mut self, access: &Access<'_>) {
        let Some(ring) = &mut self.ring else { return };
        encode(access, &mut self.scratch);
        if ring.push_entire_slice(&self.scratch).is_err() {
            // This thread is the only writer, so that load and store lose nothing and cost no locked instruction.
            self.dropped.store(self.dropped.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Records dropped so far because the ring was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Appends a text, cut to its bound; returns the bytes appended.
#[inline]
fn put(out: &mut Vec<u8>, text: &str, max: usize) -> u64 {
    if text.len() > max {
        return put_cut(out, text, max);
    }
    out.extend_from_slice(text.as_bytes());
    text.len() as u64
}

/// As [`put`], for a text that most records do not have.
#[inline]
fn put_rare(out: &mut Vec<u8>, text: &str) -> u64 {
    if text.is_empty() { 0 } else { put(out, text, TEXT_MAX) }
}

#[cold]
fn put_cut(out: &mut Vec<u8>, text: &str, max: usize) -> u64 {
    let kept = text.get(..text.floor_char_boundary(max)).unwrap_or("");
    out.extend_from_slice(kept.as_bytes());
    out.extend_from_slice(CUT_MARK.as_bytes());
    (kept.len() + CUT_MARK.len()) as u64
}

/// As [`put`], for bytes that need not be UTF-8.
#[inline]
fn put_agent(out: &mut Vec<u8>, agent: &[u8]) {
    if agent.len() > TEXT_MAX {
        out.extend_from_slice(agent.get(..TEXT_MAX).unwrap_or(agent));
        out.extend_from_slice(CUT_MARK.as_bytes());
    } else if !agent.is_empty() {
        out.extend_from_slice(agent);
    }
}

/// Writes the byte form of a record into `out`, replacing what it held. Never grows `out` beyond [`RECORD_MAX`].
fn encode(access: &Access<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; WORDS * 8]);
    let t0 = put(out, access.target, TARGET_MAX);
    let t1 = put(out, access.method, TEXT_MAX);
    let t2 = put(out, access.host, TEXT_MAX);
    let t3 = put(out, access.request_id, TEXT_MAX);
    let t4 = put_rare(out, access.forwarded_for);
    let t5 = put(out, access.listener, TEXT_MAX);
    let t6 = put(out, access.route.joined, TEXT_MAX);
    let t7 = put(out, access.cluster, TEXT_MAX);
    let id = access.endpoint.get(..TEXT_MAX).unwrap_or(access.endpoint);
    out.extend_from_slice(id);
    let t8 = id.len() as u64;
    let t9 = put_rare(out, access.limit);
    let (t10, cipher, tls) = match access.tls {
        Some(tls) => {
            let version = if tls.is_13 { TLS13 } else { 0 };
            (put(out, tls.name, TEXT_MAX), u64::from(tls.cipher), SECURE | version)
        }
        None => (0, 0, 0),
    };
    // Last, because it need not be UTF-8.
    put_agent(out, access.user_agent);
    let app_len = access.route.app_len as u64;
    let total = out.len() as u64;
    let (ip, port, has_client) = match access.client {
        Some(SocketAddr::V4(v4)) => (u128::from(v4.ip().to_ipv6_mapped()), v4.port(), HAS_CLIENT),
        Some(SocketAddr::V6(v6)) => (u128::from(*v6.ip()), v6.port(), HAS_CLIENT),
        None => (0, 0, 0),
    };
    let flags = has_client
        | tls
        | match access.protocol {
            Protocol::Http10 => HTTP10,
            Protocol::Http11 => 0,
            Protocol::Http2 => HTTP2,
            Protocol::Tcp => RAW,
            Protocol::TlsPassthrough => PASSTHROUGH,
        };
    let grpc = access.grpc_status.map_or(0, |status| u64::from(status.number()) + 1);
    let flags = flags | grpc << GRPC_AT;
    let retry = access.retry_cause.map_or(NO_RETRY, |cause| cause.index() as u64);
    let words: [u64; WORDS] = [
        total
            | u64::from(access.status) << 32
            | (access.outcome.cause.index() as u64) << 48
            | (access.outcome.phase as u64) << 56,
        access.started_unix_us,
        access.bytes_in,
        access.bytes_out,
        access.generation,
        access.total_us,
        u64::from(access.queue_us) | u64::from(access.connect_us) << 32,
        u64::from(access.first_byte_us) | u64::from(access.service_us) << 32,
        (ip >> 64) as u64,
        ip as u64,
        u64::from(port) | u64::from(access.attempts) << 16 | retry << 24 | flags << 32 | t0 << 48,
        t1 | t2 << 16 | t3 << 32 | t4 << 48,
        t5 | t6 << 16 | t7 << 32 | t8 << 48,
        app_len | t9 << 16 | t10 << 32 | cipher << 48,
    ];
    if let Some(fixed) = out.first_chunk_mut::<{ WORDS * 8 }>() {
        fixed.copy_from_slice(words.map(u64::to_le_bytes).as_flattened());
    }
}

/// Length of the record that begins at `bytes`, from its first four bytes; `None` when they are not all there.
fn record_len(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize)
}

fn text<'a>(texts: &mut &'a str, len: u64) -> Option<&'a str> {
    let (head, tail) = texts.split_at_checked((len & 0xffff) as usize)?;
    *texts = tail;
    Some(head)
}

fn protocol(flags: u64) -> Protocol {
    match flags & (HTTP10 | HTTP2 | RAW) {
        HTTP10 => Protocol::Http10,
        HTTP2 => Protocol::Http2,
        RAW => Protocol::Tcp,
        PASSTHROUGH => Protocol::TlsPassthrough,
        _ => Protocol::Http11,
    }
}

/// Reads one whole record back. `None` only on bytes that no [`encode`] made.
fn decode(bytes: &[u8]) -> Option<Access<'_>> {
    let (head, texts) = bytes.split_at_checked(WORDS * 8)?;
    let (words, _) = head.as_chunks::<8>();
    let words: &[[u8; 8]; WORDS] = words.try_into().ok()?;
    let [
        w0,
        started_unix_us,
        bytes_in,
        bytes_out,
        generation,
        total_us,
        t0,
        t1,
        ip_high,
        ip_low,
        w10,
        l0,
        l1,
        l2,
    ] = words.map(u64::from_le_bytes);
    let (l3, l4) = (l2 >> 16, l2 >> 32);
    let lengths = [w10 >> 48, l0, l0 >> 16, l0 >> 32, l0 >> 48, l1, l1 >> 16, l1 >> 32, l1 >> 48, l3, l4];
    let sound = lengths.iter().map(|len| (len & 0xffff) as usize).sum();
    let (texts, user_agent) = texts.split_at_checked(sound)?;
    let texts = &mut std::str::from_utf8(texts).ok()?;
    let flags = w10 >> 32 & 0xffff;
    let client = (flags & HAS_CLIENT != 0).then(|| {
        let ip = IpAddr::V6(Ipv6Addr::from(u128::from(ip_high) << 64 | u128::from(ip_low))).to_canonical();
        SocketAddr::new(ip, w10 as u16)
    });
    Some(Access {
        outcome: Outcome {
            cause: *Cause::ALL.get((w0 >> 48 & 0xff) as usize)?,
            phase: *Phase::ALL.get((w0 >> 56) as usize)?,
        },
        status: (w0 >> 32) as u16,
        grpc_status: ((flags >> GRPC_AT & GRPC) as u8).checked_sub(1).and_then(GrpcStatus::at),
        target: text(texts, w10 >> 48)?,
        method: text(texts, l0)?,
        host: text(texts, l0 >> 16)?,
        request_id: text(texts, l0 >> 32)?,
        forwarded_for: text(texts, l0 >> 48)?,
        listener: text(texts, l1)?,
        route: RouteNames { joined: text(texts, l1 >> 16)?, app_len: (l2 & 0xffff) as usize },
        cluster: text(texts, l1 >> 32)?,
        endpoint: text(texts, l1 >> 48)?.as_bytes(),
        limit: text(texts, l3)?,
        tls: match (text(texts, l4)?, flags & SECURE) {
            (_, 0) => None,
            (name, _) => Some(TlsAccess { is_13: flags & TLS13 != 0, cipher: (l2 >> 48) as u16, name }),
        },
        user_agent,
        client,
        attempts: (w10 >> 16) as u8,
        retry_cause: Cause::ALL.get((w10 >> 24 & 0xff) as usize).copied(),
        started_unix_us,
        queue_us: t0 as u32,
        connect_us: (t0 >> 32) as u32,
        first_byte_us: t1 as u32,
        service_us: (t1 >> 32) as u32,
        total_us,
        bytes_in,
        bytes_out,
        protocol: protocol(flags),
        generation,
    })
}

/// Takes every record that is in the ring now and shows it to `visit`; returns the bytes taken. `scratch` holds the
/// one record that may lie across the ring's end. Called by the scribe.
pub(super) fn drain(
    ring: &mut Consumer<u8>,
    scratch: &mut Vec<u8>,
    mut visit: impl FnMut(&Access<'_>),
) -> usize {
    let taken = ring.slots();
    let Ok(chunk) = ring.read_chunk(taken) else { return 0 };
    let (mut first, mut second) = chunk.as_slices();
    while !first.is_empty() {
        scratch.clear();
        let len = match record_len(first) {
            Some(len) => len,
            None => {
                scratch.extend(first.iter().chain(second).take(4));
                record_len(scratch).unwrap_or(0)
            }
        };
        // A length below the fixed part cannot be written; stop rather than loop on it.
        if len < WORDS * 8 {
            break;
        }
        if let Some((record, rest)) = first.split_at_checked(len) {
            decode(record).iter().for_each(&mut visit);
            first = rest;
        } else {
            scratch.clear();
            scratch.extend_from_slice(first);
            let (tail, rest) = second.split_at_checked(len - first.len()).unwrap_or((second, &[]));
            scratch.extend_from_slice(tail);
            decode(scratch).iter().for_each(&mut visit);
            (first, second) = (rest, &[]);
            continue;
        }
        if first.is_empty() {
            (first, second) = (second, &[]);
        }
    }
    chunk.commit_all();
    taken
}
