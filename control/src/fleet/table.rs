//! What a router has from control, and the Model it makes of that and of its own process file.
//!
//! Pure. Apps travel as documents and are validated here once more, against the names that this router has: one that does not fit is
//! refused by itself, with the words that `ekiden check` has for it, and keeps the version before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ekiden_config::diff::{Delta, apply, reuse};
use ekiden_config::model::{App, Cluster, Endpoint, EndpointTags, HoldPolicy, Model};
use ekiden_config::names::{AppName, ClusterName, EndpointId};
use ekiden_config::{Built, Diagnostic, Format, HostOwners, Input, Purpose, Source, build_for};

use super::wire::{Object, REFUSED_MAX, Refused};
use crate::overlay::ClusterKey;
use crate::shown::{Routes, held as made_to_wait, in_maintenance};
use crate::sources::document_of;

/// Endpoints by cluster, each list in the order of the ids. The Model has the same lists, so that what is kept of endpoints beside it
/// is one pointer a cluster.
pub(super) type Endpoints = BTreeMap<ClusterKey, List>;
type List = Arc<Vec<Arc<Endpoint>>>;

/// Objects of one generation.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Objects {
    /// Documents of apps.
    pub(super) apps: BTreeMap<AppName, Arc<str>>,
    /// Who owns which host.
    pub(super) hosts: Arc<BTreeMap<Arc<str>, AppName>>,
    /// Endpoints of their clusters, in place of those in the documents.
    pub(super) endpoints: Endpoints,
    /// Apps in maintenance, with what people see.
    pub(super) maintenance: BTreeMap<AppName, Option<Arc<str>>>,
    /// Apps whose requests wait.
    pub(super) holds: BTreeMap<AppName, HoldPolicy>,
    /// Apps whose traffic control wants to hear of.
    pub(super) watched: BTreeSet<AppName>,
}

/// What a batch of changes touched.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Words or owners: everything is to be built again.
    pub(super) words: bool,
    /// Else these endpoints.
    pub(super) endpoints: Vec<(ClusterKey, EndpointId)>,
    /// And the maintenance or the hold of these apps.
    pub(super) closed: BTreeSet<AppName>,
    /// Control wants to hear of the traffic of other apps.
    pub(super) watched: bool,
}

impl Objects {
    /// Takes an object in.
    pub(super) fn take(&mut self, object: Object, touched: &mut Touched) {
        match object {
            Object::App(name, Some(text)) => {
                touched.words |= self.apps.get(&name) != Some(&text);
                self.apps.insert(name, text);
            }
            Object::App(name, None) => touched.words |= self.apps.remove(&name).is_some(),
            Object::Host(host, Some(app)) => {
                if self.hosts.get(&host) != Some(&app) {
                    // One text for all hosts of an app.
                    let app = self.apps.get_key_value(&app).map_or(app, |(known, _)| known.clone());
                    Arc::make_mut(&mut self.hosts).insert(host, app);
                    touched.words = true;
                }
            }
            Object::Host(host, None) => {
                if self.hosts.contains_key(&host) {
                    Arc::make_mut(&mut self.hosts).remove(&host);
                    touched.words = true;
                }
            }
            Object::Endpoint(place, id, Some(endpoint)) => {
                match self.endpoints.get_mut(&place) {
                    Some(list) => put(list, endpoint),
                    None => drop(self.endpoints.insert(place.clone(), Arc::new(vec![endpoint]))),
                }
                touched.endpoints.push((place, id));
            }
            Object::Endpoint(place, id, None) => {
                if let Some(list) = self.endpoints.get_mut(&place) {
                    if let Ok(at) = position(list, &id) {
                        Arc::make_mut(list).remove(at);
                    }
                    if list.is_empty() {
                        self.endpoints.remove(&place);
                    }
                }
                touched.endpoints.push((place, id));
            }
            Object::Maintenance(app, page) => {
                set(&mut self.maintenance, &app, page);
                touched.closed.insert(app);
            }
            Object::Hold(app, policy) => {
                set(&mut self.holds, &app, policy);
                touched.closed.insert(app);
            }
            Object::Watch(app, true) => touched.watched |= self.watched.insert(app),
            Object::Watch(app, false) => touched.watched |= self.watched.remove(&app),
        }
    }

