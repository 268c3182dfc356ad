//! The one owner of trusts: makes them for the clusters of a Model, makes anew those whose files changed, retires those of
//! before. Off the workers; they find them without a lock.
//!
//! Called by the swapper, for a Model, and by `tls::watch`, for files. What cannot be made keeps the trust of before and is
//! loud; a cluster without any is not connected to, plain connections least of all. An app that the process no longer lists
//! loses its trust at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ekiden_config::diff::changed_apps;
use ekiden_config::model::{
    Address, App, ClusterTls, Credential, KeyPair, Model, Protocol, Roots, TrustSources, Verify, may_use,
};
use ekiden_config::names::{AppName, ClusterName};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;

use super::connect::Secure;
use super::files::{AuthorityFile, IdentityFile, web};
use super::trust::Trust;
use crate::tls::files::{self, Mark};
use crate::tls::{ALPN, HTTP2};

type Place = (AppName, ClusterName);

/// An identity as metrics see it.
#[derive(Debug, Clone)]
pub struct IdentityState {
    /// The certificate file.
    pub file: PathBuf,
    /// Last second of what is shown; none when nothing is.
    pub not_after: Option<i64>,
    /// Its files as they are now cannot be used.
    pub is_faulty: bool,
}

/// Owner of the trusts of all clusters.
pub struct Trusts {
    base: PathBuf,
    provider: Arc<CryptoProvider>,
    state: Mutex<State>,
    in_force: ArcSwap<HashMap<Place, Arc<Trust>>>,
    identities: ArcSwap<Vec<IdentityState>>,
}

impl std::fmt::Debug for Trusts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trusts").field("base", &self.base).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    sources: Arc<TrustSources>,
    /// The Model of the last apply: what the next one is compared with.
    offered: Option<Arc<Model>>,
    clusters: BTreeMap<Place, Held>,
    authorities: BTreeMap<PathBuf, AuthorityFile>,
    identities: BTreeMap<(PathBuf, PathBuf), IdentityFile>,
    web: Option<Arc<RootCertStore>>,
}

/// A cluster with TLS, and what was made of its words.
struct Held {
    words: Arc<ClusterTls>,
    protocol: Protocol,
    made: Option<Made>,
    /// Why there is none, or not the one that the words ask for.
    fault: Option<String>,
}

struct Made {
    words: Arc<ClusterTls>,
    protocol: Protocol,
    roots: Option<Arc<RootCertStore>>,
    key: Option<Arc<CertifiedKey>>,
    trust: Arc<Trust>,
}

impl Drop for Made {
    fn drop(&mut self) {
        self.trust.retire();
    }
}

/// Whom a cluster believes, and what it shows.
type Named = (Option<Arc<RootCertStore>>, Option<Arc<CertifiedKey>>);

/// Why a cluster's words have no meaning now.
enum Lack {
    /// The app may not use what it names.
    Denied(String),
    /// A file cannot be used.
    Unusable(String),
}

impl Trusts {
    /// None yet. `base` is the directory that relative paths go by.
    pub fn new(base: PathBuf) -> Self {
        Self {
            base,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            state: Mutex::default(),
            in_force: ArcSwap::default(),
            identities: ArcSwap::default(),
        }
    }

    /// How an endpoint of a cluster with TLS is connected to now. For workers and probes; none when there is no usable trust,
    /// or no name that the endpoint could be asked for.
    pub fn of(&self, place: &Place, address: &Address, dns_name: Option<&str>) -> Option<Secure> {
        let trust = Arc::clone(self.in_force.load().get(place)?);
        let name = trust.server_name(address, dns_name)?;
        Some(Secure { trust, name })
    }

    /// The identities in use.
    pub fn report(&self) -> Arc<Vec<IdentityState>> {
        self.identities.load_full()
    }

    /// Makes the trusts of a Model; returns the clusters that did not get what their words ask for, with the reason. Costs a
    /// comparison of pointers for each app that did not change. Called before the table of the Model is stored.
    pub fn apply(&self, model: &Arc<Model>) -> Vec<(String, String)> {
        let mut state = self.lock();
        let all = !Arc::ptr_eq(&state.sources, &model.trust);
        state.sources = Arc::clone(&model.trust);
        let mut touched = all;
        let offered = state.offered.replace(Arc::clone(model));
        match offered.filter(|_| !all) {
            Some(offered) => {
                for app in changed_apps(&offered, model).into_iter().filter_map(|(_, is)| is) {
                    touched |= self.take_app(&mut state, app);
                }
            }
            None => model.apps.values().for_each(|app| touched |= self.take_app(&mut state, app)),
        }
        // Those that left are let go of in `retain`, once no worker has an older table.
        if touched {
            self.publish(&mut state);
        }
        let told = |((app, cluster), held): (&Place, &Held)| {
            held.fault.clone().map(|reason| (format!("{app}/{cluster}"), reason))
        };
        state.clusters.iter().filter_map(told).collect()
    }

