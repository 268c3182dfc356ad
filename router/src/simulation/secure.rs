//! The client's side of TLS, driven by hand like every socket of a script: what it sends and takes goes in pieces, so that a
//! handshake can be cut between any two bytes.
//!
//! The router's certificate is made once a process, of a key whose signatures are all of one length: how many bytes pass then
//! hangs on the seed alone. Does not script the client (see `client`).

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use fastrand::Rng;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SerialNumber};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::client::piece;
use super::socket::{Got, Socket};
use crate::tls::{HTTP1, HTTP2};

/// The host that the router's certificate covers.
pub(super) const HOST: &str = "sim.test";
/// A host that it does not cover: its client refuses in the middle of the handshake.
pub(super) const OTHER_HOST: &str = "other.test";

struct Made {
    cert: String,
    key: String,
    der: CertificateDer<'static>,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(1));
    let cert = params.self_signed(&key).unwrap();
    Made { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().clone() }
});

/// Writes the router's certificate and key into a directory; gives the words of a listener that serves them.
pub(super) fn put_files(dir: &Path) -> String {
    let (cert, key) = (dir.join("sim.pem"), dir.join("sim.key"));
    std::fs::write(&cert, &MADE.cert).unwrap();
    std::fs::write(&key, &MADE.key).unwrap();
    format!("{{ cert = {cert:?}, key = {key:?} }}")
}

/// What the clients of a run share: a session of one of them may be resumed by the next.
#[derive(Debug)]
pub(super) struct Trusting {
    of_http1: Vec<Arc<ClientConfig>>,
    of_http2: Vec<Arc<ClientConfig>>,
}

impl Trusting {
    pub(super) fn new() -> Self {
        let both = |alpn: &[u8]| {
            [&TLS13, &TLS12].into_iter().map(|version| Arc::new(config(version, alpn))).collect()
        };
        Self { of_http1: both(HTTP1), of_http2: both(HTTP2) }
    }

    /// One of the versions of TLS.
    fn one(rng: &mut Rng, configs: &[Arc<ClientConfig>]) -> Arc<ClientConfig> {
        let number = usize::from(rng.bool());
        Arc::clone(configs.get(number).unwrap())
    }

    /// What a client of HTTP/2 begins with.
    pub(super) fn http2(&self, rng: &mut Rng) -> Arc<ClientConfig> {
        Self::one(rng, &self.of_http2)
    }
}

fn config(version: &'static SupportedProtocolVersion, alpn: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(MADE.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// How the router's side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With the word that nothing more comes.
    Orderly,
    /// Without it.
    Cut,
    /// The client does not believe what it was sent.
    Broken,
}

/// A client's connection under TLS.
#[derive(Debug)]
pub(super) struct Secure {
    io: Socket,
    tls: ClientConnection,
    rng: Rng,
    /// What was encrypted and is not sent.
    unsent: Vec<u8>,
    /// A byte of what is sent next is spoiled.
    garbles: bool,
    lost: bool,
    end: Option<End>,
}

impl Secure {
    /// Begins on a plain socket. Few name a host that the router's certificate does not cover; where there are faults, few spoil their
    /// first word.
    pub(super) fn new(io: Socket, trusting: &Trusting, rng: &mut Rng, faulty: bool) -> Self {
        let host = if rng.u8(..12) == 0 { OTHER_HOST } else { HOST };
        let config = Trusting::one(rng, &trusting.of_http1);
        let tls = ClientConnection::new(config, ServerName::try_from(host).unwrap()).unwrap();
        let garbles = faulty && rng.u8(..20) == 0;
        let rng = Rng::with_seed(rng.u64(..));
        Self { io, tls, rng, unsent: Vec::new(), garbles, lost: false, end: None }
    }

    /// Spoils a byte of what is sent next.
    pub(super) fn garble(&mut self) {
        self.garbles = true;
    }

    /// Whether the router closed without the word that nothing more comes.
    pub(super) fn was_cut(&self) -> bool {
        self.end == Some(End::Cut)
    }

    /// Says that nothing more comes: by the protocol, or by the socket alone.
    pub(super) fn half_close(&mut self) {
        // In the middle of a handshake there is no such word: an alert might have to follow it.
        if self.rng.bool() && !self.tls.is_handshaking() {
            self.tls.send_close_notify();
            self.encrypt();
        } else {
            self.io.half_close();
        }
    }

    /// Closes with a reset, where the socket has one.
    pub(super) fn reset(self) {
        self.io.reset();
    }

    /// Reads a piece, and decrypts it behind `into`.
    pub(super) fn read(&mut self, into: &mut Vec<u8>, most: usize) -> Got {
        // A handshake goes on whether there is a request to be sent or not.
        self.send();
        if self.end.is_some() {
            return Got::End;
        }
        let mut sealed = Vec::new();
        let got = self.io.read(&mut sealed, most);
        if got == Got::End {
            self.end = Some(End::Cut);
            return Got::End;
        }
        let before = into.len();
        self.decrypt(&sealed, into);
        self.encrypt();
        match self.end {
            _ if into.len() > before => Got::Bytes,
            Some(_) => Got::End,
            None => Got::Nothing,
        }
    }

    fn decrypt(&mut self, mut sealed: &[u8], into: &mut Vec<u8>) {
        while !sealed.is_empty() && self.end.is_none() {
            if self.tls.read_tls(&mut sealed).is_err() {
                self.end = Some(End::Broken);
                return;
            }
            match self.tls.process_new_packets() {
                Ok(state) => {
                    let mut open = vec![0; state.plaintext_bytes_to_read()];
                    if self.tls.reader().read_exact(&mut open).is_ok() {
                        into.extend(open);
                    }
                    if state.peer_has_closed() {
                        self.end = Some(End::Orderly);
                    }
                }
                // An alert says so, and goes with what is sent next.
                Err(_) => self.end = Some(End::Broken),
            }
        }
    }

    /// Encrypts and writes what goes; none when the connection is lost.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        self.send();
        if self.lost || self.end.is_some() {
            return None;
        }
        if self.tls.is_handshaking() || !self.unsent.is_empty() {
            return Some(0);
        }
        let count = self.tls.writer().write(bytes).ok()?;
        self.encrypt();
        self.send();
        Some(count)
    }

    fn encrypt(&mut self) {
        let before = self.unsent.len();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.unsent).unwrap();
        }
        if self.garbles && self.unsent.len() > before {
            let at = self.rng.usize(before..self.unsent.len());
            self.unsent.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x20);
            self.garbles = false;
        }
    }

    fn send(&mut self) {
        self.encrypt();
        let most = piece(&mut self.rng).min(self.unsent.len());
        if most == 0 || self.lost {
            return;
        }
        match self.io.write(self.unsent.get(..most).unwrap_or(&[])) {
            Some(count) => drop(self.unsent.drain(..count)),
            None => self.lost = true,
        }
    }
}