    /// Takes what is the same from before, so that it is there once.
    pub(super) fn reuse(&mut self, before: &Self) {
        for (place, list) in &mut self.endpoints {
            let Some(old) = before.endpoints.get(place) else { continue };
            if old == list {
                *list = Arc::clone(old);
            } else if let Some(list) = Arc::get_mut(list) {
                for one in list {
                    let known = position(old, &one.id).ok().and_then(|at| old.get(at));
                    known
                        .filter(|known| *known == one)
                        .into_iter()
                        .for_each(|known| *one = Arc::clone(known));
                }
            }
        }
        if before.hosts == self.hosts {
            self.hosts = Arc::clone(&before.hosts);
        }
    }

    /// Gives back what a snapshot left over while it came in piece by piece.
    pub(super) fn shrink(&mut self) {
        for list in self.endpoints.values_mut() {
            if let Some(list) = Arc::get_mut(list) {
                list.shrink_to_fit();
            }
        }
        // Nodes that were filled in order are half empty; made of the whole they are full.
        let hosts = std::mem::take(&mut self.hosts);
        self.hosts = Arc::new(hosts.iter().map(|(host, app)| (Arc::clone(host), app.clone())).collect());
    }
}

fn position(list: &[Arc<Endpoint>], id: &EndpointId) -> Result<usize, usize> {
    match list.last() {
        Some(last) if last.id < *id => Err(list.len()),
        Some(_) | None => list.binary_search_by(|one| one.id.cmp(id)),
    }
}

/// Puts an endpoint in its place. A list that the Model has too is copied, and not made larger than it has to be.
fn put(list: &mut List, mut endpoint: Arc<Endpoint>) {
    let found = position(list, &endpoint.id);
    let (Ok(at) | Err(at)) = found;
    if let Some(own) = Arc::get_mut(&mut endpoint) {
        EndpointTags::reuse(&mut own.tags, list.get(at.saturating_sub(1)).map(|one| &**one));
    }
    if Arc::get_mut(list).is_none() {
        let mut copy = Vec::with_capacity(list.len() + usize::from(found.is_err()));
        copy.extend_from_slice(list);
        *list = Arc::new(copy);
    }
    let Some(own) = Arc::get_mut(list) else { return };
    match found {
        Ok(at) => own.get_mut(at).into_iter().for_each(|old| *old = Arc::clone(&endpoint)),
        Err(at) => own.insert(at, endpoint),
    }
}

fn set<T>(all: &mut BTreeMap<AppName, T>, app: &AppName, new: Option<T>) {
    match new {
        Some(new) => drop(all.insert(app.clone(), new)),
        None => drop(all.remove(app)),
    }
}

/// A table made of a process file and objects.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// The process file, its Model without endpoints, and what was found.
    pub(super) built: Arc<Built>,
    /// What is published.
    pub(super) model: Arc<Model>,
    /// The documents in force: of a refused app the one before.
    pub(super) in_force: Arc<BTreeMap<AppName, Arc<str>>>,
    /// Endpoints of clusters in force that the refused version of their app does not have: control has none for them any more.
    pub(super) held: Endpoints,
    /// Apps that are refused.
    pub(super) refused: Vec<Refused>,
}

fn source(app: &AppName, text: &str) -> Source {
    Source { file: document_of(app), text: text.to_owned(), format: Format::Json }
}

