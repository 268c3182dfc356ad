//! The one owner of certificates: loads them for the listeners of a Model, loads again what changed on disk, and says
//! what serves and what does not. Off the workers; they read what it stores without a lock.
//!
//! A pair that cannot be used keeps the certificate it had, and is loud. Called by the swapper, for a Model, and by
//! `watch`, for files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ekiden_config::model::{ListenerTls, Model};
use ekiden_config::names::ListenerName;
use rustls::crypto::CryptoProvider;

use super::certificate::{Age, Certificate, Rank};
use super::clients::{self, ClientTrust};
use super::files::{self, Mark, Marks, Pair};
use super::listener::{Certificates, TlsListener};
use super::store::Index;
use super::tickets::{OwnSecrets, Secret, Tickets, parse_secrets, unix_s};

/// Listeners with TLS, as workers find them.
pub type Listeners = HashMap<ListenerName, Arc<TlsListener>>;

/// One pair of files as metrics and checks see it.
#[derive(Debug, Clone)]
pub struct CertificateState {
    /// The listener.
    pub listener: ListenerName,
    /// The certificate file.
    pub file: PathBuf,
    /// Last second of what serves; none when nothing does.
    pub not_after: Option<i64>,
    /// Why the files as they are now do not serve.
    pub fault: Option<String>,
}

/// Owner of all certificates of the process.
pub struct Hub {
    base: PathBuf,
    provider: Arc<CryptoProvider>,
    state: Mutex<State>,
    /// The listeners in force. Stored by the hub alone.
    pub listeners: ArcSwap<Listeners>,
    report: ArcSwap<Vec<CertificateState>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("base", &self.base).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    loaded: BTreeMap<ListenerName, Loaded>,
    own: OwnSecrets,
}

/// A listener's files with what was made of them.
struct Loaded {
    settings: Arc<ListenerTls>,
    pairs: BTreeMap<Rank, Held>,
    /// Certificates whose files are gone and that serve because nothing else does.
    orphans: Vec<Arc<Certificate>>,
    certificates: Certificates,
    secrets: Vec<Secret>,
    tickets: Arc<Tickets>,
    ticket_mark: Option<Mark>,
    clients: Option<ClientTrust>,
    client_marks: Marks,
    listener: Arc<TlsListener>,
}

#[derive(Clone)]
struct Held {
    pair: Pair,
    marks: Marks,
    serves: Option<Arc<Certificate>>,
    fault: Option<String>,
}

impl Hub {
    /// A hub without listeners. `base` is the directory that relative paths go by.
    pub fn new(base: PathBuf) -> Self {
        Self {
            base,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            state: Mutex::default(),
            listeners: ArcSwap::default(),
            report: ArcSwap::default(),
        }
    }

    /// The state of every pair.
    pub fn report(&self) -> Arc<Vec<CertificateState>> {
        self.report.load_full()
    }

