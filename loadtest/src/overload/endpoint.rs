//! Endpoints that serve so many requests at once, each for a fixed time; more wait inside. A thread per connection: proxies
//! that keep to the slots open few. Runs as a process of its own.

use crate::failure::{Fallible, failure};
use crate::origin;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Free slots of one endpoint.
struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Slots {
    fn take(&self) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
    }

    fn give(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.freed.notify_one();
    }
}

/// Serves on all addresses until the process is ended; each has its own slots.
pub(crate) fn serve(addresses: &[SocketAddr], slots: usize, service: Duration) -> Fallible<()> {
    let body = origin::body("/").ok_or_else(|| failure("the origin has no /"))?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer: Arc<[u8]> = [head.as_bytes(), &body[..]].concat().into();
    let mut accepting = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address)?;
        let (slots, answer) =
            (Arc::new(Slots { free: Mutex::new(slots), freed: Condvar::new() }), Arc::clone(&answer));
        accepting.push(thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (slots, answer) = (Arc::clone(&slots), Arc::clone(&answer));
                thread::spawn(move || one(stream, &slots, &answer, service));
            }
        }));
    }
    for thread in accepting {
        thread.join().map_err(|_| failure("an endpoint panicked"))?;
    }
    Ok(())
}

/// One connection: requests without bodies, one after the other.
fn one(mut stream: TcpStream, slots: &Slots, answer: &[u8], service: Duration) {
    let _slower_without = stream.set_nodelay(true);
    let mut held = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            held.drain(..end + 4);
            slots.take();
            thread::sleep(service);
            slots.give();
            if stream.write_all(answer).is_err() {
                return;
            }
        }
        match stream.read(&mut piece) {
            Ok(count @ 1..) => held.extend_from_slice(&piece[..count]),
            Ok(_) | Err(_) => return,
        }
    }
}
