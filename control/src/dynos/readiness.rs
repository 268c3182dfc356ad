//! Whether a dyno is ready: it listens on its port, and, where a path is given, answers it with 2xx. What is not so is said in
//! words that lead to the cause.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, LOCATION, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::system::group_listens;

/// Time between two tries.
const AGAIN: Duration = Duration::from_millis(50);
/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Longest wait for the head of an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long somebody outside of the dyno's group may hold its port before that is taken for the dyno itself, which may have
/// left its group. One that could not bind its port has ended by then.
const STRANGER_MAX: Duration = Duration::from_secs(3);

/// Waits until the dyno is ready and answers where. `note` hears why it is not yet. For ever, if need be: the caller has the
/// deadline.
pub(super) async fn ready(
    group: u32,
    port: u16,
    path: Option<&str>,
    mut note: impl FnMut(String),
) -> SocketAddr {
    let mut stranger: Option<Instant> = None;
    loop {
        let tried = try_once(port, path).await;
        match tried {
            Ok(address) => {
                let since = *stranger.get_or_insert_with(Instant::now);
                if group_listens(group, port) != Some(false) || since.elapsed() >= STRANGER_MAX {
                    return address;
                }
                note(format!("port {port} is held by a process that is not of this dyno"));
            }
            Err(why) => note(why),
        }
        sleep(AGAIN).await;
    }
}

async fn try_once(port: u16, path: Option<&str>) -> Result<SocketAddr, String> {
    let mut first = None;
    // A program told to listen on `localhost` may have taken either.
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let address = SocketAddr::new(ip, port);
        match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                if let Some(path) = path {
                    asked(stream, address, path).await?;
                }
                return Ok(address);
            }
            Ok(Err(error)) => drop(first.get_or_insert_with(|| error.to_string())),
            Err(_) => drop(first.get_or_insert_with(|| "no connection in time".to_owned())),
        }
    }
    let why = first.unwrap_or_default();
    Err(format!("nothing listens on port {port} ({why}); does the program listen on $PORT?"))
}

async fn asked(stream: TcpStream, address: SocketAddr, path: &str) -> Result<(), String> {
    let began = Instant::now();
    let failed = |error: String| format!("GET {path} was not answered: {error}");
    let exchange = async {
        let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
        // Ends with the sender; its errors are the sender's too.
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(HOST, address.to_string())
            .header(USER_AGENT, concat!("ekiden/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new());
        Ok::<_, hyper::Error>(match request {
            Ok(request) => Some(sender.send_request(request).await?),
            Err(_) => None,
        })
    };
    let answer = match timeout(ANSWER_MAX, exchange).await {
        Ok(Ok(Some(answer))) => answer,
        Ok(Ok(None)) => return Err(failed("that is no path".to_owned())),
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("nothing came within {} s", ANSWER_MAX.as_secs()))),
    };
    let millis = began.elapsed().as_millis();
    explained(path, answer.status().as_u16(), answer.headers())
        .map_err(|why| format!("{why}, after {millis} ms"))
}

/// What an answer means.
fn explained(path: &str, status: u16, fields: &HeaderMap) -> Result<(), String> {
    let to = fields.get(LOCATION).and_then(|to| to.to_str().ok());
    match (status, to) {
        (200..=299, _) => Ok(()),
        (300..=399, Some(to)) if to.starts_with("https://") => Err(format!(
            "GET {path} answered {status} to {to}: the app sends plain requests to https; except {path} from that"
        )),
        (300..=399, Some(to)) => Err(format!("GET {path} answered {status} to {to}")),
        (401 | 403, _) => Err(format!("GET {path} answered {status}: the path must be open to the check")),
        _ => Err(format!("GET {path} answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn an_answer_is_explained() {
        let said = |status, to: Option<&'static str>| {
            let mut fields = HeaderMap::new();
            fields.extend(to.map(|to| (LOCATION, HeaderValue::from_static(to))));
            explained("/up", status, &fields)
        };
        assert_eq!(said(204, None), Ok(()));
        let redirect = said(301, Some("https://a/up")).unwrap_err();
        assert!(redirect.starts_with("GET /up answered 301 to https://a/up: "), "{redirect}");
        assert_eq!(said(302, Some("/login")).unwrap_err(), "GET /up answered 302 to /login");
        assert_eq!(said(500, None).unwrap_err(), "GET /up answered 500");
        assert!(said(401, None).unwrap_err().contains("must be open"));
    }
}
