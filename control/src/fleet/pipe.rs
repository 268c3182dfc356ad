//! One HTTP/2 stream as two halves of lines: reading with a bound on each line, writing under the other side's flow control and
//! with a deadline.

use std::future::poll_fn;
use std::time::Duration;

use h2::{RecvStream, SendStream};
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::session::SILENCE_MAX;

/// Longest time that the other side may leave what is sent to it unread.
const STALL_MAX: Duration = Duration::from_secs(30);

/// The reading half.
pub(super) struct Lines {
    stream: RecvStream,
    held: Vec<u8>,
    /// Where the line that is being read begins.
    begun: usize,
    /// Up to where there is no line end behind that.
    searched: usize,
    line_max: usize,
}

impl Lines {
    /// Lines of at most so many bytes.
    pub(super) fn new(stream: RecvStream, line_max: usize) -> Self {
        Self { stream, held: Vec::new(), begun: 0, searched: 0, line_max }
    }

    /// The next message. `None`: the other side has ended. Fails when nothing comes for [`SILENCE_MAX`]; a long line on a slow way
    /// is no silence. Safe to drop and call again. The error is a text for people.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, String> {
        loop {
            let fresh = self.held.get(self.searched..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n').map(|at| self.searched + at) {
                let message = serde_json::from_slice(self.held.get(self.begun..end).unwrap_or_default());
                (self.begun, self.searched) = (end + 1, end + 1);
                return message.map(Some).map_err(|error| format!("a line that is not understood: {error}"));
            }
            self.held.drain(..self.begun);
            (self.begun, self.searched) = (0, self.held.len());
            if self.held.len() > self.line_max {
                return Err(format!("a line of more than {} bytes", self.line_max));
            }
            let data = timeout(SILENCE_MAX, self.stream.data()).await;
            match data.map_err(|_| format!("it said nothing for {} s", SILENCE_MAX.as_secs()))? {
                None if self.held.is_empty() => return Ok(None),
                None => return Err("the link ended within a line".to_owned()),
                Some(Err(error)) => return Err(error.to_string()),
                Some(Ok(data)) => {
                    self.held.extend_from_slice(&data);
                    // Fails only when the stream is gone, which the next read says.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                }
            }
        }
    }
}

/// The writing half.
pub(super) struct Sink(SendStream<Bytes>);

impl Sink {
    /// Over a stream that is open.
    pub(super) fn new(stream: SendStream<Bytes>) -> Self {
        Self(stream)
    }

    /// Sends all of it. The error is a text for people.
    pub(super) async fn send(&mut self, mut data: Bytes) -> Result<(), String> {
        while !data.is_empty() {
            self.0.reserve_capacity(data.len());
            let room = timeout(STALL_MAX, poll_fn(|context| self.0.poll_capacity(context))).await;
            let room =
                room.map_err(|_| format!("the other side read nothing for {} s", STALL_MAX.as_secs()))?;
            let room = room.ok_or("the link has ended")?.map_err(|error| error.to_string())?;
            let part = data.split_to(room.min(data.len()));
            self.0.send_data(part, false).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Ends this direction. The other side may be gone.
    pub(super) fn end(&mut self) {
        let _ = self.0.send_data(Bytes::new(), true);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_line_on_a_slow_way_is_no_silence() {
        let (near, far) = duplex(1 << 16);
        let server = async {
            let mut connection = h2::server::handshake(far).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            let down = respond.send_response(hyper::Response::new(()), false).unwrap();
            tokio::spawn(async move { while connection.accept().await.is_some() {} });
            (request.into_body(), Sink::new(down))
        };
        let client = async {
            let (mut sender, connection) = h2::client::handshake(near).await.unwrap();
            tokio::spawn(connection);
            let request = hyper::Request::post("http://a/").body(()).unwrap();
            let (response, up) = sender.send_request(request, false).unwrap();
            (response.await.unwrap().into_body(), up, sender)
        };
        let ((_up, mut sink), (down, _held, _sender)) = tokio::join!(server, client);
        let mut lines = Lines::new(down, 100);
        let writing = async {
            for piece in ["\"a", "b", "c", "d\"\n"] {
                sleep(SILENCE_MAX - Duration::from_secs(1)).await;
                sink.send(Bytes::from(piece)).await.unwrap();
            }
        };
        let (read, ()) = tokio::join!(lines.next::<String>(), writing);
        assert_eq!(read, Ok(Some("abcd".to_owned())));
        assert_eq!(lines.next::<String>().await, Err("it said nothing for 15 s".to_owned()));
    }
}
