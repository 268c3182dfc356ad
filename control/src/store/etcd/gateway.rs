//! Talks to etcd: HTTP/1.1 to one of its members, another one when that does not answer; TLS, a token for a user. Knows paths and
//! answers, not what they mean.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekiden_config::model::EtcdMember;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::words::{Failed, Token, WatchLine, Watched};
use crate::fleet::secure::{certificates, private_key};

/// Longest time for one try at one member: one that is stopped or cut off must not use up the time of all.
const TRY_MAX: Duration = Duration::from_secs(2);
/// Pause after every member was tried in vain.
const PAUSE: Duration = Duration::from_millis(100);
/// Largest answer, in bytes; larger than a page of the largest values that etcd takes.
const ANSWER_MAX: usize = 256 << 20;
/// Longest line of a watch, in bytes: all changes of the largest transaction.
const LINE_MAX: usize = 64 << 20;

/// So much of an answer that is no JSON is shown, in characters.
const TEXT_MAX: usize = 200;

/// gRPC codes that are looked at.
const DEADLINE_EXCEEDED: u32 = 4;
const RESOURCE_EXHAUSTED: u32 = 8;
const FAILED_PRECONDITION: u32 = 9;
const UNAVAILABLE: u32 = 14;
const UNAUTHENTICATED: u32 = 16;

/// Where etcd is, and who asks.
#[derive(Debug)]
pub(crate) struct Places {
    /// At least one.
    pub(crate) members: Vec<EtcdMember>,
    /// File of who vouches for it.
    pub(crate) ca: Option<PathBuf>,
    /// Files of the certificate and the key that are shown.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// A user and the file of the password.
    pub(crate) user: Option<(Arc<str>, PathBuf)>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// etcd says no, and would again.
    Refused(String),
    /// No member answered in time, or all of them lack a majority. The call may have been carried out.
    Unavailable(String),
}

impl Failure {
    pub(super) fn text(self) -> String {
        match self {
            Failure::Refused(text) | Failure::Unavailable(text) => text,
        }
    }
}

/// One asker, with a connection of its own.
pub(super) struct Gateway {
    places: Arc<Places>,
    turn: usize,
    open: Option<SendRequest<Full<Bytes>>>,
    token: Option<HeaderValue>,
    /// A try of the last call ended without an answer: it may have been carried out.
    pub(super) unanswered: bool,
    /// The try under way has begun to send.
    sent: bool,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// How one try ended.
enum Tried<T> {
    Answer(T),
    Again(String),
    Refused(String),
}

impl Gateway {
    pub(super) fn new(places: &Arc<Places>) -> Self {
        // Not all of them at the same member.
        let turn = fastrand::usize(0..places.members.len().max(1));
        Self { places: Arc::clone(places), turn, open: None, token: None, unanswered: false, sent: false }
    }

