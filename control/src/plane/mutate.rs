//! Mutations of the API: judged against what is in force, made durable together, applied in one publish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ekiden_config::doors::Ticket;
use ekiden_config::model::{Address, Cluster, Endpoint, EndpointTags, Owner};
use ekiden_config::names::{AppName, EndpointId};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Plane;
use crate::overlay::{ClusterKey, Key};
use crate::problem::Problem;
use crate::store::{Record, Revision, Standing, Store, StoreError, Txn, Write, endpoint_key};

/// Most endpoints owned by the API.
pub(crate) const ENDPOINTS_MAX: usize = 100_000;
/// Most drain marks.
pub(crate) const MARKS_MAX: usize = 100_000;

/// A request to change one endpoint.
#[derive(Debug)]
pub(crate) struct Mutation {
    /// Which.
    pub(crate) key: Key,
    /// How.
    pub(crate) change: Change,
    /// Only if it is as the asker last saw it.
    pub(crate) matches: Option<IfMatch>,
    /// Only if there is none.
    pub(crate) absent: bool,
    /// Gets the end: durable and published, or refused with nothing changed.
    pub(crate) reply: oneshot::Sender<Result<Done, Problem>>,
}

/// `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// `*`: whatever is there.
    Any,
    /// One of these entity tags.
    Tags(Vec<String>),
}

/// What a mutation does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Makes or replaces the endpoint.
    Put(Put),
    /// Takes it away.
    Delete,
}

/// Body of a PUT, checked on its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Put {
    /// Where to connect.
    pub(crate) address: Option<Address>,
    /// Relative share; 1 unless given.
    pub(crate) weight: Option<u16>,
    /// Failure domain; none unless given.
    pub(crate) zone: Option<Arc<str>>,
    /// Its group; 0 unless given.
    pub(crate) priority: Option<u8>,
    /// Gets no new picks; false unless given.
    pub(crate) drain: Option<bool>,
    /// What a dyno runs; only dynos have one.
    pub(crate) release: Option<Arc<str>>,
    /// How it stands to the others.
    pub(crate) standing: Standing,
}

impl Put {
    /// Whether it says nothing but `drain`: what any owner's endpoint may be told.
    fn drain_only(&self) -> Option<bool> {
        let Put {
            address: None,
            weight: None,
            zone: None,
            priority: None,
            drain,
            release: None,
            standing: _,
        } = self
        else {
            return None;
        };
        *drain
    }
}

/// A mutation that is durable and published.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    /// Tells when every worker has it.
    pub(crate) ticket: Ticket,
    /// The revision that made it; none when nothing changed.
    pub(crate) revision: Option<Revision>,
    /// The revision is that of the endpoint as the asker left it: no change of the same batch came behind.
    pub(crate) tagged: bool,
}

/// Who waits for the end of a mutation.
type Asker = oneshot::Sender<Result<Done, Problem>>;

/// Mutations that wait for the store.
#[derive(Debug)]
pub(super) struct Written {
    /// Who waits, for a change of which app, and whether the answer may carry the revision as a tag.
    accepted: Vec<(AppName, Asker, bool)>,
    records: Vec<Record>,
    /// What was taken away beside them.
    unmark: Vec<(Record, Option<Revision>)>,
    result: Result<Revision, StoreError>,
}

/// Changes judged in this batch and not yet durable.
#[derive(Default)]
struct Draft {
    endpoints: BTreeMap<Key, Option<(Arc<Endpoint>, Standing)>>,
    marks: BTreeMap<Key, Option<bool>>,
    added: usize,
}

impl Draft {
    fn note(&mut self, record: &Record) {
        match record {
            Record::Put(key, endpoint, standing) => {
                drop(self.endpoints.insert(key.clone(), Some((Arc::clone(endpoint), *standing))));
            }
            Record::Delete(key) => drop(self.endpoints.insert(key.clone(), None)),
            Record::Mark(key, drain) => drop(self.marks.insert(key.clone(), Some(*drain))),
            Record::Unmark(key) => drop(self.marks.insert(key.clone(), None)),
        }
        self.added += 1;
    }
}

