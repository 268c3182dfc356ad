//! The sink: takes connections and throws away what they send. To a client that asks for `/flood` it sends without an end.
//! Attacks aimed at it cost their generator and the kernel what they cost; the router is not touched.

use crate::failure::Fallible;
use crate::turn::{self, Turn};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Token of the listener.
const LISTENER: u64 = u64::MAX;
/// Bytes written at once to one that asked for a flood.
static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];

struct Drain {
    stream: TcpStream,
    floods: bool,
}

/// Serves until the process is ended.
pub(crate) fn serve(address: SocketAddr) -> Fallible<()> {
    let listener = turn::listen(address)?;
    let mut turn = Turn::new()?;
    turn.watch_listener(&listener, LISTENER)?;
    let mut drains: Vec<Option<Drain>> = Vec::new();
    let (mut free, mut wakes, mut buffer) = (Vec::new(), Vec::new(), vec![0; 64 << 10]);
    loop {
        turn.wait(None, &mut wakes)?;
        for wake in &wakes {
            if wake.token == LISTENER {
                if let Some(stream) = turn::accept(&listener)? {
                    let slot = free.pop().unwrap_or(drains.len());
                    if slot == drains.len() {
                        drains.push(None);
                    }
                    turn.watch(&stream, slot as u64)?;
                    drains[slot] = Some(Drain { stream, floods: false });
                }
                continue;
            }
            let slot = usize::try_from(wake.token).unwrap_or(usize::MAX);
            let Some(drain) = drains.get_mut(slot).and_then(Option::as_mut) else { continue };
            if !drain.turn(&mut buffer) {
                drains[slot] = None;
                free.push(slot);
            }
        }
    }
}

impl Drain {
    /// Reads all there is and, for a flood, writes all there is room for; false at the end and on errors.
    fn turn(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => self.floods |= buffer[..count].starts_with(b"GET /flood "),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        while self.floods {
            // How much was taken does not matter: every byte is alike.
            if let Err(error) = self.stream.write(&PIECE).map(drop) {
                return error.kind() == ErrorKind::WouldBlock;
            }
        }
        true
    }
}
