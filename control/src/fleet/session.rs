//! The link of one router, seen from control: what it lacks goes down, in whatever pieces it takes; what it says comes up.

use std::time::{Duration, Instant};

use h2::{RecvStream, SendStream};
use hyper::body::Bytes;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout, timeout_at};

use super::ledger::{Cursor, Piece};
use super::pipe::{Lines, Sink};
use super::roster::{Arrival, LEASE};
use super::server::Entry;
use super::wire::{Down, REFUSED_MAX, UP_MAX, Up, VERSION, line};
use super::{Fleet, Share, Turn};
use crate::clock::unix_ms;
use crate::plane::stopped;

/// Longest silence of either side; a ping comes at a third of it.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Longest time between two lines.
pub(super) const PING_EVERY: Duration = Duration::from_secs(5);
/// How much is taken out of the ledger at once, in bytes.
pub(super) const PIECE: usize = 64 << 10;
/// Longest name of a router, in bytes.
const NAME_MAX: usize = 512;

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Its address.
    pub(super) from: String,
    /// The name of its certificate; none on a plain link.
    pub(super) identity: Option<String>,
}

/// Serves a router until one side ends. The error says why it was not let in; a link that ended later is in the roster.
pub(super) async fn serve(
    fleet: &Fleet,
    up: RecvStream,
    down: SendStream<Bytes>,
    peer: Peer,
    entry: Entry,
) -> Result<(), String> {
    let Entry { stranger, until, links, mut stop } = entry;
    let (mut lines, mut sink) = (Lines::new(up, UP_MAX), Sink::new(down));
    let hello = timeout_at(until, lines.next::<Up>()).await.map_err(|_| "it said nothing")??;
    let Some(Up::Hello { version, router, instance, software, term, generation }) = hello else {
        return Err(refuse(&mut sink, "the first line must be a hello".to_owned()).await);
    };
    if version != VERSION {
        let why = format!("it speaks version {version} of the link, and this control {VERSION}");
        return Err(refuse(&mut sink, why).await);
    }
    let mut turn = fleet.turn();
    let now = turn.borrow_and_update().clone();
    let (own, name, share) = match admitted(fleet, now, (term, router), &peer) {
        Ok(admitted) => admitted,
        Err(why) => return Err(refuse(&mut sink, why).await),
    };
    let cut = |text: String| text.chars().take(NAME_MAX).collect::<String>();
    let instance = cut(instance);
    // What it has may be of another name's share.
    let anew = !fleet.0.subscriptions.is_empty() && !fleet.roster().knows(&name, &instance, &share);
    // Looked at under one lock: marks that are forgotten from here on are noticed.
    let (newest, snapshot, begun) = {
        let ledger = fleet.ledger();
        let snapshot = anew || term < own || !ledger.can_resume(generation);
        (ledger.generation(), snapshot, if snapshot { ledger.forgotten() } else { generation })
    };
    // Held to the end of the link.
    let Ok(_held) = links.try_acquire_owned() else {
        return Err(refuse(&mut sink, "there are too many links".to_owned()).await);
    };
    let arrival = Arrival {
        name: name.clone(),
        instance,
        address: peer.from,
        identity: peer.identity,
        software: cut(software),
        snapshot,
        generation,
        share: share.clone(),
    };
    let arrived = fleet.roster().arrive(arrival, newest, unix_ms());
    let link = match arrived {
        Ok(link) => link,
        Err(why) => return Err(refuse(&mut sink, why).await),
    };
    drop(stranger);
    tracing::info!(router = %name, snapshot, generation, "a router is connected");
    let from = if snapshot { 0 } else { generation };
    let (sender, reader) = (
        send(fleet, own, &mut sink, (from, begun), (snapshot, share)),
        read(fleet, own, &mut lines, (&name, link)),
    );
    let why = tokio::select! {
        why = sender => why,
        why = reader => why,
        () = stopped(&mut stop) => "control ends".to_owned(),
        // Also when it leads again by now: that is another term.
        _ = turn.changed() => "this control does not lead any more".to_owned(),
    };
    tracing::info!(router = %name, %why, "a router is gone; it serves on with what it has");
    fleet.roster().leave(&name, link, why.clone(), (Instant::now(), unix_ms()));
    fleet.left(link);
    let leased = fleet.clone();
    tokio::spawn(async move {
        sleep(LEASE).await;
        leased.roster().expire(Instant::now());
    });
    farewell(&mut sink, why).await;
    Ok(())
}

/// Whether a router is let in that has had a term and says a name: the own term, the name that counts and what it gets. The error says why
/// it is not.
fn admitted(
    fleet: &Fleet,
    turn: Turn,
    (term, said): (u64, String),
    peer: &Peer,
) -> Result<(u64, String, Share), String> {
    let own = match turn {
        Turn::Leads(own) => own,
        Turn::Follows(why) => return Err(why),
    };
    if term > own {
        return Err(format!("it has had term {term}, and this control is of term {own}"));
    }
    let name = peer.identity.clone().unwrap_or(said);
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err("its name is none".to_owned());
    }
    let share = fleet.0.subscriptions.share(peer.identity.as_deref())?;
    Ok((own, name, share))
}

async fn refuse(sink: &mut Sink, why: String) -> String {
    farewell(sink, why.clone()).await;
    why
}

/// Says why the link ends, if the other side still reads.
async fn farewell(sink: &mut Sink, reason: String) {
    let _ = timeout(Duration::from_millis(200), sink.send(line(&Down::Bye { reason }))).await;
    sink.end();
}

