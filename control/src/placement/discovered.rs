//! What keys of an etcd mean: values to endpoints, with the last ones kept through every kind of failure.
//!
//! Pure; time is an argument. Each key is an endpoint, named by what stands behind the prefix; its value is `IP:PORT`, or a JSON object
//! with the members of a placement. A value that is refused leaves what its key had before, and is told. What goes away too fast is
//! held, as with every source.

use std::collections::BTreeMap;
use std::sync::Arc;

use ekiden_config::address::KEYS;
use ekiden_config::model::{DnsEndpoint, Endpoint, PRIORITY_MAX};
use ekiden_config::names::EndpointId;
use serde_json::{Map, Value};

use super::part::{Condition, Entry, Heard, Kept, Part, State, Wanted};
use super::removals::Rules;
use crate::api::{PLACEMENT_MEMBERS, placement};
use crate::status::SourceStatus;
use crate::store::etcd::Values;

/// Longest value, in bytes.
const VALUE_MAX: usize = 4_096;
/// Refused keys that are named in a status.
const NAMED_MAX: usize = 5;

/// What one prefix is now, on its way to the control loop.
#[derive(Debug)]
pub(crate) struct Followed {
    /// As clusters name it.
    pub(crate) name: Arc<str>,
    /// All values by key, or why they cannot be asked for.
    pub(crate) keys: Result<Values, String>,
}

/// How one key was read last.
#[derive(Debug, Clone)]
struct Read {
    value: Arc<str>,
    /// That of an earlier value, when this one is refused.
    entry: Option<Entry>,
    refused: Option<String>,
}

/// What is known of one prefix.
#[derive(Debug, Clone, Default)]
struct Known {
    keys: Values,
    read: BTreeMap<Arc<str>, Read>,
    part: Part,
    /// Why it cannot be asked, and since when.
    failing: Option<(String, u64)>,
    heard_ms: Option<u64>,
}

/// All of one prefix that outlives this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remembered {
    /// As they were read last.
    pub(crate) keys: Values,
    /// What was taken away and is kept for now.
    pub(crate) held: Kept,
    /// What keys said before the value that is refused now.
    pub(crate) before: BTreeMap<Arc<str>, Entry>,
}

/// What a word of one changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Absorbed {
    /// The endpoints in force are others than before.
    pub(crate) changed: bool,
    /// Values are others than before.
    pub(crate) written: bool,
    /// It began to fail, or fails for another reason.
    pub(crate) failed: Option<String>,
    /// It can be asked again.
    pub(crate) recovered: bool,
    /// Keys whose value is refused, newly, with the reasons.
    pub(crate) refused: Vec<(Arc<str>, String)>,
    /// So many endpoints are kept that it has no longer, and none was before.
    pub(crate) held: Option<usize>,
}

/// All prefixes of the table in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Discovered(BTreeMap<Arc<str>, Known>);

/// Whether an entry among the names of a cluster is a prefix of keys.
pub(crate) fn is_keys(name: &str) -> bool {
    name.starts_with(KEYS)
}

impl Discovered {
    /// Starts from what an earlier process knew: what that one kept is kept until the same time.
    pub(crate) fn remember(
        &mut self,
        all: impl IntoIterator<Item = (Arc<str>, Remembered)>,
        (rules, now_ms): (Rules, u64),
    ) {
        for (name, Remembered { keys, held, before }) in all {
            let mut known = Known::default();
            // Whoever read them first has told what is refused.
            known.read(keys);
            for (key, entry) in before {
                if let Some(read) = known.read.get_mut(&key).filter(|read| read.refused.is_some()) {
                    read.entry = Some(entry);
                }
            }
            known.part.follow(Wanted { kept: Some(held), ..known.wanted() }, rules, now_ms);
            self.0.insert(name, known);
        }
    }

