//! Chunked bodies: how the bytes arrive changes nothing, data comes back the same after being coded anew, and a body is
//! never taken for whole without its last chunk.
#![no_main]

use ekiden_fuzz::{Decoded, decoded, encoded};
use ekiden_router::wire::chunked::trailer_fields;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = decoded(data, data.len().max(1));
    let step = 2 + data.first().map_or(0, |byte| usize::from(*byte) % 29);
    for step in [1, step] {
        assert_eq!(decoded(data, step), whole, "in pieces of {step}");
    }
    assert!(whole.data.len() < data.len().max(1));
    if whole.used.is_none() {
        return;
    }
    for (name, value) in trailer_fields(&whole.trailers) {
        assert!(!name.is_empty() && !value.contains(&b'\r') && !value.contains(&b'\n'));
    }
    let again_bytes = encoded(&whole.data, &whole.trailers, step);
    let again = decoded(&again_bytes, again_bytes.len());
    assert_eq!(again, Decoded { used: Some(again_bytes.len()), ..whole });
});
