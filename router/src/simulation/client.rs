//! A client: sends its requests in pieces, reads what comes in pieces, and knows what it may be told.

use super::message::{self, Message, Open};
use super::secure::Secure;
use super::socket::{Got, Socket};
use fastrand::Rng;

/// Bytes that go through a tunnel at most.
const TUNNEL_MOST: usize = 700 << 10;

/// What one request is.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) tag: String,
    text: Vec<u8>,
    is_head: bool,
    /// Something comes behind its head.
    goes_on: bool,
    /// What is sent once a tunnel is open.
    tunnel: usize,
}

/// A client and what has become of its requests.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: Option<Socket>,
    pub(super) stalled: bool,
    asks: Vec<Ask>,
    /// The next request waits for the response of the one before.
    in_turn: bool,
    asked: usize,
    output: Vec<u8>,
    got: Vec<u8>,
    ended: bool,
    /// Final responses that came whole.
    pub(super) answered: usize,
    tunnels: Option<usize>,
    /// Bytes of a tunnel that have been looked at.
    seen: usize,
    steps: u32,
}

/// From how many bytes on what has come is looked at now and then, and not with each piece.
pub(super) const MANY: usize = 8 << 10;
pub(super) const NOW_AND_THEN: u32 = 16;

pub(super) const ROUTES: &[&str] = &[
    "web", "web", "slots", "limited", "hedged", "mirror", "tunnel", "fixed", "none", "guarded", "shown",
    "lenient", "called", "streams", "streams",
];

impl Ask {
    fn random(rng: &mut Rng, number: usize, client: usize) -> Self {
        let route = ROUTES.get(rng.usize(..ROUTES.len())).copied().unwrap_or("web");
        let tag = format!("c{client}r{number}");
        let tunnels = (route == "tunnel" && rng.u8(..4) > 0) || (route == "guarded" && rng.u8(..6) == 0);
        let method = match rng.u8(..10) {
            _ if tunnels => "GET",
            0..=4 => "GET",
            5 => "HEAD",
            6 => "PUT",
            _ => "POST",
        };
        // What the authorizer says, only it may say.
        let mut head = format!("{method} /{route}/{tag} HTTP/1.1\r\nHost: sim.test\r\nX-May: forged\r\n");
        let mut sent = Vec::new();
        let length = size(rng);
        let body = message::body(&tag, length);
        if tunnels {
            head.push_str("Connection: Upgrade\r\nUpgrade: echo\r\n");
        } else if matches!(method, "PUT" | "POST") {
            if rng.u8(..5) == 0 {
                head.push_str("Expect: 100-continue\r\n");
            }
            if rng.bool() {
                head.push_str(&format!("Content-Length: {length}\r\n"));
                sent = body;
            } else {
                head.push_str("Transfer-Encoding: chunked\r\n");
                let chunk = rng.usize(1..9_000).max(length / 50);
                sent = message::chunked(&body, chunk, rng.bool());
            }
        }
        if rng.u8(..12) == 0 {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let goes_on = tunnels || !sent.is_empty();
        let mut text = head.into_bytes();
        text.extend(sent);
        let tunnel = if tunnels { rng.usize(..TUNNEL_MOST) } else { 0 };
        Self { tag, text, is_head: method == "HEAD", goes_on, tunnel }
    }
}

/// Mostly small, now and then more than any buffer.
pub(super) fn size(rng: &mut Rng) -> usize {
    match rng.u8(..10) {
        0 => 0,
        1..=5 => rng.usize(1..200),
        6..=8 => rng.usize(200..20_000),
        _ => rng.usize(20_000..400_000),
    }
}

impl Client {
    pub(super) fn new(socket: Socket, rng: &mut Rng, client: usize) -> Self {
        let count = rng.usize(1..=3);
        let asks = (0..count).map(|number| Ask::random(rng, number, client)).collect();
        Self {
            socket: Some(socket),
            stalled: false,
            asks,
            in_turn: rng.u8(..3) > 0,
            asked: 0,
            output: Vec::new(),
            got: Vec::new(),
            ended: false,
            answered: 0,
            tunnels: None,
            seen: 0,
            steps: 0,
        }
    }

    /// Whether it has nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.socket.is_none() || self.ended || (self.answered == self.asks.len() && self.tunnels.is_none())
    }

    /// Whether its connection was closed in a way that it cannot tell from a cut, though it sent nothing that was left unread, for which a
    /// socket is reset.
    pub(super) fn was_cut(&mut self) -> bool {
        let all_read = self.in_turn && self.asks.iter().all(|ask| !ask.goes_on);
        all_read && self.socket.as_mut().and_then(Socket::secure).is_some_and(|secure| secure.was_cut())
    }

    /// What it speaks TLS by, unless it is in a tunnel: there the router may have ended its own side, after which rustls takes no spoiled
    /// record in builds that assert.
    pub(super) fn garblable(&mut self) -> Option<&mut Secure> {
        if self.asks.iter().any(|ask| ask.tunnel > 0) { None } else { self.socket.as_mut()?.secure() }
    }

