//! The gRPC check: one call of `grpc.health.v1.Health/Check` on a fresh connection of HTTP/2. The messages are core's.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use ekiden_config::model::Address;
use ekiden_core::grpc::health::{self, Serving};
use ekiden_core::grpc::{GrpcStatus, Kind};
use h2::RecvStream;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, HeaderMap, TE, USER_AGENT};
use http::{Request, Response};

use super::http::AGENT;
use super::{Checking, Probe, Target, Verdict, one_line, open_words};
use crate::http2::endpoint::connection::{self, Begun};
use crate::tls::upstream::{OpenError, open};

/// Passes when the service is SERVING.
#[derive(Debug, Clone)]
pub struct GrpcProbe {
    service: Arc<str>,
    host: Option<Arc<str>>,
}

impl GrpcProbe {
    /// A check of a service, of the whole server when its name is empty. `host` is the `:authority`, the endpoint's address
    /// unless given.
    pub fn new(service: Arc<str>, host: Option<Arc<str>>) -> Self {
        Self { service, host }
    }

    fn request(&self, target: &Target) -> Result<Request<()>, String> {
        let host = match (&self.host, &target.address) {
            (Some(host), _) => host.to_string(),
            (None, Address::Tcp(address)) => address.to_string(),
            (None, Address::Unix(_)) => "localhost".to_owned(),
        };
        let scheme = if target.secure.is_some() { "https" } else { "http" };
        Request::post(format!("{scheme}://{host}{}", health::PATH))
            .version(http::Version::HTTP_2)
            .header(CONTENT_TYPE, Kind::Grpc.media_type())
            .header(TE, "trailers")
            .header(USER_AGENT, AGENT)
            .body(())
            .map_err(|error| one_line(&format!("the health check cannot be asked: {error}")))
    }

    /// What was asked, for people.
    fn asked(&self) -> String {
        match &*self.service {
            "" => "the gRPC health check".to_owned(),
            service => format!("the gRPC health check of {service}"),
        }
    }

    async fn run(&self, target: &Target) -> Verdict {
        let request = self.request(target)?;
        let opened = open(&target.address, target.secure.as_ref(), None, false).await;
        let stream = opened.map_err(|error| open_words(&error))?;
        let begun = connection::begin(stream).await;
        let Begun { sender, driver } = begun.map_err(|error| open_words(&OpenError::Http2(error)))?;
        // Only the call decides: its stream is told of the connection's end.
        let drive = async move {
            let _told_by_its_stream = driver.await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            verdict = self.call(sender, request) => {
                verdict.map_err(|why| one_line(&format!("{}: {why}", self.asked())))
            }
            never = drive => match never {},
        }
    }

    async fn call(&self, sender: SendRequest<Bytes>, request: Request<()>) -> Verdict {
        let lost = |error: h2::Error| format!("no answer: {error}");
        let mut sender = sender.ready().await.map_err(lost)?;
        let (response, mut body) = sender.send_request(request, false).map_err(lost)?;
        body.send_data(health::request(&self.service).into(), true).map_err(lost)?;
        let (head, body) = read(response.await.map_err(lost)?).await?;
        judge(&head, &body)
    }
}

/// A response's head with its trailers, and its body.
type Answer = (Response<HeaderMap>, Vec<u8>);

/// Reads an answer to its end, or to its bound.
async fn read(response: Response<RecvStream>) -> Result<Answer, String> {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(|error| format!("the answer broke off: {error}"))?;
        if body.len() + piece.len() > health::ANSWER_MAX {
            return Err(format!("the answer is longer than {} bytes", health::ANSWER_MAX));
        }
        body.extend_from_slice(&piece);
        let _too_much_is_refused = stream.flow_control().release_capacity(piece.len());
    }
    let trailers = stream.trailers().await.map_err(|error| format!("the answer broke off: {error}"))?;
    Ok((Response::from_parts(head, trailers.unwrap_or_default()), body))
}

fn judge(head: &Response<HeaderMap>, body: &[u8]) -> Verdict {
    let (fields, trailers) = (head.headers(), head.body());
    if head.status() != 200 {
        return Err(format!("answered HTTP status {}", head.status().as_u16()));
    }
    let content_type = fields.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if !matches!(Kind::of(content_type), Some((Kind::Grpc, _))) {
        return Err(format!("the answer is not gRPC but {:?}", String::from_utf8_lossy(content_type)));
    }
    let field = |name: &str| trailers.get(name).or_else(|| fields.get(name));
    let Some(status) = field("grpc-status").map(|value| GrpcStatus::read(value.as_bytes())) else {
        return Err("the answer has no grpc-status".to_owned());
    };
    if status != GrpcStatus::Ok {
        let said = field("grpc-message").map_or("".into(), |value| String::from_utf8_lossy(value.as_bytes()));
        let hint = match status {
            GrpcStatus::Unimplemented => "; the endpoint has no health service",
            GrpcStatus::NotFound => "; the endpoint does not know the service",
            _ => "",
        };
        let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
        return Err(format!("answered {}{said}{hint}", status.word()));
    }
    match health::answer(body) {
        Some(Serving::Serving) => Ok(()),
        Some(state) => Err(format!("answered {}", state.word())),
        None => Err("the answer is no HealthCheckResponse".to_owned()),
    }
}

impl Probe for GrpcProbe {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(self.run(target))
    }
}