/// Whose endpoint an id is now.
enum Held {
    /// A file's or DNS's, as written there.
    Elsewhere(Owner, bool),
    /// The API's.
    Api(Arc<Endpoint>, Standing),
    /// Nobody's.
    Free,
}

impl Plane {
    /// Judges a batch and starts its journal write. Refused mutations and those that change nothing are answered at
    /// once. An empty batch writes what is to be taken away.
    pub(super) fn begin(&mut self, batch: Vec<Mutation>) -> Option<JoinHandle<Written>> {
        self.unmark_due = false;
        self.deleted.clear();
        let mut draft = Draft::default();
        let (mut records, mut accepted) = (Vec::new(), Vec::new());
        for mutation in batch {
            let judged = self.conditions(&draft, &mutation).and_then(|()| self.judge(&draft, &mutation));
            match judged {
                Err(problem) => answer(mutation.reply, Err(problem)),
                Ok(None) if records.is_empty() => {
                    let ticket = self.in_force(std::slice::from_ref(&mutation.key.app));
                    let done = Done { ticket, revision: None, tagged: false };
                    answer(mutation.reply, Ok(done));
                }
                // It repeats a change of this very batch: it is done when that is.
                Ok(None) => accepted.push((mutation.key.app, mutation.reply, None)),
                Ok(Some(record)) => {
                    draft.note(&record);
                    accepted.push((mutation.key.app, mutation.reply, Some(records.len())));
                    records.push(record);
                }
            }
        }
        if records.is_empty() && self.unmark.is_empty() {
            return None;
        }
        let tagged = tagged(&records);
        let is_tagged = |record: Option<usize>| record.is_some_and(|record| tagged.contains(&record));
        let accepted: Vec<_> =
            accepted.into_iter().map(|(app, reply, record)| (app, reply, is_tagged(record))).collect();
        let Some(store) = self.store.clone() else {
            for (_, reply, _) in accepted {
                answer(reply, Err(not_durable()));
            }
            return None;
        };
        // A key stands once in a transaction: the last word of the batch.
        let lost = self.unmark.iter().map(|(record, _)| record);
        let all = lost.chain(&records).map(Record::write);
        let last: BTreeMap<Arc<str>, Write> = all.map(|write| (Arc::clone(&write.key), write)).collect();
        let txn = Txn { when: Vec::new(), writes: last.into_values().collect() };
        // What is added meanwhile goes with the next one.
        let unmark = std::mem::take(&mut self.unmark);
        Some(tokio::spawn(async move {
            let result = store.commit(txn).await;
            Written { accepted, records, unmark, result }
        }))
    }

    /// Takes the end of a commit: applies and publishes, or answers that nothing changed.
    pub(super) fn finish(&mut self, written: Option<Written>) {
        // A panic of the job dropped the replies with it; the API answers 503 for those.
        let Some(written) = written else { return };
        let revision = match &written.result {
            Ok(revision) => *revision,
            Err(error) => {
                let problem = self.not_stored(error);
                // With the next change, and not at once: the disk is as it is.
                let newer = std::mem::replace(&mut self.unmark, written.unmark);
                self.unmark.extend(newer);
                written.accepted.into_iter().for_each(|(_, reply, _)| answer(reply, Err(problem.clone())));
                return;
            }
        };
        let mut touched = BTreeSet::new();
        for record in &written.records {
            let key = record.key();
            if self.deleted.contains(&key.app) {
                // Its app was deleted meanwhile: nothing of it may be there for the next app of that name.
                self.take_away(undone(record).into_iter().collect());
                continue;
            }
            self.overlay.apply(record);
            touched.insert(key.place());
            if matches!(record, Record::Mark(..)) && !self.may_be_marked(&key.place(), key) {
                let lost = Record::Unmark(key.clone());
                self.overlay.apply(&lost);
                self.take_away(vec![lost]);
            }
        }
        self.settle(&touched);
        self.stored(written.records.len() as u64);
        for (app, reply, tagged) in written.accepted {
            let done = Done { ticket: self.in_force(&[app]), revision: Some(revision), tagged };
            answer(reply, Ok(done));
        }
    }

