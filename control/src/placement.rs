//! The way of placements from their sources to the control loop: what runs where, as somebody else knows it.
//!
//! A source says what is there and is asked nothing; what it said last counts until it says something else, so that one which is
//! silent, failing or gone freezes its part. Its endpoints stand under those of the files and over those of the API (see
//! [`crate::overlay`]). What a source takes away too much of at once is kept for a while ([`removals`]). Files are no source: who
//! writes there writes the configuration, which is judged as a whole.

pub(crate) mod discovered;
pub(crate) mod discovering;
pub(crate) mod dues;
pub(crate) mod part;
pub(crate) mod removals;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use ekiden_config::doors::Ticket;
use ekiden_config::model::Endpoint;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::dns::asking::Told;
use crate::overlay::ClusterKey;
use crate::store::Revision;

/// Words of sources that may wait for the loop; a source waits then.
pub(crate) const SAID_MAX: usize = 256;

/// Somebody who knows what runs where. Contract: used by one task on control's runtime; [`PlacementSource::next`] does not block
/// the thread, may be dropped at any await without losing a word, and waits for as long as there is nothing new, for hours if need be;
/// `None` says that nothing more will come, and leaves what was said in force. A panic ends the source, with the same effect.
/// Embedded: the Procfile's dynos, DNS, keys of an etcd, and what is pushed through the API. A watch of another system says after each change all
/// that it has of a cluster, with the conditions of [`part::Condition`]: not ready, serving, terminating.
pub(crate) trait PlacementSource: Send {
    /// What it says next.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Said>> + Send + '_>>;
}

/// One word of a source.
#[derive(Debug)]
pub(crate) struct Said {
    /// The word.
    pub(crate) word: Word,
    /// Gets the ticket of the table that goes by it.
    pub(crate) reply: Option<oneshot::Sender<Heard>>,
}

/// What a source says.
#[derive(Debug)]
pub(crate) enum Word {
    /// All dynos of a cluster that a local Procfile runs: certain knowledge, nothing of it is withheld.
    Dynos(ClusterKey, Vec<Arc<Endpoint>>),
    /// The records of a name, or why there are none. Which clusters hold the name, the loop knows.
    Records(Told),
    /// The keys behind a prefix of an etcd, or why they cannot be asked for. Which clusters name it, the loop knows.
    Keys(discovered::Followed),
    /// This is to be stored of a cluster, of which these were heard. Nothing is taken yet: what would be kept of what it takes away is
    /// stored with it, so that no process ever finds the one without the other.
    Wished(ClusterKey, part::Wanted, part::Heard, oneshot::Sender<Judged>),
    /// What the store has of a cluster may be new, and these were heard: what is pushed is durable before it counts. It is taken as of
    /// the moment it was judged at.
    Stored(ClusterKey, part::Heard, Option<u64>),
    /// What is withheld of the source of this name; none where nobody knows it.
    Withheld(Arc<str>, oneshot::Sender<Option<Withheld>>),
    /// A person has looked at what is withheld of the source of this name: it may go. What was written down for others that hold it
    /// too is all that may: of more they would hear nothing.
    Confirm(Arc<str>, Option<Written>),
}

/// What was said of a word that is not taken yet.
#[derive(Debug)]
pub(crate) struct Judged {
    /// What is kept of what the source takes away.
    pub(crate) kept: part::Kept,
    /// When that was, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
}

/// What a person may confirm.
#[derive(Debug)]
pub(crate) struct Withheld {
    /// What the source took away and is kept.
    pub(crate) gone: Vec<String>,
    /// When that was asked, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    /// Until when it would be kept if it were taken away now, in milliseconds since the Unix epoch.
    pub(crate) until_ms: u64,
}

/// What was written down as confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// With this revision.
    pub(crate) revision: Revision,
    /// What may go, as the API names what is held.
    pub(crate) gone: BTreeSet<String>,
}

impl Written {
    /// Whether it is about all of this.
    pub(crate) fn is_about(&self, held: &[String]) -> bool {
        held.iter().all(|one| self.gone.contains(one))
    }
}

/// What became of a confirmation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// Nobody knows such a source, or the word was another one.
    #[default]
    Unknown,
    /// More waits than what was written down: nothing went.
    More,
    /// This went; nothing where nothing waited.
    Gone(Vec<String>),
}

/// What became of a word.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Follows the newest publish.
    pub(crate) ticket: Ticket,
    /// What the source took away and is kept for now.
    pub(crate) kept: part::Kept,
    /// What became of it where it was a confirmation.
    pub(crate) confirmed: Confirmed,
}

