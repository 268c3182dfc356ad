//! Affinity on its way: reads the mark that a client carries and takes it away, asks for its endpoint at each pick, and gives the client a
//! new one where another endpoint answered. What a mark is made of is `crate::affinity`'s.
//!
//! The endpoint never sees the mark: it is the router's, and an app that logs its cookies would hand out sessions.

use std::borrow::Cow;
use std::sync::Arc;

use ekiden_config::model::{AffinityCookie, AffinityPolicy, Carrier, Listener};
use ekiden_config::names::{AppName, ClusterName};
use ekiden_core::cluster::marks::{self, Marks};
use ekiden_core::cluster::{Affine, Attempt, ClusterTable, Pick};
use ekiden_core::cookie;
use ekiden_core::stats::AffinityEnd;

use crate::affinity::{Keys, Mark, Opened};
use crate::exchange::Workspace;
use crate::head::{FieldId, Head};
use crate::worker::Worker;

/// Marks of one request that are looked at; a client has one.
const MARKS_MAX: usize = 2;

/// What is known of one request to a cluster with affinity.
#[derive(Debug)]
pub struct Note {
    policy: Arc<AffinityPolicy>,
    place: (AppName, ClusterName),
    keys: Option<Arc<Keys>>,
    /// The number of the endpoint that its mark names.
    mark: Option<u64>,
    /// It carried a mark that is none of ours, or whose time is over.
    bad: bool,
    /// That endpoint is ready: whoever answers, the client keeps its mark, unless the endpoint has failed this request.
    keeps: bool,
    /// The cell of that endpoint.
    uid: Option<u64>,
    /// Its mark as it was read, where a key signed it that signs no more: the client gets the same of the first key.
    aged: Option<Mark>,
}

/// Reads and takes away the mark of a request to a cluster with affinity.
#[inline]
pub fn read(worker: &Worker, ws: &mut Workspace, cluster: &ClusterTable) {
    if let Some(marks) = cluster.marks() {
        note(worker, ws, cluster, marks);
    }
}

#[inline(never)]
fn note(worker: &Worker, ws: &mut Workspace, cluster: &ClusterTable, marks: &Marks) {
    let Some(policy) = &cluster.cluster.policy.affinity else { return };
    let keys = worker.shared.keyring.affinity_keys(policy.key.as_ref(), &cluster.app);
    let now_s = worker.clock.unix_us_now() / 1_000_000;
    let place = (&cluster.app, &cluster.cluster.name);
    let found = read_head(&ws.request.head, &policy.carrier, |text| keys.as_ref()?.open(place, text, now_s));
    if found.is_there {
        take_away(&mut ws.request.head, &policy.carrier);
    }
    let place = (cluster.app.clone(), cluster.cluster.name.clone());
    let mark = found.mark.map(|opened| opened.mark.endpoint);
    let aged = found.mark.filter(|opened| !opened.is_current).map(|opened| opened.mark);
    let own = mark.and_then(|mark| marks.find(mark));
    let uid = own.and_then(|own| cluster.endpoint(own)).map(|entry| entry.cell.uid());
    let keeps = own.is_some_and(|own| cluster.affine(own, Attempt::after(&[])) != Affine::Away);
    let bad = found.is_there && mark.is_none();
    let policy = Arc::clone(policy);
    ws.affinity = Some(Box::new(Note { policy, place, keys, mark, bad, keeps, uid, aged }));
}

/// What a head carries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Carried {
    /// Something that is meant as a mark.
    pub is_there: bool,
    /// One that is good.
    pub mark: Option<Opened>,
}

/// Looks for a good mark.
pub fn read_head(head: &Head, carrier: &Carrier, open: impl Fn(&[u8]) -> Option<Opened>) -> Carried {
    let mut carried = Carried::default();
    let mut seen = 0;
    let mut look = |text: &[u8]| {
        carried.is_there = true;
        seen += 1;
        if carried.mark.is_none() && seen <= MARKS_MAX {
            carried.mark = open(text);
        }
    };
    match carrier {
        Carrier::Cookie(words) => {
            head.get_all(b"cookie").flat_map(|field| cookie::values(field, &words.name)).for_each(&mut look)
        }
        Carrier::Header(name) => head.get_all(name.as_bytes()).for_each(&mut look),
    }
    carried
}

