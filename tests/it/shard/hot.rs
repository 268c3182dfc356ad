//! A key that is half of all traffic: spread while it is hot, shown by rank, and its owner's alone again after.

use std::time::{Duration, Instant};

use ekiden_tests::{Client, Ekiden, Served, until};
use serde_json::Value;

use super::{echoes, keyed, serve};

/// Requests of one look at the endpoints.
const BATCH: usize = 400;
/// Time for what takes a second or two where nothing else runs: batches are many requests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends so many requests, every other one for the hot key, over two connections, and gives what each endpoint got.
fn batch(
    clients: &mut [Client; 2],
    is_hot: bool,
    number: &mut usize,
    counts: impl Fn() -> Vec<u64>,
) -> Vec<u64> {
    let before = counts();
    for turn in 0..BATCH {
        *number += 1;
        let request = if is_hot && turn % 2 == 0 { keyed("hot") } else { keyed(format!("cold-{number}")) };
        assert_eq!(clients[turn / 2 % 2].ask(request).status, 200);
    }
    counts().iter().zip(before).map(|(now, before)| now - before).collect()
}

fn busiest(counts: &[u64]) -> f64 {
    *counts.iter().max().unwrap() as f64 * counts.len() as f64 / counts.iter().sum::<u64>() as f64
}

fn ranked(router: &Ekiden) -> Vec<Value> {
    let keys = router.table()["apps"][0]["clusters"][0]["shard"]["keys"].clone();
    keys.as_array().cloned().unwrap_or_default()
}

#[test]
fn a_hot_key_is_spread_shown_and_given_back() {
    let echoes = echoes(&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]);
    let counts = || echoes.iter().map(|(_, echo)| echo.requests()).collect::<Vec<_>>();
    let shard = "by = \"header:x-key\", bound = \"off\"";
    let router = serve(&echoes, "", &format!("{shard}, hot_keys = {{ show_keys = true }}"));
    let (mut clients, mut number) = ([router.client(), router.client()], 0);
    // While it goes on, the busiest endpoint gets no more than 1.5 of the mean. A batch is 200 hot requests over 7 endpoints or
    // so and 200 others over 10: chance makes single batches uneven, so several of them are looked at together.
    let began = Instant::now();
    let mut recent: Vec<Vec<u64>> = Vec::new();
    loop {
        recent.push(batch(&mut clients, true, &mut number, counts));
        let last = recent.iter().rev().take(5);
        let sum: Vec<u64> = (0..10).map(|at| last.clone().map(|batch| batch[at]).sum()).collect();
        if recent.len() >= 5 && busiest(&sum) <= 1.5 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it is not spread: {sum:?} {:?}", ranked(&router));
    }
    // The batches above are also those of a moment ago; the table is asked while the key is still hot.
    batch(&mut clients, true, &mut number, counts);
    let first = ranked(&router)[0].clone();
    assert_eq!((&first["hot"], &first["text"]), (&Value::Bool(true), &Value::from("hot")), "{first}");
    assert!(first["spread"].as_u64().unwrap() >= 5, "{first}");
    assert!(router.metric("ekiden_shard_key_share_ratio", &["rank=\"1\""]) > 0.3);
    assert!(!router.metrics().contains("hot\""), "no label holds a key");
    // It cools down: nothing is hot, and its requests come to one endpoint.
    let began = Instant::now();
    while ranked(&router).iter().any(|key| key["hot"] == true) {
        batch(&mut clients, false, &mut number, counts);
        assert!(began.elapsed() < PATIENCE, "it stays hot: {:?}", ranked(&router));
    }
    let before = counts();
    for _ in 0..10 {
        assert_eq!(clients[0].ask(keyed("hot")).status, 200);
    }
    let served = counts().iter().zip(before).filter(|(now, before)| **now > *before).count();
    assert_eq!(served, 1);
}

#[test]
fn keys_are_shown_hashed_unless_allowed() {
    let echoes = echoes(&["a", "b", "c"]);
    let router = serve(&echoes, "", "by = \"header:x-key\"");
    let mut client = router.client();
    let first = until("a hot key", || {
        for _ in 0..100 {
            assert_eq!(client.ask(keyed("secret")).status, 200);
        }
        ranked(&router).into_iter().find(|key| key["hot"] == true)
    });
    // Once more while it is hot: a request of a hot key is what would leave its text.
    assert_eq!(client.ask(keyed("secret")).status, 200);
    assert_eq!(first["hash"].as_str().map(str::len), Some(16), "{first}");
    assert!(!router.table().to_string().contains("secret"));
}
