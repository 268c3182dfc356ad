//! What tests of the running binary need beside `process`: an origin that knows when the kernel got each request, load
//! by many keep-alive clients, a name server, commands that run to their end or in the background.
//!
//! Judges nothing but what a client can see: a response that is not 200, or none.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Client, DEADLINE, Lost, until};

/// Pause of a load client between two requests: many clients keep a router busy without taking the cores from it.
const LOAD_PAUSE: Duration = Duration::from_millis(2);
/// Time an origin takes for `/slow`, so that requests are in flight at any moment.
const SLOW: Duration = Duration::from_millis(20);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nanoseconds of the system's clock, which is the clock of the kernel's arrival times.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Sends a signal to a process that this test started.
#[expect(unsafe_code, reason = "kill has no safe form in std")]
pub fn signal(id: u32, signal: i32) {
    let id = i32::try_from(id).unwrap();
    // SAFETY: kill takes plain numbers; the caller holds the child, so the id is its own.
    let failed = unsafe { libc::kill(id, signal) };
    assert_eq!(failed, 0, "kill {id}");
}

/// An origin that answers every request at once with its name, and `/healthz` after a time of choice. Writes down when
/// each request (not the checks) reached its socket, by the kernel's clock: a thread that is scheduled late tells no
/// lie.
#[derive(Debug)]
pub struct Stamped {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<StampedState>,
}

#[derive(Debug, Default)]
struct StampedState {
    arrivals: Mutex<Vec<u64>>,
    check_takes_ms: AtomicU64,
    is_sick: AtomicBool,
    checks: AtomicU64,
    stop: AtomicBool,
}

impl Stamped {
    /// Starts one.
    pub fn start(name: &str) -> Self {
        Self::on("127.0.0.1:0", name)
    }

    /// Starts one on a given address.
    pub fn on(address: &str, name: &str) -> Self {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("origin on {address}: {error}"));
        // More may come at once than the 128 that the standard library lets wait.
        socket2::SockRef::from(&listener).listen(4_096).unwrap();
        stamp(&listener);
        let address = listener.local_addr().unwrap();
        let (state, name) = (Arc::new(StampedState::default()), name.to_owned());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.stop.load(Ordering::Acquire) {
                    return;
                }
                let (shared, name) = (Arc::clone(&shared), name.clone());
                thread::spawn(move || serve(stream, &shared, &name));
            }
        });
        Self { address, state }
    }

    /// Makes every check take this long from now on.
    pub fn check_takes(self, time: Duration) -> Self {
        self.state.check_takes_ms.store(u64::try_from(time.as_millis()).unwrap_or(0), Ordering::Release);
        self
    }

    /// Makes checks fail, or pass again.
    pub fn set_sick(&self, sick: bool) {
        self.state.is_sick.store(sick, Ordering::Release);
    }

    /// Requests so far, checks aside.
    pub fn requests(&self) -> usize {
        locked(&self.state.arrivals).len()
    }

    /// Checks so far.
    pub fn checks(&self) -> u64 {
        self.state.checks.load(Ordering::Acquire)
    }

    /// Requests that reached the socket after `from` and before `to`, in nanoseconds of [`now_ns`].
    pub fn arrived_between(&self, from: u64, to: u64) -> usize {
        locked(&self.state.arrivals).iter().filter(|at| (from..to).contains(*at)).count()
    }
}

impl Drop for Stamped {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        let _wakes_the_accept = TcpStream::connect(self.address);
    }
}

/// Asks the kernel for arrival times on the connections of a listener (`SO_TIMESTAMPNS`, socket(7)).
#[expect(unsafe_code, reason = "neither std nor socket2 know the option")]
fn stamp(listener: &TcpListener) {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the kernel reads four bytes of a live integer.
    let failed = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            4,
        )
    };
    assert_eq!(failed, 0, "SO_TIMESTAMPNS");
}

/// Reads once; also tells when the kernel got the bytes.
#[expect(unsafe_code, reason = "recvmsg has no safe form in std")]
fn receive(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, u64)> {
    let mut control = [0u64; 16];
    let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid msghdr: null pointers with length zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the message points to live memory of the stated lengths for the whole call.
    let count = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, 0) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // A cmsghdr of 64-bit Linux (length; level and type), then a timespec. Without one, now is the best there is.
    let [level, _, _, _, kind, ..] = control[1].to_le_bytes();
    let stamped = message.msg_controllen as usize >= 32
        && i32::from(level) == libc::SOL_SOCKET
        && i32::from(kind) == libc::SCM_TIMESTAMPNS;
    Ok((count, if stamped { control[2] * 1_000_000_000 + control[3] } else { now_ns() }))
}