/// Makes the table. Errors: the process file's findings; what was made before serves on then.
pub(super) fn make(main: &Source, objects: &Objects, before: Option<&Made>) -> Result<Made, Vec<Diagnostic>> {
    let default_app = AppName::default_app();
    let default = source(&default_app, objects.apps.get(&default_app).map_or("{}", |text| text));
    let others = objects.apps.iter().filter(|(name, _)| **name != default_app);
    let apps: Vec<(AppName, Source)> =
        others.map(|(name, text)| (name.clone(), source(name, text))).collect();
    let hosts = owners(objects, before);
    let previous = before.map(|before| &*before.built.model);
    let input = Input { main, apps: &apps, previous, hosts: &hosts };
    let mut built = build_for(input, Purpose::Router(&default))?;
    // Of the others control has the record, and so have the objects.
    let own = built.hosts.iter().filter(|(host, _)| is_own(host));
    built.hosts = own.map(|(host, app)| (Arc::from(host), app.clone())).collect();
    let mut refused: Vec<Refused> = Vec::new();
    let mut names = BTreeSet::new();
    let wrong: BTreeMap<&str, &Diagnostic> = built
        .diagnostics
        .iter()
        .rev()
        .filter(|found| found.is_error())
        .map(|found| (found.file.as_str(), found))
        .collect();
    for name in objects.apps.keys() {
        let Some(found) = wrong.get(document_of(name).as_str()) else { continue };
        names.insert(name);
        if refused.len() < REFUSED_MAX {
            let help = found.help.as_deref().map(|help| format!("; {help}")).unwrap_or_default();
            refused.push(Refused::new(
                format!("app:{name}"),
                &format!("{}: {}{help}", found.code, found.message),
            ));
        }
    }
    if names.len() > refused.len() {
        refused.push(Refused::new("apps", &format!("{} more apps are refused", names.len() - refused.len())));
    }
    let in_force = objects.apps.iter().filter_map(|(name, text)| {
        if !names.contains(name) {
            return Some((name.clone(), Arc::clone(text)));
        }
        Some((name.clone(), Arc::clone(before?.in_force.get(name)?)))
    });
    let in_force = Arc::new(in_force.collect());
    let mut model = Model::clone(&built.model);
    let mut held = Endpoints::new();
    for (name, written) in &built.model.apps {
        let mut app = Arc::clone(written);
        let old =
            before.and_then(|before| before.model.apps.get(&app.name)).filter(|_| names.contains(&app.name));
        if let (Some(old), Some(text)) = (old, objects.apps.get(&app.name)) {
            held.append(&mut left_out(old, text));
        }
        place(&mut app, objects, &held);
        if !Arc::ptr_eq(&app, written) {
            model.apps.insert(name.clone(), app);
        }
    }
    if let Some(before) = before {
        model = reuse(model, &before.model);
    }
    Ok(Made { built: Arc::new(built), model: Arc::new(model), in_force, held, refused })
}

/// The endpoints of clusters that a new document does not have.
fn left_out(old: &App, text: &str) -> Endpoints {
    let document: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let gone = old.clusters.iter().filter(|(name, _)| {
        document.get("cluster").and_then(|clusters| clusters.get(name.as_str())).is_none()
    });
    let place = |name: &ClusterName| ClusterKey { app: old.name.clone(), cluster: name.clone() };
    gone.map(|(name, cluster)| (place(name), Arc::clone(&cluster.endpoints))).collect()
}

/// The routes of an app as control has them now: closed, waiting, or as written. Who is told to come back later does not wait.
fn shown(app: &AppName, written: &Routes, objects: &Objects) -> Routes {
    match (objects.maintenance.get(app), objects.holds.get(app)) {
        (Some(page), _) => in_maintenance(written, page.as_ref()),
        (None, Some(policy)) => made_to_wait(written, *policy),
        (None, None) => Arc::clone(written),
    }
}

/// Gives the clusters of an app the endpoints that control has for them, and those that are held; and its routes what is said beside.
fn place(app: &mut Arc<App>, objects: &Objects, held: &Endpoints) {
    let endpoints = &objects.endpoints;
    let routes = shown(&app.name, &app.routes, objects);
    let mut placed = App { routes, ..App::clone(app) };
    for (name, cluster) in &mut placed.clusters {
        let key = ClusterKey { app: app.name.clone(), cluster: name.clone() };
        let all = held.get(&key).or_else(|| endpoints.get(&key)).cloned();
        Arc::make_mut(cluster).endpoints = all.unwrap_or_default();
    }
    *app = Arc::new(placed);
}

/// Whether a record is of routes without a host, on a listener of this router.
fn is_own(host: &str) -> bool {
    host.starts_with("*@")
}

