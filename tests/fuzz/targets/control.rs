//! What control reads of others: requests to its API, lines of its link with routers, answers of etcd, files of the journal, and
//! texts that people write. Reading never panics, and what is read is read again when it is written.
#![no_main]

use ekiden_control::fuzzing::{api, link, store, texts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The fuzzer begins with nothing, which is no frame of a journal.
    if data.is_empty() {
        return;
    }
    api(data);
    link(data);
    store(data);
    if let Ok(text) = std::str::from_utf8(data) {
        texts(text);
    }
});