    /// Everything known, by name, for the next process.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&Arc<str>, Remembered)> {
        self.0.iter().map(|(name, known)| (name, known.remembered()))
    }

    /// Forgets prefixes that no cluster names any more.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| wanted(name));
    }

    /// Whether nothing is known of it.
    pub(crate) fn is_unknown(&self, name: &str) -> bool {
        let is_empty = |known: &Known| known.keys.is_empty() && known.part.in_force_count() == 0;
        self.0.get(name).is_none_or(|known| known.heard_ms.is_none() && is_empty(known))
    }

    /// Takes in what was heard.
    pub(crate) fn absorb(&mut self, followed: Followed, rules: Rules, now_ms: u64) -> Absorbed {
        let known = self.0.entry(followed.name).or_default();
        match followed.keys {
            Ok(keys) => {
                let was_held = known.part.held().len();
                let recovered = known.failing.take().is_some();
                let written = *known.keys != *keys;
                let (changed, refused) = known.take(keys, rules, now_ms);
                let held = Some(known.part.held().len()).filter(|held| *held > 0 && was_held == 0);
                Absorbed { changed, written, failed: None, recovered, refused, held }
            }
            Err(why) => {
                let differs = known.failing.as_ref().is_none_or(|(before, _)| *before != why);
                let since = known.failing.as_ref().map_or(now_ms, |(_, since)| *since);
                known.failing = Some((why.clone(), since));
                Absorbed { failed: differs.then_some(why), ..Absorbed::default() }
            }
        }
    }

    /// Since when something of a prefix is held.
    pub(crate) fn held_since_ms(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.part.held_since_ms()
    }

    /// A person says that what is missing may go; whether anything waited for that.
    pub(crate) fn confirm(&mut self, name: &str, now_ms: u64) -> bool {
        self.0.get_mut(name).is_some_and(|known| known.part.confirm(now_ms))
    }

    /// Lets go what was held for its time; answers with the names that it changed.
    pub(crate) fn release(&mut self, rules: Rules, now_ms: u64) -> Vec<Arc<str>> {
        let due = |known: &Known| known.part.held_until_ms().is_some_and(|until_ms| now_ms >= until_ms);
        let all = self.0.iter_mut().filter(|(_, known)| due(known));
        all.filter_map(|(name, known)| known.part.settle(rules, now_ms).then(|| Arc::clone(name))).collect()
    }

    /// When something that is held may go.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.0.values().filter_map(|known| known.part.held_until_ms()).min()
    }

    /// The endpoints that prefixes among these names stand for now.
    pub(crate) fn expand(&self, names: &[DnsEndpoint]) -> Vec<Arc<Endpoint>> {
        let mut endpoints: BTreeMap<EndpointId, Arc<Endpoint>> = BTreeMap::new();
        for name in names.iter().filter(|name| is_keys(&name.name)) {
            for one in self.0.get(&name.name).into_iter().flat_map(|known| known.part.in_force()) {
                endpoints.entry(one.id.clone()).or_insert_with(|| placed(one, name));
            }
        }
        endpoints.into_values().collect()
    }

    /// How they are, for people and the API.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = (&Arc<str>, SourceStatus)> {
        self.0.iter().map(|(name, known)| (name, known.status()))
    }
}

/// As the cluster has it: in the zone it names where the value names none, and of a group as far behind.
fn placed(one: &Arc<Endpoint>, name: &DnsEndpoint) -> Arc<Endpoint> {
    if name.priority == 0 && (name.zone.is_none() || one.zone().is_some()) {
        return Arc::clone(one);
    }
    let mut tags = one.tags.as_deref().cloned().unwrap_or_default();
    tags.zone = tags.zone.or_else(|| name.zone.clone());
    let priority = one.priority.saturating_add(name.priority).min(PRIORITY_MAX);
    Arc::new(Endpoint { tags: tags.shared(), priority, ..Endpoint::clone(one) })
}

impl Known {
    /// Takes all keys in: whether what is in force differs, and what is newly refused.
    fn take(&mut self, keys: Values, rules: Rules, now_ms: u64) -> (bool, Vec<(Arc<str>, String)>) {
        let refused = self.read(keys);
        let changed = self.part.take(self.wanted(), &Heard::Everything, rules, now_ms);
        self.heard_ms = Some(now_ms);
        (changed, refused)
    }

    /// Reads what all keys say; answers with what is newly refused.
    fn read(&mut self, keys: Values) -> Vec<(Arc<str>, String)> {
        let mut before = std::mem::take(&mut self.read);
        let mut refused = Vec::new();
        for (key, value) in keys.iter() {
            let old = before.remove(key);
            let read = match old {
                Some(old) if old.value == *value => old,
                old => {
                    let value = Arc::clone(value);
                    match entry(key, &value) {
                        Ok(entry) => Read { value, entry: Some(entry), refused: None },
                        Err(why) => {
                            refused.push((Arc::clone(key), why.clone()));
                            Read { value, entry: old.and_then(|old| old.entry), refused: Some(why) }
                        }
                    }
                }
            };
            self.read.insert(Arc::clone(key), read);
        }
        self.keys = keys;
        refused
    }

    fn wanted(&self) -> Wanted {
        let entries = self.read.values().filter_map(|read| read.entry.clone());
        let entries = entries.map(|entry| (entry.endpoint.id.clone(), entry)).collect();
        Wanted { entries, ..Wanted::default() }
    }