    /// Judges `If-Match` and `If-None-Match` against the endpoint of the API that is there.
    fn conditions(&self, draft: &Draft, mutation: &Mutation) -> Result<(), Problem> {
        if mutation.matches.is_none() && !mutation.absent {
            return Ok(());
        }
        let drafted = draft.endpoints.get(&mutation.key);
        let stored = self.store.as_ref().and_then(|store| store.get(&endpoint_key(&mutation.key)));
        let stored = stored.map(|object| object.modified);
        let holds = match (&mutation.matches, drafted) {
            // Someone else's change of the same batch came first.
            (Some(IfMatch::Tags(_)), Some(_)) => false,
            (Some(IfMatch::Tags(tags)), None) => {
                stored.is_some_and(|revision| tags.iter().any(|tag| *tag == format!("\"{revision}\"")))
            }
            (Some(IfMatch::Any), drafted) => drafted.map_or(stored.is_some(), Option::is_some),
            (None, _) => true,
        };
        // Whoever owns it: to replace nothing means nothing of a file either.
        let there =
            || !matches!(self.held(draft, &mutation.key, is_dyno(&mutation.change)), Ok(Held::Free) | Err(_));
        if holds && !(mutation.absent && there()) {
            return Ok(());
        }
        let detail = "the endpoint is not as the request's conditions want it; read it again";
        Err(Problem::new(412, "precondition_failed", detail))
    }

    /// Notes a change that is durable.
    pub(super) fn stored(&self, mutations: u64) {
        let stored = self.store.as_ref().map(|store| (store.bytes(), store.revision()));
        let (bytes, revision) = stored.unwrap_or_default();
        self.status.update(|status| {
            status.store_revision = revision;
            status.mutations += mutations;
            status.journal_bytes = bytes;
            status.journal_error = None;
        });
    }

    /// Says loudly that a change could not be made durable. Nothing was changed.
    pub(super) fn not_stored(&self, error: &StoreError) -> Problem {
        let (status, code, text) = match error {
            StoreError::Conflict { .. } => return conflict(error),
            StoreError::TooLarge(text) => return Problem::new(413, "too_large", text.clone()),
            StoreError::NotLeading(_) | StoreError::Unknown(_) => return unwritten(error),
            StoreError::Full(text) => (507, "storage_full", text),
            StoreError::Failed(text) => (503, "storage_failed", text),
        };
        tracing::error!(error = %text, "a change could not be made durable; nothing was changed");
        self.status.update(|status| status.journal_error = Some(text.clone()));
        let detail = format!("the change could not be made durable, nothing was changed: {text}");
        Problem::new(status, code, detail)
    }

    /// What a mutation writes to the store: one record, or nothing when all is as asked already.
    fn judge(&self, draft: &Draft, mutation: &Mutation) -> Result<Option<Record>, Problem> {
        let key = &mutation.key;
        let held = self.held(draft, key, is_dyno(&mutation.change));
        match &mutation.change {
            Change::Delete => match held? {
                Held::Api(..) => Ok(Some(Record::Delete(key.clone()))),
                Held::Elsewhere(owner, _) => Err(self.owned(owner, key)),
                Held::Free => Err(Problem::new(
                    404,
                    "unknown_endpoint",
                    format!("there is no endpoint {} here", key.id),
                )),
            },
            Change::Put(put) => match (held?, put.drain_only()) {
                (Held::Elsewhere(_, written), Some(drain)) => self.judge_mark(draft, key, written, drain),
                (Held::Elsewhere(..), None) if put.standing == Standing::Adopted => {
                    let endpoint = self.endpoint(key, put)?;
                    Ok(Some(Record::Put(key.clone(), Arc::new(endpoint), Standing::Adopted)))
                }
                (Held::Elsewhere(owner, _), None) => Err(self.owned(owner, key)),
                (Held::Api(old, standing), Some(drain)) => {
                    let endpoint = Endpoint { drain, ..Endpoint::clone(&old) };
                    Ok((endpoint != *old).then(|| Record::Put(key.clone(), Arc::new(endpoint), standing)))
                }
                (Held::Api(old, before), None) => {
                    let endpoint = self.endpoint(key, put)?;
                    // What was adopted stays so until it is deleted; what is the API's own need not be.
                    let standing = match (before, put.standing) {
                        (Standing::Adopted, _) | (_, Standing::Adopted) => before,
                        (Standing::Beside | Standing::Starting, standing) => standing,
                    };
                    let differs = endpoint != *old || standing != before;
                    Ok(differs.then(|| Record::Put(key.clone(), Arc::new(endpoint), standing)))
                }
                (Held::Free, _) => {
                    let endpoint = self.endpoint(key, put)?;
                    if self.overlay.endpoint_count() + draft.added >= ENDPOINTS_MAX {
                        return Err(Problem::new(
                            507,
                            "too_many_endpoints",
                            format!("the API owns {ENDPOINTS_MAX} endpoints already, which is the bound"),
                        ));
                    }
                    let standing =
                        if put.standing == Standing::Starting { put.standing } else { Standing::Beside };
                    Ok(Some(Record::Put(key.clone(), Arc::new(endpoint), standing)))
                }
            },
        }
    }

