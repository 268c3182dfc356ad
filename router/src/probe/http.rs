//! The HTTP check: one GET on a fresh connection, judged by status and, if asked, by a text in the body. Follows no
//! redirect and keeps no connection.

use std::convert::Infallible;
use std::sync::Arc;

use ekiden_config::model::{Address, ProxyVersion};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::{Checking, Probe, Target, Verdict, io_words, one_line, open_words};
use crate::exchange::proxy_out::own_header;
use crate::http2::endpoint::EndpointStream;
use crate::http2::endpoint::connection::{self, Begun};
use crate::http2::endpoint::pool::Lease;
use crate::stream::Stream;
use crate::tls::upstream::{OpenError, connect, open};

/// How much of a body is searched, in bytes.
pub(super) const BODY_MAX: usize = 64 << 10;
/// What checks call themselves.
pub(super) const AGENT: &str = concat!("ekiden-probe/", env!("CARGO_PKG_VERSION"));

/// `GET path` that passes on a status in range and, if set, a body that holds a text in its first 64 KiB.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    path: Arc<str>,
    host: Option<Arc<str>>,
    status: (u16, u16),
    body: Option<Arc<str>>,
    send_proxy: Option<ProxyVersion>,
}

impl HttpProbe {
    /// A check of `path` (with query). `host` is the Host field, the endpoint's address unless given; `status` the
    /// lowest and highest passing status; `body` the text to be found.
    pub fn new(path: Arc<str>, host: Option<Arc<str>>, status: (u16, u16), body: Option<Arc<str>>) -> Self {
        Self { path, host, status, body, send_proxy: None }
    }

    /// The same behind a header of the PROXY protocol, which says that the connection is the router's own.
    pub fn with_proxy(self, send_proxy: Option<ProxyVersion>) -> Self {
        Self { send_proxy, ..self }
    }

    fn request(&self, address: &Address) -> Result<Request<Empty<Bytes>>, String> {
        let host = match (&self.host, address) {
            (Some(host), _) => host.to_string(),
            (None, Address::Tcp(address)) => address.to_string(),
            (None, Address::Unix(_)) => "localhost".to_owned(),
        };
        Request::get(&*self.path)
            .header(HOST, host)
            .header(USER_AGENT, AGENT)
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(|error| one_line(&format!("GET {} cannot be asked: {error}", self.path)))
    }

    async fn run(&self, target: &Target) -> Verdict {
        let request = self.request(&target.address)?;
        let header = self.send_proxy.map(own_header);
        let opened = open(&target.address, target.secure.as_ref(), header.as_deref(), false).await;
        let stream = opened.map_err(|error| open_words(&error))?;
        if !connect::speaks_http2(target.protocol, &stream) {
            return self.ask(request, stream).await;
        }
        let begun = connection::begin(stream).await;
        let Begun { sender, driver } = begun.map_err(|error| open_words(&OpenError::Http2(error)))?;
        let stream = EndpointStream::new(sender, target.secure.is_some(), Lease::alone());
        let drive = async move {
            let _told_by_its_stream = driver.await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            verdict = self.ask(request, Stream::Http2(Box::new(stream))) => verdict,
            never = drive => match never {},
        }
    }

    /// Asks on a connection.
    async fn ask(&self, request: Request<Empty<Bytes>>, stream: Stream) -> Verdict {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.fault(&error))?;
        // The connection ends before its last bytes are read from the channel; only the exchange decides.
        let drive = async move {
            let _ = connection.await;
            std::future::pending::<Infallible>().await
        };
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| self.fault(&error))?;
            self.judge(response).await
        };
        tokio::select! {
            verdict = exchange => verdict,
            never = drive => match never {},
        }
    }

    async fn judge(&self, response: Response<Incoming>) -> Verdict {
        let status = response.status().as_u16();
        if !(self.status.0..=self.status.1).contains(&status) {
            let to = match response.headers().get(LOCATION) {
                Some(location) if response.status().is_redirection() => {
                    format!(" to {}", String::from_utf8_lossy(location.as_bytes()))
                }
                Some(_) | None => String::new(),
            };
            return Err(one_line(&format!("GET {} answered {status}{to}", self.path)));
        }
        match &self.body {
            None => Ok(()),
            Some(text) => self.search(response.into_body(), text, status).await,
        }
    }

    async fn search(&self, mut body: Incoming, text: &str, status: u16) -> Verdict {
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.fault(&error))?;
            if let Some(data) = frame.data_ref() {
                let take = data.len().min(BODY_MAX - seen.len());
                seen.extend_from_slice(data.get(..take).unwrap_or(data));
                if memchr::memmem::find(&seen, text.as_bytes()).is_some() {
                    return Ok(());
                }
            }
            if seen.len() >= BODY_MAX {
                break;
            }
        }
        Err(one_line(&format!("GET {} answered {status} without {text:?} in its body", self.path)))
    }

    fn fault(&self, error: &hyper::Error) -> String {
        let what = if error.is_incomplete_message() || error.is_canceled() {
            "the connection was closed before the answer ended".to_owned()
        } else if error.is_parse() {
            format!("the answer is not HTTP/1: {error}")
        } else {
            // hyper's own words are about its insides; the cause below is about the network.
            let mut cause: &dyn std::error::Error = error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            match cause.downcast_ref::<std::io::Error>() {
                Some(error) => match connect::inside(error) {
                    Some(error) => format!("no TLS: {error}"),
                    None => io_words(error),
                },
                None => cause.to_string(),
            }
        };
        one_line(&format!("GET {}: {what}", self.path))
    }
}

impl Probe for HttpProbe {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(self.run(target))
    }
}
