//! Rate limits of listeners, apps and routes, over the real binary: who is counted as whom, what a refusal says, what all
//! workers and all tables share.
//!
//! Where a verdict must not depend on the time a test takes, the rate is some per hour and the burst decides.

mod answers;
mod keys;
mod rates;
mod shared;
mod stores;
mod units;

use ekiden_tests::{Client, Echo, Ekiden, Response, Setup, web};

/// A router with one endpoint, these keys of the route and these of the listener.
fn serve(echo: &Echo, route: &str, listener: &str) -> Ekiden {
    Ekiden::start(Setup::new(web(&[echo.address], "", route)).listener(listener))
}

/// How many of the requests were served; the others must be refused by a rate limit.
fn passed(client: &mut Client, request: &str, count: usize) -> usize {
    (0..count).filter(|_| is_served(&client.ask(request))).count()
}

fn is_served(response: &Response) -> bool {
    match response.status {
        200 => true,
        429 => {
            assert_eq!(response.code(), "rate_limited");
            false
        }
        _ => panic!("{response:?}"),
    }
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}