/// Sends what the router lacks, for ever; the text says why it ended.
async fn send(fleet: &Fleet, own: u64, sink: &mut Sink, from: (u64, u64), how: (bool, Share)) -> String {
    match send_all(fleet, own, sink, from, how).await {
        Ok(never) => match never {},
        Err(why) => why,
    }
}

/// `from` is the generation the router has; marks forgotten behind `begun` are lost on it.
async fn send_all(
    fleet: &Fleet,
    own: u64,
    sink: &mut Sink,
    (from, mut begun): (u64, u64),
    (snapshot, share): (bool, Share),
) -> Result<std::convert::Infallible, String> {
    let mut newest = fleet.newest();
    let mut cursor = Cursor::behind(from);
    let welcome = Down::Welcome { version: VERSION, term: own, snapshot };
    sink.send(line(&welcome)).await?;
    let mut told = None;
    // Nothing of what was sent is without a commit; the first one says what the router has.
    let mut open = true;
    loop {
        newest.borrow_and_update();
        loop {
            let piece = next_piece(fleet, &mut cursor, begun, &share).await?;
            let mut bytes = Vec::with_capacity(PIECE);
            piece.lines.iter().for_each(|line| bytes.extend_from_slice(line));
            // Who gets everything has a commit of each generation, also of one that changed nothing.
            open |= share == Share::All || !piece.lines.is_empty();
            if let Some(generation) = piece.whole.filter(|generation| open && told != Some(*generation)) {
                bytes.extend_from_slice(&line(&Down::Commit { generation }));
                (told, open) = (Some(generation), false);
            }
            if !fleet.leads(own) {
                // Nobody may have told yet: a process that was stopped for a while finds out here.
                return Err("this control does not lead any more".to_owned());
            }
            if !bytes.is_empty() {
                sink.send(Bytes::from(bytes)).await?;
            }
            if let Some(generation) = piece.whole {
                begun = generation;
                break;
            }
        }
        match timeout(PING_EVERY, newest.changed()).await {
            Err(_) => sink.send(line(&Down::Ping {})).await?,
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err("control ends".to_owned()),
        }
    }
}

/// The next piece that has lines, or the last one. There may be very much that is not of the share, and very many who look for theirs
/// at once: all else has its turn after each piece.
async fn next_piece(fleet: &Fleet, cursor: &mut Cursor, begun: u64, share: &Share) -> Result<Piece, String> {
    loop {
        let (piece, forgotten) = {
            let ledger = fleet.ledger();
            (ledger.after(cursor, PIECE, share), ledger.forgotten())
        };
        if forgotten > begun {
            // Marks that this router had not seen are gone: only everything anew is right.
            return Err("it took too long to read what was sent".to_owned());
        }
        if !piece.lines.is_empty() || piece.whole.is_some() {
            return Ok(piece);
        }
        yield_now().await;
    }
}

/// Takes what the router says, for ever; the text says why it ended.
async fn read(fleet: &Fleet, own: u64, lines: &mut Lines, (name, link): (&str, u64)) -> String {
    loop {
        let message = match lines.next::<Up>().await {
            Err(why) => return why,
            Ok(None) => return "it ended the link".to_owned(),
            Ok(Some(message)) => message,
        };
        if !fleet.roster().is_current(name, link) {
            return "it connected anew".to_owned();
        }
        match message {
            // Of another control, sent before this link was known.
            Up::Applied(applied) if applied.term != own => {}
            Up::Applied(mut applied) => {
                applied.refused.truncate(REFUSED_MAX + 1);
                fleet.roster().applied(name, link, applied, (Instant::now(), unix_ms()));
                fleet.acknowledged();
            }
            Up::Seen(seen) => fleet.roster().seen(name, link, seen),
            Up::Traffic(traffic) => fleet.told(link, traffic),
            Up::Ping {} => {}
            Up::Bye { reason } => {
                return format!("it ended the link: {}", reason.chars().take(512).collect::<String>());
            }
            Up::Hello { .. } => return "a second hello".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use ekiden_config::names::AppName;
    use tokio::sync::watch;

    use super::*;
    use crate::election::{Elector, Role};
    use crate::fleet::subscription::Subscriptions;

    #[derive(Debug)]
    struct Leads;

    impl Elector for Leads {
        fn role(&self) -> watch::Receiver<Role> {
            watch::Sender::new(Role::Leading { term: 1 }).subscribe()
        }

        fn leads(&self) -> bool {
            true
        }

        fn beat(&self) {}
    }

    #[test]
    fn who_looks_for_its_share_lets_others_have_their_turn() {
        const FOREIGN: usize = 20_000;
        let fleet = Fleet::new(Arc::new(Leads), Subscriptions::default());
        {
            let mut ledger = fleet.ledger();
            ledger.advance();
            for number in 0..FOREIGN {
                ledger.put(&format!("endpoint/blog/web/{number}"), Bytes::from_static(b"x\n"));
            }
        }
        let share = Share::Apps(Arc::new([AppName::new("shop").unwrap()].into()));
        let mut cursor = Cursor::behind(0);
        let mut turns = 1;
        {
            let mut looking = pin!(next_piece(&fleet, &mut cursor, 0, &share));
            let mut context = Context::from_waker(Waker::noop());
            let piece = loop {
                match looking.as_mut().poll(&mut context) {
                    Poll::Ready(piece) => break piece.unwrap(),
                    Poll::Pending => turns += 1,
                }
            };
            assert!(piece.lines.is_empty() && piece.whole == Some(1));
        }
        assert!(turns > FOREIGN * 64 / PIECE, "{turns} turns for {FOREIGN} objects");
    }
}
