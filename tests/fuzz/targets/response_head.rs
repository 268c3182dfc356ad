//! Response heads: scanning does not depend on how bytes arrive, judging never panics, and what is accepted is accepted
//! again, with the same meaning, when it is written out.
#![no_main]

use ekiden_fuzz::{TIGHT, assert_clean, scanned, written};
use ekiden_router::wire::body::Framing;
use ekiden_router::wire::response::{RESPONSE_BOUNDS, ResponseHead};
use ekiden_router::wire::scan::Found;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _tight = scanned(data, &TIGHT);
    let Ok(Found::Head(length)) = scanned(data, &RESPONSE_BOUNDS) else { return };
    for to_head in [false, true] {
        judge(&data[..length], to_head);
    }
});

fn judge(bytes: &[u8], to_head: bool) {
    let mut response = ResponseHead::default();
    if response.parse(bytes, to_head).is_err() {
        return;
    }
    assert_clean(&response.head);
    assert!((100..600).contains(&response.status));
    assert!(
        !(response.framing == Framing::Close && response.keep_alive),
        "a body until close ends the connection"
    );
    let bodiless = to_head || response.is_informational() || matches!(response.status, 204 | 304);
    assert!(!bodiless || response.framing == Framing::None);
    let reason = String::from_utf8_lossy(response.reason()).into_owned();
    assert!(!reason.contains(['\r', '\n', '\0']));
    // The version is not kept: an old one with keep-alive asked for reads the same as a new one without.
    let again_bytes = written(&format!("HTTP/1.1 {} {reason}", response.status), &response.head);
    let mut again = ResponseHead::default();
    let verdict = again.parse(&again_bytes, to_head);
    assert_eq!(verdict, Ok(()), "{:?}", String::from_utf8_lossy(&again_bytes));
    assert_eq!(
        (again.status, again.framing, again.idle_limit),
        (response.status, response.framing, response.idle_limit)
    );
}
