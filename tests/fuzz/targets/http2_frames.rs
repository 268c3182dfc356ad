//! Frames of HTTP/2 as the follower sees them under the codec: what is found, judged and hidden does not depend on how the bytes
//! arrive, and counting never panics.
//!
//! Input: a byte that says in what pieces the rest arrives.
#![no_main]

use ekiden_core::frame_budget::{Budget, FrameCounts, FrameHeader, kind};
use ekiden_router::http2::rules::Rules;
use ekiden_router::http2::track::{Part, Track};
use libfuzzer_sys::fuzz_target;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Over(Budget),
    Broken(u32),
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let whole = followed(bytes, bytes.len().max(1));
    for step in [1, 2 + usize::from(*first) % 29] {
        assert_eq!(followed(bytes, step), whole, "in pieces of {step}");
        hidden(bytes, step);
    }
});

/// Headers that were found, bytes of payloads, and how it ended.
type Seen = (Vec<(FrameHeader, u32)>, usize, Result<(), Fault>);

fn followed(bytes: &[u8], step: usize) -> Seen {
    let (mut track, mut rules, mut counts) = (Track::new(0), Rules::default(), FrameCounts::default());
    let (mut headers, mut payload) = (Vec::new(), 0);
    for piece in bytes.chunks(step) {
        let walked = track.walk(piece, |part| match part {
            Part::Header(frame, stream) => {
                headers.push((frame, stream));
                // Not at one moment: budgets are of a time.
                counts.receive(frame, 1_000 + headers.len() as u64 * 100).map_err(Fault::Over)?;
                if frame.kind == kind::DATA {
                    rules.note_sent(frame);
                }
                rules.begin(frame, stream).map_err(Fault::Broken)
            }
            Part::Payload(bytes) => {
                payload += bytes.len();
                rules.payload(bytes).map_err(Fault::Broken)
            }
            Part::End => rules.end().map_err(Fault::Broken),
        });
        if walked.is_err() {
            // How much of the payload had come when a rule was broken is a matter of pieces.
            return (headers, 0, walked);
        }
    }
    assert!(payload <= bytes.len());
    (headers, payload, Ok(()))
}

/// Hides what the codec must not see; the frames stay where they are.
fn hidden(bytes: &[u8], step: usize) {
    let (mut track, mut out) = (Track::new(0), Vec::new());
    for piece in bytes.chunks(step) {
        let mut shown = piece.to_vec();
        let before = track;
        let Ok(()) = track.walk(piece, |_| Ok::<(), std::convert::Infallible>(()));
        before.hide_goaway(&mut shown);
        out.extend(shown);
    }
    let (was, is) = (found(bytes), found(&out));
    assert_eq!(was.len(), is.len());
    for ((was, stream), (is, same)) in was.into_iter().zip(is) {
        assert_eq!((was.length, was.flags, stream), (is.length, is.flags, same));
        assert!(is.kind != kind::GOAWAY && (was.kind == is.kind || was.kind == kind::GOAWAY));
    }
}

fn found(bytes: &[u8]) -> Vec<(FrameHeader, u32)> {
    let mut all = Vec::new();
    let Ok(()) = Track::new(0).walk(bytes, |part| {
        if let Part::Header(frame, stream) = part {
            all.push((frame, stream));
        }
        Ok::<(), std::convert::Infallible>(())
    });
    all
}
