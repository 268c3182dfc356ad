//! Tests of the checks and of the prober, over real sockets on loopback.

mod checks;
mod running;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ekiden_config::model::Address;

/// Long enough for any machine; nothing waits for it unless it is broken.
const LONG: Duration = Duration::from_secs(20);

/// An origin that reads one request head per connection, answers with the bytes it was given, and closes.
struct Origin {
    address: SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    fn start(answer: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer.to_vec())),
            requests: Arc::default(),
        };
        let (answer, requests) = (origin.answer.clone(), origin.requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                    head.extend(byte);
                }
                requests.lock().unwrap().push(String::from_utf8(head).unwrap());
                let bytes = answer.lock().unwrap().clone();
                let _ = stream.write_all(&bytes);
            }
        });
        origin
    }

    fn address(&self) -> Address {
        Address::Tcp(self.address)
    }

    fn answer(&self, answer: &[u8]) {
        *self.answer.lock().unwrap() = answer.to_vec();
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
