//! Files of the journal: cutting one into frames never panics, and what is kept of it is kept again.

use super::{entry, frame};

pub(crate) fn journal(data: &[u8]) {
    let split = frame::split(data);
    assert!(split.whole <= data.len() && split.payloads.len() == split.starts.len());
    for payload in &split.payloads {
        let _entry = entry::decode(payload);
    }
    let whole = data.get(..split.whole).unwrap_or_default();
    assert_eq!(frame::split(whole).payloads, split.payloads);
    let _entry = entry::decode(data);
    // A frame of these bytes behind the header is found.
    let mut file = frame::HEADER.to_vec();
    frame::push(&mut file, data);
    assert_eq!(frame::split(&file).payloads, [data]);
}
