//! Ticks the clusters that are watched for hot keys. Which keys are hot is core's `shard::hot`. Runs on the probe thread. Counts no request.

use std::sync::Arc;
use std::time::Duration;

use ekiden_core::shard::hot::HotBoard;

/// Time in which counts of keys are halved: they speak of twice as long.
const TICK: Duration = Duration::from_millis(500);

/// Ticks for ever.
pub(super) async fn run(board: Arc<HotBoard>) {
    loop {
        tokio::time::sleep(TICK).await;
        board.tick();
    }
}