/// Who owns which host: control's record, and this router's own of routes without a host, which depend on its listeners.
fn owners(objects: &Objects, before: Option<&Made>) -> HostOwners {
    let own = before.into_iter().flat_map(|before| before.built.hosts.iter());
    let own = own.filter(|(host, _)| is_own(host)).map(|(host, app)| (Arc::from(host), app.clone()));
    own.chain(objects.hosts.iter().map(|(host, app)| (Arc::clone(host), app.clone()))).collect()
}

/// The table with other endpoints; costs what is touched. Endpoints of clusters that the table does not have, those of refused
/// apps, stay away.
pub(super) fn retouch(made: &mut Made, objects: &Objects, touched: &[(ClusterKey, EndpointId)]) {
    let places: BTreeSet<&ClusterKey> = touched.iter().map(|(place, _)| place).collect();
    let mut deltas = Vec::new();
    for place in places {
        let cluster = made.model.apps.get(&place.app).and_then(|app| app.clusters.get(&place.cluster));
        // What is held stays until its app is accepted.
        let Some(cluster) = cluster.filter(|_| !made.held.contains_key(place)) else { continue };
        let endpoints = objects.endpoints.get(place).cloned().unwrap_or_default();
        let cluster = Arc::new(Cluster { endpoints, ..Cluster::clone(cluster) });
        deltas.push(Delta::PutCluster { app: place.app.clone(), cluster });
    }
    match apply(&made.model, &deltas) {
        Ok(model) => made.model = model,
        // Not reached: every cluster is there.
        Err(error) => tracing::error!(%error, "a change of endpoints does not fit"),
    }
}

/// The table with the maintenance and the holds of these apps as they are now; costs what they have.
pub(super) fn reword(made: &mut Made, objects: &Objects, apps: &BTreeSet<AppName>) {
    let mut model = Model::clone(&made.model);
    let mut differs = false;
    for name in apps {
        let written = made.built.model.apps.get(name);
        let (Some(written), Some(app)) = (written, model.apps.get_mut(name)) else { continue };
        let routes = shown(name, &written.routes, objects);
        if routes != app.routes {
            *app = Arc::new(App { routes, ..App::clone(app) });
            differs = true;
        }
    }
    if differs {
        made.model = Arc::new(model);
    }
}

#[cfg(test)]
mod tests {
    use ekiden_config::model::Action;
    use serde_json::{Value, json};

    use super::super::wire::object;
    use super::*;

    const MAIN: &str = "[listener.edge]\naddress = \"127.0.0.1:8080\"\n[identity.shop]\ncert = \"a\"\nkey = \"b\"\napps = [\"shop\"]\n";

    fn main(text: &str) -> Source {
        Source { file: "router.toml".to_owned(), text: text.to_owned(), format: Format::Toml }
    }

    fn objects(all: &[(&str, Value)]) -> Objects {
        let (mut objects, mut touched) = (Objects::default(), Touched::default());
        for (key, value) in all {
            objects.take(object(key, Some(value.clone())).unwrap(), &mut touched);
        }
        objects
    }

    fn app(host: &str, cluster: Value) -> Value {
        json!({ "cluster": { "web": cluster }, "route": [{ "host": host, "cluster": "web" }] })
    }

    fn endpoint(port: u16) -> Value {
        json!({ "address": format!("127.0.0.1:{port}"), "weight": 1, "owner": "file" })
    }

    fn addresses(made: &Made, app: &str) -> Vec<String> {
        made.model.apps.get(app).unwrap().clusters["web"]
            .endpoints
            .iter()
            .map(|one| one.address.to_string())
            .collect()
    }