/// A source whose words come from a task or thread of this process.
#[derive(Debug)]
pub(crate) struct Channel<T> {
    inlet: mpsc::Receiver<T>,
    word: fn(T) -> Said,
}

impl<T> Channel<T> {
    /// Says each thing that comes, as `word` puts it.
    pub(crate) fn new(inlet: mpsc::Receiver<T>, word: fn(T) -> Said) -> Self {
        Self { inlet, word }
    }
}

impl<T: Send> PlacementSource for Channel<T> {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Said>> + Send + '_>> {
        Box::pin(async {
            let word = self.word;
            self.inlet.recv().await.map(word)
        })
    }
}

/// All endpoints that the Procfile's dynos are; replaces what was said before.
#[derive(Debug)]
pub(crate) struct Placed {
    /// Where.
    pub(crate) place: ClusterKey,
    /// Sorted by id.
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// Gets the ticket of the table that has them.
    pub(crate) reply: oneshot::Sender<Heard>,
}

/// What dynos said last, for a loop that begins anew beside them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastPlaced(Arc<Mutex<BTreeMap<ClusterKey, Vec<Arc<Endpoint>>>>>);

impl LastPlaced {
    /// Notes all endpoints of a cluster, before the loop is told.
    pub(crate) fn note(&self, place: &ClusterKey, endpoints: &[Arc<Endpoint>]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(place.clone(), endpoints.to_vec());
    }

    /// All of it.
    pub(crate) fn read(&self) -> BTreeMap<ClusterKey, Vec<Arc<Endpoint>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Placed {
    /// As a word of a source.
    pub(crate) fn said(self) -> Said {
        Said { word: Word::Dynos(self.place, self.endpoints), reply: Some(self.reply) }
    }
}

impl Told {
    /// As a word of a source.
    pub(crate) fn said(self) -> Said {
        Said { word: Word::Records(self), reply: None }
    }
}

/// Brings what a source says to the loop, until either is gone.
pub(crate) fn follow(
    mut source: Box<dyn PlacementSource>,
    loudspeaker: mpsc::Sender<Said>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(said) = source.next().await {
            if loudspeaker.send(said).await.is_err() {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Says what it was given, then nothing more.
    struct Fake(Vec<&'static str>);

    impl PlacementSource for Fake {
        fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Said>> + Send + '_>> {
            Box::pin(async { self.0.pop().map(said) })
        }
    }

    fn said(source: &'static str) -> Said {
        Said { word: Word::Confirm(Arc::from(source), None), reply: None }
    }

    fn text(said: Option<Said>) -> String {
        match said.map(|said| said.word) {
            Some(Word::Confirm(source, _)) => source.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_down_is_all_that_may_go() {
        let gone = ["a", "b"].map(str::to_owned).into();
        let written = Written { revision: 1, gone };
        for (held, may) in [(&["a", "b"][..], true), (&["b"], true), (&[], true), (&["a", "b", "c"], false)] {
            let held: Vec<String> = held.iter().map(|one| (*one).to_owned()).collect();
            assert_eq!(written.is_about(&held), may, "{held:?}");
        }
    }

    #[tokio::test]
    async fn every_word_of_every_source_is_heard_in_its_order() {
        let (outlet, mut heard) = mpsc::channel(1);
        let (words, inlet) = mpsc::channel(8);
        let sources: [Box<dyn PlacementSource>; 2] =
            [Box::new(Fake(vec!["a2", "a1"])), Box::new(Channel::new(inlet, said))];
        let following = sources.map(|source| follow(source, outlet.clone()));
        drop(outlet);
        for word in ["b1", "b2"] {
            words.send(word).await.unwrap();
        }
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(text(heard.recv().await));
        }
        for mine in ["a", "b"] {
            let order: Vec<&String> = all.iter().filter(|word| word.starts_with(mine)).collect();
            assert_eq!(order, [&format!("{mine}1"), &format!("{mine}2")]);
        }
        // One that has nothing more to say ends; the other is only silent.
        let [fake, channel] = following;
        fake.await.unwrap();
        assert!(!channel.is_finished());
        // The loop is gone.
        drop(heard);
        words.send("b3").await.unwrap();
        channel.await.unwrap();
    }

    #[tokio::test]
    async fn a_source_that_is_not_waited_for_loses_no_word() {
        let (words, inlet) = mpsc::channel(8);
        let mut source = Channel::new(inlet, said);
        assert!(timeout(Duration::ZERO, source.next()).await.is_err(), "it says something by itself");
        words.send("late").await.unwrap();
        assert_eq!(text(source.next().await), "late");
        drop(words);
        assert!(source.next().await.is_none());
    }
}
