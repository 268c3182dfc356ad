//! Who gets how much over time: no endpoint starves although reports come with responses only, weights hold, and one that comes
//! back has its share again. Every answer takes 5 ms; what endpoints say of that is off by up to a sixth.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::{Attempt, Pick};
use super::*;
use crate::cluster::ClusterTable;
use crate::cluster::fixture::{asking, random, table};
use crate::health::Health;
use ekiden_config::model::Balance;

const S: u64 = 1_000_000;
const TAKES_US: u64 = 5_000;

struct Run {
    table: ClusterTable,
    now_us: u64,
    /// What is under way, by its end.
    ends: BinaryHeap<Reverse<(u64, u32)>>,
    counts: Vec<u32>,
    /// Whether each of them says anything of its load.
    speaks: Vec<bool>,
}

impl Run {
    fn new(table: ClusterTable) -> Self {
        let (counts, speaks) = (vec![0; table.endpoints.len()], vec![true; table.endpoints.len()]);
        Self { table, now_us: S, ends: BinaryHeap::new(), counts, speaks }
    }

    fn load(&self, at: u32, bits: &mut dyn FnMut() -> u64) -> Load {
        let noise = TAKES_US / 6;
        let latency_us = (TAKES_US - noise + bits() % (2 * noise)) as u32;
        Load { requests: self.table.endpoint(at).unwrap().cell.in_flight(), latency_us }
    }

    /// An endpoint says how busy it is, or nothing.
    fn tell(&self, at: u32, now_us: u64, bits: &mut dyn FnMut() -> u64) {
        let load = self.load(at, bits);
        if self.speaks[at as usize] {
            self.table.report(at, load, (now_us, now_us));
        } else {
            self.table.said_nothing(at, now_us);
        }
    }

    fn end_until(&mut self, now_us: u64, bits: &mut dyn FnMut() -> u64) {
        while let Some(Reverse((end, at))) = self.ends.peek().copied()
            && end <= now_us
        {
            self.ends.pop();
            let cell = &self.table.endpoint(at).unwrap().cell;
            cell.leave();
            cell.note_latency(TAKES_US, end);
            self.tell(at, end, bits);
        }
    }

    /// Requests at random times, so many a second, for so long; gives the shares.
    fn run(&mut self, per_second: u64, seconds: u64, bits: &mut dyn FnMut() -> u64) -> Vec<f64> {
        self.counts.fill(0);
        let until = self.now_us + seconds * S;
        while self.now_us < until {
            let gap = -((bits() >> 11) as f64 / (1u64 << 53) as f64).max(1e-12).ln();
            self.now_us += (gap * S as f64 / per_second as f64) as u64;
            self.end_until(self.now_us, bits);
            let Pick::Endpoint(at) = self.table.pick(Attempt::after(&[]).at(self.now_us), bits) else {
                panic!("nobody")
            };
            for _ in 0..self.table.take_load_probes(8) {
                let asked = self.table.draw_ready(bits).unwrap();
                self.tell(asked, self.now_us, bits);
            }
            self.table.endpoint(at).unwrap().cell.enter();
            self.counts[at as usize] += 1;
            self.ends.push(Reverse((self.now_us + TAKES_US, at)));
        }
        let all: u32 = self.counts.iter().sum();
        self.counts.iter().map(|count| f64::from(*count) / f64::from(all)).collect()
    }
}

/// Clusters of these weights: one whose endpoints are asked, and one where reports come with responses only.
fn both(weights: &[u16]) -> [ClusterTable; 2] {
    [table(weights, Balance::Prequal), asking(weights, 300)]
}

/// Five in flight, a hundred endpoints: far more than reports.
#[test]
fn at_low_load_nobody_starves() {
    for table in both(&[1; 100]) {
        let asks = table.cluster.policy.probe_load.is_some();
        let shares = Run::new(table).run(1_000, 15, &mut random(4));
        let least = shares.iter().copied().fold(1.0, f64::min);
        let mut sorted = shares;
        sorted.sort_by(|a, b| b.total_cmp(a));
        let top: f64 = sorted[..10].iter().sum();
        println!("asks {asks}: least {least:.4}, ten take {top:.3}");
        assert!(least > 0.002, "asks {asks}: {least}");
        assert!(top < 0.3, "asks {asks}: ten take {top}");
    }
}

/// Ambassadors are rolled out one by one: whoever says nothing has its part all the same, at any load.
#[test]
fn who_says_nothing_keeps_its_part() {
    for in_flight in [2, 5, 20, 60] {
        for speaking in [1, 2, 5, 9] {
            for table in both(&[1; 10]) {
                let asks = table.cluster.policy.probe_load.is_some();
                let mut run = Run::new(table);
                run.speaks = (0..10).map(|at| at < speaking).collect();
                let shares = run.run(in_flight * S / TAKES_US, 15, &mut random(4));
                let (least, most) = shares
                    .iter()
                    .fold((1.0f64, 0.0f64), |(least, most), share| (least.min(*share), most.max(*share)));
                let what =
                    format!("{speaking} of 10 speak, {in_flight} in flight, asks {asks}: {shares:.3?}");
                println!("{what}");
                assert!(least > 0.05 && most < 0.2, "{what}");
            }
        }
    }
}

/// A share s by weight is one between s / 2 and 2 s, at any load.
#[test]
fn weights_hold() {
    for (weights, light, wanted) in [
        (vec![9, 1], 1..2, 0.1),
        ([[9; 5], [1; 5]].concat(), 5..10, 0.1),
        ([[9; 50], [1; 50]].concat(), 50..100, 0.1),
        (vec![3, 2, 1], 2..3, 1.0 / 6.0),
    ] {
        for in_flight in [1, 2, 5, 10] {
            for table in both(&weights) {
                let asks = table.cluster.policy.probe_load.is_some();
                let per_second = in_flight * S / TAKES_US;
                let shares = Run::new(table).run(per_second, 20, &mut random(9));
                let share: f64 = shares[light.clone()].iter().sum();
                let what =
                    format!("{} endpoints, {in_flight} in flight, asks {asks}: {share:.3}", weights.len());
                println!("{what}");
                assert!(share > wanted / 2.0 && share < wanted * 2.0, "{what} for {wanted}");
            }
        }
    }
}

/// One of three comes back from a failing probe: within 2 s it has a fair share.
#[test]
fn one_that_comes_back_has_its_share_within_2_s() {
    for count in [3, 10, 100] {
        for table in both(&vec![1; count]) {
            let asks = table.cluster.policy.probe_load.is_some();
            let (mut run, mut bits) = (Run::new(table), random(2));
            let cell = std::sync::Arc::clone(&run.table.endpoints[0].cell);
            cell.set_health(Health::Failing, "test", 1);
            run.table.refresh_ready();
            assert_eq!(run.run(1_000, 20, &mut bits)[0], 0.0);
            cell.set_health(Health::Ready, "test", 2);
            run.table.refresh_ready();
            run.run(1_000, 2, &mut bits);
            let share = run.run(1_000, 4, &mut bits)[0] * count as f64;
            println!("{count}, asks {asks}: {share:.2}");
            assert!((0.4..2.5).contains(&share), "{count} endpoints, asks {asks}: {share} of a fair share");
        }
    }
}
