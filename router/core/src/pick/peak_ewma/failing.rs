//! An endpoint that fails everything for a while and is set aside by nothing but the picker: it gets little, is tried often enough
//! for evidence to come, and has its share again within two seconds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ekiden_config::model::Balance;

use super::super::{Attempt, Pick};
use crate::cluster::ClusterTable;
use crate::cluster::fixture::{random, table};

const MS: u64 = 1_000;
const S: u64 = 1_000 * MS;

struct Run {
    table: ClusterTable,
    takes_us: u64,
    now_us: u64,
    /// What is under way, by its end.
    ends: BinaryHeap<Under>,
    /// Share of the requests that fail at each endpoint, of 100, and how soon.
    fails: Vec<(u64, u64)>,
    counts: Vec<u64>,
    failed: u64,
    /// The first of them answers nothing before.
    stands_until: u64,
}

/// What is under way: when it ends, where, and when it began.
type Under = Reverse<(u64, u32, u64)>;

impl Run {
    fn new(endpoints: usize, takes_us: u64) -> Self {
        let table = table(&vec![1; endpoints], Balance::PeakEwma);
        let (fails, counts) = (vec![(0, 0); endpoints], vec![0; endpoints]);
        let ends = BinaryHeap::new();
        Self { table, takes_us, now_us: S, ends, fails, counts, failed: 0, stands_until: 0 }
    }

    fn end_until(&mut self, now_us: u64, bits: &mut dyn FnMut() -> u64) {
        while let Some(Reverse((end, at, began))) = self.ends.peek().copied()
            && end <= now_us
        {
            self.ends.pop();
            let cell = &self.table.endpoint(at).unwrap().cell;
            cell.leave();
            if bits() % 100 < self.fails[at as usize].0 {
                cell.note_failing(None, end);
                self.failed += 1;
            } else {
                cell.note_latency(end - began, end);
            }
        }
    }

    /// Requests at random times, so many a second, for so long; gives the share of the first endpoint, and the failures.
    fn run(&mut self, per_second: u64, time_us: u64, bits: &mut dyn FnMut() -> u64) -> (f64, u64) {
        self.counts.fill(0);
        self.failed = 0;
        let until = self.now_us + time_us;
        while self.now_us < until {
            let gap = -((bits() >> 11) as f64 / (1u64 << 53) as f64).max(1e-12).ln();
            self.now_us += (gap * S as f64 / per_second as f64) as u64;
            self.end_until(self.now_us, bits);
            let Pick::Endpoint(at) = self.table.pick(Attempt::after(&[]).at(self.now_us), bits) else {
                panic!("nobody")
            };
            self.table.endpoint(at).unwrap().cell.enter();
            self.counts[at as usize] += 1;
            let (percent, after_us) = self.fails[at as usize];
            let takes_us = if percent == 100 { after_us } else { self.takes_us };
            let end = self.now_us + takes_us;
            let end = if at == 0 { end.max(self.stands_until) } else { end };
            self.ends.push(Reverse((end, at, self.now_us)));
        }
        let all: u64 = self.counts.iter().sum();
        (self.counts[0] as f64 / all as f64, self.failed)
    }
}

/// From nearly idle to some ten in flight at each, from quick endpoints to slow ones.
#[test]
fn it_gets_little_and_is_tried_and_is_back_within_two_seconds() {
    for (endpoints, takes_us, per_second) in [
        (2, 300, 200),
        (2, 300, 2_000),
        (3, 300, 2_000),
        (3, 5 * MS, 50),
        (3, 5 * MS, 2_000),
        (3, 50 * MS, 500),
        (10, 50 * MS, 2_000),
        (3, 1_000 * MS, 30),
    ] {
        let what = format!("{endpoints} endpoints, {takes_us} us, {per_second} a second");
        let (mut run, mut bits) = (Run::new(endpoints, takes_us), random(7));
        run.run(per_second, 10 * S, &mut bits);
        run.fails[0] = (100, 200);
        let (_, failed) = run.run(per_second, 8 * S, &mut bits);
        println!("{what}: {failed} failed in 8 s");
        // Its share would be 80 for the slowest of these, and thousands for most.
        assert!(failed >= 5, "{what}: no evidence: {failed}");
        assert!(failed <= 40, "{what}: {failed}");
        run.fails[0] = (0, 0);
        run.run(per_second, 2 * S, &mut bits);
        let (share, _) = run.run(per_second, 4 * S, &mut bits);
        let fair = 1.0 / endpoints as f64;
        println!("{what}: {share:.3} of {fair:.3}");
        assert!(share > 0.8 * fair, "{what}: a share of {share}");
    }
}

/// One stands still for a while, as a process that is stopped or short of memory: what it had in hand is answered late and at once, and it
/// has most of its share again soon.
#[test]
fn one_that_stood_still_is_back_soon() {
    for (takes_us, per_second) in [(300, 200), (5 * MS, 100), (5 * MS, 1_000), (50 * MS, 200)] {
        let (mut run, mut bits) = (Run::new(3, takes_us), random(7));
        run.run(per_second, 10 * S, &mut bits);
        run.stands_until = run.now_us + 3 * S;
        run.run(per_second, 3 * S, &mut bits);
        assert!(run.counts[0] < per_second, "{takes_us}, {per_second}: {:?}", run.counts);
        run.run(per_second, 3 * S, &mut bits);
        let (share, _) = run.run(per_second, 5 * S, &mut bits);
        println!("{takes_us} us, {per_second} a second: {share:.3}");
        assert!(share > 0.2, "{takes_us}, {per_second}: {share}");
    }
}

/// Where every endpoint fails one request of a hundred, that decides little: nobody is left out for long, nobody gets much more.
#[test]
fn failures_that_all_have_their_share_of_do_not_decide() {
    let (mut run, mut bits) = (Run::new(4, 5 * MS), random(9));
    run.fails.fill((1, 0));
    let (share, _) = run.run(800, 30 * S, &mut bits);
    assert!((0.2..0.3).contains(&share), "{share}");
    // As many as come by the load alone, or a few more.
    let most = (0..50).map(|_| {
        run.run(800, S / 10, &mut bits);
        *run.counts.iter().max().unwrap() as f64 / run.counts.iter().sum::<u64>() as f64
    });
    let mean = most.sum::<f64>() / 50.0;
    assert!(mean < 0.45, "the busiest of four has {mean} in a tenth of a second");
}

/// Of the requests of one that fails a third, far fewer meet it.
#[test]
fn an_endpoint_that_fails_some_gets_less() {
    let (mut run, mut bits) = (Run::new(3, 5 * MS), random(11));
    run.run(600, 5 * S, &mut bits);
    run.fails[0] = (33, 0);
    let (share, _) = run.run(600, 20 * S, &mut bits);
    assert!(share < 0.1, "{share}");
}
