//! The families of sharded clusters: which map they have, and how much the keys asked for most are asked for. Keys themselves are
//! in the API only: a label never holds what a client sent.

use ekiden_core::table::Table;

use super::family::Family;

/// Ranks of keys that have series.
const RANKS: usize = 10;

/// Families over the clusters that have shards.
pub(super) fn families(max: usize, table: &Table) -> Vec<Family> {
    let mut maps = Family::gauges(
        max,
        "ekiden_shard_map_info",
        "Always 1; routers with the same digest place every key alike.",
    );
    let mut share = Family::gauges(
        max,
        "ekiden_shard_key_share_ratio",
        "Part of a cluster's requests that are for one key, by the key's rank.",
    );
    let mut spread = Family::gauges(
        max,
        "ekiden_shard_key_spread_endpoints",
        "Endpoints that a hot key is spread over, by its rank; 0 when it is not.",
    );
    for cluster in table.all_clusters() {
        let Some(shards) = cluster.shards() else { continue };
        let place @ [app, name] = [("app", cluster.app.as_str()), ("cluster", cluster.cluster.name.as_str())];
        let algorithm = shards.words.algorithm.word();
        let status = shards.status();
        let digest = format!("{:016x}", status.digest);
        maps.gauge(&[app, name, ("algorithm", algorithm), ("digest", &digest)], 1.0);
        let [app, name] = place;
        for (rank, key) in (1..=RANKS).zip(&status.keys) {
            let rank = rank.to_string();
            let one = [app, name, ("rank", rank.as_str())];
            share.gauge(&one, f64::from(key.share_ppm) / 1e6);
            spread.gauge(&one, f64::from(key.spread.unwrap_or(0)));
        }
    }
    vec![maps, share, spread]
}
