//! The fake probe: answers what it is told to, without a network.

use std::sync::Arc;

use ekiden_config::model::Address;

use super::{Checking, Probe, Target, Verdict};

/// What an endpoint answers; `None` means that it never does.
type Answer = dyn Fn(&Address) -> Option<Verdict> + Send + Sync;

/// Answers by a function of the address, at once or after a wait that the caller's runtime makes.
#[derive(Clone)]
pub struct FakeProbe {
    answer: Arc<Answer>,
}

impl FakeProbe {
    /// A probe that gives what `answer` gives; `None` means that the endpoint never answers.
    pub fn new(answer: impl Fn(&Address) -> Option<Verdict> + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer) }
    }
}

impl Probe for FakeProbe {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(async move {
            match (self.answer)(&target.address) {
                Some(verdict) => verdict,
                None => std::future::pending().await,
            }
        })
    }
}
