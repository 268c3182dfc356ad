//! A fake stage of each kind, every framing, bytes in pieces of every size.

use super::*;

/// Makes letters large; the length stays.
struct Upper;

impl BodyStage for Upper {
    fn data(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Cause> {
        out.extend(bytes.iter().map(u8::to_ascii_uppercase));
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) -> Result<(), Cause> {
        Ok(())
    }

    fn changes_length(&self) -> bool {
        false
    }
}

/// Gives every byte twice and a mark at the end.
struct Double;

impl BodyStage for Double {
    fn data(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Cause> {
        out.extend(bytes.iter().flat_map(|byte| [*byte, *byte]));
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Cause> {
        out.push(b'.');
        Ok(())
    }

    fn changes_length(&self) -> bool {
        true
    }
}

/// Holds everything back to the end; says that the length stays, and adds `extra` bytes all the same.
struct Late {
    held: Vec<u8>,
    extra: usize,
}

impl BodyStage for Late {
    fn data(&mut self, bytes: &[u8], _: &mut Vec<u8>) -> Result<(), Cause> {
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Cause> {
        out.append(&mut self.held);
        out.extend(std::iter::repeat_n(b'!', self.extra));
        Ok(())
    }

    fn changes_length(&self) -> bool {
        false
    }
}

/// Adds one byte too many for one call.
struct Flood;

impl BodyStage for Flood {
    fn data(&mut self, _: &[u8], out: &mut Vec<u8>) -> Result<(), Cause> {
        out.resize(OUTPUT_MAX + 1, b'x');
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) -> Result<(), Cause> {
        Ok(())
    }

    fn changes_length(&self) -> bool {
        true
    }
}

fn passes_all_but_cookies(name: &[u8]) -> Result<bool, Cause> {
    Ok(!name.eq_ignore_ascii_case(b"cookie"))
}

/// Runs a body that arrives in pieces of `step` through a stage. `closes` ends the stream after it.
fn run(
    stage: Box<dyn BodyStage>,
    framing: Framing,
    text: &[u8],
    step: usize,
    closes: bool,
) -> Result<(Shape, Vec<u8>), Cause> {
    let mut staged = Staged::new(stage, framing, Version::Http11);
    let (mut decoder, mut out, mut from, mut to) = (Decoder::new(framing), Vec::new(), 0, 0);
    while to < text.len() {
        to = (to + step).min(text.len());
        loop {
            let fed = staged.feed(&mut decoder, &text[from..to], &mut out, &passes_all_but_cookies)?;
            from += fed.taken;
            if !fed.again {
                break;
            }
        }
    }
    if closes {
        staged.end_of_stream(&mut decoder, &mut out)?;
    }
    assert!(staged.is_done());
    Ok((staged.shape(), out))
}

/// Body and trailers of a chunked text.
fn unchunked(text: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut decoder, mut data, mut trailers, mut at) =
        (Decoder::new(Framing::Chunked), Vec::new(), Vec::new(), 0);
    while !decoder.is_done() {
        let (skip, into, take) = match decoder.next(&text[at..]).unwrap() {
            Frame::Data { skip, take } => (skip, &mut data, take),
            Frame::Trailers { skip, take } => (skip, &mut trailers, take),
            Frame::End { skip } => (skip, &mut data, 0),
            Frame::More { .. } => panic!("no end in {:?}", String::from_utf8_lossy(text)),
        };
        into.extend_from_slice(&text[at + skip..at + skip + take]);
        at += skip + take;
    }
    assert_eq!(at, text.len(), "bytes after the end");
    (data, trailers)
}

#[test]
fn a_stage_that_keeps_the_length_keeps_the_framing() {
    for step in [1, 2, 5, 100] {
        let (shape, out) = run(Box::new(Upper), Framing::Length(5), b"abc-d", step, false).unwrap();
        assert_eq!((shape.coding, out.as_slice()), (Coding::Plain, &b"ABC-D"[..]), "by {step}");
        let late = Box::new(Late { held: Vec::new(), extra: 0 });
        let (shape, out) = run(late, Framing::Length(5), b"abc-d", step, false).unwrap();
        assert_eq!((shape.coding, out.as_slice()), (Coding::Plain, &b"abc-d"[..]), "by {step}");
    }
    let kept = Staged::new(Box::new(Upper), Framing::Length(5), Version::Http11);
    assert!(!kept.drops(b"Content-Length"));
}

#[test]
fn a_stage_that_changes_the_length_is_chunked_from_every_framing() {
    let bodies: [(Framing, &[u8], bool); 3] = [
        (Framing::Length(3), b"abc", false),
        (Framing::Chunked, b"1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n", false),
        (Framing::Close, b"abc", true),
    ];
    for (framing, text, closes) in bodies {
        for step in [1, 2, 3, 1000] {
            let (shape, out) = run(Box::new(Double), framing, text, step, closes).unwrap();
            assert_eq!(shape.coding, Coding::Chunked);
            assert_eq!(unchunked(&out), (b"aabbcc.".to_vec(), Vec::new()), "{framing:?} by {step}");
        }
    }
}

#[test]
fn nothing_made_yet_is_no_last_chunk() {
    let late = Box::new(Late { held: Vec::new(), extra: 0 });
    let (_, out) = run(late, Framing::Chunked, b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n", 1, false).unwrap();
    assert_eq!(out, b"2\r\nab\r\n0\r\n\r\n");
}

#[test]
fn trailers_follow_what_the_stage_held_back() {
    let text = b"1\r\na\r\n0\r\nX-Sum: 1\r\nCookie: c\r\nContent-Digest: d\r\n\r\n";
    for step in [1, 1000] {
        let (_, out) = run(Box::new(Double), Framing::Chunked, text, step, false).unwrap();
        assert_eq!(unchunked(&out), (b"aa.".to_vec(), b"X-Sum: 1\r\n\r\n".to_vec()), "by {step}");
    }
}

#[test]
fn an_old_client_reads_until_close() {
    let mut staged = Staged::new(Box::new(Double), Framing::Length(1), Version::Http10);
    let mut out = Vec::new();
    let mut decoder = Decoder::new(Framing::Length(1));
    let fed = staged.feed(&mut decoder, b"ab", &mut out, &passes_all_but_cookies);
    assert_eq!(fed, Ok(Fed { taken: 1, again: false }), "the next byte is not of this body");
    assert_eq!(staged.shape(), Shape { coding: Coding::Plain, until_close: true });
    assert_eq!(out, b"aa.");
}

#[test]
fn fields_that_would_be_false_are_dropped() {
    let staged = Staged::new(Box::new(Double), Framing::Close, Version::Http11);
    for name in ["Content-Length", "content-md5", "Digest", "CONTENT-DIGEST", "Repr-Digest"] {
        assert!(staged.drops(name.as_bytes()), "{name}");
    }
    for name in ["Content-Type", "Digest-Not", "ETag", "Want-Digest"] {
        assert!(!staged.drops(name.as_bytes()), "{name}");
    }
    assert!(Staged::new(Box::new(Upper), Framing::Close, Version::Http11).drops(b"Digest"));
}

#[test]
fn a_large_body_comes_out_in_bounded_steps() {
    let body = vec![b'x'; 4 * PIECE_MAX];
    let framing = Framing::Length(body.len() as u64);
    let mut staged = Staged::new(Box::new(Double), framing, Version::Http11);
    let (mut decoder, mut from, mut all) = (Decoder::new(framing), 0, Vec::new());
    loop {
        let mut out = Vec::new();
        let fed = staged.feed(&mut decoder, &body[from..], &mut out, &passes_all_but_cookies).unwrap();
        assert!(out.len() <= ENOUGH + OUTPUT_MAX + 64, "{} bytes in one step", out.len());
        from += fed.taken;
        all.extend(out);
        if !fed.again {
            break;
        }
    }
    assert_eq!(from, body.len());
    assert_eq!(unchunked(&all).0.len(), 2 * body.len() + 1);
}

#[test]
fn a_body_cut_short_or_broken_is_never_ended() {
    let rows: [(Framing, &[u8], Cause); 3] = [
        (Framing::Length(3), b"ab", Cause::UpstreamTruncated),
        (Framing::Chunked, b"1\r\na\r\n", Cause::UpstreamTruncated),
        (Framing::Chunked, b"1\r\naXX0\r\n\r\n", Cause::ResponseMalformed),
    ];
    for (framing, text, cause) in rows {
        assert_eq!(run(Box::new(Double), framing, text, 1, true).err(), Some(cause), "{text:?}");
    }
}

#[test]
fn a_stage_that_breaks_its_word_ends_the_exchange() {
    for extra in [1, 7] {
        let late = Box::new(Late { held: Vec::new(), extra });
        assert_eq!(run(late, Framing::Length(2), b"ab", 1, false).err(), Some(Cause::BackendFailed));
    }
    assert_eq!(run(Box::new(Flood), Framing::Length(2), b"ab", 1, false).err(), Some(Cause::BackendFailed));
}
