//! An endpoint, or the authorizer: takes connections, reads requests in pieces, answers each in one of many ways, and can be told to
//! fail.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;

use fastrand::Rng;

use super::client::{MANY, NOW_AND_THEN, piece, size};
use super::message::{self, Message, Open};
use super::socket::{Got, Socket};
use super::verdicts::Verdicts;

/// Where it listens.
#[derive(Debug)]
enum Door {
    Unix(Option<UnixListener>, PathBuf),
    Tcp(TcpListener),
}

/// What it does with requests.
#[derive(Debug)]
struct Desk {
    /// It is asked whether requests are let in, and serves none.
    judges: bool,
    verdicts: Rc<Verdicts>,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    door: Door,
    desk: Desk,
    pub(super) connections: Vec<Served>,
    pub(super) stalled: bool,
    /// Connections are closed as soon as they are taken.
    pub(super) refuses: bool,
}

/// One connection of it.
#[derive(Debug)]
pub(super) struct Served {
    socket: Socket,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of the response in `output` after which it fails, and how.
    breaks: Option<(usize, Break)>,
    closes: bool,
    echoes: bool,
    ended: bool,
    over: bool,
    /// The body of the request that was answered before it had come.
    unread: bool,
    steps: u32,
}

/// How a response breaks off.
#[derive(Debug, Clone, Copy)]
enum Break {
    Close,
    Reset,
    Silence,
}

impl Endpoint {
    /// One on a unix socket.
    pub(super) fn unix(path: PathBuf, verdicts: &Rc<Verdicts>) -> Self {
        let mut endpoint = Self::on(Door::Unix(None, path), verdicts);
        endpoint.open();
        endpoint
    }

    /// One on TCP.
    pub(super) fn tcp(verdicts: &Rc<Verdicts>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self::on(Door::Tcp(listener), verdicts)
    }

    fn on(door: Door, verdicts: &Rc<Verdicts>) -> Self {
        let desk = Desk { judges: false, verdicts: Rc::clone(verdicts) };
        Self { door, desk, connections: Vec::new(), stalled: false, refuses: false }
    }

    /// The same as the authorizer.
    pub(super) fn judging(mut self) -> Self {
        self.desk.judges = true;
        self
    }

    /// The address as a table says it.
    pub(super) fn address(&self) -> String {
        match &self.door {
            Door::Unix(_, path) => format!("unix:{}", path.display()),
            Door::Tcp(listener) => listener.local_addr().unwrap().to_string(),
        }
    }

    /// Where it stands.
    pub(super) fn words(&self) -> String {
        let each = |served: &Served| {
            format!(
                "{} bytes in, {} to send, ended {}",
                served.input.len(),
                served.output.len(),
                served.ended
            )
        };
        self.connections.iter().map(each).collect::<Vec<_>>().join("; ")
    }

    /// Stops to listen: who connects is refused, where it is a unix socket, else let in and closed.
    pub(super) fn shut(&mut self) {
        match &mut self.door {
            Door::Unix(listener, path) => {
                *listener = None;
                let _gone_already = std::fs::remove_file(path);
            }
            Door::Tcp(_) => self.refuses = true,
        }
    }

    /// Listens, again or for the first time.
    pub(super) fn open(&mut self) {
        self.refuses = false;
        if let Door::Unix(listener @ None, path) = &mut self.door {
            let bound = UnixListener::bind(path).unwrap();
            bound.set_nonblocking(true).unwrap();
            *listener = Some(bound);
        }
    }

    /// Does a little of what it has to do.
    pub(super) fn step(&mut self, rng: &mut Rng, faulty: bool) -> Result<(), String> {
        if self.stalled {
            return Ok(());
        }
        let accepted = match &self.door {
            Door::Unix(Some(listener), _) => listener.accept().ok().map(|(socket, _)| {
                socket.set_nonblocking(true).unwrap();
                Socket::Unix(socket)
            }),
            Door::Unix(None, _) => None,
            Door::Tcp(listener) => listener.accept().ok().map(|(socket, _)| {
                socket.set_nonblocking(true).unwrap();
                Socket::Tcp(socket)
            }),
        };
        match accepted {
            Some(socket) if self.refuses => socket.reset(),
            Some(socket) => self.connections.push(Served::new(socket)),
            None => {}
        }
        if self.connections.is_empty() {
            return Ok(());
        }
        let number = rng.usize(..self.connections.len());
        let Some(served) = self.connections.get_mut(number) else { return Ok(()) };
        served.step(rng, faulty, &self.desk)?;
        if served.over {
            self.connections.swap_remove(number);
        }
        Ok(())
    }

