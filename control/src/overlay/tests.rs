//! The merge of a cluster: order, who owns an id, drain marks, pointer reuse.

use ekiden_config::model::{Balance, ClusterPolicy, Owner};

use super::*;
use crate::address::parse_address;
use crate::store::Record;

fn endpoint(owner: Owner, id: &str, port: u16) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        id: EndpointId::new(id).unwrap(),
        address: parse_address(&format!("127.0.0.1:{port}")).unwrap(),
        weight: 1,
        priority: 0,
        drain: false,
        tags: None,
        owner,
    })
}

fn cluster(endpoints: Vec<Arc<Endpoint>>) -> Arc<Cluster> {
    let policy = ClusterPolicy {
        balance: Balance::P2c,
        probe: None,
        pool_idle: 1,
        pool_idle_timeout: std::time::Duration::from_secs(1),
        peer_router: false,
        report_load: false,
        subset: None,
        adaptive: None,
        probe_load: None,
        send_proxy: None,
        queue: 1,
        slots: None,
        retry_budget: None,
        breaker: None,
        readiness: ekiden_config::model::ReadinessPolicy::default(),
        tls: None,
        protocol: Default::default(),
        shard: None,
        affinity: None,
    };
    Arc::new(Cluster {
        name: ClusterName::new("web").unwrap(),
        policy: Arc::new(policy),
        endpoints: Arc::new(endpoints),
        names: Arc::default(),
    })
}

fn part(endpoints: &[Arc<Endpoint>], marks: &[(&str, bool)]) -> Part {
    Part {
        endpoints: endpoints
            .iter()
            .map(|one| (one.id.clone(), (Arc::clone(one), Standing::Beside)))
            .collect(),
        marks: marks.iter().map(|(id, drain)| (EndpointId::new(id).unwrap(), *drain)).collect(),
    }
}

fn shown(cluster: &Cluster) -> Vec<String> {
    let text =
        |one: &Arc<Endpoint>| format!("{} {:?}{}", one.id, one.owner, if one.drain { " drain" } else { "" });
    cluster.endpoints.iter().map(text).collect()
}

#[test]
fn files_come_before_dns_and_dns_before_the_api() {
    let base = cluster(vec![endpoint(Owner::File, "b", 1), endpoint(Owner::File, "d", 2)]);
    let dns = vec![endpoint(Owner::Source, "b", 3), endpoint(Owner::Source, "c", 4)];
    let api = part(
        &[endpoint(Owner::Api, "a", 5), endpoint(Owner::Api, "c", 6), endpoint(Owner::Api, "e", 9902)],
        &[("d", true), ("nobody", true)],
    );
    let own = |one: &Endpoint| one.address == parse_address("127.0.0.1:9902").unwrap();
    let merged = merge(&base, dns, Some(&api), None, &own);
    assert_eq!(shown(&merged.cluster), ["a Api", "b File", "c Source", "d File drain"]);
    let dormant: Vec<_> = merged.dormant.iter().map(|one| (one.endpoint.id.as_str(), one.why)).collect();
    assert_eq!(dormant, [("b", Dormancy::Shadowed), ("c", Dormancy::Shadowed), ("e", Dormancy::OwnAddress)]);
}

#[test]
fn an_adopted_endpoint_stands_in_for_the_one_of_the_file() {
    let base = cluster(vec![endpoint(Owner::File, "b", 1), endpoint(Owner::File, "d", 2)]);
    let dns = vec![endpoint(Owner::Source, "c", 4)];
    let mut api =
        part(&[endpoint(Owner::Api, "b", 5), endpoint(Owner::Api, "c", 6)], &[("b", true), ("d", true)]);
    api.endpoints.values_mut().for_each(|(_, standing)| *standing = Standing::Adopted);
    let merged = merge(&base, dns, Some(&api), None, &|_| false);
    assert_eq!(shown(&merged.cluster), ["b Api", "c Api", "d File drain"], "marks stay with the file's");
    assert!(merged.dormant.is_empty());
    api.endpoints.values_mut().for_each(|(_, standing)| *standing = Standing::Starting);
    let merged = merge(&base, Vec::new(), Some(&api), None, &|_| false);
    assert_eq!(shown(&merged.cluster), ["b File drain", "d File drain"], "what starts is not served");
}

#[test]
fn what_did_not_change_stays_pointer_equal() {
    let none = |_: &Endpoint| false;
    let base = cluster(vec![endpoint(Owner::File, "b", 1), endpoint(Owner::File, "d", 2)]);
    assert!(Arc::ptr_eq(&merge(&base, Vec::new(), None, None, &none).cluster, &base));

    let overlaid = part(&[endpoint(Owner::Api, "a", 5)], &[("d", true)]);
    let first = merge(&base, Vec::new(), Some(&overlaid), None, &none).cluster;
    let again = part(&[endpoint(Owner::Api, "a", 5)], &[("d", true)]);
    let second = merge(&base, Vec::new(), Some(&again), Some(&first), &none).cluster;
    assert!(Arc::ptr_eq(&first, &second));

    let more = part(&[endpoint(Owner::Api, "a", 5), endpoint(Owner::Api, "z", 6)], &[("d", true)]);
    let third = merge(&base, Vec::new(), Some(&more), Some(&second), &none).cluster;
    assert!(first.endpoints.iter().zip(third.endpoints.iter()).all(|(a, b)| Arc::ptr_eq(a, b)));
    assert!(Arc::ptr_eq(&third.policy, &base.policy));
}

#[test]
fn counts_follow_the_records() {
    let key = |id: &str| Key {
        app: AppName::default_app(),
        cluster: ClusterName::new("web").unwrap(),
        id: EndpointId::new(id).unwrap(),
    };
    let mut overlay = Overlay::default();
    for (record, counts) in [
        (Record::Put(key("a"), endpoint(Owner::Api, "a", 1), Standing::Beside), (1, 0)),
        (Record::Put(key("a"), endpoint(Owner::Api, "a", 2), Standing::Beside), (1, 0)),
        (Record::Put(key("a"), endpoint(Owner::Api, "a", 2), Standing::Starting), (1, 0)),
        (Record::Mark(key("b"), true), (1, 1)),
        (Record::Mark(key("b"), false), (1, 1)),
        (Record::Delete(key("b")), (1, 1)),
        (Record::Delete(key("a")), (0, 1)),
        (Record::Delete(key("a")), (0, 1)),
        (Record::Unmark(key("b")), (0, 0)),
    ] {
        overlay.apply(&record);
        assert_eq!((overlay.endpoint_count(), overlay.mark_count()), counts, "{record:?}");
    }
    assert_eq!(overlay, Overlay::default());
}
