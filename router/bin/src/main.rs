//! The command line.
use std::sync::Arc;
use std::time::Duration;
use ekiden_config::doors::Publisher;
fn main() {
    let path = std::env::args().nth(2).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let source = ekiden_config::Source { file: path, text, format: ekiden_config::Format::Toml };
    let built = match ekiden_config::build(ekiden_config::Input { main: &source, apps: &[], previous: None, hosts: &Default::default() }) {
        Ok(b) => b,
        Err(d) => { for x in d { eprintln!("{x:?}"); } std::process::exit(1) }
    };
    let router = ekiden_router::Router::start(ekiden_router::Options {
        workers: built.process.workers.unwrap_or(1) as usize,
        access_log: built.process.access_log.clone(),
        max_connections: None,
        inherited: Default::default(),
        on_fatal: Arc::new(|m| { eprintln!("{m}"); std::process::exit(70) }),
    }).unwrap();
    let mut p = router.publisher().unwrap();
    println!("{:?}", p.publish(built.model).wait(Duration::from_secs(5)));
    std::thread::park();
}
