//! The router's end of the link: connects to one of the control processes, says what it has, hands on what comes; connects again
//! after a jittered, growing pause. Knows lines, not what they mean for the table.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::Address;
use h2::client;
use hyper::Request;
use hyper::body::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::pipe::{Lines, Sink};
use super::secure::Settings;
use super::server::{LISTEN_DEFAULT, PATH};
use super::session::{PING_EVERY, SILENCE_MAX};
use super::wire::{DOWN_MAX, Down, Up, VERSION, line};
use crate::plane::stopped;

/// Longest time for connecting and the handshake, and until control says its first line.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The first pause before connecting again is at most this long; each further one may be twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What control may send before it is read, in bytes.
const WINDOW: u32 = 1 << 20;

/// Where control is: `https://HOST:PORT`, `http://HOST:PORT` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlUrl {
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Tcp { secure: bool, host: String, port: u16 },
    Unix(String),
}

impl FromStr for ControlUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not https://HOST:PORT, http://HOST:PORT or unix:/path");
        if text.starts_with("unix:") {
            return match ekiden_config::address::parse(text) {
                Ok(ekiden_config::address::Target::Address(Address::Unix(path))) => {
                    Ok(Self { place: Place::Unix(path.to_string()) })
                }
                Ok(_) | Err(_) => Err(wrong()),
            };
        }
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(wrong()),
        };
        let uri: hyper::Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if !rest.trim_end_matches('/').eq_ignore_ascii_case(authority.as_str()) || rest.contains('@') {
            return Err(format!("{}; there is nothing behind the port", wrong()));
        }
        let host = host(authority.host()).ok_or_else(wrong)?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => LISTEN_DEFAULT.port(),
            Some(_) => authority.port_u16().ok_or_else(wrong)?,
            None => return Err(wrong()),
        };
        Ok(Self { place: Place::Tcp { secure, host, port } })
    }
}

/// The host of an authority: an address of IPv6 without its brackets, or a name or an address of IPv4.
fn host(text: &str) -> Option<String> {
    match text.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok().map(|_| inner.to_owned())
        }
        None => {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            (!text.is_empty() && text.bytes().all(is_name)).then(|| text.to_owned())
        }
    }
}

impl fmt::Display for ControlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unix(path) => write!(f, "unix:{path}"),
            Place::Tcp { secure, host, port } => {
                let scheme = if *secure { "https" } else { "http" };
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}://{open}{host}{close}:{port}")
            }
        }
    }
}