    /// Loads what a Model asks for. A listener whose certificates cannot be used keeps what it had, or is not there.
    /// Returns the listeners that did not become what the Model says, with the reason. Called before the table of the
    /// Model is stored.
    pub fn apply(&self, model: &Model) -> Vec<(ListenerName, String)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut refused = Vec::new();
        for (name, listener) in &model.listeners {
            let Some(settings) = &listener.tls else { continue };
            if state.loaded.get(name).is_some_and(|loaded| loaded.settings == *settings) {
                continue;
            }
            match self.load(&mut state, name, settings) {
                Ok(loaded) => {
                    state.loaded.insert(name.clone(), loaded);
                }
                Err(reason) => {
                    tracing::error!(listener = %name, "{reason}");
                    refused.push((name.clone(), reason));
                }
            }
        }
        self.publish(&state);
        refused
    }

    /// Lets go of listeners that a Model no longer has with TLS. Called once no worker has an older table.
    pub fn retain(&self, model: &Model) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.loaded.len();
        state
            .loaded
            .retain(|name, _| model.listeners.get(name).is_some_and(|listener| listener.tls.is_some()));
        if state.loaded.len() != before {
            self.publish(&state);
        }
    }

    /// Whether workers find this listener.
    pub fn has(&self, name: &ListenerName) -> bool {
        self.listeners.load().contains_key(name)
    }

    /// The directories and settings whose files are to be watched.
    pub fn watched(&self) -> Vec<Arc<ListenerTls>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.loaded.values().map(|loaded| Arc::clone(&loaded.settings)).collect()
    }

    /// The directory that relative paths go by.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Loads again the pairs whose files changed, all of them when `all` says so, and rotates ticket keys. Called by the
    /// watch.
    pub fn refresh(&self, all: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let rotated = state.own.rotate(unix_s());
        let own = state.own.all().to_vec();
        for (name, loaded) in &mut state.loaded {
            self.refresh_pairs(name, loaded, all);
            refresh_tickets(&self.base, name, loaded, all);
            if rotated && loaded.settings.ticket_keys.is_none() {
                loaded.secrets.clone_from(&own);
                loaded.tickets.set(&own);
            }
            self.refresh_clients(name, loaded, all);
        }
        self.publish(&state);
    }

    /// What workers use from now on: new ticket keys and new handshake settings.
    fn serve(
        &self,
        name: &ListenerName,
        settings: &Arc<ListenerTls>,
        certificates: &Certificates,
        clients: Option<&ClientTrust>,
        secrets: &[Secret],
    ) -> Result<(Arc<Tickets>, Arc<TlsListener>), String> {
        let tickets = Tickets::new(&trust(name, settings, clients), secrets);
        let listener =
            TlsListener::new(settings, certificates, Arc::clone(&tickets), clients, &self.provider)
                .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        Ok((tickets, Arc::new(listener)))
    }

    /// Reads authorities and revocation lists again when their files changed. Sessions of before are not resumed after.
    fn refresh_clients(&self, name: &ListenerName, loaded: &mut Loaded, all: bool) {
        let Some(auth) = &loaded.settings.client_auth else { return };
        let marks = clients::marks(&self.base, auth);
        if !all && marks == loaded.client_marks {
            return;
        }
        loaded.client_marks = marks;
        let known = loaded.clients.as_ref().map(|clients| clients.digest.clone());
        let changed = clients::load(&self.base, auth, &self.provider).and_then(|clients| {
            if known.as_ref() == Some(&clients.digest) {
                return Ok(None);
            }
            let made =
                self.serve(name, &loaded.settings, &loaded.certificates, Some(&clients), &loaded.secrets)?;
            Ok(Some((made, clients)))
        });
        match changed {
            Ok(None) => {}
            Ok(Some(((tickets, listener), clients))) => {
                (loaded.tickets, loaded.listener) = (tickets, listener);
                loaded.clients = Some(clients);
                tracing::info!(listener = %name, "authorities and revocation lists of clients replaced");
            }
            Err(reason) => tracing::error!(
                listener = %name,
                "{reason}; the authorities and revocation lists before it go on serving"
            ),
        }
    }

    fn load(
        &self,
        state: &mut State,
        name: &ListenerName,
        settings: &Arc<ListenerTls>,
    ) -> Result<Loaded, String> {
        state.own.rotate(unix_s());
        let (secrets, ticket_mark) = match &settings.ticket_keys {
            Some(path) => shared_secrets(&self.base.join(path))?,
            None => (state.own.all().to_vec(), None),
        };
        let auth = settings.client_auth.as_ref();
        let client_marks = auth.map(|auth| clients::marks(&self.base, auth)).unwrap_or_default();
        let clients = auth.map(|auth| clients::load(&self.base, auth, &self.provider)).transpose()?;
        // What is loaded already is not loaded again: one more certificate in a list of many is one.
        let known = state.loaded.get(name);
        let index = known.map(|known| known.certificates.load_full()).unwrap_or_default();
        let certificates: Certificates = Arc::new(ArcSwap::new(index));
        let (tickets, listener) = self.serve(name, settings, &certificates, clients.as_ref(), &secrets)?;
        let mut loaded = Loaded {
            settings: Arc::clone(settings),
            pairs: known.map(|known| known.pairs.clone()).unwrap_or_default(),
            orphans: known.map(|known| known.orphans.clone()).unwrap_or_default(),
            certificates,
            secrets,
            tickets,
            ticket_mark,
            clients,
            client_marks,
            listener,
        };
        let unlisted = self.refresh_pairs(name, &mut loaded, false);
        if loaded.pairs.values().any(|held| held.serves.is_some()) {
            return Ok(loaded);
        }
        let faults: Vec<String> =
            unlisted.into_iter().chain(loaded.pairs.into_values().filter_map(|held| held.fault)).collect();
        let faults = if faults.is_empty() { "none was found".to_owned() } else { faults.join("; ") };
        Err(format!("no certificate can be served: {faults}"))
    }

    /// Loads pairs that are new or changed, lets go of those that left, and stores the new index. Returns which
    /// directories cannot be listed.
    fn refresh_pairs(&self, name: &ListenerName, loaded: &mut Loaded, all: bool) -> Vec<String> {
        let (found, failed) = files::pairs(&self.base, &loaded.settings);
        let (unlisted, faults): (Vec<u32>, Vec<String>) = failed.into_iter().unzip();
        let (mut removed, mut added) = (std::mem::take(&mut loaded.orphans), Vec::new());
        loaded.pairs.retain(|rank, held| {
            let stays = found.contains_key(rank) || unlisted.contains(&rank.source);
            if !stays {
                removed.extend(held.serves.take());
                tracing::info!(listener = %name, file = %held.pair.cert.display(), "certificate taken away");
            }
            stays
        });
        for (rank, pair) in found {
            let marks = files::marks(&pair);
            let known = loaded.pairs.get(&rank);
            if !all && known.is_some_and(|held| held.marks == marks && held.pair == pair) {
                continue;
            }
            let before = loaded.pairs.remove(&rank).and_then(|held| held.serves);
            let (serves, fault) = self.take(name, &pair, &rank, before.as_ref());
            if let Some(now) = &serves
                && !before.as_ref().is_some_and(|before| Arc::ptr_eq(before, now))
            {
                removed.extend(before);
                added.push(Arc::clone(now));
            }
            loaded.pairs.insert(rank, Held { pair, marks, serves, fault });
        }
        if removed.is_empty() && added.is_empty() {
            return faults;
        }
        let first = loaded.pairs.values().find_map(|held| held.serves.as_ref());
        let before = loaded.certificates.load();
        let index: Index = before.changed(&removed, &added, first);
        if index.count == 0 && before.count > 0 {
            tracing::error!(listener = %name, "no certificate is left; those that were taken away go on serving");
            loaded.orphans = removed;
            return faults;
        }
        loaded.certificates.store(Arc::new(index));
        faults
    }

    /// What serves for a pair from now on, and what is wrong with its files.
    fn take(
        &self,
        name: &ListenerName,
        pair: &Pair,
        rank: &Rank,
        before: Option<&Arc<Certificate>>,
    ) -> (Option<Arc<Certificate>>, Option<String>) {
        let file = pair.cert.display();
        let now_s = unix_s();
        match files::load(pair, rank.clone(), &self.provider) {
            Ok(new) if before.is_some_and(|old| old.not_after > now_s && new.not_after <= now_s) => {
                let reason = format!("{file}: the certificate has expired");
                tracing::error!(listener = %name, "{reason}; the certificate before it goes on serving");
                (before.cloned(), Some(reason))
            }
            Ok(new) => {
                if before.is_some_and(|old| old.key.cert == new.key.cert) {
                    return (before.cloned(), None);
                }
                tell_of_age(name, pair, &new, now_s);
                if before.is_some() {
                    tracing::info!(listener = %name, file = %file, "certificate replaced");
                }
                (Some(Arc::new(new)), None)
            }
            Err(fault) => {
                let reason = format!("{file}: {fault}");
                match before {
                    Some(_) => tracing::error!(
                        listener = %name,
                        "{reason}; the certificate before it goes on serving"
                    ),
                    None => tracing::error!(listener = %name, "{reason}; no certificate of this file serves"),
                }
                (before.cloned(), Some(reason))
            }
        }
    }

    fn publish(&self, state: &State) {
        let listeners =
            state.loaded.iter().map(|(name, loaded)| (name.clone(), Arc::clone(&loaded.listener))).collect();
        self.listeners.store(Arc::new(listeners));
        let states = state.loaded.iter().flat_map(|(name, loaded)| {
            loaded.pairs.values().map(move |held| CertificateState {
                listener: name.clone(),
                file: held.pair.cert.clone(),
                not_after: held.serves.as_ref().map(|certificate| certificate.not_after),
                fault: held.fault.clone(),
            })
        });
        self.report.store(Arc::new(states.collect()));
    }
}

