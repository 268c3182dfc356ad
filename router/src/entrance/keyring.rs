//! The one owner of files of credentials: reads those that a Model names, reads again what changed on disk. Off the workers; they
//! read what it stores without a lock.
//!
//! A file that cannot be used keeps what was read of it before, and is loud. Called by the swapper, for a Model, and by `tls::watch`,
//! for files. Does not judge requests.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ekiden_config::model::{
    Cost, KeyPart, KeySource, Limit, LimitFields, LimitUnit, MissingKey, Model, Rate, SecretFile,
    TokenIssuer, TrustSources, may_use,
};
use ekiden_config::names::{AppName, TrustName};
use ekiden_core::policy::limit::{LimitPlace, Limiters, Maker};

use super::fetch;
use super::hashing::Hashing;
use super::keys::Keys;
use super::tokens::{Issuer, KeySet};
use super::users::Users;
use crate::affinity;
use crate::aside;
use crate::tls::files::{self, Mark};

/// Owner of all credentials of the process.
pub struct Keyring {
    base: PathBuf,
    state: Mutex<State>,
    users: ArcSwap<HashMap<TrustName, Arc<Users>>>,
    keys: ArcSwap<HashMap<TrustName, Arc<Keys>>>,
    marks: ArcSwap<HashMap<TrustName, Arc<affinity::Keys>>>,
    /// Signs the marks of clusters that name no key.
    own_marks: OnceLock<Option<Arc<affinity::Keys>>>,
    issuers: ArcSwap<HashMap<TrustName, Arc<Issuer>>>,
    hashing: OnceLock<Hashing>,
    questions: OnceLock<SyncSender<TrustName>>,
    /// What clients owe for wrong passwords.
    pub wrong_passwords: Limiters,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("base", &self.base).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    sources: Arc<TrustSources>,
    users: BTreeMap<TrustName, Held<Users>>,
    keys: BTreeMap<TrustName, Held<Keys>>,
    marks: BTreeMap<TrustName, Held<affinity::Keys>>,
    issuers: BTreeMap<TrustName, HeldIssuer>,
}

/// An issuer; with the version of its file, where it has one, and what is wrong with it.
struct HeldIssuer {
    issuer: Arc<Issuer>,
    file: Option<PathBuf>,
    mark: Option<Mark>,
    fault: Option<String>,
}

impl HeldIssuer {
    fn new(words: &TokenIssuer, base: &std::path::Path) -> Self {
        let file = match &words.keys {
            KeySource::File(file) => Some(base.join(file)),
            KeySource::Url { .. } => None,
        };
        Self { issuer: Arc::new(Issuer::new(words.clone())), file, mark: None, fault: None }
    }

    /// Reads the file if it changed, or in any case.
    fn refresh(&mut self, always: bool) {
        let Some(file) = &self.file else { return };
        let mark = files::mark(file);
        if !always && mark == self.mark {
            return;
        }
        self.mark = mark;
        let bytes = files::read(file).map_err(|fault| fault.to_string());
        let read = |bytes: Vec<u8>| {
            KeySet::read(&bytes, &self.issuer.words).map_err(|why| format!("{}: {why}", file.display()))
        };
        match bytes.and_then(read) {
            Ok(keys) => {
                self.issuer.set_keys(keys);
                self.fault = None;
            }
            Err(reason) => {
                let kept =
                    if self.issuer.has_keys() { "the keys before go on" } else { "its tokens are not taken" };
                tracing::error!("{reason}; {kept}");
                self.fault = Some(reason);
            }
        }
    }
}

/// A file, and what was made of it last.
struct Held<T> {
    source: SecretFile,
    path: PathBuf,
    mark: Option<Mark>,
    made: Option<Arc<T>>,
    fault: Option<String>,
}

type Read<T> = fn(&[u8], Vec<AppName>) -> Result<T, String>;

impl<T> Held<T> {
    /// Reads the file if it or its words changed, or in any case.
    fn refresh(&mut self, always: bool, read: Read<T>) {
        let mark = files::mark(&self.path);
        if !always && mark == self.mark {
            return;
        }
        self.mark = mark;
        let shown = self.path.display();
        let bytes = files::read(&self.path).map_err(|fault| fault.to_string());
        let made = bytes.and_then(|bytes| {
            read(&bytes, self.source.apps.clone()).map_err(|why| format!("{shown}: {why}"))
        });
        match made {
            Ok(made) => {
                if self.made.is_some() {
                    tracing::info!(file = %shown, "credentials replaced");
                }
                (self.made, self.fault) = (Some(Arc::new(made)), None);
            }
            Err(reason) => {
                let kept = if self.made.is_some() {
                    "what was read before goes on"
                } else {
                    "nobody is let in by it"
                };
                tracing::error!("{reason}; {kept}");
                self.fault = Some(reason);
            }
        }
    }
}

