//! Steps of admission follow their words from table to table, and routes with the same words share them.

use std::sync::Arc;

use ekiden_config::model::{Admission, Listener, Model};

use super::Compiler;
use super::words::{app, listener_name, model, rule};
use ekiden_config::doors::Generation;

fn words(methods: &[&str]) -> Option<Arc<Admission>> {
    let allow_methods = methods.iter().map(|name| Arc::from(*name)).collect();
    Some(Arc::new(Admission { allow_methods, ..Admission::default() }))
}

fn with_listener(mut model: Model, admission: Option<Arc<Admission>>) -> Arc<Model> {
    let name = listener_name("edge");
    let listener = Listener { admission, ..(*model.listeners[&name]).clone() };
    model.listeners.insert(name, Arc::new(listener));
    Arc::new(model)
}

#[test]
fn steps_are_shared_and_follow_their_words() {
    let mut rules = vec![rule("- /a"), rule("- /b"), rule("- /c")];
    let shared = words(&["GET"]);
    rules[0].admission = shared.clone();
    rules[1].admission = shared;
    let first = model([app("one", rules, &[])]);
    let mut compiler = Compiler::new(1);
    let table = compiler.compile(&with_listener(first.clone(), None), Generation(1)).table;
    let steps: Vec<_> = table.routes().map(|entry| entry.admission.clone()).collect();
    assert!(Arc::ptr_eq(steps[0].as_ref().unwrap(), steps[1].as_ref().unwrap()));
    assert!(steps[2].is_none());
    assert!(table.listeners.iter().all(|table| table.admission.is_none()));

    // Only the listener changed: its steps are there, the routes keep theirs.
    let guarded = words(&["PUT"]);
    let edge = |table: &super::Table| {
        table.listeners[0].admission.as_ref().map(|steps| steps.allow_line().to_owned())
    };
    let table = compiler.compile(&with_listener(first.clone(), guarded.clone()), Generation(2)).table;
    assert_eq!(edge(&table).as_deref(), Some("PUT"));
    let kept: Vec<_> = table.routes().map(|entry| entry.admission.clone()).collect();
    assert!(Arc::ptr_eq(kept[0].as_ref().unwrap(), steps[0].as_ref().unwrap()));
    let table = compiler.compile(&with_listener(first.clone(), words(&["GET"])), Generation(3)).table;
    assert_eq!(edge(&table).as_deref(), Some("GET, HEAD"));
    let table = compiler.compile(&with_listener(first, None), Generation(4)).table;
    assert_eq!(edge(&table), None);

    let mut rules = vec![rule("- /a"), rule("- /b"), rule("- /c")];
    rules[2].admission = words(&["PURGE"]);
    let table = compiler.compile(&Arc::new(model([app("one", rules, &[])])), Generation(5)).table;
    let lines: Vec<_> = table
        .routes()
        .map(|entry| entry.admission.as_ref().map(|steps| steps.allow_line().to_owned()))
        .collect();
    assert_eq!(lines, [None, None, Some("PURGE".to_owned())]);
}
