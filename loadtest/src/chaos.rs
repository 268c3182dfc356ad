//! `chaos`: what breaks around a router, or of it, while clients ask it and a writer changes its table: processes killed as
//! the kernel kills them, full disks, no descriptors left, time that stands still or jumps. The bar: no acknowledged write is lost, and
//! no request stays without an end that its client can see.
//!
//! The faults are in `chaos/scenes.rs`; nothing here needs root.

mod disk;
mod load;
mod place;
mod scenes;
mod writes;

use crate::failure::{Fallible, failure};
use crate::machine::Machine;
use crate::results;
use load::Tally;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;
use writes::Written;

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Times that each fault is made.
    pub(crate) rounds: u32,
    /// How long each fault lasts.
    pub(crate) down: Duration,
    /// How long all is well between two.
    pub(crate) well: Duration,
    /// Scenes whose name holds one of these; all when there are none.
    pub(crate) only: Vec<String>,
    /// Date to report instead of the system's.
    pub(crate) date: Option<String>,
    /// Replace the section of RESULTS.md.
    pub(crate) record: bool,
}

/// What one scene came to.
#[derive(Debug, Default)]
pub(crate) struct Came {
    tally: Tally,
    written: Written,
    /// Times that a process was killed on which requests were: each connection may have been cut once.
    kills: u64,
    /// Outcomes that the router counted; none where it did not live to the end.
    counted: Option<u64>,
    /// What else is to be said.
    note: String,
    /// What else went wrong.
    wrong: Vec<String>,
}

impl Came {
    /// Everything that is not as it must be.
    fn faults(&self) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        let mut must = |is: bool, words: String| {
            if !is {
                wrong.push(words);
            }
        };
        let (tally, written) = (&self.tally, &self.written);
        must(tally.silent == 0, format!("{} requests without an end", tally.silent));
        let may_cut = self.kills * load::CONNECTIONS as u64;
        must(tally.cut <= may_cut, format!("{} requests were cut off, {may_cut} may be", tally.cut));
        must(written.lost.is_empty(), format!("acknowledged writes are lost: {:?}", written.lost));
        must(written.ghosts.is_empty(), format!("refused writes are there: {:?}", written.ghosts));
        must(tally.answered() > 0, "nothing was answered".to_owned());
        if let Some(counted) = self.counted {
            let ends = tally.answered();
            must(counted == ends, format!("the router counted {counted} ends of {ends} answered requests"));
        }
        wrong
    }
}

/// Plays every scene and publishes the table. A bar that is missed is a failure.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for scene in scenes::ALL {
        let wanted = wish.only.is_empty() || wish.only.iter().any(|part| scene.name.contains(part.as_str()));
        if !wanted {
            continue;
        }
        if let Err(missing) = (scene.needs)() {
            println!("{}: left out, {missing}", scene.name);
            rows.push((scene.name, Err(missing)));
            continue;
        }
        let dir = tempfile::tempdir()?;
        match (scene.play)(wish, dir.path()) {
            Ok(came) => {
                let wrong = came.faults();
                println!("{}: {}", scene.name, if wrong.is_empty() { "survived" } else { "NOT SURVIVED" });
                failed.extend(wrong.iter().map(|wrong| format!("{}: {wrong}", scene.name)));
                rows.push((scene.name, Ok(came)));
            }
            Err(error) => {
                println!("{} FAILED: {error}", scene.name);
                failed.push(format!("{}: {error}", scene.name));
            }
        }
    }
    publish(&rows, &failed, wish)?;
    if failed.is_empty() { Ok(()) } else { Err(failure(failed.join("\n"))) }
}

fn publish(rows: &[(&str, Result<Came, String>)], failed: &[String], wish: &Wish) -> Fallible<()> {
    let machine = Machine::look(wish.date.as_deref());
    let mut text = format!("{}\n\n", machine.line());
    writeln!(
        text,
        "Each fault {} times, {:.1} s long, {:.1} s apart, while {} connections send GETs one after the other and a writer puts an endpoint \
         into the table about a hundred times a second. Cut: the connection was closed before an answer, as the one request on each \
         connection of a killed router must be. Without an end: neither answer nor close. Writes are looked for after the last fault, and \
         after a kill and a start of whoever keeps them.\n",
        wish.rounds,
        wish.down.as_secs_f64(),
        wish.well.as_secs_f64(),
        load::CONNECTIONS,
    )?;
    writeln!(
        text,
        "| fault | 200 | other answers | cut | without an end | writes acknowledged | refused | lost | | |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    )?;
    let mut values = Vec::<Value>::new();
    for (name, came) in rows {
        match came {
            Err(missing) => writeln!(text, "| {name} | - | - | - | - | - | - | - | left out | {missing} |")?,
            Ok(came) => {
                let verdict = if came.faults().is_empty() { "survived" } else { "**not survived**" };
                writeln!(
                    text,
                    "| {name} | {} | {} | {} | {} | {} | {} | {} | {verdict} | {} |",
                    came.tally.of(200),
                    came.tally.others(),
                    came.tally.cut,
                    came.tally.silent,
                    came.written.acknowledged,
                    came.written.refused(),
                    came.written.lost.len(),
                    came.note,
                )?;
                values.push(json!({
                    "fault": name, "answered": came.tally.statuses, "cut": came.tally.cut, "silent": came.tally.silent,
                    "refused_connects": came.tally.refused, "acknowledged": came.written.acknowledged,
                    "refused": came.written.refusals, "lost": came.written.lost, "ghosts": came.written.ghosts,
                    "counted": came.counted, "note": came.note, "wrong": came.faults(),
                }));
            }
        }
    }
    for failed in failed {
        writeln!(text, "\nFailed: {failed}")?;
    }
    println!("\n{text}");
    let report =
        json!({ "machine": machine.json(), "rounds": wish.rounds, "scenes": values, "failed": failed });
    results::publish("chaos", &report, &text, wish.record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_it_must_be_is_said() {
        let good = || {
            let mut came = Came { counted: Some(7), ..Came::default() };
            came.tally.statuses.insert(200, 7);
            came
        };
        assert_eq!(good().faults(), Vec::<String>::new());
        let spoil: [fn(&mut Came); 7] = [
            |came| came.tally.silent = 1,
            |came| came.tally.cut = 1,
            |came| (came.kills, came.tally.cut) = (1, load::CONNECTIONS as u64 + 1),
            |came| came.written.lost.push("w1".to_owned()),
            |came| came.written.ghosts.push("w1".to_owned()),
            |came| came.counted = Some(6),
            |came| came.wrong.push("otherwise".to_owned()),
        ];
        for (number, spoil) in spoil.into_iter().enumerate() {
            let mut came = good();
            spoil(&mut came);
            assert_eq!(came.faults().len(), 1, "{number}");
        }
        assert_eq!(Came::default().faults(), ["nothing was answered"]);
    }
}