    fn judge_mark(
        &self,
        draft: &Draft,
        key: &Key,
        written: bool,
        drain: bool,
    ) -> Result<Option<Record>, Problem> {
        let mark = draft.marks.get(key).copied().unwrap_or_else(|| self.overlay.mark(key));
        match mark {
            Some(mark) if mark == drain => Ok(None),
            Some(_) if drain == written => Ok(Some(Record::Unmark(key.clone()))),
            None if drain == written => Ok(None),
            None if self.overlay.mark_count() + draft.added >= MARKS_MAX => {
                let detail = format!("there are {MARKS_MAX} drain marks already, which is the bound");
                Err(Problem::new(507, "too_many_marks", detail))
            }
            Some(_) | None => Ok(Some(Record::Mark(key.clone(), drain))),
        }
    }

    /// Whose endpoint it is. Errors: unknown app or cluster, unless the API still owns a dormant endpoint there.
    fn held(&self, draft: &Draft, key: &Key, dyno: bool) -> Result<Held, Problem> {
        let api = || match draft.endpoints.get(key) {
            Some(drafted) => drafted.clone(),
            None => self.overlay.endpoint(key).cloned(),
        };
        let base = &self.accepted.built.model;
        let cluster = base.apps.get(&key.app).and_then(|app| app.clusters.get(&key.cluster));
        let Some(cluster) = cluster else {
            return match api() {
                Some((endpoint, standing)) => Ok(Held::Api(endpoint, standing)),
                // A dyno without a route to it, such as a worker, is kept all the same.
                None if dyno && base.apps.contains_key(&key.app) => Ok(Held::Free),
                None if !base.apps.contains_key(&key.app) => {
                    Err(Problem::new(404, "unknown_app", format!("there is no app {}", key.app)))
                }
                None => {
                    let detail = format!("the app {} has no cluster {}", key.app, key.cluster);
                    Err(Problem::new(404, "unknown_cluster", detail))
                }
            };
        };
        if let Some((endpoint, Standing::Adopted)) = api() {
            return Ok(Held::Api(endpoint, Standing::Adopted));
        }
        if let Some(endpoint) = by_id(cluster, key) {
            return Ok(Held::Elsewhere(endpoint.owner, endpoint.drain));
        }
        if self.is_dns(cluster, key) {
            return Ok(Held::Elsewhere(Owner::Source, false));
        }
        Ok(api().map_or(Held::Free, |(endpoint, standing)| Held::Api(endpoint, standing)))
    }

    /// Whether DNS owns the id: an endpoint made from a name, or a name with this id that has no address yet.
    fn is_dns(&self, cluster: &Cluster, key: &Key) -> bool {
        let live = self.live.apps.get(&key.app).and_then(|app| app.clusters.get(&key.cluster));
        cluster.names.iter().any(|name| name.id.as_ref() == Some(&key.id))
            || live.and_then(|live| by_id(live, key)).is_some_and(|endpoint| endpoint.owner == Owner::Source)
    }