    /// Asks until there is an answer or the time is over. A call may be carried out more than once.
    pub(super) async fn call<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &Value,
        until: Instant,
    ) -> Result<T, Failure> {
        let body = Bytes::from(body.to_string());
        let (mut tries, mut last) = (0usize, None);
        self.unanswered = false;
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(TRY_MAX);
            self.sent = false;
            let tried = timeout(left, self.attempt(path, &body)).await;
            match tried {
                Ok(Tried::Answer(answer)) => return Ok(answer),
                Ok(Tried::Refused(text)) => return Err(Failure::Refused(text)),
                Ok(Tried::Again(text)) => {
                    self.unanswered |= self.sent;
                    last = Some(text);
                }
                Err(_) => {
                    self.unanswered |= self.sent;
                    // What a member said tells more than that the time was over.
                    last.get_or_insert_with(|| format!("{} does not answer", self.member()));
                }
            }
            self.next();
            tries += 1;
            if Instant::now() >= until {
                return Err(Failure::Unavailable(last.unwrap_or_default()));
            }
            if tries.is_multiple_of(self.places.members.len().max(1)) {
                sleep(PAUSE).await;
            }
        }
    }

    /// Opens a stream of changes.
    pub(super) async fn watch(&mut self, body: &Value) -> Result<Watching, String> {
        let body = Bytes::from(body.to_string());
        self.open = None;
        let opened = timeout(TRY_MAX, async {
            self.connected().await?;
            self.send("/v3/watch", body).await
        });
        let opened = opened.await.unwrap_or_else(|_| Err("it does not answer".to_owned()));
        let failed = match opened {
            Ok(response) if response.status() == StatusCode::OK => {
                // The connection is this stream's.
                let connection = self.open.take();
                return Ok(Watching {
                    body: response.into_body(),
                    buffer: Vec::new(),
                    seen: 0,
                    _connection: connection,
                });
            }
            Ok(response) => {
                self.token = None;
                format!("it answers {} to a watch", response.status())
            }
            Err(text) => text,
        };
        let text = format!("{}: {failed}", self.member());
        self.next();
        Err(text)
    }

    fn member(&self) -> String {
        let members = &self.places.members;
        members.get(self.turn % members.len().max(1)).map(ToString::to_string).unwrap_or_default()
    }

    /// Leaves this member.
    pub(super) fn next(&mut self) {
        self.open = None;
        self.turn = self.turn.wrapping_add(1);
    }

    async fn attempt<T: DeserializeOwned>(&mut self, path: &str, body: &Bytes) -> Tried<T> {
        let answered = async {
            self.connected().await?;
            self.sent = true;
            let response = self.send(path, body.clone()).await?;
            let status = response.status();
            let bytes = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            Ok((status, bytes.map_err(|error| error.to_string())?.to_bytes()))
        };
        let answered: Result<_, String> = answered.await;
        match answered {
            Err(text) => Tried::Again(format!("{}: {text}", self.member())),
            Ok((StatusCode::OK, bytes)) => match serde_json::from_slice(&bytes) {
                Ok(answer) => Tried::Answer(answer),
                Err(error) => {
                    Tried::Refused(format!("{} does not answer as etcd does: {error}", self.member()))
                }
            },
            Ok((status, bytes)) => self.failed(status, &bytes),
        }
    }

    fn failed<T>(&mut self, status: StatusCode, bytes: &[u8]) -> Tried<T> {
        let (code, text) = said(status, bytes);
        let text = format!("{}: {text}", self.member());
        match code {
            DEADLINE_EXCEEDED | UNAVAILABLE => Tried::Again(text),
            RESOURCE_EXHAUSTED if text.contains("too many requests") => Tried::Again(text),
            // A token that is over, or one that a new member does not know.
            UNAUTHENTICATED if self.token.take().is_some() => Tried::Again(text),
            _ if status.is_server_error() => Tried::Again(text),
            _ => Tried::Refused(text),
        }
    }

    async fn send(&mut self, path: &str, body: Bytes) -> Result<Response<Incoming>, String> {
        let places = Arc::clone(&self.places);
        let member = places.members.get(self.turn % places.members.len().max(1)).ok_or("no member")?;
        let mut request = Request::post(path)
            .header(HOST, format!("{}:{}", member.host, member.port))
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let sender = self.open.as_mut().ok_or("not connected")?;
        let answered = sender.send_request(request).await;
        if answered.is_err() {
            self.open = None;
        }
        answered.map_err(|error| error.to_string())
    }

    /// A connection that takes a request, and a token if there is a user.
    async fn connected(&mut self) -> Result<(), String> {
        let usable = match &mut self.open {
            Some(open) => open.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.open = Some(self.connect().await?);
        }
        if self.token.is_none() && self.places.user.is_some() {
            self.authenticate().await?;
        }
        Ok(())
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let text = |error: std::io::Error| error.to_string();
        let places = &self.places;
        let member = places.members.get(self.turn % places.members.len().max(1)).ok_or("no member")?;
        let stream = TcpStream::connect((&*member.host, member.port)).await.map_err(text)?;
        // Requests are written whole.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Stream> = if member.secure {
            let settings = Arc::new(places.tls()?);
            let name = ServerName::try_from(member.host.to_string()).map_err(|error| error.to_string())?;
            Box::new(TlsConnector::from(settings).connect(name, stream).await.map_err(text)?)
        } else {
            Box::new(stream)
        };
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // Ends with the sender; its errors are the sender's too.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn authenticate(&mut self) -> Result<(), String> {
        let places = Arc::clone(&self.places);
        let Some((user, file)) = &places.user else { return Ok(()) };
        let password = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let body = json!({ "name": &**user, "password": password.trim_end_matches(['\r', '\n']) });
        let response = self.send("/v3/auth/authenticate", Bytes::from(body.to_string())).await?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let bytes = bytes.map_err(|error| error.to_string())?.to_bytes();
        if status == StatusCode::OK {
            let token: Token = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
            let mut token = HeaderValue::from_str(&token.token).map_err(|error| error.to_string())?;
            token.set_sensitive(true);
            self.token = Some(token);
            return Ok(());
        }
        let (code, text) = said(status, &bytes);
        if code == FAILED_PRECONDITION {
            // It asks nobody who he is.
            return Ok(());
        }
        Err(format!("the user {user} is not let in: {text}"))
    }
}

