//! Address texts, and which addresses are the process's own.

use super::*;

#[test]
fn texts() {
    let tcp = |text: &str| Ok(Target::Address(Address::Tcp(text.parse().unwrap())));
    let unix = |path: &str| Ok(Target::Address(Address::Unix(Arc::from(path))));
    let name = |name: &str, port| Ok(Target::Name { name: Arc::from(name), port });
    let service = |name: &str| Ok(Target::Service { name: Arc::from(name) });
    for (text, want) in [
        ("127.0.0.1:80", tcp("127.0.0.1:80")),
        ("[::1]:80", tcp("[::1]:80")),
        ("unix:/a/b", unix("/a/b")),
        ("Web.Internal.:80", name("web.internal", 80)),
        ("localhost:65535", name("localhost", 65535)),
        ("127.0.0.1", Err(AddressError::NoPort)),
        ("[::1]", Err(AddressError::NoPort)),
        ("web", Err(AddressError::NoPort)),
        ("", Err(AddressError::NoPort)),
        ("web:", Err(AddressError::BadPort)),
        ("web:0", Err(AddressError::BadPort)),
        ("web:+1", Err(AddressError::BadPort)),
        ("web:65536", Err(AddressError::BadPort)),
        ("::1:80", Err(AddressError::BareIpv6)),
        ("[::g]:80", Err(AddressError::BadIpv6)),
        ("[::1:80", Err(AddressError::BadIpv6)),
        (":80", Err(AddressError::BadName)),
        ("1.2.3:80", Err(AddressError::BadName)),
        ("256.1.1.1:80", Err(AddressError::BadName)),
        ("a b:80", Err(AddressError::BadName)),
        ("-a:80", Err(AddressError::BadName)),
        ("unix:a", Err(AddressError::BadUnixPath)),
        ("unix:", Err(AddressError::BadUnixPath)),
        ("unix:/a\nb", Err(AddressError::BadUnixPath)),
        ("http://a:80", Err(AddressError::Url)),
        ("srv:80", name("srv", 80)),
        ("srv:_Http._tcp.web.internal.", service("srv:_http._tcp.web.internal")),
        ("srv:", Err(AddressError::BadPort)),
        ("srv:a b", Err(AddressError::BadService)),
        ("etcd:main/services/web/", Ok(Target::Keys { name: Arc::from("etcd:main/services/web/") })),
        ("etcd:2379", Ok(Target::Name { name: Arc::from("etcd"), port: 2379 })),
        ("etcd:main/services/web", Err(AddressError::BadKeys)),
        ("etcd:main/", Err(AddressError::BadKeys)),
        ("etcd:/services/web/", Err(AddressError::BadKeys)),
        ("etcd:main", Err(AddressError::BadKeys)),
        ("etcd:main/a b/", Err(AddressError::BadKeys)),
        ("srv:_http._tcp.web:80", Err(AddressError::BadService)),
    ] {
        assert_eq!(parse(text), want, "{text}");
    }
    assert_eq!(parse(&format!("unix:/{}", "a".repeat(107))), Err(AddressError::BadUnixPath));
    assert!(parse(&format!("unix:/{}", "a".repeat(106))).is_ok());
}

fn address(text: &str) -> Address {
    match parse(text).unwrap() {
        Target::Address(address) => address,
        Target::Name { name, .. } | Target::Service { name } | Target::Keys { name } => panic!("{name}"),
    }
}

#[test]
fn own() {
    let local = ["10.0.0.5".parse().unwrap()];
    for (endpoint, bound, own) in [
        ("127.0.0.1:9", "127.0.0.1:9", true),
        ("127.0.0.1:8", "127.0.0.1:9", false),
        ("127.0.0.2:9", "127.0.0.1:9", false),
        ("0.0.0.0:9", "127.0.0.1:9", true),
        ("[::ffff:127.0.0.1]:9", "127.0.0.1:9", true),
        ("127.0.0.2:9", "0.0.0.0:9", true),
        ("10.0.0.5:9", "0.0.0.0:9", true),
        ("10.0.0.6:9", "0.0.0.0:9", false),
        ("[::1]:9", "0.0.0.0:9", false),
        ("[::1]:9", "[::]:9", true),
        ("127.0.0.1:9", "[::]:9", true),
        ("10.0.0.5:9", "[::]:9", true),
        ("10.0.0.5:9", "10.0.0.5:9", true),
        ("0.0.0.0:9", "10.0.0.5:9", false),
        ("unix:/a", "unix:/a", true),
        ("unix:/a", "unix:/b", false),
        ("unix:/a", "127.0.0.1:9", false),
    ] {
        assert_eq!(is_own(&address(endpoint), &address(bound), &local), own, "{endpoint} at {bound}");
    }
    // Without the list of interfaces only what is certain is own.
    assert!(!is_own(&address("10.0.0.5:9"), &address("0.0.0.0:9"), &[]));
}

#[test]
fn overlap() {
    for (a, b, both) in [
        ("127.0.0.1:9", "127.0.0.1:9", true),
        ("127.0.0.1:9", "127.0.0.2:9", false),
        ("0.0.0.0:9", "127.0.0.1:9", true),
        ("0.0.0.0:9", "[::1]:9", false),
        ("[::]:9", "127.0.0.1:9", true),
        ("[::]:9", "0.0.0.0:9", true),
        ("unix:/a", "unix:/a", true),
    ] {
        assert_eq!(overlaps(&address(a), &address(b)), both, "{a} {b}");
        assert_eq!(overlaps(&address(b), &address(a)), both, "{b} {a}");
    }
}