fn take_away(head: &mut Head, carrier: &Carrier) {
    match carrier {
        Carrier::Header(name) => head.remove(name.as_bytes()),
        Carrier::Cookie(words) => {
            let kept: Vec<Vec<u8>> = head.get_all(b"cookie").map(|field| without(field, words)).collect();
            head.remove(b"cookie");
            for field in kept.iter().filter(|field| !field.is_empty()) {
                head.append(b"Cookie", field);
            }
        }
    }
}

/// A field of a request without the mark; none where nothing is left of it.
pub fn field_without<'a>(carrier: &Carrier, name: &[u8], value: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    match carrier {
        Carrier::Header(own) => (!name.eq_ignore_ascii_case(own.as_bytes())).then_some(Cow::Borrowed(value)),
        Carrier::Cookie(words) if name.eq_ignore_ascii_case(b"cookie") => {
            Some(without(value, words)).filter(|rest| !rest.is_empty()).map(Cow::Owned)
        }
        Carrier::Cookie(_) => Some(Cow::Borrowed(value)),
    }
}

/// A `Cookie` field without one cookie; as it was where it does not have it.
fn without(field: &[u8], words: &AffinityCookie) -> Vec<u8> {
    if cookie::values(field, &words.name).next().is_none() {
        return field.to_vec();
    }
    let others = field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|piece| {
        let name = piece.split(|byte| *byte == b'=').next().unwrap_or(piece);
        !piece.is_empty() && name.trim_ascii() != words.name.as_bytes()
    });
    others.collect::<Vec<_>>().join(b"; ".as_slice())
}

/// Chooses an endpoint: that of the mark where it takes requests, else as the balance says.
#[inline(never)]
pub fn pick(worker: &Worker, cluster: &ClusterTable, marks: &Marks, ws: &mut Workspace) -> Pick {
    let attempt =
        Attempt { tried: &ws.tried, may_repeat: ws.request.idempotent, now_us: worker.clock.turn().us() };
    let note = ws.affinity.as_deref_mut();
    if let Some(note) = note
        && let Some(own) = note.mark.and_then(|mark| marks.find(mark))
    {
        note.uid = cluster.endpoint(own).map(|entry| entry.cell.uid());
        match cluster.affine(own, attempt) {
            Affine::Takes => return Pick::Endpoint(own),
            // Busy, gone past at a bound, or it failed the request, which is known at the end.
            Affine::Busy | Affine::Tried => {}
            Affine::Away => note.keeps = false,
        }
    }
    cluster.pick(attempt, &mut || worker.random())
}

/// Gives the client a mark of the endpoint that answered, where it is to come back to that one. Called with the head of a final
/// response, or of a switch of protocols.
#[inline(never)]
pub fn put(worker: &Worker, ws: &mut Workspace, listener: &Listener) {
    let (Some(note), Some(home)) = (ws.affinity.take(), ws.leg.home()) else { return };
    // What the endpoint says under that name is not for clients: it would stand in the place of their mark.
    take_away_answer(&mut ws.response.head, &note.policy.carrier);
    let answered = marks::mark(home.cell.incarnation().id().as_str());
    let has_failed = note.uid.is_some_and(|uid| ws.tries.failed.contains(&uid));
    let end = match note.mark {
        Some(mark) if mark == answered => AffinityEnd::Kept,
        Some(_) if note.keeps && !has_failed => AffinityEnd::Lent,
        Some(_) => AffinityEnd::Moved,
        None if note.bad => AffinityEnd::Refused,
        None => AffinityEnd::Begun,
    };
    home.stats.shard(worker.id).affinity_ended(end);
    let now_s = worker.clock.unix_us_now() / 1_000_000;
    let mark = match (end, note.aged) {
        // Of the first key from now on, and for as long as before.
        (AffinityEnd::Kept | AffinityEnd::Lent, Some(aged)) => aged,
        (AffinityEnd::Kept | AffinityEnd::Lent, None) => return,
        (AffinityEnd::Moved | AffinityEnd::Begun | AffinityEnd::Refused, _) => {
            let lifetime_s = note.policy.lifetime.map(|time| time.as_secs());
            let end_s =
                lifetime_s.map_or(0, |lifetime_s| u32::try_from(now_s + lifetime_s).unwrap_or(u32::MAX));
            Mark { endpoint: answered, end_s }
        }
    };
    let lifetime_s = (mark.end_s != 0).then(|| u64::from(mark.end_s).saturating_sub(now_s));
    let Some(keys) = &note.keys else { return };
    let Some(text) = keys.seal((&note.place.0, &note.place.1), mark, worker.random()) else { return };
    match &note.policy.carrier {
        Carrier::Header(name) => ws.response.head.set(name.as_bytes(), text.as_bytes()),
        Carrier::Cookie(words) => {
            let secure = words.secure.unwrap_or_else(|| came_over_tls(ws, listener));
            let value = set_cookie(words, &text, (secure, lifetime_s));
            ws.response.head.append(b"Set-Cookie", value.as_bytes());
        }
    }
}

