//! `ekiden ring`: how a sharded cluster of a configuration shares out keys, what moves if an endpoint leaves, and where a key is.
//! Reads the file alone: endpoints from DNS and the API are not in it.

use std::fmt::Write;
use std::process::ExitCode;

use ekiden_config::model::{Cluster, ShardPolicy};
use ekiden_core::shard::{Key, ShardMap, survey};

use crate::cli::Ring;
use crate::{exit, print};

/// Length of the bar of an endpoint that has all keys.
const BAR: f64 = 60.0;

/// Prints the shares, and the answers to what was asked.
pub(crate) fn ring(arguments: &Ring) -> ExitCode {
    let built = match ekiden_control::check(&arguments.file) {
        Ok(built) => built,
        Err(findings) => {
            findings.iter().for_each(|finding| eprintln!("{finding}\n"));
            return exit::invalid();
        }
    };
    let (app, name) = arguments.cluster.split_once('/').unwrap_or(("default", &arguments.cluster));
    let cluster = built.model.apps.get(app).and_then(|app| app.clusters.get(name));
    let Some(cluster) = cluster else {
        eprintln!("there is no cluster {app}/{name} in {}", arguments.file.display());
        return exit::usage();
    };
    let Some(words) = &cluster.policy.shard else {
        eprintln!("the cluster {app}/{name} has no `shard`: no key decides there");
        return exit::usage();
    };
    match text(cluster, words, arguments) {
        Ok(text) => print(&text),
        Err(unknown) => {
            eprintln!("there is no endpoint {unknown} in the cluster {app}/{name}");
            exit::usage()
        }
    }
}

/// The whole answer; an error is the id of an endpoint that is not there.
fn text(cluster: &Cluster, words: &ShardPolicy, arguments: &Ring) -> Result<String, String> {
    let endpoints = &cluster.endpoints;
    let map = ShardMap::new(words.algorithm, endpoints);
    let (algorithm, kind) = (words.algorithm.word(), words.kind.word());
    let mut text =
        format!("{algorithm}, {kind}, {} endpoints, digest {:016x}\n", endpoints.len(), map.digest());
    let wide = endpoints.iter().map(|endpoint| endpoint.id.as_str().len()).max().unwrap_or(0);
    // Writing to a String does not fail.
    for (endpoint, share) in endpoints.iter().zip(survey::shares(&map)) {
        let bar = "#".repeat((share * BAR).round() as usize);
        let (id, weight) = (endpoint.id.as_str(), endpoint.weight);
        let _ = writeln!(text, "  {id:wide$}  weight {weight:4}  {:6.2} %  {bar}", share * 100.0);
    }
    if let Some(gone) = &arguments.without {
        let at = endpoints.iter().position(|endpoint| endpoint.id.as_str() == gone);
        let moves =
            at.and_then(|at| survey::without(words.algorithm, endpoints, at)).ok_or_else(|| gone.clone())?;
        let (own, others) = (moves.own * 100.0, moves.others * 100.0);
        let _ =
            writeln!(text, "without {gone}: {own:.2} % of the keys move with it, {others:.2} % of others");
        for (endpoint, gain) in endpoints.iter().zip(moves.gains).filter(|(_, gain)| *gain > 0.0) {
            let _ = writeln!(text, "  {:wide$}  {:+6.2} %", endpoint.id.as_str(), gain * 100.0);
        }
    }
    for key in &arguments.key {
        let order = map.replicas(Key::new(key.as_bytes()), usize::from(words.replicas).max(3));
        let ids = order.iter().filter_map(|at| Some(endpoints.get(*at as usize)?.id.as_str()));
        let _ = writeln!(text, "key {key}: {}", ids.collect::<Vec<_>>().join(", then "));
    }
    Ok(text)
}