impl ControlUrl {
    /// Whether the link is encrypted.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self.place, Place::Tcp { secure: true, .. })
    }

    /// Whether what is sent stays on this machine.
    pub(super) fn is_local(&self) -> bool {
        match &self.place {
            Place::Unix(_) => true,
            Place::Tcp { host, .. } => {
                host == "localhost"
                    || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

/// What a router has: said when it connects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Have {
    /// The highest term it has had anything of.
    pub(super) term: u64,
    /// What it has of that term.
    pub(super) generation: u64,
}

/// What the link tells.
#[derive(Debug)]
pub(super) enum Event {
    /// Control is there.
    Linked {
        /// Where.
        url: String,
        /// Its term.
        term: u64,
        /// Everything follows.
        snapshot: bool,
    },
    /// It says something.
    Said(Down),
    /// It is not there; why, for people.
    Lost(String),
}

/// A router on its way to control.
pub(super) struct Dial {
    /// Where it may be; tried in turn.
    pub(super) urls: Vec<ControlUrl>,
    /// TLS of the link.
    pub(super) secure: Option<Settings<ClientConfig>>,
    /// The name that the certificate of control must have; none means the host.
    pub(super) server_name: Option<Arc<str>>,
    /// Name of this router on a plain link.
    pub(super) name: String,
    /// Tells processes of one name apart.
    pub(super) instance: String,
    /// What this router has.
    pub(super) have: watch::Receiver<Have>,
    /// To the agent.
    pub(super) events: mpsc::Sender<Event>,
    /// From the agent: lines for control.
    pub(super) lines: mpsc::Receiver<Bytes>,
    /// Ends it.
    pub(super) stop: watch::Receiver<bool>,
}

impl Dial {
    /// Runs until told to stop.
    pub(super) async fn run(mut self) {
        let (mut turn, mut pause) = (0usize, PAUSE_FIRST);
        let mut stop = self.stop.clone();
        loop {
            // What was meant for the link before.
            while self.lines.try_recv().is_ok() {}
            let Some(url) = self.urls.get(turn % self.urls.len().max(1)).cloned() else { return };
            turn = turn.wrapping_add(1);
            let (mut linked, begun) = (false, Instant::now());
            self.have.mark_unchanged();
            let ended = tokio::select! {
                () = stopped(&mut stop) => return,
                ended = self.link(&url, &mut linked) => ended,
            };
            let Err(why) = ended;
            if linked && fared_well(&self.have, begun) {
                pause = PAUSE_FIRST;
            }
            let is_round = linked || turn.is_multiple_of(self.urls.len().max(1));
            if self.events.send(Event::Lost(format!("{url}: {why}"))).await.is_err() {
                return;
            }
            if !is_round {
                continue;
            }
            let longest = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            let wait = Duration::from_millis(fastrand::u64(longest / 4..=longest));
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = sleep(wait) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn link(
        &mut self,
        url: &ControlUrl,
        linked: &mut bool,
    ) -> Result<std::convert::Infallible, String> {
        let text = |error: io::Error| error.to_string();
        let late = "it does not answer";
        match &url.place {
            Place::Unix(path) => {
                let stream = timeout(CONNECT_MAX, UnixStream::connect(Path::new(path)));
                let stream = stream.await.map_err(|_| late)?.map_err(text)?;
                self.speak(stream, url, linked).await
            }
            Place::Tcp { secure, host, port } => {
                let stream = timeout(CONNECT_MAX, TcpStream::connect((host.as_str(), *port)));
                let stream = stream.await.map_err(|_| late)?.map_err(text)?;
                // Lines are written whole.
                let _ = stream.set_nodelay(true);
                if !secure {
                    return self.speak(stream, url, linked).await;
                }
                let Some(settings) = &mut self.secure else {
                    return Err("https needs `fleet.identity` and `fleet.ca`".to_owned());
                };
                let settings = settings.client()?;
                let name = self.server_name.as_deref().unwrap_or(host).to_owned();
                let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
                let shaken = timeout(CONNECT_MAX, TlsConnector::from(settings).connect(name, stream));
                let stream = shaken.await.map_err(|_| late)?.map_err(text)?;
                self.speak(stream, url, linked).await
            }
        }
    }

    async fn speak(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        url: &ControlUrl,
        linked: &mut bool,
    ) -> Result<std::convert::Infallible, String> {
        let text = |error: h2::Error| error.to_string();
        let mut builder = client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
        let shaken = timeout(CONNECT_MAX, builder.handshake::<_, Bytes>(stream));
        let (sender, connection) = shaken.await.map_err(|_| "it does not speak HTTP/2")?.map_err(text)?;
        // Ends with the stream, or with this task's cut of it.
        let driver = tokio::spawn(connection);
        let ended = self.converse(sender, url, linked).await;
        driver.abort();
        ended
    }

    async fn converse(
        &mut self,
        sender: client::SendRequest<Bytes>,
        url: &ControlUrl,
        linked: &mut bool,
    ) -> Result<std::convert::Infallible, String> {
        let text = |error: h2::Error| error.to_string();
        let mut sender =
            timeout(CONNECT_MAX, sender.ready()).await.map_err(|_| "it does not answer")?.map_err(text)?;
        // The stream's place, not its way: that is TLS's business.
        let request =
            Request::post(format!("http://control{PATH}")).body(()).map_err(|error| error.to_string())?;
        let (response, stream) = sender.send_request(request, false).map_err(text)?;
        let mut sink = Sink::new(stream);
        let have = *self.have.borrow();
        let hello = Up::Hello {
            version: VERSION,
            router: self.name.clone(),
            instance: self.instance.clone(),
            software: format!("ekiden {}", env!("CARGO_PKG_VERSION")),
            term: have.term,
            generation: have.generation,
        };
        sink.send(line(&hello)).await?;
        let response =
            timeout(CONNECT_MAX, response).await.map_err(|_| "it does not answer")?.map_err(text)?;
        if response.status() != hyper::StatusCode::OK {
            return Err(format!("it answers {}: is this the address of the link?", response.status()));
        }
        let mut down = Lines::new(response.into_body(), DOWN_MAX);
        let first = timeout(CONNECT_MAX, down.next::<Down>()).await.map_err(|_| "it says nothing")??;
        let (term, snapshot) = match first {
            Some(Down::Welcome { version: VERSION, term, snapshot }) => (term, snapshot),
            Some(Down::Welcome { version, .. }) => {
                return Err(format!("it speaks version {version} of the link, and this router {VERSION}"));
            }
            Some(Down::Bye { reason }) => return Err(format!("it refuses this router: {reason}")),
            Some(_) | None => return Err("it did not say welcome".to_owned()),
        };
        if term < have.term {
            let reason =
                format!("an older control: its term is {term}, and this router has had {}", have.term);
            // It may be gone.
            let _ = sink.send(line(&Up::Bye { reason: reason.clone() })).await;
            return Err(reason);
        }
        *linked = true;
        let event = Event::Linked { url: url.to_string(), term, snapshot };
        self.events.send(event).await.map_err(|_| "this router ends")?;
        let (lines, events) = (&mut self.lines, &self.events);
        tokio::select! {
            ended = hear(&mut down, events) => ended,
            ended = tell(&mut sink, lines) => ended,
        }
    }
}

/// Whether a link that has ended was of use, so that the next one may come soon: a commit was taken, or it lived for a while. A
/// welcome is not enough: what ends each link just behind it would be asked for again and again, all of it.
fn fared_well(have: &watch::Receiver<Have>, begun: Instant) -> bool {
    have.has_changed().unwrap_or(false) || begun.elapsed() > SILENCE_MAX
}

async fn hear(down: &mut Lines, events: &mpsc::Sender<Event>) -> Result<std::convert::Infallible, String> {
    loop {
        match down.next::<Down>().await? {
            None => return Err("it ended the link".to_owned()),
            Some(Down::Bye { reason }) => return Err(format!("it ended the link: {reason}")),
            Some(Down::Welcome { .. }) => return Err("a second welcome".to_owned()),
            Some(said) => events.send(Event::Said(said)).await.map_err(|_| "this router ends")?,
        }
    }
}

async fn tell(
    sink: &mut Sink,
    lines: &mut mpsc::Receiver<Bytes>,
) -> Result<std::convert::Infallible, String> {
    loop {
        match timeout(PING_EVERY, lines.recv()).await {
            Err(_) => sink.send(line(&Up::Ping {})).await?,
            Ok(Some(line)) => sink.send(line).await?,
            Ok(None) => return Err("this router ends".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_welcome_alone_does_not_make_the_next_link_come_soon() {
        let (taken, mut have) = watch::channel(Have::default());
        let begun = Instant::now();
        assert!(!fared_well(&have, begun));
        sleep(SILENCE_MAX + Duration::from_secs(1)).await;
        assert!(fared_well(&have, begun), "it lived");
        // A commit of what is known already is one too.
        taken.send_replace(Have::default());
        assert!(fared_well(&have, Instant::now()));
        have.mark_unchanged();
        assert!(!fared_well(&have, Instant::now()));
    }

    #[test]
    fn urls_of_control() {
        for (text, shown, secure, local) in [
            ("https://control.internal", "https://control.internal:9903", true, false),
            ("https://control.internal:1234/", "https://control.internal:1234", true, false),
            ("http://127.0.0.1:9903", "http://127.0.0.1:9903", false, true),
            ("http://[::1]:9903", "http://[::1]:9903", false, true),
            ("http://10.0.0.1:9903", "http://10.0.0.1:9903", false, false),
            ("unix:/run/control.sock", "unix:/run/control.sock", false, true),
        ] {
            let url: ControlUrl = text.parse().unwrap();
            assert_eq!(
                (url.to_string().as_str(), url.is_secure(), url.is_local()),
                (shown, secure, local),
                "{text}"
            );
        }
        for bad in [
            "",
            "control:9903",
            "ftp://a",
            "http://",
            "http://a/path",
            "http://u@a:1",
            "unix:run",
            "https://a?b",
            "http://A[::1]p7070host//",
            "http://1[:]:7070/",
            "http://[::1",
            "http://[x]:1",
            "http://a:",
        ] {
            assert!(bad.parse::<ControlUrl>().is_err(), "{bad}");
        }
    }
}