/// Takes from a response what stands where marks do.
fn take_away_answer(head: &mut Head, carrier: &Carrier) {
    match carrier {
        Carrier::Header(name) => head.remove(name.as_bytes()),
        Carrier::Cookie(words) => {
            let is_own = |value: &[u8]| {
                let name = value.split(|byte| matches!(byte, b'=' | b';')).next().unwrap_or(value);
                name.trim_ascii() == words.name.as_bytes()
            };
            if head.get_all(b"set-cookie").any(is_own) {
                let others: Vec<Vec<u8>> =
                    head.get_all(b"set-cookie").filter(|value| !is_own(value)).map(<[u8]>::to_vec).collect();
                head.remove(b"set-cookie");
                for value in &others {
                    head.append(b"Set-Cookie", value);
                }
            }
        }
    }
}

/// Whether the client's connection is secure, here or at a proxy that is believed.
fn came_over_tls(ws: &Workspace, listener: &Listener) -> bool {
    let trusted = || ws.peer.is_some_and(|peer| listener.trusts(peer.ip().to_canonical()));
    let told = || ws.request.head.known(FieldId::XForwardedProto) == Some(b"https".as_slice());
    ws.session.is_some() || (trusted() && told())
}

fn set_cookie(words: &AffinityCookie, text: &str, (secure, lifetime_s): (bool, Option<u64>)) -> String {
    let AffinityCookie { name, path, same_site, .. } = words;
    let mut value = format!("{name}={text}; Path={path}; HttpOnly; SameSite={}", same_site.word());
    if secure {
        value.push_str("; Secure");
    }
    if let Some(seconds) = lifetime_s {
        value.push_str(&format!("; Max-Age={seconds}"));
    }
    value
}

#[cfg(test)]
mod tests {
    use ekiden_config::model::SameSite;

    use super::*;

    fn words(name: &str) -> AffinityCookie {
        AffinityCookie { name: name.into(), path: "/".into(), same_site: SameSite::Strict, secure: None }
    }

    #[test]
    fn only_the_mark_is_taken_away() {
        let cases = [
            ("a=1; srv=x; b=2", "a=1; b=2"),
            ("srv=x", ""),
            ("a=1;  b=2", "a=1;  b=2"),
            ("srv=1;srv=2; xsrv=3", "xsrv=3"),
            (" srv = x ; a", "a"),
            ("a=srv=x", "a=srv=x"),
        ];
        for (field, rest) in cases {
            let kept = without(field.as_bytes(), &words("srv"));
            assert_eq!(String::from_utf8_lossy(&kept), rest, "{field}");
        }
    }

    #[test]
    fn the_attributes_stand_behind_it() {
        let text = set_cookie(&words("srv"), "T", (true, Some(60)));
        assert_eq!(text, "srv=T; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=60");
        assert_eq!(set_cookie(&words("srv"), "T", (false, None)), "srv=T; Path=/; HttpOnly; SameSite=Strict");
    }
}
