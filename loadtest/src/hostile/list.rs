//! Every attack. The integration test `defence::slow` holds a bound for each; `loadtest attacks` measures each.

use super::{Attack, Class};

/// Bytes read at a turn by clients that are not about reading: answers to them are seen and forgotten.
const READS: usize = 4 << 10;

const GET: &str = "GET /good HTTP/1.1\r\nHost: a\r\n";
const POST: &str = "POST /sink HTTP/1.1\r\nHost: a\r\n";
const FLOOD: &str = "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n";

pub(super) fn attack(name: &'static str, class: Class, first: impl Into<String>) -> Attack {
    Attack {
        name,
        class,
        first: first.into().into_bytes(),
        drip: b"",
        frames: None,
        http2: false,
        reads: READS,
        window: None,
        half_closed: false,
        renews: false,
    }
}

/// All attacks there are.
pub fn attacks() -> Vec<Attack> {
    [http1(), super::http2::attacks()].concat()
}

fn http1() -> Vec<Attack> {
    let long = format!("{POST}Content-Length: 100000000\r\n\r\n");
    let chunked = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    // Large fields, the last of which never ends: what looks at the whole head for each byte is found out.
    let heavy = format!("{GET}A: {0}\r\nB: {0}\r\nC: {0}", "y".repeat(15_000));
    vec![
        Attack { drip: b"X", ..attack("slow head", Class::Heads, GET) },
        Attack { drip: b"y", ..attack("slow long head", Class::Heads, heavy) },
        attack("silent body", Class::Connections, long.clone()),
        Attack { drip: b"x", ..attack("slow body", Class::Bodies, long) },
        Attack { drip: b"1\r\nx\r\n", ..attack("slow chunked body", Class::Bodies, chunked.clone()) },
        Attack {
            drip: b"40\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n",
            ..attack("endless chunked body", Class::Bodies, chunked)
        },
        Attack { reads: 0, window: Some(16 << 10), ..attack("unread response", Class::Connections, FLOOD) },
        Attack { reads: 64 << 10, ..attack("slow reader", Class::Responses, FLOOD) },
        Attack { reads: 1 << 10, window: Some(2 << 10), ..attack("tiny window", Class::Responses, FLOOD) },
        Attack {
            renews: true,
            ..attack("many fields", Class::Heads, format!("{GET}{}", "X: y\r\n".repeat(101)))
        },
        Attack {
            renews: true,
            ..attack("giant field", Class::Heads, format!("{GET}X: {}", "y".repeat(20_000)))
        },
        attack("idle flood", Class::Connections, ""),
        Attack { half_closed: true, renews: true, ..attack("half-open", Class::Connections, GET) },
        Attack { renews: true, ..attack("connection flood", Class::Connections, "") },
    ]
}
