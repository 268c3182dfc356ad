//! A client that sends exactly the bytes it is given and reads responses with a strict parser of its own.
//!
//! Every read has a deadline. Does not follow, retry or pool.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::DEADLINE;

/// A connection to the router.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    held: Vec<u8>,
    /// The peer has ended its side, properly or with a reset.
    ended: Option<ErrorKind>,
    /// It ended with the words for it: a FIN, over TLS after close_notify.
    clean: bool,
}

/// A response as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// `HTTP/1.1` as written.
    pub version: String,
    /// Status code.
    pub status: u16,
    /// Fields in order, as written.
    pub fields: Vec<(String, String)>,
    /// Body without framing.
    pub body: Vec<u8>,
    /// Trailers of a chunked body.
    pub trailers: Vec<(String, String)>,
}

/// Why there is no (whole) response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// The router closed before the first byte.
    Closed,
    /// The router closed inside a response; what had come of its body, or of its head.
    Truncated(Vec<u8>),
    /// The bytes are no HTTP response.
    Malformed(String),
    /// Nothing came for the deadline.
    Silent,
}

impl Response {
    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The stable code of a response that the router made; empty for others.
    pub fn code(&self) -> &str {
        self.get("x-router-error").and_then(|value| value.split(' ').next()).unwrap_or("")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON: {error}: {self:?}"))
    }

    /// Whether the router said that it closes.
    pub fn says_close(&self) -> bool {
        self.all("connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn connect(address: SocketAddr) -> Self {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        Self::over(stream)
    }

    /// A client over a connected socket.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { stream, tls: None, held: Vec::new(), ended: None, clean: false }
    }

    /// Connects with TLS; returns when the handshake is over, or failed.
    pub fn secure(
        address: SocketAddr,
        name: ServerName<'static>,
        config: &Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let mut client = Self::connect(address);
        let tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut tls = Box::new(tls);
        while tls.is_handshaking() {
            tls.complete_io(&mut client.stream)?;
        }
        client.tls = Some(tls);
        Ok(client)
    }

    /// The TLS connection.
    pub fn tls(&self) -> &ClientConnection {
        self.tls.as_ref().unwrap()
    }