fn serve(mut stream: TcpStream, state: &StampedState, name: &str) {
    let _slower_without = stream.set_nodelay(true);
    let mut held = Vec::new();
    let mut piece = vec![0; 16 << 10];
    let mut arrived = 0;
    loop {
        while let Some(length) = request_length(&held) {
            let request: Vec<u8> = held.drain(..length).collect();
            let is_check = request.starts_with(b"GET /healthz ");
            let mut status = "200 OK";
            if is_check {
                thread::sleep(Duration::from_millis(state.check_takes_ms.load(Ordering::Acquire)));
                state.checks.fetch_add(1, Ordering::AcqRel);
                if state.is_sick.load(Ordering::Acquire) {
                    status = "503 Service Unavailable";
                }
            } else {
                locked(&state.arrivals).push(arrived);
            }
            if request.starts_with(b"GET /slow") {
                thread::sleep(SLOW);
            }
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
        match receive(&stream, &mut piece) {
            Ok((0, _)) | Err(_) => return,
            Ok((count, at)) => {
                held.extend_from_slice(&piece[..count]);
                arrived = at;
            }
        }
    }
}

/// Length of the first request once all of it is there. Knows bodies with a length only.
pub(crate) fn request_length(held: &[u8]) -> Option<usize> {
    let head = held.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&held[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Some(head + length.unwrap_or(0)).filter(|all| *all <= held.len())
}

/// What load clients send, in turn: safe and unsafe methods, with and without body, quick and slow.
pub const MIXED: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /page?x=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    "POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
];

/// What a load client does when nobody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is a failed request.
    Fails,
    /// It tries again.
    Retries,
    /// It ends.
    Ends,
}

/// Keep-alive clients at work, each on a thread of its own.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

/// What came of a load.
#[derive(Debug)]
pub struct Tally {
    /// Requests answered with 200.
    pub served: u64,
    /// The others: what the client saw.
    pub failed: Vec<String>,
}

impl Load {
    /// Starts it.
    pub fn start(
        address: SocketAddr,
        clients: usize,
        requests: &'static [&'static str],
        refused: Refused,
    ) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |number: usize| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || run_client(address, number, requests, refused, &stop, &served))
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, served, clients }
    }

    /// Requests served so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Acquire)
    }

    /// Waits until this many more requests have been served.
    pub fn serve_more(&self, count: u64) {
        let wanted = self.served() + count;
        until(&format!("{wanted} served requests"), || (self.served() >= wanted).then_some(()));
    }

    /// Ends it: every client finishes the request it is at.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Release);
        self.join()
    }

    /// Waits until every client has ended by itself (see [`Refused::Ends`]).
    pub fn join(self) -> Tally {
        let failed = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        Tally { served: self.served.load(Ordering::Acquire), failed }
    }
}

fn run_client(
    address: SocketAddr,
    number: usize,
    requests: &[&str],
    refused: Refused,
    stop: &AtomicBool,
    served: &AtomicU64,
) -> Vec<String> {
    let mut failed = Vec::new();
    let mut client: Option<(Client, u64)> = None;
    let mut turn = number;
    while !stop.load(Ordering::Acquire) {
        if client.is_none() {
            match TcpStream::connect(address) {
                Ok(stream) => client = Some((Client::over(stream), 0)),
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionRefused && refused != Refused::Fails =>
                {
                    if refused == Refused::Ends {
                        return failed;
                    }
                }
                Err(error) => failed.push(format!("connect: {error}")),
            }
        }
        if let Some((mut connection, count)) = client.take() {
            let request = requests[turn % requests.len()];
            turn += 1;
            connection.send(request);
            match connection.read(false) {
                Ok(response) if response.status == 200 => {
                    served.fetch_add(1, Ordering::AcqRel);
                    client = (!response.says_close()).then_some((connection, count + 1));
                }
                other => failed.push(describe(&other, request, count)),
            }
        }
        thread::sleep(LOAD_PAUSE);
    }
    failed
}