    /// Ends one of its connections.
    pub(super) fn lose_one(&mut self, rng: &mut Rng, reset: bool) {
        if self.connections.is_empty() {
            return;
        }
        let served = self.connections.swap_remove(rng.usize(..self.connections.len()));
        if reset {
            served.socket.reset();
        }
    }

    /// Says on one of its connections that nothing more comes.
    pub(super) fn half_close_one(&mut self, rng: &mut Rng) {
        if !self.connections.is_empty() {
            let number = rng.usize(..self.connections.len());
            if let Some(served) = self.connections.get_mut(number) {
                served.socket.half_close();
                served.output.clear();
            }
        }
    }
}

impl Served {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            input: Vec::new(),
            output: Vec::new(),
            breaks: None,
            closes: false,
            echoes: false,
            ended: false,
            over: false,
            unread: false,
            steps: 0,
        }
    }

    fn step(&mut self, rng: &mut Rng, faulty: bool, desk: &Desk) -> Result<(), String> {
        if rng.bool() && !self.ended {
            match self.socket.read(&mut self.input, piece(rng)) {
                Got::Bytes | Got::Nothing => {}
                Got::End => self.ended = true,
            }
        }
        if self.echoes {
            self.output.append(&mut self.input);
        } else if self.output.is_empty() && self.breaks.is_none() && !self.closes {
            self.steps += 1;
            if self.input.len() < MANY || self.ended || self.steps.is_multiple_of(NOW_AND_THEN) {
                self.take_request(rng, faulty, desk)?;
            }
        }
        self.send(rng);
        let at_rest = self.output.is_empty() && self.breaks.is_none();
        if at_rest
            && (self.closes || (self.ended && (self.echoes || self.input.is_empty() || !self.has_whole())))
        {
            self.over = true;
        }
        Ok(())
    }

    fn has_whole(&self) -> bool {
        message::read(&self.input, Open::NoBody, false).is_some_and(|read| read.is_ok_and(|one| one.whole))
    }

    fn send(&mut self, rng: &mut Rng) {
        let left = self.breaks.map_or(usize::MAX, |(left, _)| left);
        let most = piece(rng).min(self.output.len()).min(left);
        if most > 0 {
            match self.socket.write(self.output.get(..most).unwrap_or(&[])) {
                Some(count) => {
                    self.output.drain(..count);
                    if let Some((left, _)) = &mut self.breaks {
                        *left -= count;
                    }
                }
                None => self.over = true,
            }
        }
        match self.breaks {
            Some((0, Break::Close)) => self.over = true,
            Some((0, Break::Reset)) => {
                self.over = true;
                if let Socket::Tcp(socket) = &self.socket {
                    let linger = Some(std::time::Duration::ZERO);
                    let _closes_all_the_same = socket2::SockRef::from(socket).set_linger(linger);
                }
            }
            // It says nothing more, and does not close.
            Some((0, Break::Silence)) => self.output.clear(),
            _ => {}
        }
    }

    /// Reads the next request, checks that it is one that a client sent, and makes the answer.
    fn take_request(&mut self, rng: &mut Rng, faulty: bool, desk: &Desk) -> Result<(), String> {
        let Some(request) = message::read(&self.input, Open::NoBody, false) else { return Ok(()) };
        let request = request.map_err(|error| format!("at the endpoint: {error}"))?;
        let tag = if desk.judges {
            Verdicts::question(&request)?
        } else {
            desk.verdicts.judge(&request)?;
            request.path().rsplit('/').next().unwrap_or("").to_owned()
        };
        if !tag.starts_with('c') || request.field("Host") != Some("sim.test") {
            return Err(format!("at the endpoint: nobody sent {:?}", request.head));
        }
        if request.body != message::body(&tag, request.body.len()) {
            return Err(format!("at the endpoint: the body of {tag} is of another"));
        }
        if self.unread {
            return Err(format!("at the endpoint: {tag} after a request that was not read to its end"));
        }
        if !request.whole {
            let early = faulty && rng.u8(..30) == 0;
            if request.field("Expect").is_some() && request.body.is_empty() && !early && rng.bool() {
                self.output.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
                // Once is enough: the field is read again with every piece.
                self.input = String::from_utf8_lossy(&self.input)
                    .replacen("Expect: 100-continue", "X-Expected: yes", 1)
                    .into_bytes();
            }
            if !early {
                return Ok(());
            }
            self.unread = true;
        }
        self.input.drain(..request.length.min(self.input.len()));
        if desk.judges {
            self.rule(rng, faulty, &tag, &desk.verdicts);
        } else {
            self.answer(rng, faulty, &tag, &request);
        }
        Ok(())
    }

    /// Says whether a request is let in, or fails to.
    fn rule(&mut self, rng: &mut Rng, faulty: bool, tag: &str, verdicts: &Verdicts) {
        let status = match rng.u8(..10) {
            0 => "401 Unauthorized",
            1 => "403 Forbidden",
            2 => "302 Found",
            3 if faulty => "500 Internal Server Error",
            4 => "204 No Content",
            _ => "200 OK",
        };
        if status.starts_with('2') {
            verdicts.allow(tag);
        }
        self.put_answer(rng, (status, &format!("X-May: {tag}\r\n")), tag, false);
        if faulty && rng.u8(..4) == 0 {
            self.break_off(rng, 0);
        }
    }

    fn answer(&mut self, rng: &mut Rng, faulty: bool, tag: &str, request: &Message) {
        if request.field("Upgrade").is_some() && rng.u8(..8) > 0 {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n";
            self.output.extend(format!("{head}X-Tag: {tag}\r\n\r\n").bytes());
            self.echoes = true;
            return;
        }
        let status = match rng.u8(..20) {
            0 => "204 No Content",
            1 if faulty => "503 Service Unavailable",
            2 => "404 Not Found",
            _ => "200 OK",
        };
        let head_length = self.put_answer(rng, (status, ""), tag, request.head.starts_with("HEAD"));
        if faulty && rng.u8(..12) == 0 {
            self.break_off(rng, head_length);
        }
    }

    /// Writes an answer of some length and framing; gives that of its head.
    fn put_answer(
        &mut self,
        rng: &mut Rng,
        (status, fields): (&str, &str),
        tag: &str,
        is_head: bool,
    ) -> usize {
        if rng.u8(..10) == 0 {
            self.output.extend(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        }
        let body = message::body(tag, size(rng));
        let mut text = format!("HTTP/1.1 {status}\r\nX-Tag: {tag}\r\n{fields}");
        let bodyless = is_head || status.starts_with("204");
        let framing = rng.u8(..8);
        self.closes = self.unread || rng.u8(..10) == 0;
        match framing {
            _ if status.starts_with("204") => text.push_str("\r\n"),
            0 if !bodyless => {
                self.closes = true;
                text.push_str("Connection: close\r\n\r\n");
            }
            1..=3 => text.push_str("Transfer-Encoding: chunked\r\n\r\n"),
            _ => text.push_str(&format!("Content-Length: {}\r\n\r\n", body.len())),
        }
        let head_length = self.output.len() + text.len();
        self.output.extend(text.bytes());
        if !bodyless {
            match framing {
                1..=3 => {
                    let chunk = rng.usize(1..5_000).max(body.len() / 50);
                    self.output.extend(message::chunked(&body, chunk, rng.bool()));
                }
                _ => self.output.extend(body),
            }
        }
        head_length
    }

    /// Has the answer break off: in its first `early` bytes or anywhere; anywhere when there are none.
    fn break_off(&mut self, rng: &mut Rng, early: usize) {
        let how = [Break::Close, Break::Reset, Break::Silence];
        let how = how.get(rng.usize(..3)).copied().unwrap_or(Break::Close);
        let most = if early > 0 && rng.bool() { early } else { self.output.len() };
        self.breaks = Some((rng.usize(..=most), how));
    }
}