    fn endpoint(&self, key: &Key, put: &Put) -> Result<Endpoint, Problem> {
        let Some(address) = put.address.clone() else {
            let detail = "a new endpoint needs an \"address\"";
            return Err(Problem::at(422, "missing_address", "/address", detail));
        };
        let endpoint = Endpoint {
            id: key.id.clone(),
            address,
            tags: EndpointTags { dns_name: None, zone: put.zone.clone(), release: put.release.clone() }
                .shared(),
            weight: put.weight.unwrap_or(1),
            priority: put.priority.unwrap_or(0),
            drain: put.drain.unwrap_or(false),
            owner: Owner::Api,
        };
        if self.own.holds(&endpoint) {
            let detail = format!("{} is this process's own control or telemetry address", endpoint.address);
            return Err(Problem::at(422, "own_address", "/address", detail));
        }
        Ok(endpoint)
    }

    /// Whose endpoint it is, and what may be done about it.
    fn owned(&self, owner: Owner, key: &Key) -> Problem {
        let (code, whose) = match owner {
            Owner::File if self.apps.contains_key(&key.app) => {
                ("owned_by_app", format!("the words of the app {}; change it there", key.app))
            }
            Owner::File => ("owned_by_file", "the configuration file".to_owned()),
            Owner::Source => ("owned_by_source", "DNS, the Procfile or what is pushed".to_owned()),
            Owner::Api => ("owned_by_api", "the API".to_owned()),
        };
        let id = &key.id;
        let detail = format!(
            "the endpoint {id} belongs to {whose}; only {{\"drain\": true|false}} may be put here, unless with ?adopt=true"
        );
        let mut problem = Problem::new(409, code, detail);
        let owner = code.strip_prefix("owned_by_").unwrap_or_default();
        problem.more.insert("owner".to_owned(), serde_json::Value::from(owner));
        problem
    }

    /// Takes away drain marks whose endpoint no accepted configuration has any more. Called after a reload; apps
    /// whose newest version was refused keep theirs.
    pub(super) fn prune_marks(&mut self) {
        let mut lost = Vec::new();
        for (place, part) in self.overlay.parts() {
            for id in part.marks.keys() {
                let key = Key { app: place.app.clone(), cluster: place.cluster.clone(), id: id.clone() };
                if !self.may_be_marked(place, &key) {
                    lost.push(Record::Unmark(key));
                }
            }
        }
        for record in &lost {
            self.overlay.apply(record);
        }
        self.take_away(lost);
    }

    /// Has the store forget what is no longer in force, soon.
    fn take_away(&mut self, lost: Vec<Record>) {
        // What a follower finds lost by its own files is the leader's to judge.
        let seen = self.store.as_ref().filter(|_| self.leads).map(|store| store.revision());
        self.unmark_due |= !lost.is_empty();
        self.unmark.extend(lost.into_iter().map(|record| (record, seen)));
    }

    /// All of a store that others write to was read: what this process found lost while it led, and nobody has written since, still is.
    pub(super) fn still_lost(&mut self, store: &dyn Store) {
        self.unmark.retain(|(record, seen)| {
            let object = store.get(&record.write().key);
            seen.is_some_and(|seen| object.is_some_and(|object| object.modified <= seen))
        });
        self.unmark.iter().for_each(|(record, _)| self.overlay.apply(record));
        self.unmark_due = !self.unmark.is_empty();
    }

    /// Takes what stands over deleted apps away. The store has most of it no more; not so what was made durable while the
    /// deletion was built, and what is being written now.
    pub(super) fn forget_apps(&mut self, gone: Vec<AppName>) {
        let mut lost = Vec::new();
        for (place, part) in self.overlay.parts().filter(|(place, _)| gone.contains(&place.app)) {
            let key = |id: &EndpointId| Key {
                app: place.app.clone(),
                cluster: place.cluster.clone(),
                id: id.clone(),
            };
            lost.extend(part.endpoints.keys().map(|id| Record::Delete(key(id))));
            lost.extend(part.marks.keys().map(|id| Record::Unmark(key(id))));
        }
        for record in &lost {
            self.overlay.apply(record);
        }
        if let Some(store) = &self.store {
            lost.retain(|record| store.get(&record.write().key).is_some());
        }
        self.take_away(lost);
        self.closed.retain(|app, _| !gone.contains(app));
        self.held.retain(|app, _| !gone.contains(app));
        self.forget_parts(&gone);
        self.deleted.extend(gone);
    }