    /// Whether the peer ended its side with a FIN, over TLS after close_notify. Known after [`Client::rest`].
    pub fn ended_cleanly(&self) -> bool {
        self.clean
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).write_all(bytes),
            None => self.stream.write_all(bytes),
        }
    }

    /// Sets the longest wait of a read; for tests that expect silence.
    pub fn patience(&mut self, wait: Duration) {
        self.stream.set_read_timeout(Some(wait)).unwrap();
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes. A router that has closed already is no failure: what it said can still be read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _refused_already = self.write(bytes.as_ref());
    }

    /// Sends bytes, each in a write of its own.
    pub fn send_split(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.write(&[*byte]).is_err() {
                return;
            }
        }
    }

    /// Ends the sending side (FIN).
    pub fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _gone_already = tls.write_tls(&mut self.stream);
            return;
        }
        let _gone_already = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Sends a request and reads its response.
    ///
    /// # Panics
    /// When there is none.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        let request = request.as_ref();
        self.send(request);
        let to_head = request.starts_with(b"HEAD ");
        self.read(to_head).unwrap_or_else(|lost| panic!("{lost:?} to {:?}", String::from_utf8_lossy(request)))
    }

    /// `GET path` with this Host.
    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// The next response, which must be there. Informational ones count.
    pub fn response(&mut self) -> Response {
        self.read(false).unwrap_or_else(|lost| panic!("no response: {lost:?}"))
    }

    /// The next response. `to_head` says that it has no body whatever its fields say.
    pub fn read(&mut self, to_head: bool) -> Result<Response, Lost> {
        let mut response = self.head()?;
        let bodiless = to_head || response.status < 200 || matches!(response.status, 204 | 304);
        if bodiless {
            return Ok(response);
        }
        let codings = response.all("transfer-encoding").join(",");
        let lengths = response.all("content-length").join(",");
        if !codings.is_empty() {
            if codings != "chunked" || !lengths.is_empty() {
                return Err(Lost::Malformed(format!("framing: {response:?}")));
            }
            self.chunked(&mut response)?;
        } else if lengths.is_empty() {
            while self.fill()? {}
            if self.ended != Some(ErrorKind::UnexpectedEof) {
                return Err(Lost::Truncated(std::mem::take(&mut self.held)));
            }
            response.body = std::mem::take(&mut self.held);
        } else {
            let length = lengths.parse().map_err(|_| Lost::Malformed(lengths.clone()))?;
            response.body = self.exactly(length)?;
        }
        Ok(response)
    }

    /// The next head alone.
    pub fn head(&mut self) -> Result<Response, Lost> {
        let head = loop {
            if let Some(at) = find(&self.held, b"\r\n\r\n") {
                break self.held.drain(..at + 4).collect::<Vec<u8>>();
            }
            if !self.fill()? {
                let held = std::mem::take(&mut self.held);
                return Err(if held.is_empty() { Lost::Closed } else { Lost::Truncated(held) });
            }
        };
        parse(&head)
    }

    /// Exactly this many bytes.
    pub fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Lost> {
        while self.held.len() < length {
            if !self.fill()? {
                return Err(Lost::Truncated(std::mem::take(&mut self.held)));
            }
        }
        Ok(self.held.drain(..length).collect())
    }

    fn line(&mut self) -> Result<String, Lost> {
        loop {
            if let Some(at) = find(&self.held, b"\n") {
                let line: Vec<u8> = self.held.drain(..=at).collect();
                let text = String::from_utf8(line).map_err(|_| Lost::Malformed("line".to_owned()))?;
                return match text.strip_suffix("\r\n") {
                    Some(text) => Ok(text.to_owned()),
                    None => Err(Lost::Malformed(text)),
                };
            }
            if !self.fill()? {
                return Err(Lost::Truncated(Vec::new()));
            }
        }
    }

    fn chunked(&mut self, response: &mut Response) -> Result<(), Lost> {
        let lost = |lost: Lost, body: &[u8]| match lost {
            Lost::Truncated(_) => Lost::Truncated(body.to_vec()),
            other => other,
        };
        loop {
            let size = self.line().map_err(|l| lost(l, &response.body))?;
            let size = usize::from_str_radix(&size, 16)
                .map_err(|_| Lost::Malformed(format!("chunk size {size:?}")))?;
            if size == 0 {
                break;
            }
            let data = self.exactly(size).map_err(|l| match l {
                Lost::Truncated(part) => Lost::Truncated([response.body.as_slice(), &part].concat()),
                other => other,
            })?;
            response.body.extend(data);
            let end = self.exactly(2).map_err(|l| lost(l, &response.body))?;
            if end != b"\r\n" {
                return Err(Lost::Malformed("no CRLF after a chunk".to_owned()));
            }
        }
        loop {
            let line = self.line().map_err(|l| lost(l, &response.body))?;
            match line.split_once(':') {
                None if line.is_empty() => return Ok(()),
                None => return Err(Lost::Malformed(line)),
                Some((name, value)) => response.trailers.push((name.to_owned(), value.trim().to_owned())),
            }
        }
    }

    /// One read; false at the end of the stream.
    fn fill(&mut self) -> Result<bool, Lost> {
        if self.ended.is_some() {
            return Ok(false);
        }
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = match &mut self.tls {
                Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(&mut piece),
                None => self.stream.read(&mut piece),
            };
            match read {
                Ok(0) => (self.ended, self.clean) = (Some(ErrorKind::UnexpectedEof), true),
                Ok(count) => self.held.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Lost::Silent);
                }
                Err(error) => self.ended = Some(error.kind()),
            }
            return Ok(self.ended.is_none());
        }
    }

    /// Reads to the end; what still came. Fails when the connection stays open.
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return std::mem::take(&mut self.held),
                Err(lost) => panic!(
                    "the connection stays open: {lost:?}, held {:?}",
                    String::from_utf8_lossy(&self.held)
                ),
            }
        }
    }

    /// Whether the end of the stream was a reset. Known after [`Client::rest`].
    pub fn was_reset(&self) -> bool {
        self.ended == Some(ErrorKind::ConnectionReset)
    }

    /// Whether nothing comes and nothing ends within a time.
    pub fn is_quiet(&mut self, wait: Duration) -> bool {
        self.patience(wait);
        let quiet = self.held.is_empty() && self.fill() == Err(Lost::Silent);
        self.patience(DEADLINE);
        quiet
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn parse(head: &[u8]) -> Result<Response, Lost> {
    let text =
        String::from_utf8(head.to_vec()).map_err(|_| Lost::Malformed("head is not UTF-8".to_owned()))?;
    let malformed = || Lost::Malformed(text.clone());
    let mut lines = text.strip_suffix("\r\n\r\n").ok_or_else(malformed)?.split("\r\n");
    let first = lines.next().ok_or_else(malformed)?;
    let (version, rest) = first.split_once(' ').ok_or_else(malformed)?;
    let status = rest.get(..3).and_then(|digits| digits.parse().ok()).ok_or_else(malformed)?;
    if version != "HTTP/1.1" || !matches!(rest.as_bytes().get(3), None | Some(b' ')) {
        return Err(malformed());
    }
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        if name.is_empty() || name.contains(' ') || line.contains(['\r', '\n']) {
            return Err(malformed());
        }
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok(Response { version: version.to_owned(), status, fields, body: Vec::new(), trailers: Vec::new() })
}
