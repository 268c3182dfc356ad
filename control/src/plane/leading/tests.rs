//! What a process that follows hears, and what it takes for what.

use super::*;
use ekiden_config::names::ClusterName;

use crate::election::Leader;
use crate::store::{Journal, Txn, Write};

#[derive(Debug)]
struct Follows(watch::Sender<Role>);

impl Elector for Follows {
    fn role(&self) -> watch::Receiver<Role> {
        self.0.subscribe()
    }

    fn leads(&self) -> bool {
        false
    }

    fn beat(&self) {}
}

fn following() -> Role {
    Role::Following { leader: Some(Leader::default()), reason: String::new() }
}

#[tokio::test]
async fn what_was_written_during_the_start_is_heard_of_though_nobody_writes_again() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Journal::open(dir.path()).unwrap().0);
    let elector: Arc<dyn Elector> = Arc::new(Follows(watch::Sender::new(following())));
    // Somebody writes while this process starts.
    let write = Write { key: Arc::from("apps/shop"), value: Some(Arc::from("{}")) };
    store.commit(Txn { when: Vec::new(), writes: vec![write] }).await.unwrap();
    let mut turns = Turns::new(Some(&elector), Some(&store));
    assert!(matches!(next(&mut turns).await, Heard::Role(Role::Following { .. })), "the role first");
    assert!(matches!(next(&mut turns).await, Heard::Stored));
    // A store that is not shared is nobody else's: nothing is heard of it.
    let mut alone = Turns::new(None, Some(&store));
    assert!(alone.heard(true).await.is_none());
}

/// What is heard next, beats aside.
async fn next(turns: &mut Turns) -> Heard {
    loop {
        if let Some(heard) = turns.heard(true).await {
            return heard;
        }
    }
}

#[test]
fn each_kind_of_object_is_taken_for_what_it_is() {
    let place = || ClusterKey { app: app(), cluster: ClusterName::new("web").unwrap() };
    let rows = [
        ("endpoints/shop/web/a", Kind::Record),
        ("marks/shop/web/a", Kind::Record),
        ("placements/shop/web", Kind::Part(place())),
        ("confirmed/dns:web.test", Kind::Confirmed(Arc::from("dns:web.test"))),
        ("maintenance/shop", Kind::Word(app())),
        ("holds/shop", Kind::Word(app())),
        ("guards/shop", Kind::InNoTable),
        ("versions/shop/1", Kind::InNoTable),
        ("releases/shop/1", Kind::InNoTable),
        ("formations/shop", Kind::InNoTable),
        ("fleet/term", Kind::InNoTable),
        ("apps/shop", Kind::Built),
        ("hosts/shop.example", Kind::Built),
        // Of a later version.
        ("spells/shop", Kind::Built),
        ("placements/shop", Kind::Built),
        ("holds/a b", Kind::Built),
        ("confirmed/", Kind::Built),
    ];
    for (key, wanted) in rows {
        assert_eq!(kind(key), wanted, "{key}");
    }
}

fn app() -> AppName {
    AppName::new("shop").unwrap()
}