    fn may_be_marked(&self, place: &ClusterKey, key: &Key) -> bool {
        if self.accepted.refused.contains(&place.app) {
            return true;
        }
        let base = &self.accepted.built.model;
        let cluster = base.apps.get(&place.app).and_then(|app| app.clusters.get(&place.cluster));
        let placed = self.placed.get(place).into_iter().flatten();
        placed.into_iter().any(|endpoint| endpoint.id == key.id)
            || self.placed_in(place).any(|endpoint| endpoint.id == key.id)
            || cluster.is_some_and(|cluster| !cluster.names.is_empty() || by_id(cluster, key).is_some())
    }
}

fn is_dyno(change: &Change) -> bool {
    matches!(change, Change::Put(put) if put.release.is_some())
}

/// Which of a batch's records leave an endpoint of the API as the store then has it: the last of each endpoint.
fn tagged(records: &[Record]) -> BTreeSet<usize> {
    let ends: BTreeMap<&Key, usize> = records
        .iter()
        .enumerate()
        .filter(|(_, record)| matches!(record, Record::Put(..) | Record::Delete(_)))
        .map(|(at, record)| (record.key(), at))
        .collect();
    let put = |at: &usize| matches!(records.get(*at), Some(Record::Put(..)));
    ends.into_values().filter(put).collect()
}

/// What takes a record's object away again.
fn undone(record: &Record) -> Option<Record> {
    match record {
        Record::Put(key, ..) => Some(Record::Delete(key.clone())),
        Record::Mark(key, _) => Some(Record::Unmark(key.clone())),
        Record::Delete(_) | Record::Unmark(_) => None,
    }
}

fn by_id<'c>(cluster: &'c Cluster, key: &Key) -> Option<&'c Arc<Endpoint>> {
    let at = cluster.endpoints.binary_search_by(|endpoint| endpoint.id.cmp(&key.id)).ok()?;
    cluster.endpoints.get(at)
}

/// There is no place to keep anything.
pub(crate) fn not_durable() -> Problem {
    let detail = "the run directory cannot be used, so the change would not survive; nothing was changed";
    Problem::new(503, "not_durable", detail)
}

/// This process may not write, or does not know whether it did.
pub(crate) fn unwritten(error: &StoreError) -> Problem {
    match error {
        StoreError::Unknown(_) => {
            let detail =
                format!("{error}; read it again once the store answers, and ask again if it is not there");
            Problem::new(503, "storage_unknown", detail)
        }
        StoreError::NotLeading(_)
        | StoreError::Conflict { .. }
        | StoreError::Full(_)
        | StoreError::TooLarge(_)
        | StoreError::Failed(_) => Problem::new(503, "not_leading", format!("{error}; nothing was changed")),
    }
}

/// Another change came between.
pub(super) fn conflict(error: &StoreError) -> Problem {
    let detail =
        format!("something else changed it meanwhile ({error}); nothing was changed: read it and try again");
    Problem::new(409, "conflict", detail)
}

/// The asker may have gone away; the change stands all the same.
fn answer(reply: oneshot::Sender<Result<Done, Problem>>, end: Result<Done, Problem>) {
    let _ = reply.send(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_endpoint_was_left_as_has_a_tag() {
        let key = |id: &str| Key {
            app: AppName::new("shop").unwrap(),
            cluster: ekiden_config::names::ClusterName::new("web").unwrap(),
            id: EndpointId::new(id).unwrap(),
        };
        let put = |id: &str| {
            let endpoint = Endpoint {
                id: EndpointId::new(id).unwrap(),
                address: crate::address::parse_address("127.0.0.1:1").unwrap(),
                weight: 1,
                priority: 0,
                drain: false,
                tags: None,
                owner: Owner::Api,
            };
            Record::Put(key(id), Arc::new(endpoint), Standing::Beside)
        };
        let records = [put("a"), put("b"), Record::Mark(key("f"), true), put("a"), Record::Delete(key("b"))];
        assert_eq!(tagged(&records), BTreeSet::from([3]));
    }
}
