//! What other threads ask of a worker, and how they wake it.
//!
//! Bounded by its senders: the swapper sends one `Table` per publish and waits for it, listeners change with publishes,
//! readiness changes coalesce. Never touched on the request path.

use std::sync::{Mutex, PoisonError};

use ekiden_config::names::ListenerName;
use tokio::sync::Notify;

use crate::listen::Socket;

/// One request to a worker.
#[derive(Debug)]
pub enum Message {
    /// Take the table in force.
    Table,
    /// Readiness of some endpoint changed.
    Readiness,
    /// Accept on this socket for this listener; an older socket of the same name is drained.
    Listen(ListenerName, Socket),
    /// Accept what is queued on this listener's socket, then close it.
    Unlisten(ListenerName),
    /// Close every listening socket, after accepting what is queued.
    CloseListeners,
    /// The end is announced: let each connection end with its next response.
    Leave,
    /// Finish what is in flight, close idle connections.
    Drain,
    /// End everything now.
    Force,
    /// End the worker's loop.
    Stop,
}

/// A worker's mailbox.
#[derive(Debug, Default)]
pub struct Mailbox {
    messages: Mutex<Vec<Message>>,
    notify: Notify,
}

impl Mailbox {
    /// Puts a message in and wakes the worker.
    pub fn send(&self, message: Message) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let repeated = matches!(
            (&message, messages.last()),
            (Message::Table, Some(Message::Table)) | (Message::Readiness, Some(Message::Readiness))
        );
        if !repeated {
            messages.push(message);
        }
        drop(messages);
        self.notify.notify_one();
    }

    /// Waits for messages and takes them all. One receiver: the worker.
    pub async fn receive(&self) -> Vec<Message> {
        loop {
            let messages = std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner));
            if !messages.is_empty() {
                return messages;
            }
            self.notify.notified().await;
        }
    }
}
