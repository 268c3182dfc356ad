//! Brings a warming endpoint to its full share: moves its clock on until it is there.
//!
//! How much it gets at a time is core's `readiness`. Runs on the probe thread.

use std::sync::Arc;
use std::time::Duration;

use ekiden_core::cell::EndpointCell;
use ekiden_core::readiness::Event;

use super::shared::Shared;

/// Steps of a ramp, as far as the bounds below allow.
const STEPS: u32 = 20;
const SHORTEST_STEP: Duration = Duration::from_millis(10);
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// Runs until the endpoint has its full share, or does not warm any more for another reason.
pub(super) async fn run(shared: Arc<Shared>, cell: Arc<EndpointCell>, span: Duration) {
    let step = (span / STEPS).clamp(SHORTEST_STEP, LONGEST_STEP);
    while cell.is_warming() && !cell.is_gone() {
        tokio::time::sleep(step).await;
        if let Some(change) = cell.on(Event::Time, shared.clock.now().unix_ms) {
            shared.changed(&cell, &change);
        } else {
            shared.stepped(&cell);
        }
    }
}