fn describe(got: &Result<crate::Response, Lost>, request: &str, before: u64) -> String {
    let line = request.lines().next().unwrap_or("");
    match got {
        Ok(response) => {
            format!("{line}: {} {} after {before} on this connection", response.status, response.code())
        }
        Err(lost) => format!("{line}: {lost:?} after {before} on this connection"),
    }
}

/// A name server on loopback that knows what it is told: A records with a TTL of one second, nothing else.
#[derive(Debug)]
pub struct Nameserver {
    /// Where it is asked.
    pub address: SocketAddr,
    names: Arc<Mutex<BTreeMap<String, Vec<Ipv4Addr>>>>,
    questions: Arc<AtomicU64>,
}

impl Nameserver {
    /// Starts one that knows no name: it answers NXDOMAIN.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (names, questions) = (Arc::<Mutex<BTreeMap<_, _>>>::default(), Arc::<AtomicU64>::default());
        let (known, asked) = (Arc::clone(&names), Arc::clone(&questions));
        thread::spawn(move || {
            let mut packet = [0; 1500];
            while let Ok((count, from)) = socket.recv_from(&mut packet) {
                if let Some(answer) = dns_answer(&packet[..count], &locked(&known)) {
                    let _asks_again = socket.send_to(&answer, from);
                    asked.fetch_add(1, Ordering::AcqRel);
                }
            }
        });
        Self { address, names, questions }
    }

    /// Gives a name these addresses; none is an answer without records.
    pub fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        locked(&self.names).insert(name.to_owned(), addresses);
    }

    /// Forgets a name.
    pub fn forget(&self, name: &str) {
        locked(&self.names).remove(name);
    }

    /// Waits until this many more questions have been answered.
    pub fn answer_more(&self, count: u64) {
        let wanted = self.questions.load(Ordering::Acquire) + count;
        until("DNS questions", || (self.questions.load(Ordering::Acquire) >= wanted).then_some(()));
    }
}

/// Answers one question (RFC 1035, section 4).
fn dns_answer(packet: &[u8], names: &BTreeMap<String, Vec<Ipv4Addr>>) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let is_a = packet.get(at..at + 2)? == [0, 1];
    let known = names.get(&labels.join("."));
    let records = known.filter(|_| is_a).map_or(&[][..], Vec::as_slice);
    let mut answer = packet.get(..2)?.to_vec();
    answer.extend([
        0x81,
        if known.is_some() { 0x80 } else { 0x83 },
        0,
        1,
        0,
        u8::try_from(records.len()).ok()?,
    ]);
    answer.extend([0; 4]);
    answer.extend(packet.get(12..at + 4)?);
    for record in records {
        // The name of the question, A, IN, one second, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(record.octets());
    }
    Some(answer)
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not end within [`DEADLINE`].
pub fn finished(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
    let id = child.id();
    let (done, end) = channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    match end.recv_timeout(DEADLINE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            signal(id, libc::SIGKILL);
            panic!("{shown} does not end");
        }
    }
}

/// A command in the background. Killed when dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    errors: Arc<Mutex<String>>,
    out: Arc<Mutex<String>>,
}

impl Background {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (out, errors) = (kept(child.stdout.take()), kept(child.stderr.take()));
        Self { child, errors, out }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Standard output so far.
    pub fn out(&self) -> String {
        locked(&self.out).clone()
    }

    /// Standard error so far.
    pub fn errors(&self) -> String {
        locked(&self.errors).clone()
    }

    /// Waits until standard error holds a text.
    pub fn wait_error(&self, text: &str) {
        until(&format!("{text:?} on standard error"), || self.errors().contains(text).then_some(()));
    }

    /// Sends a signal.
    pub fn signal(&self, number: i32) {
        signal(self.child.id(), number);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        until("the end of the process", || self.child.try_wait().unwrap())
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Whether all that it wrote has been read. Only after its end.
    pub fn is_heard(&self) -> bool {
        // The threads that read hold one each.
        [&self.out, &self.errors].into_iter().all(|text| Arc::strong_count(text) == 1)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
        if thread::panicking() {
            eprintln!("--- standard output\n{}--- standard error\n{}", self.out(), self.errors());
        }
    }
}

fn kept(pipe: Option<impl Read + Send + 'static>) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let (mut pipe, into) = (pipe.unwrap(), Arc::clone(&text));
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut piece) {
            locked(&into).push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    });
    text
}
