//! Clients of HTTP/2: one that sends exactly the frames it is given, and one that behaves (the `h2` crate).
//!
//! Every read has a deadline. The first encodes fields without a table and decodes none; the second shows whole responses.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};

use crate::DEADLINE;

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub mod kind {
    #![expect(missing_docs, reason = "each is the type it is named after")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// END_STREAM of DATA and HEADERS, ACK of SETTINGS and PING.
pub const END: u8 = 1;
/// END_HEADERS.
pub const END_HEADERS: u8 = 4;

/// A frame as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream, 0 for the connection.
    pub stream: u32,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM and GOAWAY.
    pub fn error(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }

    /// The last stream of a GOAWAY.
    pub fn last_stream(&self) -> u32 {
        assert_eq!(self.kind, kind::GOAWAY);
        u32::from_be_bytes(self.payload[..4].try_into().unwrap()) & 0x7fff_ffff
    }
}

/// A connection that sends what it is told.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
}

/// A field section without Huffman coding and without the dynamic table (RFC 7541 section 6.2.2).
pub fn fields(list: &[(&str, &[u8])]) -> Vec<u8> {
    section(list.iter().map(|(name, value)| (name.as_bytes(), *value)))
}

/// As [`fields`], with names of any bytes.
pub fn section<'a>(list: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut text = |bytes: &[u8]| {
        if let Ok(short @ ..127) = u8::try_from(bytes.len()) {
            out.push(short);
        } else {
            out.push(127);
            let mut rest = bytes.len() - 127;
            while rest >= 128 {
                out.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            out.push(u8::try_from(rest).unwrap());
        }
        out.extend_from_slice(bytes);
    };
    for (name, value) in list {
        text(&[]);
        text(name);
        text(value);
    }
    // Each field begins with a zero byte, which the empty text above has put there.
    out
}

/// `GET /` of host `a`, with more fields.
pub fn get(more: &[(&str, &[u8])]) -> Vec<u8> {
    request("GET", more)
}

/// A request for `/` of host `a`, with more fields.
pub fn request(method: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let pseudo: &[(&str, &[u8])] =
        &[(":method", method.as_bytes()), (":scheme", b"http"), (":authority", b"a"), (":path", b"/")];
    fields(&[pseudo, more].concat())
}

impl Frames {
    /// Connects and sends nothing.
    pub fn bare(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { stream }
    }

    /// Connects, exchanges prefaces and settings.
    pub fn connect(address: SocketAddr) -> Self {
        let mut this = Self::bare(address);
        this.bytes(PREFACE);
        this.send(kind::SETTINGS, 0, 0, &[]);
        this.send(kind::SETTINGS, END, 0, &[]);
        this
    }

    /// Sends bytes; false when the router has gone.
    pub fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a frame; false when the router has gone.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.bytes(&frame(kind, flags, stream, payload))
    }

    /// Ends our sending side.
    pub fn finish(&mut self) {
        let _gone = self.stream.shutdown(Shutdown::Write);
    }

    /// Longest wait of a read.
    pub fn patience(&mut self, wait: Duration) {
        self.stream.set_read_timeout(Some(wait)).unwrap();
    }

    /// The next frame; none when the router closes.
    ///
    /// # Panics
    /// When nothing comes within the deadline.
    pub fn receive(&mut self) -> Option<Frame> {
        let head = self.exactly(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
        Some(Frame { kind: head[3], flags: head[4], stream, payload: self.exactly(length)? })
    }

    fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        match self.stream.read_exact(&mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the router is silent")
            }
            Err(_) => None,
        }
    }

    /// Frames up to the first of this type, that one included; all there are when the router closes before.
    pub fn until(&mut self, kind: u8) -> Vec<Frame> {
        let mut all = Vec::new();
        while let Some(frame) = self.receive() {
            let found = frame.kind == kind;
            all.push(frame);
            if found {
                break;
            }
        }
        all
    }

    /// The first frame of this type.
    ///
    /// # Panics
    /// When the router closes before.
    pub fn first(&mut self, kind: u8) -> Frame {
        let all = self.until(kind);
        match all.last() {
            Some(frame) if frame.kind == kind => frame.clone(),
            _ => panic!("no frame of type {kind}: {all:?}"),
        }
    }

    /// The type of the next frame that is of one of these.
    ///
    /// # Panics
    /// When the router closes before.
    pub fn first_of(&mut self, kinds: &[u8]) -> u8 {
        loop {
            let frame = self.receive().expect("a frame");
            if kinds.contains(&frame.kind) {
                return frame.kind;
            }
        }
    }

    /// The error code of the first RST_STREAM or GOAWAY; none when the router closes without.
    pub fn first_error(&mut self) -> Option<(u8, u32)> {
        while let Some(frame) = self.receive() {
            if let Some(error) = frame.error() {
                return Some((frame.kind, error));
            }
        }
        None
    }

    /// The error codes of RST_STREAM and GOAWAY up to the close.
    pub fn errors(&mut self) -> Vec<(u8, u32)> {
        let mut all = Vec::new();
        while let Some(frame) = self.receive() {
            all.extend(frame.error().map(|error| (frame.kind, error)));
        }
        all
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A response as a client that behaves sees it.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Fields.
    pub fields: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
}

impl Reply {
    /// The stable code of a response that the router made; empty for others.
    pub fn code(&self) -> &str {
        self.field("x-router-error").split(' ').next().unwrap_or("")
    }

    /// A field, or nothing.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Runs a conversation over one connection of a client that behaves, with the deadline of every test.
///
/// # Panics
/// When it takes too long.
pub fn talk<T>(address: SocketAddr, work: impl AsyncFnOnce(SendRequest<Bytes>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let all = async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            work(client).await
        };
        tokio::time::timeout(DEADLINE, all).await.expect("the deadline of the test")
    })
}

/// A `GET` of a host and path.
pub fn get_of(host: &str, path: &str) -> Request<()> {
    Request::get(format!("http://{host}{path}")).body(()).unwrap()
}

/// One request without a body.
pub async fn ask(client: &SendRequest<Bytes>, request: Request<()>) -> Result<Reply, h2::Error> {
    ask_with(client, request, None, None).await
}

/// One request with a body and trailers.
pub async fn ask_with(
    client: &SendRequest<Bytes>,
    request: Request<()>,
    body: Option<&[u8]>,
    trailers: Option<HeaderMap>,
) -> Result<Reply, h2::Error> {
    let mut client = client.clone().ready().await?;
    let alone = body.is_none() && trailers.is_none();
    let (response, mut send) = client.send_request(request, alone)?;
    if let Some(body) = body {
        let mut rest = Bytes::copy_from_slice(body);
        while !rest.is_empty() {
            send.reserve_capacity(rest.len());
            match std::future::poll_fn(|cx| send.poll_capacity(cx)).await {
                Some(Ok(_)) => {
                    let piece = rest.split_to(send.capacity().min(rest.len()));
                    send.send_data(piece, rest.is_empty() && trailers.is_none())?;
                }
                // The response may have come early.
                Some(Err(_)) | None => break,
            }
        }
        if body.is_empty() && trailers.is_none() {
            send.send_data(Bytes::new(), true)?;
        }
    }
    if let Some(trailers) = trailers {
        send.send_trailers(trailers)?;
    }
    read_reply(response.await?).await
}

/// Reads a response to its end.
pub async fn read_reply(response: http::Response<h2::RecvStream>) -> Result<Reply, h2::Error> {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    let trailers = stream.trailers().await?;
    Ok(Reply { status: head.status.as_u16(), fields: head.headers, body, trailers })
}