    /// Takes the clusters of an app; true when a trust changed.
    fn take_app(&self, state: &mut State, app: &Arc<App>) -> bool {
        let mut touched = false;
        for (name, cluster) in &app.clusters {
            let place = (app.name.clone(), name.clone());
            let Some(words) = &cluster.policy.tls else { continue };
            let held = state.clusters.remove(&place);
            touched |= held.is_none();
            let mut held = held.unwrap_or_else(|| Held {
                words: Arc::clone(words),
                protocol: Protocol::Http1,
                made: None,
                fault: None,
            });
            if held.words.verify != words.verify || held.made.is_none() {
                tell_unverified(&place, words);
            }
            held.words = Arc::clone(words);
            held.protocol = cluster.policy.protocol;
            touched |= self.make(state, &place, &mut held);
            state.clusters.insert(place, held);
        }
        touched
    }

    /// Lets go of clusters that a Model no longer has with TLS. Called once no worker has an older table.
    pub fn retain(&self, model: &Model) {
        let mut state = self.lock();
        let before = state.clusters.len();
        state.clusters.retain(|(app, cluster), _| {
            let cluster = model.apps.get(app).and_then(|app| app.clusters.get(cluster));
            cluster.is_some_and(|cluster| cluster.policy.tls.is_some())
        });
        if state.clusters.len() != before {
            self.publish(&mut state);
        }
    }

    /// Reads again the files that changed, all of them and the system's authorities when `all` says so. Called by the watch.
    pub fn refresh(&self, all: bool) {
        let mut state = self.lock();
        let state = &mut *state;
        let mut changed = false;
        for (path, file) in &mut state.authorities {
            let before = file.fault.clone();
            if file.refresh(all) {
                changed = true;
                tracing::info!(file = %path.display(), "authorities of endpoints replaced");
            }
            tell_fault(before.as_ref(), file.fault.as_ref());
        }
        for file in state.identities.values_mut() {
            let before = file.fault.clone();
            if file.refresh(all, &self.provider) {
                changed = true;
                tracing::info!(file = %file.pair.cert.display(), "identity for endpoints replaced");
            }
            tell_fault(before.as_ref(), file.fault.as_ref());
        }
        if all && state.web.take().is_some() {
            changed = true;
        }
        if changed {
            let mut clusters = std::mem::take(&mut state.clusters);
            for (place, held) in &mut clusters {
                self.make(state, place, held);
            }
            state.clusters = clusters;
        }
        self.publish(state);
    }