    /// Where it stands.
    pub(super) fn words(&self) -> String {
        let text = self.asks.get(self.answered).map_or(&[][..], |ask| &ask.text);
        let (unsent, got) = (self.output.len(), self.got.len());
        format!(
            "{} of {} asked, {} answered, {unsent} bytes to send, {got} bytes got {:?}, tunnel {:?}, now {:?}",
            self.asked,
            self.asks.len(),
            self.answered,
            shown(&self.got),
            self.tunnels,
            shown(text)
        )
    }

    /// Does a little of what it has to do.
    pub(super) fn step(&mut self, rng: &mut Rng) -> Result<(), String> {
        if self.stalled {
            return Ok(());
        }
        if self.output.is_empty() && (!self.in_turn || self.asked == self.answered) && self.tunnels.is_none()
        {
            // Nothing is sent behind a request that may become a tunnel.
            let waits =
                self.asked > self.answered && self.asks.get(self.asked - 1).is_some_and(|a| a.tunnel > 0);
            if let Some(ask) = self.asks.get(self.asked).filter(|_| !waits) {
                self.output.extend(&ask.text);
                self.asked += 1;
            }
        }
        let Some(socket) = &mut self.socket else { return Ok(()) };
        if rng.bool() && !self.output.is_empty() {
            let most = piece(rng).min(self.output.len());
            match socket.write(self.output.get(..most).unwrap_or(&[])) {
                Some(count) => drop(self.output.drain(..count)),
                // It may have been answered all the same.
                None => self.output.clear(),
            }
        }
        match socket.read(&mut self.got, piece(rng)) {
            Got::Bytes | Got::Nothing => {}
            Got::End => self.ended = true,
        }
        self.steps += 1;
        let few = self.got.len() < MANY || self.ended || self.tunnels.is_some();
        if few || self.steps.is_multiple_of(NOW_AND_THEN) { self.judge() } else { Ok(()) }
    }

    /// Looks at what has come: each response is of the request that is its turn, and its body is of that request alone.
    fn judge(&mut self) -> Result<(), String> {
        loop {
            if let Some(sent) = self.tunnels {
                return self.judge_tunnel(sent);
            }
            let Some(ask) = self.asks.get(self.answered).cloned() else {
                return match self.got.is_empty() {
                    true => Ok(()),
                    false => Err(format!("more than was asked for: {:?}", shown(&self.got))),
                };
            };
            if self.got.is_empty() {
                return Ok(());
            }
            if self.answered >= self.asked {
                return Err(format!("{}: answered before it was asked: {:?}", ask.tag, shown(&self.got)));
            }
            let open = Open::Close { closed: self.ended };
            let Some(response) = message::read(&self.got, open, ask.is_head) else { return Ok(()) };
            let response = response.map_err(|error| format!("{}: {error}", ask.tag))?;
            check(&ask.tag, &response)?;
            if !response.whole {
                return Ok(());
            }
            self.got.drain(..response.length);
            match response.status() {
                101 if ask.tunnel == 0 => return Err(format!("{}: a 101 that nobody asked for", ask.tag)),
                101 => {
                    self.output = message::body(&ask.tag, ask.tunnel);
                    self.tunnels = Some(ask.tunnel);
                }
                100..=199 => {}
                _ => self.answered += 1,
            }
        }
    }

    fn judge_tunnel(&mut self, sent: usize) -> Result<(), String> {
        let Some(ask) = self.asks.get(self.answered) else { return Ok(()) };
        let pattern = message::body(&ask.tag, ask.tag.len() + 1);
        let fresh = self.got.iter().enumerate().skip(self.seen);
        let alike =
            fresh.zip(pattern.iter().cycle().skip(self.seen % pattern.len())).all(|((_, a), b)| a == b);
        if !alike || self.got.len() > sent {
            return Err(format!("{}: a tunnel gave back what was not sent", ask.tag));
        }
        self.seen = self.got.len();
        if self.got.len() == sent {
            // It has all of it back: it leaves.
            self.socket = None;
        }
        Ok(())
    }
}

/// Whether a response can be of a request.
fn check(tag: &str, response: &Message) -> Result<(), String> {
    let status = response.status();
    if !(100..=599).contains(&status) {
        return Err(format!("{tag}: no status in {:?}", response.head));
    }
    let Some(told) = response.field("X-Tag") else {
        // An answer of the router's own, or what stands before an answer.
        return match response.field("X-Router-Error").is_some() || status < 200 || status == 200 {
            true => Ok(()),
            false => Err(format!("{tag}: nobody made {:?}", response.head)),
        };
    };
    if told != tag {
        return Err(format!("{tag}: got the response of {told}"));
    }
    if response.body != message::body(tag, response.body.len()) {
        return Err(format!("{tag}: the body is of another: {:?}", shown(&response.body)));
    }
    Ok(())
}

/// How much of something is sent or read at a time.
pub(super) fn piece(rng: &mut Rng) -> usize {
    match rng.u8(..8) {
        0 => 1,
        1..=3 => rng.usize(1..100),
        4..=6 => rng.usize(100..10_000),
        _ => rng.usize(10_000..300_000),
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..bytes.len().min(200)).unwrap_or(&[])).into_owned()
}
