//! What stands in front of a first request: headers of the PROXY protocol, and the ClientHello of TLS that is passed on. Reading never
//! panics, asks for bytes that can be the header's and for no more than its bound, and what is read is read again when it is written;
//! how a ClientHello arrives changes nothing.
#![no_main]

use ekiden_router::tls::passthrough::Hello;
use ekiden_router::wire::proxy::{self, Begun, HEADER_MAX, LINE_MAX, Origin, SIGNATURE, Said};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = hello(data, data.len());
    if let (Some(whole), Some(slow)) = (&whole, hello(data, 1)) {
        assert_eq!(*whole, slow, "at once and byte by byte");
    }
    if let Some(host) = whole {
        assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' '), "{host:?}");
    }
    proxy_header(data);
});

/// The host that a ClientHello names which comes in pieces of so many bytes.
fn hello(data: &[u8], step: usize) -> Option<String> {
    let (mut hello, mut host, mut have) = (Hello::default(), String::new(), 0);
    while have < data.len() {
        have = (have + step).min(data.len());
        match hello.look(&data[..have], &mut host) {
            Ok(true) => return Some(host),
            Ok(false) => {}
            Err(()) => return None,
        }
    }
    None
}

fn proxy_header(data: &[u8]) {
    let mut have = 0;
    let origin = loop {
        let bytes = data.get(..have).unwrap_or(data);
        match proxy::read(bytes) {
            Err(proxy::Malformed) => return,
            Ok(Begun::Header(origin)) => break origin,
            Ok(Begun::More(more)) => {
                let bound = if bytes.starts_with(SIGNATURE) { HEADER_MAX } else { LINE_MAX };
                assert!(more > 0 && have + more <= bound, "{more} after {have}");
                have += more;
                if have > data.len() {
                    return;
                }
            }
        }
    };
    let Origin::Client(client) = origin else { return };
    let said = Said { addresses: Some((client, client)), alpn: Some(b"h2"), name: Some("a"), id: "id" };
    for put in [proxy::put_line, proxy::put_binary] {
        let mut bytes = Vec::new();
        put(&mut bytes, &said);
        let Ok(Begun::Header(Origin::Client(again))) = proxy::read(&bytes) else { panic!("{bytes:?}") };
        assert_eq!((again.ip(), again.port()), (client.ip().to_canonical(), client.port()));
    }
}
