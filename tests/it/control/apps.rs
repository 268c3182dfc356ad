//! Apps by API over real sockets: an answer is true for every request after it, and lasts, whenever the process is killed.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use ekiden_tests::{Client, Ekiden, Served, Setup, Stamped, cluster, until_true, web};
use serde_json::json;

use super::{one, problem};

/// Restarts after a kill; `EKIDEN_KILLS` asks for more.
const KILLS: u16 = 20;
/// Endpoints that are written again and again.
const IDS: u16 = 5;
/// First port; each write has the next. Above those of `free_port`: an endpoint may not be the address of this process itself.
const FIRST: u16 = 40_000;

#[test]
fn an_app_serves_from_its_answer_on_and_an_older_version_too() {
    let (_file, router) = one();
    let (first, second) = (Stamped::start("first"), Stamped::start("second"));
    let spec = |origin: &Stamped| {
        let endpoint = origin.address.to_string();
        json!({ "spec": {
            "cluster": { "web": { "endpoints": [endpoint] } },
            "route": [{ "host": "shop.example", "cluster": "web" }],
        }})
        .to_string()
    };
    let asked = |router: &Ekiden| {
        let mut client: Client = router.client();
        client.get("shop.example", "/").text()
    };
    assert_eq!(asked(&router), "file", "the route without a host");
    assert_eq!(router.control("PUT", "/v1/apps/shop", &spec(&first)).status, 201);
    assert_eq!(asked(&router), "first");
    assert_eq!(router.control("PUT", "/v1/apps/shop", &spec(&second)).status, 200);
    assert_eq!(asked(&router), "second");
    let (status, code) = problem(&router.control("PUT", "/v1/apps/shop", "{\"spec\":{\"rout\":[]}}"));
    assert_eq!((status, code.as_str()), (422, "invalid_app"));
    assert_eq!(asked(&router), "second", "a refused change changes nothing");
    assert_eq!(router.control("POST", "/v1/apps/shop/rollback", "{\"version\":1}").status, 200);
    assert_eq!(asked(&router), "first");
    let router = Ekiden::start(router.kill());
    assert_eq!(asked(&router), "first", "the first table after a kill has it");
    assert_eq!(router.control("DELETE", "/v1/apps/shop", "").status, 200);
    assert_eq!(asked(&router), "file");
}

#[test]
fn killed_at_any_moment_it_has_every_change_that_was_answered() {
    let origin = Stamped::start("file");
    let mut setup =
        Setup::new(format!("{}\n{}", web(&[origin.address], "", ""), cluster("many", &[origin.address], "")));
    let next = Arc::new(AtomicU16::new(0));
    // The newest answered port of each id.
    let answered = Arc::new(Mutex::new(vec![0_u16; usize::from(IDS)]));
    let kills = std::env::var("EKIDEN_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    for round in 0..kills {
        let router = Ekiden::start(setup);
        let listed = router.control("GET", "/v1/apps/default/clusters/many/endpoints", "").json();
        for (number, wanted) in answered.lock().unwrap().iter().enumerate().filter(|(_, wanted)| **wanted > 0)
        {
            let id = format!("e{number}");
            let all = listed["endpoints"].as_array().unwrap();
            let found = all
                .iter()
                .find(|one| one["id"] == id.as_str())
                .unwrap_or_else(|| panic!("round {round}: {id} was answered and is gone: {listed}"));
            let port: u16 = found["address"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
            let tried = FIRST + next.load(Ordering::Acquire);
            assert!(
                (*wanted..=tried).contains(&port),
                "round {round}: {id} is at {port}, answered was {wanted}"
            );
        }
        let control = router.control;
        let from = next.load(Ordering::Acquire);
        let (counter, noted) = (Arc::clone(&next), Arc::clone(&answered));
        let writer = thread::spawn(move || {
            // Ends with the process that it writes to.
            loop {
                let number = counter.fetch_add(1, Ordering::AcqRel);
                let (id, port) = (number % IDS, FIRST + number);
                let body = format!("{{\"address\":\"127.0.0.1:{port}\"}}");
                let path = Ekiden::endpoint_path("many", &format!("e{id}"));
                let head = format!(
                    "PUT {path} HTTP/1.1\r\nHost: {control}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let Ok(stream) = std::net::TcpStream::connect(control) else { return };
                let mut client = Client::over(stream);
                client.send(&head);
                match client.read(false) {
                    // 202: not every worker has it yet; it lasts all the same.
                    Ok(answer) if matches!(answer.status, 200 | 202) => {
                        noted.lock().unwrap()[usize::from(id)] = port;
                    }
                    Ok(answer) => panic!("a write was refused: {answer:?}"),
                    // Killed.
                    Err(_) => return,
                }
            }
        });
        // Somewhere inside the write after these.
        until_true("some writes", || next.load(Ordering::Acquire) > from + 3 + round % 10 * 2);
        setup = router.kill();
        writer.join().unwrap();
    }
}
