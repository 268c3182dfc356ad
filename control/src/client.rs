//! A client of the control API, for the command line: one request, one answer, over TCP or a unix socket.
//!
//! Knows HTTP and tokens, not what is asked. Blocking; not for use inside a runtime.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use ekiden_config::model::Address;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Longest wait for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Largest answer, in bytes.
const ANSWER_MAX: usize = 512 << 20;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientError {
    /// Nobody answers there.
    Unreachable(String),
    /// What came is not an answer of this API.
    NotAnAnswer(String),
    /// The token file is of no use.
    Token(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable(text) | ClientError::NotAnAnswer(text) | ClientError::Token(text) => {
                f.write_str(text)
            }
        }
    }
}

impl std::error::Error for ClientError {}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its entity tag, if it has one.
    pub tag: Option<String>,
    /// The document: what was asked for, or a problem.
    pub value: Value,
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Asking {
    /// HTTP method.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Content type and body; none sends none.
    pub body: Option<(&'static str, Vec<u8>)>,
    /// Further head fields.
    pub fields: Vec<(&'static str, String)>,
}

/// Where to ask, and as whom.
#[derive(Clone)]
pub struct Client {
    address: Address,
    token: Option<String>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Client {
    /// A client; the file holds a token and nothing else.
    pub fn new(address: Address, token_file: Option<&Path>) -> Result<Self, ClientError> {
        let token = token_file.map(read_token).transpose()?;
        Ok(Self { address, token })
    }

    /// Asks and waits for the answer.
    pub fn ask(&self, asking: Asking) -> Result<Answer, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| self.unreachable(&error.to_string()))?;
        let answer = runtime.block_on(async { timeout(ANSWER_WAIT, self.exchange(asking)).await });
        answer.unwrap_or_else(|_| Err(self.unreachable("no answer came in time")))
    }

    fn unreachable(&self, why: &str) -> ClientError {
        let address = &self.address;
        ClientError::Unreachable(format!(
            "the control API at {address} cannot be asked: {why}; is `ekiden run` there? --control names another address"
        ))
    }

    async fn exchange(&self, asking: Asking) -> Result<Answer, ClientError> {
        let connected = |error: std::io::Error| self.unreachable(&error.to_string());
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(connected)?;
                self.over(stream, asking).await
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(Path::new(&**path)).await.map_err(connected)?;
                self.over(stream, asking).await
            }
        }
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        asking: Asking,
    ) -> Result<Answer, ClientError> {
        let failed = |error: hyper::Error| self.unreachable(&error.to_string());
        let (mut sender, connection) =
            http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.map_err(failed)?;
        // Ends with the answer; its errors are the sender's too.
        tokio::spawn(connection);
        let response = sender.send_request(self.request(asking)?).await.map_err(failed)?;
        let status = response.status().as_u16();
        let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| self.unreachable(&error.to_string()))?.to_bytes();
        let value = serde_json::from_slice(&body).map_err(|error| {
            ClientError::NotAnAnswer(format!("{} does not answer as a control API: {error}", self.address))
        })?;
        Ok(Answer { status, tag, value })
    }

    fn request(&self, asking: Asking) -> Result<Request<Full<Bytes>>, ClientError> {
        let wrong = |what: &str| ClientError::NotAnAnswer(format!("{what} cannot be sent"));
        let Asking { method, target, body, fields } = asking;
        let mut request = Request::builder().method(method).uri(target).header(HOST, "localhost");
        if let Some(token) = &self.token {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| wrong("the token"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        for (name, value) in fields {
            let value = HeaderValue::from_str(&value).map_err(|_| wrong(name))?;
            request = request.header(HeaderName::from_static(name), value);
        }
        let (kind, bytes) = body.map_or((None, Vec::new()), |(kind, bytes)| (Some(kind), bytes));
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        request.body(Full::new(Bytes::from(bytes))).map_err(|_| wrong("this path"))
    }
}

fn read_token(file: &Path) -> Result<String, ClientError> {
    let place = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| ClientError::Token(format!("the token file {place}: {error}")))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        let text = format!("the token file {place} must hold one token and nothing else");
        return Err(ClientError::Token(text));
    }
    Ok(token.to_owned())
}
