//! One HTTP/2 stream as two halves of lines: reading with a bound on each line, writing under the other side's flow control and
//! with a deadline.

use std::future::poll_fn;
use std::time::Duration;

use h2::{RecvStream, SendStream};
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

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

    /// The next message. `None`: the other side has ended. Safe to drop and call again. The error is a text for people.
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
            match self.stream.data().await {
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
    pub(super) async fn send(&mut self, data: Bytes) -> Result<(), String> {
        match timeout(STALL_MAX, self.push(data)).await {
            Ok(sent) => sent,
            Err(_) => Err(format!("the other side read nothing for {} s", STALL_MAX.as_secs())),
        }
    }

    async fn push(&mut self, mut data: Bytes) -> Result<(), String> {
        while !data.is_empty() {
            self.0.reserve_capacity(data.len());
            let room = poll_fn(|context| self.0.poll_capacity(context)).await;
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