    fn remembered(&self) -> Remembered {
        let before = self.read.iter().filter(|(_, read)| read.refused.is_some());
        let before = before.filter_map(|(key, read)| Some((Arc::clone(key), read.entry.clone()?)));
        Remembered { keys: Arc::clone(&self.keys), held: self.part.kept(), before: before.collect() }
    }

    fn status(&self) -> SourceStatus {
        let held: Vec<String> = self.part.held().iter().map(ToString::to_string).collect();
        let state = match &self.failing {
            _ if !held.is_empty() => State::Held.word(),
            Some(_) => "failing",
            None => State::Live.word(),
        };
        let wrong = || self.read.iter().filter_map(|(key, read)| Some((key, read.refused.as_ref()?)));
        let refused = (wrong().count() > 0).then(|| {
            let named: Vec<String> =
                wrong().take(NAMED_MAX).map(|(key, why)| format!("{key}: {why}")).collect();
            format!("values of {} keys are refused: {}", wrong().count(), named.join("; "))
        });
        SourceStatus {
            state,
            endpoints: self.part.in_force().count(),
            held,
            held_until_unix_ms: self.part.held_until_ms(),
            expired: Vec::new(),
            error: self.failing.as_ref().map(|(why, _)| why.clone()).or(refused),
            heard_unix_ms: self.heard_ms,
        }
    }
}