    #[test]
    fn an_app_that_names_what_this_router_lacks_is_refused_by_itself() {
        let good = app("a.example", json!({ "endpoints": ["127.0.0.1:1"] }));
        let tls = json!({ "endpoints": ["127.0.0.1:1"], "tls": { "identity": "cart" } });
        let bad = app("b.example", tls.clone());
        let made = make(
            &main(MAIN),
            &objects(&[("app/a", good.clone()), ("app/b", bad.clone()), ("endpoint/a/web/x", endpoint(7))]),
            None,
        )
        .unwrap();
        assert_eq!(addresses(&made, "a"), ["127.0.0.1:7"], "what control says, not the document");
        assert!(made.in_force.values().all(|text| !text.contains("endpoints")), "nor is it kept twice");
        assert!(!made.model.apps.contains_key("b"));
        let [refused] = made.refused.as_slice() else { panic!("{:?}", made.refused) };
        assert_eq!(refused.part, "app:b");
        assert!(refused.reason.starts_with("unknown_identity: there is no identity `cart`"), "{refused:?}");

        // It keeps the version before when there is one, with the endpoints of now.
        let before = make(&main(MAIN), &objects(&[("app/b", app("b.example", json!({})))]), None).unwrap();
        let now = objects(&[("app/b", bad), ("endpoint/b/web/x", endpoint(8))]);
        let made = make(&main(MAIN), &now, Some(&before)).unwrap();
        assert_eq!((addresses(&made, "b"), made.refused.len()), (vec!["127.0.0.1:8".to_owned()], 1));
        assert_eq!(made.in_force, before.in_force);
        // And is taken once the router has the name.
        let text = MAIN.replace("identity.shop", "identity.cart").replace("\"shop\"", "\"b\"");
        assert_eq!(make(&main(&text), &now, Some(&made)).unwrap().refused, []);
    }

    #[test]
    fn a_refused_app_keeps_the_endpoints_of_clusters_that_its_new_version_does_not_have() {
        let one = app("a.example", json!({}));
        let old = objects(&[("app/a", one.clone()), ("endpoint/a/web/x", endpoint(1))]);
        let before = make(&main(MAIN), &old, None).unwrap();
        let renamed = json!({
            "cluster": { "web2": { "tls": { "identity": "cart" } } },
            "route": [{ "host": "a.example", "cluster": "web2" }],
        });
        let mut now = objects(&[("app/a", renamed), ("endpoint/a/web2/x", endpoint(1))]);
        let made = make(&main(MAIN), &now, Some(&before)).unwrap();
        assert_eq!((addresses(&made, "a"), made.refused.len()), (vec!["127.0.0.1:1".to_owned()], 1));
        // Also over the next builds, and over a restart.
        let again = make(&main(MAIN), &now, Some(&made)).unwrap();
        assert_eq!((addresses(&again, "a"), &again.held), (vec!["127.0.0.1:1".to_owned()], &made.held));
        let kept = super::super::kept::Kept {
            objects: Arc::new(now.clone()),
            in_force: again.in_force.clone(),
            held: again.held.clone(),
            ..Default::default()
        };
        let good = make(&main(MAIN), &kept.good(), None).unwrap();
        let started = make(&main(MAIN), &kept.objects, Some(&good)).unwrap();
        assert_eq!((addresses(&started, "a"), started.held), (vec!["127.0.0.1:1".to_owned()], made.held));
        // Until it is accepted.
        now.take(object("app/a", Some(one.clone())).unwrap(), &mut Touched::default());
        let accepted = make(&main(MAIN), &now, Some(&again)).unwrap();
        assert_eq!((addresses(&accepted, "a").len(), accepted.held), (0, Endpoints::new()));
    }

    #[test]
    fn the_app_default_has_no_more_rights_than_others() {
        let tls = |identity: &str| json!({ "tls": { "identity": identity } });
        for (cluster, code) in [
            (tls("shop"), "identity_denied"),
            (json!({ "tls": { "ca": "/etc/passwd.pem" } }), "path_in_app"),
            (json!({ "tls": { "cert": "a.pem", "key": "b.pem" } }), "path_in_app"),
        ] {
            let all = objects(&[("app/default", app("a.example", cluster))]);
            let made = make(&main(MAIN), &all, None).unwrap();
            assert!(made.refused[0].reason.starts_with(code), "{:?}", made.refused);
        }
    }

