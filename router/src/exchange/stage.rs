//! The seam of body stages: code that changes the bytes of a body on their way (compression, rewriting, inspection).
//!
//! [`BodyStage`] is what a plug-in writes; [`Staged`] carries a response body through one: frames of the decoder in,
//! bytes for the client out, in the framing that the changed body needs. Pure: it owns no socket and never waits. Does
//! not choose stages (policies do), and does not judge which trailers may pass (its caller says).

use ekiden_core::outcome::Cause;

use crate::exchange::out::{put_chunk_size, put_field};
use crate::exchange::response_out::{Coding, Shape};
use crate::head::FieldId;
use crate::wire::Version;
use crate::wire::body::{Decoder, Frame, Framing};
use crate::wire::chunked::{TRAILERS_MAX, trailer_fields};

/// Most body bytes given to a stage in one call. A trailer section must be seen whole, so it is no less than twice that.
pub const PIECE_MAX: usize = 2 * TRAILERS_MAX;
/// Most bytes a stage may add in one call; one that adds more is broken and ends the exchange.
pub const OUTPUT_MAX: usize = 8 * PIECE_MAX;
/// Bytes made by one [`Staged::feed`] after which it returns, so that the caller writes before it goes on.
const ENOUGH: usize = 64 << 10;

/// Changes the bytes of one body. One stage serves one body and is dropped with it.
///
/// Contract. Thread: called on the worker that serves the exchange, never on another, and need not be `Send`. Blocking:
/// never; no I/O, no lock that another thread holds long, no work that grows with the body. Bounds: a call gets at most
/// [`PIECE_MAX`] bytes, adds at most [`OUTPUT_MAX`] to `out`, and the stage holds at most a stated amount between calls.
/// It appends to `out` and does not touch what stands there. Cancel: it may be dropped after any call, without
/// [`BodyStage::end`], when a side goes away. Panic: ends the connection like any panic on a worker.
pub trait BodyStage {
    /// Takes the next bytes of the body, at least one, and appends what is ready, perhaps nothing.
    ///
    /// # Errors
    /// A cause ends the exchange; the client's body is truncated and never ended properly.
    fn data(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Cause>;

    /// The body has ended properly: appends what was held back. Called once, and last.
    ///
    /// # Errors
    /// As for [`BodyStage::data`].
    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Cause>;

    /// Whether the body may come out with another length than it went in with. Asked before the head is written; the
    /// answer never changes.
    fn changes_length(&self) -> bool;
}

/// What one [`Staged::feed`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// Bytes of the input that are done with; the caller takes them from its buffer.
    pub taken: usize,
    /// More can be fed from what has arrived already, once the output has been written.
    pub again: bool,
}

/// One response body on its way through a stage.
pub struct Staged {
    stage: Box<dyn BodyStage>,
    changes_length: bool,
    shape: Shape,
    piece: Vec<u8>,
    bytes_in: u64,
    bytes_out: u64,
    ended: bool,
}

impl Staged {
    /// A body with the upstream's framing, on its way to a client of this version. For a response with a body; one
    /// without ([`Framing::None`]) goes past its stage, and only [`Staged::drops`] is asked.
    pub fn new(stage: Box<dyn BodyStage>, upstream: Framing, version: Version) -> Self {
        let changes_length = stage.changes_length();
        let framing = match upstream {
            Framing::Length(_) if changes_length => Framing::Chunked,
            Framing::None | Framing::Length(_) | Framing::Chunked | Framing::Close => upstream,
        };
        let shape = Shape::of(framing, version);
        Self { stage, changes_length, shape, piece: Vec::new(), bytes_in: 0, bytes_out: 0, ended: false }
    }

    /// How the body goes to the client; in place of the shape that its upstream framing would have.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether a field of the head, or a trailer, must not be passed on because it would not be true of the body that
    /// comes out: its length if that may change, and its digests (RFC 9530, RFC 3230, RFC 1864) in any case.
    pub fn drops(&self, name: &[u8]) -> bool {
        match FieldId::of(name) {
            FieldId::ContentLength => self.changes_length,
            _ => DIGESTS.iter().any(|digest| name.eq_ignore_ascii_case(digest)),
        }
    }