    /// The files to be watched, with their versions now.
    pub fn look(&self) -> Vec<(PathBuf, Option<Mark>)> {
        let state = self.lock();
        let authorities = state.authorities.keys().map(|path| (path.clone(), files::mark(path)));
        authorities.chain(state.identities.values().flat_map(IdentityFile::look)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the trust of a cluster if its words or what they name changed; true when it did.
    fn make(&self, state: &mut State, place: &Place, held: &mut Held) -> bool {
        let (words, protocol) = (Arc::clone(&held.words), held.protocol);
        let resolved = self.resolve(state, &place.0, &words);
        let made = match resolved {
            Ok((roots, key)) => {
                let same = held.made.as_ref().is_some_and(|made| {
                    made.words == words
                        && made.protocol == protocol
                        && same(made.roots.as_ref(), roots.as_ref())
                        && same(made.key.as_ref(), key.as_ref())
                });
                if same {
                    held.fault = None;
                    return false;
                }
                Trust::new(&words, roots.clone(), key.clone(), offered(protocol), &self.provider)
                    .map(|trust| Made { words, protocol, roots, key, trust: Arc::new(trust) })
                    .map_err(Lack::Unusable)
            }
            Err(lack) => Err(lack),
        };
        let (app, cluster) = place;
        match made {
            Ok(made) => {
                held.fault = None;
                held.made = Some(made);
                true
            }
            Err(Lack::Denied(reason)) => {
                tracing::error!(%app, %cluster, "{reason}; its endpoints are not connected to");
                held.fault = Some(reason);
                held.made.take().is_some()
            }
            Err(Lack::Unusable(reason)) if falls_open(held.made.as_ref(), &held.words) => {
                tracing::error!(%app, %cluster, "{reason}; its endpoints, so far unverified, are not connected to");
                held.fault = Some(reason);
                held.made.take().is_some()
            }
            Err(Lack::Unusable(reason)) => {
                match held.made {
                    Some(_) => {
                        tracing::error!(%app, %cluster, "{reason}; TLS with its endpoints goes on as before")
                    }
                    None => tracing::error!(%app, %cluster, "{reason}; its endpoints are not connected to"),
                }
                held.fault = Some(reason);
                false
            }
        }
    }

    /// What the words of a cluster name.
    fn resolve(&self, state: &mut State, app: &AppName, words: &ClusterTls) -> Result<Named, Lack> {
        let roots = match (&words.roots, words.verify) {
            (_, Verify::InsecureNone) => None,
            (Roots::Web, Verify::Full) => Some(web_of(state)?),
            (Roots::File(path), Verify::Full) => Some(self.authorities(state, path)?),
            (Roots::Named(name), Verify::Full) => {
                let sources = Arc::clone(&state.sources);
                let source = sources.authorities.get(name).filter(|source| may_use(app, &source.apps));
                let source = source.ok_or_else(|| {
                    Lack::Denied(format!("the process file does not give the CA `{name}` to the app `{app}`"))
                })?;
                Some(self.authorities(state, &source.file)?)
            }
        };
        let key = match &words.identity {
            None => None,
            Some(Credential::Files(pair)) => Some(self.identity(state, pair)?),
            Some(Credential::Named(name)) => {
                let sources = Arc::clone(&state.sources);
                let source = sources.identities.get(name).filter(|source| may_use(app, &source.apps));
                let source = source.ok_or_else(|| {
                    Lack::Denied(format!(
                        "the process file does not give the identity `{name}` to the app `{app}`"
                    ))
                })?;
                Some(self.identity(state, &source.pair)?)
            }
        };
        Ok((roots, key))
    }

    fn authorities(&self, state: &mut State, path: &std::path::Path) -> Result<Arc<RootCertStore>, Lack> {
        let path = self.base.join(path);
        let file = state.authorities.entry(path).or_insert_with_key(|path| AuthorityFile::new(path.clone()));
        file.roots.clone().ok_or_else(|| Lack::Unusable(file.fault.clone().unwrap_or_default()))
    }

    fn identity(&self, state: &mut State, pair: &KeyPair) -> Result<Arc<CertifiedKey>, Lack> {
        let place = (self.base.join(&pair.cert), self.base.join(&pair.key));
        let file = state
            .identities
            .entry(place)
            .or_insert_with(|| IdentityFile::new(&self.base, pair, &self.provider));
        file.key.clone().ok_or_else(|| Lack::Unusable(file.fault.clone().unwrap_or_default()))
    }

    /// Shows workers the trusts there are, and forgets files that nobody names.
    fn publish(&self, state: &mut State) {
        let in_force = state
            .clusters
            .iter()
            .filter_map(|(place, held)| Some((place.clone(), Arc::clone(&held.made.as_ref()?.trust))));
        self.in_force.store(Arc::new(in_force.collect()));
        let (mut authorities, mut identities) = (BTreeSet::new(), BTreeSet::new());
        for held in state.clusters.values() {
            let made = held.made.as_ref().map(|made| &made.words);
            for words in [Some(&held.words), made].into_iter().flatten() {
                authorities.extend(match &words.roots {
                    Roots::Web => None,
                    Roots::File(path) => Some(self.base.join(path)),
                    Roots::Named(name) => {
                        state.sources.authorities.get(name).map(|source| self.base.join(&source.file))
                    }
                });
                let pair = match &words.identity {
                    None => None,
                    Some(Credential::Files(pair)) => Some(pair),
                    Some(Credential::Named(name)) => {
                        state.sources.identities.get(name).map(|source| &source.pair)
                    }
                };
                identities.extend(pair.map(|pair| (self.base.join(&pair.cert), self.base.join(&pair.key))));
            }
        }
        state.authorities.retain(|path, _| authorities.contains(path));
        state.identities.retain(|pair, _| identities.contains(pair));
        let report = state.identities.values().map(|file| IdentityState {
            file: file.pair.cert.clone(),
            not_after: file.not_after,
            is_faulty: file.fault.is_some(),
        });
        self.identities.store(Arc::new(report.collect()));
    }
}

/// Protocols offered to endpoints.
fn offered(protocol: Protocol) -> &'static [&'static [u8]] {
    match protocol {
        Protocol::Http1 => &[b"http/1.1"],
        Protocol::Http2 => &[HTTP2],
        Protocol::Auto => ALPN,
    }
}

fn web_of(state: &mut State) -> Result<Arc<RootCertStore>, Lack> {
    if let Some(roots) = &state.web {
        return Ok(Arc::clone(roots));
    }
    let roots = Arc::new(web().map_err(Lack::Unusable)?);
    state.web = Some(Arc::clone(&roots));
    Ok(roots)
}

fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Says a fault once, when it comes.
fn tell_fault(before: Option<&String>, now: Option<&String>) {
    if let Some(reason) = now.filter(|now| before != Some(*now)) {
        tracing::error!("{reason}; what was read before goes on serving");
    }
}

/// Verification cannot be switched off silently.
fn tell_unverified((app, cluster): &Place, words: &ClusterTls) {
    if words.verify == Verify::InsecureNone {
        tracing::warn!(
            %app,
            %cluster,
            "the certificates of the endpoints of this cluster are not verified (`verify = \"insecure_none\"`)"
        );
    }
}

/// Whether to go on as before would go on without the verification that the words ask for now.
fn falls_open(made: Option<&Made>, words: &ClusterTls) -> bool {
    words.verify == Verify::Full && made.is_some_and(|made| made.words.verify == Verify::InsecureNone)
}