/// Makes what is held agree with what the Model names.
fn take<T>(
    held: &mut BTreeMap<TrustName, Held<T>>,
    sources: &BTreeMap<TrustName, SecretFile>,
    base: &std::path::Path,
    read: Read<T>,
) {
    held.retain(|name, _| sources.contains_key(name));
    for (name, source) in sources {
        let known = held.get(name).is_some_and(|known| known.source == *source);
        if known {
            continue;
        }
        // Those who could use it still can; a list of apps that became another one is not served with the old one.
        let before = held.remove(name).filter(|before| before.source.apps == source.apps);
        let mut new = Held {
            source: source.clone(),
            path: base.join(&source.file),
            mark: None,
            made: before.and_then(|before| before.made),
            fault: None,
        };
        new.refresh(true, read);
        held.insert(name.clone(), new);
    }
}

fn stored<T>(held: &BTreeMap<TrustName, Held<T>>) -> Arc<HashMap<TrustName, Arc<T>>> {
    let made = held.iter().filter_map(|(name, held)| Some((name.clone(), Arc::clone(held.made.as_ref()?))));
    Arc::new(made.collect())
}

fn faults<'h, T>(
    kind: &'static str,
    held: &'h BTreeMap<TrustName, Held<T>>,
) -> impl Iterator<Item = (String, String)> + 'h {
    held.iter().filter_map(move |(name, held)| Some((format!("{kind}:{name}"), held.fault.clone()?)))
}

impl Keyring {
    /// None yet. `base` is the directory that relative paths go by.
    pub fn new(base: PathBuf, workers: usize) -> Self {
        Self {
            base,
            state: Mutex::default(),
            users: ArcSwap::default(),
            keys: ArcSwap::default(),
            marks: ArcSwap::default(),
            own_marks: OnceLock::new(),
            issuers: ArcSwap::default(),
            hashing: OnceLock::new(),
            questions: OnceLock::new(),
            wrong_passwords: wrong_passwords(workers),
        }
    }

    /// Reads what a Model names; returns the files that cannot be used, with the reason. Called before the table of the Model is
    /// stored.
    pub fn apply(self: &Arc<Self>, model: &Model) -> Vec<(String, String)> {
        let mut state = self.lock();
        if !Arc::ptr_eq(&state.sources, &model.trust) {
            let sources = Arc::clone(&model.trust);
            take(&mut state.users, &sources.users, &self.base, Users::read);
            take(&mut state.keys, &sources.api_keys, &self.base, Keys::read);
            take(&mut state.marks, &sources.affinity_keys, &self.base, affinity::Keys::read);
            if !sources.users.is_empty() && self.hashing.get().is_none() {
                match Hashing::start() {
                    Ok(hashing) => {
                        let _one_owner = self.hashing.set(hashing);
                    }
                    Err(error) => tracing::error!("passwords cannot be verified: {error}"),
                }
            }
            take_issuers(&mut state.issuers, &sources.issuers, &self.base);
            state.sources = sources;
            self.publish(&state);
            self.fetch(&state);
        }
        faults("users", &state.users)
            .chain(faults("api_keys", &state.keys))
            .chain(faults("affinity_key", &state.marks))
            .chain(issuer_faults(&state.issuers))
            .collect()
    }

    /// Reads again the files that changed, or all. Called by the watch.
    pub fn refresh(&self, all: bool) {
        let mut state = self.lock();
        state.users.values_mut().for_each(|held| held.refresh(all, Users::read));
        state.keys.values_mut().for_each(|held| held.refresh(all, Keys::read));
        state.marks.values_mut().for_each(|held| held.refresh(all, affinity::Keys::read));
        state.issuers.values_mut().for_each(|held| held.refresh(all));
        self.publish(&state);
    }

    /// The files to be watched, with their versions now.
    pub fn look(&self) -> Vec<(PathBuf, Option<Mark>)> {
        let state = self.lock();
        let users = state.users.values().map(|held| &held.path);
        let keys = state.keys.values().map(|held| &held.path);
        let issuers = state.issuers.values().filter_map(|held| held.file.as_ref());
        let marks = state.marks.values().map(|held| &held.path);
        users.chain(keys).chain(marks).chain(issuers).map(|path| (path.clone(), files::mark(path))).collect()
    }

    /// The users of this name, and what verifies their passwords. For workers.
    pub fn users(&self, name: &TrustName) -> Option<(Arc<Users>, &Hashing)> {
        Some((Arc::clone(self.users.load().get(name)?), self.hashing.get()?))
    }

    /// The keys of this name. For workers.
    pub fn keys(&self, name: &TrustName) -> Option<Arc<Keys>> {
        self.keys.load().get(name).cloned()
    }

    /// What signs the marks of a cluster of an app; none where the file could never be read. For workers.
    pub fn affinity_keys(&self, name: Option<&TrustName>, app: &AppName) -> Option<Arc<affinity::Keys>> {
        match name {
            Some(name) => self.marks.load().get(name).filter(|keys| may_use(app, keys.apps())).cloned(),
            None => self.own_marks.get_or_init(own_marks).clone(),
        }
    }

    /// The issuer of this name. For workers.
    pub fn issuer(&self, name: &TrustName) -> Option<Arc<Issuer>> {
        self.issuers.load().get(name).cloned()
    }

