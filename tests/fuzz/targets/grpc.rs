//! Messages of gRPC that services answer with, base64 of gRPC-web, and frames of WebSocket: reading never panics, and how the bytes
//! arrive changes nothing.
#![no_main]

use ekiden_core::grpc::ext_authz::{self, Verdict};
use ekiden_core::grpc::web::{Decoder, NotBase64, encode};
use ekiden_core::grpc::health;
use ekiden_core::websocket::Frames;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let framed = [&[0][..], &(data.len() as u32).to_be_bytes(), data].concat();
    for body in [data, &framed] {
        authorizer(body);
        let _any = health::answer(body);
    }
    web(data);
    websocket(data);
});

fn authorizer(body: &[u8]) {
    match ext_authz::answer(body) {
        None => {}
        Some(Verdict::Allowed(fields)) => assert!(fields.len() <= 256),
        // A refusal never looks like a leave.
        Some(Verdict::Denied { status, fields, .. }) => {
            assert!((300..600).contains(&status) && fields.len() <= 256);
        }
    }
}

fn decoded(text: &[u8], step: usize) -> Result<(Vec<u8>, bool), NotBase64> {
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    for piece in text.chunks(step) {
        decoder.feed(piece, &mut out)?;
    }
    Ok((out, decoder.is_whole()))
}

fn web(data: &[u8]) {
    let whole = decoded(data, data.len().max(1));
    for step in [1, 3, 7] {
        assert_eq!(decoded(data, step), whole, "in pieces of {step}");
    }
    let mut text = Vec::new();
    encode(data, &mut text);
    assert_eq!(decoded(&text, 5), Ok((data.to_vec(), true)));
}

fn websocket(data: &[u8]) {
    let followed = |step: usize| {
        let mut frames = Frames::default();
        data.chunks(step).for_each(|piece| frames.follow(piece));
        (frames.is_between(), frames.is_closed())
    };
    let whole = followed(data.len().max(1));
    for step in [1, 3, 7] {
        assert_eq!(followed(step), whole, "in pieces of {step}");
    }
}
