//! Bytes from one plain socket to another without a copy: splice(2) through a pipe that a tunnel holds only while bytes stand in it.
//!
//! For tunnels that carry much; ARCHITECTURE.md says what it saves. Where there is no pipe to be had, bytes are copied. Does not decide
//! which tunnels are carried so (`tunnel` does) and does not pass ends on.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Pipes of one worker at most, each of two descriptors.
const PIPES_MAX: usize = 64;
/// Pipes kept for the next tunnel that needs one.
const IDLE_MAX: usize = 8;
/// Bytes that a pipe holds, where the system allows so many.
const PIPE_BYTES: usize = 256 << 10;

/// The pipes of a worker.
#[derive(Debug, Default)]
pub struct Pipes {
    idle: RefCell<Vec<Pipe>>,
    made: Rc<Cell<usize>>,
}

/// A pipe, and how many bytes stand in it.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    made: Rc<Cell<usize>>,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.made.set(self.made.get().saturating_sub(1));
    }
}

impl Pipes {
    /// An empty pipe; none where there are as many as there may be, or the system has none.
    fn take(&self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.made.get() >= PIPES_MAX {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let _as_large_as_it_is = fcntl_setpipe_size(&write, PIPE_BYTES);
        self.made.set(self.made.get() + 1);
        Some(Pipe { read, write, held: 0, made: Rc::clone(&self.made) })
    }

    fn put(&self, pipe: Pipe) {
        let mut idle = self.idle.borrow_mut();
        // What still holds bytes is another tunnel's no more.
        if pipe.held == 0 && idle.len() < IDLE_MAX {
            idle.push(pipe);
        }
    }
}

/// Why a way stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The reader's side sends no more, and all of it was passed on.
    End,
    /// The reader's side is gone.
    FromLost,
    /// The writer's side is gone.
    ToLost,
    /// There is no pipe: what comes is to be copied.
    NoPipe,
}

/// What one look moved.
#[derive(Debug, Default)]
pub struct Moved {
    /// Bytes read.
    pub taken: usize,
    /// Bytes written.
    pub given: usize,
}

/// One direction of a tunnel. Dropped with bytes in it, they are lost, as those in any buffer are.
#[derive(Debug, Default)]
pub struct Way {
    pipe: Option<Pipe>,
}

impl Way {
    /// Bytes that stand in its pipe.
    pub fn held(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.held)
    }

    /// Moves bytes as far as both sockets go, and counts them in `bytes`.
    pub fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        pipes: &Pipes,
        (from, to): (&TcpStream, &TcpStream),
        bytes: &mut Moved,
    ) -> Poll<Stop> {
        loop {
            if let Some(pipe) = &mut self.pipe
                && pipe.held > 0
            {
                if ready!(to.poll_write_ready(cx)).is_err() {
                    return Poll::Ready(Stop::ToLost);
                }
                match to.try_io(Interest::WRITABLE, || moved(&pipe.read, to, pipe.held)) {
                    Ok(0) => return Poll::Ready(Stop::ToLost),
                    Ok(count) => {
                        pipe.held = pipe.held.saturating_sub(count);
                        bytes.given += count;
                    }
                    Err(error) if is_passing(&error) => {}
                    Err(_) => return Poll::Ready(Stop::ToLost),
                }
                continue;
            }
            match from.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Stop::FromLost),
                Poll::Pending => {
                    self.give_back(pipes);
                    return Poll::Pending;
                }
            }
            let Some(pipe) = self.pipe.take().or_else(|| pipes.take()) else {
                return Poll::Ready(Stop::NoPipe);
            };
            let pipe = self.pipe.insert(pipe);
            match from.try_io(Interest::READABLE, || moved(from, &pipe.write, PIPE_BYTES)) {
                Ok(0) => {
                    self.give_back(pipes);
                    return Poll::Ready(Stop::End);
                }
                Ok(count) => {
                    pipe.held = count;
                    bytes.taken += count;
                }
                Err(error) if is_passing(&error) => {}
                Err(_) => return Poll::Ready(Stop::FromLost),
            }
        }
    }

    fn give_back(&mut self, pipes: &Pipes) {
        if let Some(pipe) = self.pipe.take() {
            pipes.put(pipe);
        }
    }
}

/// One call. An end of which is a pipe, the other a socket.
fn moved(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, most: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

/// Whether it is to be tried again, once there is a report where one is waited for.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn all_bytes_arrive_and_the_pipe_goes_back() {
        let ((mut source, from), (to, mut sink)) = (pair().await, pair().await);
        let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();

        let (length, written) = (sent.len(), sent.clone());
        let writer = tokio::spawn(async move {
            source.write_all(&written).await.unwrap();
            source.shutdown().await.unwrap();
        });

        let reader = tokio::spawn(async move {
            let mut got = vec![0; length];
            sink.read_exact(&mut got).await.unwrap();
            got
        });
        let (pipes, mut way, mut bytes) = (Pipes::default(), Way::default(), Moved::default());
        let stop = poll_fn(|cx| way.poll_pass(cx, &pipes, (&from, &to), &mut bytes)).await;
        assert_eq!((stop, bytes.taken, bytes.given), (Stop::End, length, length));
        assert!(reader.await.unwrap() == sent);
        writer.await.unwrap();
        assert_eq!((pipes.idle.borrow().len(), pipes.made.get()), (1, 1));
    }

    /// There are as many as there may be, and those of tunnels that ended make room.
    #[test]
    fn pipes_are_bounded() {
        let pipes = Pipes::default();
        let mut held: Vec<Pipe> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(held.len(), PIPES_MAX);
        let mut full = held.pop().unwrap();
        full.held = 1;
        pipes.put(full);
        assert_eq!((pipes.idle.borrow().len(), pipes.made.get()), (0, PIPES_MAX - 1));
        held.into_iter().for_each(|pipe| pipes.put(pipe));
        assert_eq!((pipes.idle.borrow().len(), pipes.made.get()), (IDLE_MAX, IDLE_MAX));
    }
}