    /// Has the keys of an issuer asked for again, if that is due. False when nothing will come of it. For workers; never waits.
    pub fn ask_again(&self, name: &TrustName, issuer: &Issuer) -> bool {
        if issuer.is_asking() {
            return true;
        }
        if !matches!(issuer.words.keys, KeySource::Url { .. }) || !issuer.may_ask() {
            return false;
        }
        issuer.set_asking(true);
        let is_asked = self.questions.get().is_some_and(|questions| questions.try_send(name.clone()).is_ok());
        if !is_asked {
            issuer.set_asking(false);
        }
        is_asked
    }

    /// Issuers whose keys come from a URL.
    pub(super) fn fetched_issuers(&self) -> Vec<(TrustName, Arc<Issuer>)> {
        let state = self.lock();
        let fetched = state.issuers.iter().filter(|(_, held)| held.file.is_none());
        fetched.map(|(name, held)| (name.clone(), Arc::clone(&held.issuer))).collect()
    }

    /// The file of an authority.
    pub(super) fn authority(&self, name: &TrustName) -> Option<PathBuf> {
        self.lock().sources.authorities.get(name).map(|source| self.base.join(&source.file))
    }

    /// Has the thread that asks for keys look at the issuers; begins it when there is something to ask for.
    fn fetch(self: &Arc<Self>, state: &State) {
        let Some((name, _)) = state.issuers.iter().find(|(_, held)| held.file.is_none()) else { return };
        let questions = self.questions.get_or_init(|| {
            let (questions, asked) = sync_channel(fetch::QUESTIONS_MAX);
            let keyring = Arc::downgrade(self);
            let run = move || {
                aside::give_way();
                fetch::run(&keyring, &asked);
            };
            if let Err(error) = std::thread::Builder::new().name("ekiden-jwks".to_owned()).spawn(run) {
                tracing::error!("keys of tokens cannot be asked for: {error}");
            }
            questions
        });
        // A line that is full will be worked off, and what is new is seen then.
        let _seen_all_the_same = questions.try_send(name.clone());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        self.users.store(stored(&state.users));
        self.keys.store(stored(&state.keys));
        self.marks.store(stored(&state.marks));
        let issuers = state.issuers.iter().map(|(name, held)| (name.clone(), Arc::clone(&held.issuer)));
        self.issuers.store(Arc::new(issuers.collect()));
    }
}

/// A key that ends with the process.
fn own_marks() -> Option<Arc<affinity::Keys>> {
    match affinity::Keys::own() {
        Ok(keys) => Some(Arc::new(keys)),
        Err(why) => {
            tracing::error!("no key for marks of affinity: {why}; clients get none");
            None
        }
    }
}

/// Makes the issuers agree with what the Model names. One whose words are the same keeps its keys.
fn take_issuers(
    held: &mut BTreeMap<TrustName, HeldIssuer>,
    sources: &BTreeMap<TrustName, TokenIssuer>,
    base: &std::path::Path,
) {
    held.retain(|name, held| sources.get(name).is_some_and(|words| *words == held.issuer.words));
    for (name, words) in sources {
        held.entry(name.clone()).or_insert_with(|| {
            let mut new = HeldIssuer::new(words, base);
            new.refresh(true);
            new
        });
    }
}

fn issuer_faults(held: &BTreeMap<TrustName, HeldIssuer>) -> impl Iterator<Item = (String, String)> + '_ {
    held.iter().filter_map(|(name, held)| Some((format!("jwt:{name}"), held.fault.clone()?)))
}

/// Wrong passwords of one client: so many at once, then one in two seconds. What is right is given back.
fn wrong_passwords(workers: usize) -> Limiters {
    let words = Limit {
        name: Arc::from("passwords"),
        unit: LimitUnit::Rate,
        rate: Rate { count: 30, per: Duration::from_secs(60), burst: 20 },
        key: vec![KeyPart::Client],
        missing: MissingKey::Share,
        cost: Cost::default(),
        except: Vec::new(),
        shadow: false,
        fields: LimitFields::Never,
        keys: 16_384,
        shared: None,
    };
    let maker = Maker { workers, seed: [fastrand::u64(..), fastrand::u64(..)] };
    Limiters::new(&[words], &LimitPlace::default(), None, maker)
}

/// A number that no other reading of a file has.
pub(super) fn new_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Reads lines of two parts with a `:` between them. Empty lines and those that begin with `#` are passed over.
///
/// # Errors
/// The number of the line that `take` refuses, with its words.
pub(super) fn each_line(
    text: &[u8],
    mut take: impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|_| "line 1: the file is not UTF-8".to_owned())?;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts = line.split_once(':').filter(|(first, second)| !first.is_empty() && !second.is_empty());
        let Some((first, second)) = parts else {
            return Err(format!("line {number}: it is not `name:hash`"));
        };
        take(first, second).map_err(|why| format!("line {number}: {why}"))?;
    }
    Ok(())
}