fn tell_of_age(name: &ListenerName, pair: &Pair, certificate: &Certificate, now_s: i64) {
    let file = pair.cert.display();
    match certificate.age(now_s) {
        Age::Good => {}
        Age::Ending(_) => tracing::warn!(listener = %name, file = %file, "{}", certificate.age(now_s)),
        Age::Expired | Age::Early => {
            tracing::error!(listener = %name, file = %file, "{}; it is served all the same", certificate.age(now_s));
        }
    }
}

/// A text that differs between any two settings that must not share sessions.
fn trust(name: &ListenerName, settings: &ListenerTls, clients: Option<&ClientTrust>) -> String {
    let mode = settings.client_auth.as_ref().map(|auth| auth.mode);
    let digest = clients.map_or("", |clients| clients.digest.as_str());
    format!("{name}\n{:?}\n{mode:?}\n{digest}\n", settings.min_version)
}

pub(super) fn shared_secrets(path: &Path) -> Result<(Vec<Secret>, Option<Mark>), String> {
    let mark = files::mark(path);
    let text = files::read(path).map_err(|fault| fault.to_string())?;
    let secrets = parse_secrets(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok((secrets, mark))
}

fn refresh_tickets(base: &Path, name: &ListenerName, loaded: &mut Loaded, all: bool) {
    let Some(path) = loaded.settings.ticket_keys.as_ref().map(|path| base.join(path)) else { return };
    let mark = files::mark(&path);
    if !all && mark == loaded.ticket_mark {
        return;
    }
    loaded.ticket_mark = mark;
    match shared_secrets(&path) {
        Ok((secrets, _)) => {
            loaded.tickets.set(&secrets);
            loaded.secrets = secrets;
            tracing::info!(listener = %name, file = %path.display(), "ticket keys read");
        }
        Err(reason) => tracing::error!(listener = %name, "{reason}; the ticket keys before it go on serving"),
    }
}