/// The code and the words of an answer that is none; not all of them are JSON.
fn said(status: StatusCode, bytes: &[u8]) -> (u32, String) {
    let failed = serde_json::from_slice::<Failed>(bytes).unwrap_or_default();
    let text = if failed.message.is_empty() { failed.error } else { failed.message };
    if !text.is_empty() {
        return (failed.code, text);
    }
    let words: String = String::from_utf8_lossy(bytes).chars().take(TEXT_MAX).collect();
    (failed.code, format!("it answers {status} {}", words.trim()))
}

impl Places {
    /// Read anew for each connection: renewed certificates need no restart.
    fn tls(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        let ca = self.ca.as_ref().ok_or("https needs `etcd.ca`")?;
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| format!("{}: {error}", ca.display()))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
        let mut settings = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .map_err(|error| format!("{}: {error}", cert.display()))?,
        };
        settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(settings)
    }

    /// Reads all files once, so that a start with wrong ones fails.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.members.iter().any(|member| member.secure) {
            self.tls()?;
        }
        if let Some((_, file)) = &self.user {
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(())
    }
}

/// A stream of changes.
pub(super) struct Watching {
    body: Incoming,
    buffer: Vec<u8>,
    /// So much of it holds no end of a line.
    seen: usize,
    /// The stream ends with it.
    _connection: Option<SendRequest<Full<Bytes>>>,
}

impl Watching {
    /// What comes next. Safe to drop and call again. The error says why nothing more comes.
    pub(super) async fn next(&mut self) -> Result<Watched, String> {
        loop {
            let end = self.buffer.iter().skip(self.seen).position(|byte| *byte == b'\n');
            if let Some(end) = end {
                let rest = self.buffer.split_off(self.seen + end + 1);
                self.seen = 0;
                let line = std::mem::replace(&mut self.buffer, rest);
                let line: WatchLine = serde_json::from_slice(&line).map_err(|error| error.to_string())?;
                return line
                    .result
                    .ok_or_else(|| format!("the watch failed: {}", line.error.unwrap_or_default()));
            }
            self.seen = self.buffer.len();
            if self.buffer.len() > LINE_MAX {
                return Err(format!("a change is longer than {LINE_MAX} bytes"));
            }
            match self.body.frame().await {
                None => return Err("the watch ended".to_owned()),
                Some(Err(error)) => return Err(error.to_string()),
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.buffer.extend_from_slice(&piece);
                    }
                }
            }
        }
    }
}