/// One key with its value. The error says what is wrong, for people.
fn entry(key: &str, value: &str) -> Result<Entry, String> {
    EndpointId::new(key).map_err(|error| format!("the key {error} of an endpoint"))?;
    if value.len() > VALUE_MAX {
        return Err(format!("the value is longer than {VALUE_MAX} bytes"));
    }
    let text = value.trim();
    let mut members = match text.starts_with('{') {
        false => Map::from_iter([("address".to_owned(), Value::from(text))]),
        true => serde_json::from_str::<Map<String, Value>>(text)
            .map_err(|error| format!("no JSON object: {error}"))?,
    };
    let ready = members.remove("ready");
    let known =
        |member: &&String| member.as_str() == "ttl_ms" || !PLACEMENT_MEMBERS.contains(&member.as_str());
    if let Some(other) = members.keys().find(known) {
        return Err(format!(
            "{other:?} is not known here; known: address, weight, zone, priority, release, state, ready"
        ));
    }
    match ready {
        None | Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) if !members.contains_key("state") => {
            members.insert("state".to_owned(), Value::from(Condition::Starting.word()));
        }
        Some(Value::Bool(false)) => return Err("\"ready\" and \"state\" contradict each other".to_owned()),
        Some(_) => return Err("\"ready\" must be true or false".to_owned()),
    }
    let words = placement(&Value::Object(members), "").map_err(|problem| problem.detail)?;
    words.entry(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Rules = Rules { share: 50, hold_ms: 300_000 };
    const NAME: &str = "etcd:main/web/";

    fn keys(all: &[(&str, &str)]) -> Values {
        Arc::new(all.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect())
    }

    fn heard(all: &[(&str, &str)]) -> Followed {
        Followed { name: NAME.into(), keys: Ok(keys(all)) }
    }

    fn named(zone: Option<&str>, priority: u8) -> DnsEndpoint {
        DnsEndpoint { id: None, name: NAME.into(), port: 0, weight: 1, zone: zone.map(Arc::from), priority }
    }

    fn served(discovered: &Discovered, name: DnsEndpoint) -> Vec<String> {
        let one = |one: &Arc<Endpoint>| {
            let (zone, drain) = (one.zone().map_or("-", |zone| zone), if one.drain { " drains" } else { "" });
            format!("{} {} {} {zone} {}{drain}", one.id, one.address, one.weight, one.priority)
        };
        discovered.expand(&[name]).iter().map(one).collect()
    }

    #[test]
    fn values_are_addresses_or_objects_and_what_is_neither_is_refused_with_a_reason() {
        let mut discovered = Discovered::default();
        let all = [
            ("a", " 10.0.0.1:80\n"),
            ("b", r#"{"address":"10.0.0.2:80","weight":7,"zone":"z","priority":2}"#),
            ("c", r#"{"address":"10.0.0.3:80","ready":false}"#),
            ("d", r#"{"address":"10.0.0.4:80","state":"draining","ready":true}"#),
            ("e", "unix:/run/e.sock"),
        ];
        let bad = [
            ("f", "web:80", "DNS name"),
            ("g", r#"{"address":"10.0.0.1:80","wieght":1}"#, "wieght"),
            ("h", r#"{"address":"10.0.0.1:80","weight":0}"#, "1 to 1000"),
            ("i", r#"{"weight":1}"#, "address"),
            ("j", "{", "JSON"),
            ("k", r#"{"address":"10.0.0.1:80","ready":"yes"}"#, "true or false"),
            ("l", r#"{"address":"10.0.0.1:80","ready":false,"state":"ready"}"#, "contradict"),
            ("m", r#"{"address":"10.0.0.1:80","ttl_ms":1000}"#, "ttl_ms"),
            ("n", "", "no port"),
            ("o", r#"["10.0.0.1:80"]"#, "no port"),
            ("p q", "10.0.0.1:80", "the key"),
        ];
        let written: Vec<(&str, &str)> =
            all.into_iter().chain(bad.map(|(key, value, _)| (key, value))).collect();
        let absorbed = discovered.absorb(heard(&written), HALF, 1);
        for (key, value, why) in bad {
            let found = absorbed.refused.iter().find(|(refused, _)| **refused == *key);
            assert!(found.is_some_and(|(_, text)| text.contains(why)), "{key} {value}: {found:?}");
        }
        assert_eq!((absorbed.refused.len(), absorbed.changed), (bad.len(), true));
        assert_eq!(
            served(&discovered, named(None, 0)),
            [
                "a 10.0.0.1:80 1 - 0",
                "b 10.0.0.2:80 7 z 2",
                "d 10.0.0.4:80 1 - 0 drains",
                "e unix:/run/e.sock 1 - 0"
            ]
        );
        let of_a_zone = served(&discovered, named(Some("y"), 6));
        assert_eq!(of_a_zone[..2], ["a 10.0.0.1:80 1 y 6", "b 10.0.0.2:80 7 z 7"]);
        let (_, status) = discovered.statuses().next().unwrap();
        assert!(status.error.as_ref().is_some_and(|text| text.contains("11 keys")), "{status:?}");
        // The same once more is not said again.
        assert_eq!(discovered.absorb(heard(&written), HALF, 2), Absorbed::default());
    }

    #[test]
    fn what_is_refused_or_gone_or_not_to_be_asked_changes_nothing() {
        let mut discovered = Discovered::default();
        let all = [("a", "10.0.0.1:80"), ("b", "10.0.0.2:80"), ("c", "10.0.0.3:80"), ("d", "10.0.0.4:80")];
        discovered.absorb(heard(&all), HALF, 100_000);
        let mut broken = all;
        broken[0].1 = "nonsense";
        let absorbed = discovered.absorb(heard(&broken), HALF, 100_001);
        assert_eq!((absorbed.changed, absorbed.written, absorbed.refused.len()), (false, true, 1));
        assert_eq!(served(&discovered, named(None, 0)).len(), 4);
        // A failure, once; then all but one are gone at once.
        let failing = || Followed { name: NAME.into(), keys: Err("no majority".to_owned()) };
        assert_eq!(discovered.absorb(failing(), HALF, 100_002).failed.as_deref(), Some("no majority"));
        assert_eq!(discovered.absorb(failing(), HALF, 100_003), Absorbed::default());
        assert_eq!(discovered.statuses().next().unwrap().1.state, "failing");
        let absorbed = discovered.absorb(heard(&all[..1]), HALF, 200_000);
        assert_eq!((absorbed.changed, absorbed.recovered, absorbed.held), (false, true, Some(3)));
        assert_eq!((discovered.due_ms(), served(&discovered, named(None, 0)).len()), (Some(500_000), 4));
        assert!(discovered.release(HALF, 499_999).is_empty());
        assert_eq!(
            (discovered.release(HALF, 500_000).len(), served(&discovered, named(None, 0)).len()),
            (1, 1)
        );
        discovered.absorb(heard(&all), HALF, 600_000);
        discovered.absorb(heard(&[]), HALF, 700_000);
        assert!(discovered.confirm(NAME, 700_001) && !discovered.confirm(NAME, 700_002));
        assert_eq!(served(&discovered, named(None, 0)), Vec::<String>::new());
    }

    #[test]
    fn the_next_process_begins_with_what_this_one_knew() {
        let mut discovered = Discovered::default();
        assert!(discovered.is_unknown(NAME));
        discovered.absorb(heard(&[("a", "10.0.0.1:80"), ("b", "no")]), HALF, 1);
        let mut next = Discovered::default();
        next.remember(discovered.known().map(|(name, known)| (Arc::clone(name), known)), (HALF, 2));
        assert!(!next.is_unknown(NAME));
        assert_eq!(served(&next, named(None, 0)), ["a 10.0.0.1:80 1 - 0"]);
        next.retain(|_| false);
        assert!(next.is_unknown(NAME));
    }
}
