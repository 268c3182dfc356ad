//! The families of stores that limits are shared through: whether they answer, and how many routers share them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::family::Family;
use crate::store::Store;

/// The families; empty where there is no store.
pub(super) fn families(max: usize, stores: &[Arc<Store>]) -> Vec<Family> {
    let mut up = Family::gauges(
        max,
        "ekiden_store_up",
        "1 when a store of shared limits answers; 0 when limits go on with this router's share of their rates.",
    );
    let mut routers =
        Family::gauges(max, "ekiden_store_routers", "Routers that share a store, as far as is known here.");
    let mut questions = Family::counters(
        max,
        "ekiden_store_questions_total",
        "Questions to a store of shared limits, by result; none is waited for by a request.",
    );
    for store in stores {
        let name = ("store", store.name.as_str());
        up.gauge(&[name], f64::from(u8::from(store.is_up())));
        routers.gauge(&[name], f64::from(store.routers()));
        questions.count(&[name, ("result", "ok")], store.answered.load(Relaxed));
        questions.count(&[name, ("result", "failed")], store.failed.load(Relaxed));
    }
    vec![up, routers, questions]
}