    /// Whether the end of the body has been written.
    pub fn is_done(&self) -> bool {
        self.ended
    }

    /// Decodes what has arrived, puts it through the stage and appends the result for the client. `may_trail` says of
    /// each trailer whether it is passed on.
    ///
    /// # Errors
    /// The stage's cause; [`Cause::ResponseMalformed`] when the body is; [`Cause::BackendFailed`] when the stage broke its
    /// contract. The client's body must then be cut short.
    pub fn feed(
        &mut self,
        decoder: &mut Decoder,
        bytes: &[u8],
        out: &mut Vec<u8>,
        may_trail: &dyn Fn(&[u8]) -> Result<bool, Cause>,
    ) -> Result<Fed, Cause> {
        let (mut taken, full) = (0, out.len() + ENOUGH);
        while !self.ended {
            let rest = bytes.get(taken..).unwrap_or(&[]);
            let window = rest.get(..PIECE_MAX).unwrap_or(rest);
            match decoder.next(window).map_err(|_| Cause::ResponseMalformed)? {
                Frame::Data { skip, take } => {
                    self.data(window.get(skip..skip + take).unwrap_or(&[]), out)?;
                    taken += skip + take;
                    if decoder.is_done() {
                        self.finish(&[], out, may_trail)?;
                    }
                }
                Frame::Trailers { skip, take } => {
                    self.finish(window.get(skip..skip + take).unwrap_or(&[]), out, may_trail)?;
                    taken += skip + take;
                }
                Frame::End { skip } => {
                    self.finish(&[], out, may_trail)?;
                    taken += skip;
                }
                Frame::More { skip } => return Ok(Fed { taken: taken + skip, again: false }),
            }
            if out.len() >= full {
                break;
            }
        }
        Ok(Fed { taken, again: !self.ended })
    }

    /// The endpoint has closed: the proper end of a body that lasts until then.
    ///
    /// # Errors
    /// [`Cause::UpstreamTruncated`] when the body had not ended; else as for [`Staged::feed`].
    pub fn end_of_stream(&mut self, decoder: &mut Decoder, out: &mut Vec<u8>) -> Result<(), Cause> {
        if !decoder.end_of_stream() {
            return Err(Cause::UpstreamTruncated);
        }
        self.finish(&[], out, &|_| Ok(false))
    }

    fn data(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Cause> {
        self.bytes_in += bytes.len() as u64;
        self.piece.clear();
        self.stage.data(bytes, &mut self.piece)?;
        self.put_piece(out)
    }

    /// Appends what the stage has made, as one chunk where chunks are spoken. An empty chunk would end the body.
    fn put_piece(&mut self, out: &mut Vec<u8>) -> Result<(), Cause> {
        self.bytes_out += self.piece.len() as u64;
        // More than announced would be read as the next response.
        let overrun = !self.changes_length && self.bytes_out > self.bytes_in;
        if self.piece.len() > OUTPUT_MAX || overrun {
            return Err(Cause::BackendFailed);
        }
        if self.piece.is_empty() {
            return Ok(());
        }
        let chunked = self.shape.coding == Coding::Chunked;
        if chunked {
            put_chunk_size(out, self.piece.len());
        }
        out.extend_from_slice(&self.piece);
        if chunked {
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn finish(
        &mut self,
        trailers: &[u8],
        out: &mut Vec<u8>,
        may_trail: &dyn Fn(&[u8]) -> Result<bool, Cause>,
    ) -> Result<(), Cause> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        self.piece.clear();
        self.stage.end(&mut self.piece)?;
        self.put_piece(out)?;
        if !self.changes_length && self.bytes_out != self.bytes_in {
            return Err(Cause::BackendFailed);
        }
        if self.shape.coding != Coding::Chunked {
            return Ok(());
        }
        out.extend_from_slice(b"0\r\n");
        for (name, value) in trailer_fields(trailers) {
            if may_trail(name)? && !self.drops(name) {
                put_field(out, name, value);
            }
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// Fields that tell a digest of the body.
const DIGESTS: &[&[u8]] = &[b"content-md5", b"digest", b"content-digest", b"repr-digest"];

#[cfg(test)]
mod tests;