    #[test]
    fn an_app_that_is_gone_is_gone_also_when_it_is_the_default() {
        let one = app("a.example", json!({}));
        let before = make(&main(MAIN), &objects(&[("app/default", one)]), None).unwrap();
        assert_eq!(before.model.route_count(), 1);
        let after = make(&main(MAIN), &objects(&[]), Some(&before)).unwrap();
        assert_eq!(after.model.route_count(), 0);
    }

    #[test]
    fn a_routers_file_holds_no_app() {
        for text in ["[cluster.web]\n", "apps = \"apps\"\n", "body_limit = 1\n"] {
            let text = if text.starts_with('[') { format!("{MAIN}{text}") } else { format!("{text}{MAIN}") };
            let found = make(&main(&text), &Objects::default(), None).unwrap_err();
            assert_eq!(found[0].code, "belongs_to_control", "{text}");
        }
    }

    #[test]
    fn endpoints_change_without_a_build() {
        let one = app("a.example", json!({}));
        let mut all =
            objects(&[("app/a", one), ("endpoint/a/web/x", endpoint(1)), ("endpoint/a/web/y", endpoint(2))]);
        let mut made = make(&main(MAIN), &all, None).unwrap();
        let routes = Arc::clone(&made.model.apps.get("a").unwrap().routes);
        let mut touched = Touched::default();
        all.take(object("endpoint/a/web/x", None).unwrap(), &mut touched);
        all.take(object("endpoint/a/web/z", Some(endpoint(3))).unwrap(), &mut touched);
        all.take(object("endpoint/no/web/z", Some(endpoint(3))).unwrap(), &mut touched);
        assert!(!touched.words);
        retouch(&mut made, &all, &touched.endpoints);
        assert_eq!(addresses(&made, "a"), ["127.0.0.1:2", "127.0.0.1:3"]);
        let (place, list) = all.endpoints.first_key_value().unwrap();
        assert_eq!(place.app.as_str(), "a");
        assert!(
            Arc::ptr_eq(list, &made.model.apps.get("a").unwrap().clusters["web"].endpoints),
            "one list for both"
        );
        assert!(Arc::ptr_eq(&routes, &made.model.apps.get("a").unwrap().routes));
        let anew = make(&main(MAIN), &all, None).unwrap();
        assert_eq!(anew.model, made.model, "the short way leads where the long one does");
    }

    #[test]
    fn maintenance_and_holds_change_without_a_build() {
        let one = app("a.example", json!({}));
        let mut all = objects(&[("app/a", one), ("endpoint/a/web/x", endpoint(1))]);
        let mut made = make(&main(MAIN), &all, None).unwrap();
        let written = Arc::clone(&made.model);
        let mut say = |key: &str, value: Option<&Value>| {
            let mut touched = Touched::default();
            all.take(object(key, value.cloned()).unwrap(), &mut touched);
            assert!(!touched.words && touched.endpoints.is_empty());
            reword(&mut made, &all, &touched.closed);
            let anew = make(&main(MAIN), &all, Some(&made)).unwrap();
            assert_eq!(anew.model, made.model, "the short way leads where the long one does");
            assert_eq!(addresses(&made, "a"), ["127.0.0.1:1"]);
            Arc::clone(&made.model)
        };
        let hold = json!({ "max": 2, "wait_ms": 5 });
        let model = say("hold/a", Some(&hold));
        assert_eq!(model.apps.get("a").unwrap().routes[0].hold.map(|hold| hold.max), Some(2));
        // Who is told to come back later does not wait.
        let model = say("maintenance/a", Some(&json!({ "page": "<p>later</p>" })));
        let route = &model.apps.get("a").unwrap().routes[0];
        let page = Some(Arc::from("<p>later</p>"));
        assert_eq!((&route.action, route.hold), (&Action::Maintenance(page), None));
        let model = say("maintenance/a", None);
        assert!(model.apps.get("a").unwrap().routes[0].hold.is_some());
        assert_eq!(say("hold/a", None), written);
        // Of an app that is not there, and of no watch, nothing changes.
        assert!(Arc::ptr_eq(&say("maintenance/b", Some(&json!({}))), &say("watch/a", Some(&json!({})))));
        assert!(all.watched.contains("a"));
    }
}
