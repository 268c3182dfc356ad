//! A call of gRPC-web on its way: its request becomes one of gRPC, and the response gRPC-web again, trailers in its body.
//!
//! The codec is core's (`core::grpc::web`). Moves no bytes (see `relay::web`).

use ekiden_core::grpc::Kind;
use ekiden_core::grpc::web::{Decoder, TrailerFrame, encode};
use ekiden_core::outcome::Cause;

use crate::exchange::out::put_chunk_size;
use crate::head::FieldId;
use crate::wire::Version;
use crate::wire::body::Framing;
use crate::wire::request::RequestHead;
use crate::wire::response::ResponseHead;

/// What is known of such a call.
#[derive(Debug)]
pub struct Web {
    kind: Kind,
    /// What follows the media type: `+proto`, or nothing.
    messages: Vec<u8>,
    /// The response goes back in base64.
    text_back: bool,
    /// How the request's body comes.
    received: Framing,
    decoder: Decoder,
    /// Decoded, and not yet queued.
    piece: Vec<u8>,
    /// The response is one of gRPC, and its head has been turned.
    turned: bool,
    /// Its body goes to the client in chunks.
    chunked: bool,
}

impl Web {
    /// A call whose request's head has come.
    pub fn new(kind: Kind, messages: &[u8], request: &RequestHead) -> Self {
        let accepted = request.head.known(FieldId::Accept).and_then(Kind::of);
        Self {
            kind,
            messages: messages.to_vec(),
            text_back: accepted.map_or(kind, |(kind, _)| kind) == Kind::WebText,
            received: request.framing,
            decoder: Decoder::default(),
            piece: Vec::new(),
            turned: false,
            chunked: request.version == Version::Http11,
        }
    }

    /// How the request's body comes, whatever it becomes.
    pub fn received(&self) -> Framing {
        self.received
    }

    /// Whether the response is being turned.
    pub fn is_turned(&self) -> bool {
        self.turned
    }

    /// Turns the request's head. Called once, before it is written.
    pub fn prepare(&self, request: &mut RequestHead) {
        let media_type = [b"application/grpc", self.messages.as_slice()].concat();
        request.head.set(b"content-type", &media_type);
        request.head.set(b"te", b"trailers");
        request.head.remove(b"accept");
        request.head.remove(b"x-grpc-web");
        if self.kind == Kind::WebText && request.framing != Framing::None {
            request.head.remove(b"content-length");
            request.framing = Framing::Chunked;
        }
    }

    /// Takes a piece of the request's body and queues what it says for the endpoint.
    ///
    /// # Errors
    /// It is not base64.
    pub fn request_piece(&mut self, bytes: &[u8], chunked: bool, out: &mut Vec<u8>) -> Result<(), Cause> {
        let piece = if self.kind == Kind::WebText {
            self.piece.clear();
            self.decoder.feed(bytes, &mut self.piece).map_err(|_| Cause::GrpcWebMalformed)?;
            &self.piece
        } else {
            bytes
        };
        // An empty chunk would be the end.
        if chunked && !piece.is_empty() {
            put_chunk_size(out, piece.len());
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(piece);
        }
        Ok(())
    }

    /// The request's body has ended.
    ///
    /// # Errors
    /// Not where base64 may end.
    pub fn request_end(&self) -> Result<(), Cause> {
        if self.decoder.is_whole() { Ok(()) } else { Err(Cause::GrpcWebMalformed) }
    }

    /// Turns the response's head, where it is one of gRPC. One without a body says all in its head, and still does.
    pub fn turn(&mut self, response: &mut ResponseHead) {
        let found = response.head.known(FieldId::ContentType).and_then(Kind::of);
        let Some(messages) = found.filter(|(kind, _)| *kind == Kind::Grpc).map(|(_, rest)| rest.to_vec())
        else {
            return;
        };
        let name: &[u8] = if self.text_back { b"application/grpc-web-text" } else { b"application/grpc-web" };
        let messages: &[u8] = if messages.is_empty() { &self.messages } else { &messages };
        response.head.set(b"content-type", &[name, messages].concat());
        if response.framing != Framing::None {
            response.head.remove(b"content-length");
            response.head.remove(b"trailer");
            response.framing = Framing::Chunked;
            response.length = None;
            self.turned = true;
        }
    }

    /// Queues a piece of the response's body for the client.
    pub fn put(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = if self.text_back { bytes.len().div_ceil(3) * 4 } else { bytes.len() };
        if self.chunked {
            put_chunk_size(out, length);
        }
        if self.text_back {
            encode(bytes, out);
        } else {
            out.extend_from_slice(bytes);
        }
        if self.chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Queues the trailers, as the last frame of the body, and the body's end.
    pub fn put_trailers<'t>(&self, out: &mut Vec<u8>, fields: impl Iterator<Item = (&'t [u8], &'t [u8])>) {
        let mut frame = TrailerFrame::default();
        fields.for_each(|(name, value)| frame.field(name, value));
        if !frame.is_empty() {
            self.put(&frame.finish(), out);
        }
        if self.chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}
