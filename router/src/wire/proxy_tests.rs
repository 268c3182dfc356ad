//! Headers of the PROXY protocol: what is read of them, what is refused, and that what is written is read again.

use super::*;

/// Reads as a connection is read: never more than asked for. Gives what was left unread.
fn taken(bytes: &[u8]) -> Result<(Origin, &[u8]), Option<Malformed>> {
    let mut have = 0;
    loop {
        match read(&bytes[..have]).map_err(Some)? {
            Begun::Header(origin) => return Ok((origin, &bytes[have..])),
            Begun::More(count) => {
                assert!(count > 0);
                if have + count > bytes.len() {
                    return Err(None);
                }
                have += count;
            }
        }
    }
}

fn client(text: &str) -> Origin {
    Origin::Client(text.parse().unwrap())
}

fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
    bytes.extend(block);
    bytes
}

const V4: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 0x12, 0x34, 0, 80];

#[test]
fn lines() {
    let longest = format!("PROXY TCP6 {0} {0} 65535 65535\r\n", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    assert!(longest.len() <= LINE_MAX);
    for (line, expected) in [
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n", client("1.2.3.4:1000")),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", client("1.1.1.1:1")),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n", client("255.255.255.255:65535")),
        ("PROXY TCP6 :: :: 1 1\r\n", client("[::]:1")),
        ("PROXY TCP6 2001:db8::1 ::1 4000 443\r\n", client("[2001:db8::1]:4000")),
        ("PROXY TCP6 ::ffff:1.2.3.4 ::1 4000 443\r\n", client("[::ffff:1.2.3.4]:4000")),
        (&longest, client("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")),
        ("PROXY UNKNOWN\r\n", Origin::Socket),
        ("PROXY UNKNOWN ffff::1 what ever 1 2\r\n", Origin::Socket),
    ] {
        for behind in ["", "G", "GET / HTTP/1.1\r\n\r\n", "\r\n", "PROXY "] {
            let bytes = [line, behind].concat();
            assert_eq!(taken(bytes.as_bytes()), Ok((expected, behind.as_bytes())), "{bytes:?}");
        }
        for cut in 0..line.len() {
            assert_eq!(taken(&line.as_bytes()[..cut]), Err(None), "{line:?} cut at {cut}");
        }
    }
}

#[test]
fn lines_that_are_none() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MAX));
    for line in [
        "GET / HTTP/1.1\r\n",
        "proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n.................",
        "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP6 ::1 1.2.3.4 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UNKNOWNX\r\n................",
        "PROXY TCP4 1.2.3.4\r 5.6.7.8 1 2\r\n",
        "PROXY TCP4 \u{e4} 5.6.7.8 1 2\r\n",
        &long,
    ] {
        assert_eq!(taken(line.as_bytes()), Err(Some(Malformed)), "{line:?}");
    }
}

#[test]
fn binary_headers() {
    let v6: Vec<u8> = [[0x20; 16], [0x30; 16]].concat().into_iter().chain([0, 9, 0, 1]).collect();
    let with = |block: &[u8], values: &[u8]| [block, values].concat();
    let crc = |wrong: u8| {
        let mut bytes = binary(0x21, 0x11, &with(&V4, &[TYPE_CRC32C, 0, 4, 0, 0, 0, 0]));
        let at = bytes.len() - 4;
        let sum = crc32c(bytes.iter().copied()).to_be_bytes();
        bytes[at..].copy_from_slice(&sum);
        bytes[at] ^= wrong;
        bytes
    };
    let good = [
        (binary(0x21, 0x11, &V4), client("1.2.3.4:4660")),
        (binary(0x21, 0x21, &v6), client("[2020:2020:2020:2020:2020:2020:2020:2020]:9")),
        (binary(0x21, 0x11, &with(&V4, &[0x04, 0, 2, 9, 9, 0xea, 0, 0])), client("1.2.3.4:4660")),
        (crc(0), client("1.2.3.4:4660")),
        (binary(0x20, 0x00, &[]), Origin::Socket),
        (binary(0x20, 0x11, &V4), Origin::Socket),
        (binary(0x20, 0xff, &[1, 2, 3]), Origin::Socket),
        (binary(0x21, 0x00, &[]), Origin::Socket),
        (binary(0x21, 0x12, &V4), Origin::Socket),
        (binary(0x21, 0x31, &[0; 216]), Origin::Socket),
        (binary(0x20, 0x00, &[0; HEADER_MAX - 16]), Origin::Socket),
    ];
    for (bytes, expected) in good {
        let followed = [bytes.clone(), b"GET /".to_vec()].concat();
        assert_eq!(taken(&followed), Ok((expected, &b"GET /"[..])), "{bytes:?}");
        for cut in 0..bytes.len() {
            assert_eq!(taken(&bytes[..cut]), Err(None), "{bytes:?} cut at {cut}");
        }
    }
    let bad = [
        binary(0x11, 0x11, &V4),
        binary(0x31, 0x11, &V4),
        binary(0x22, 0x11, &V4),
        binary(0x21, 0x13, &V4),
        binary(0x21, 0x41, &V4),
        binary(0x21, 0x11, &V4[..11]),
        binary(0x21, 0x21, &v6[..35]),
        binary(0x21, 0x31, &[0; 215]),
        binary(0x21, 0x11, &with(&V4, &[4])),
        binary(0x21, 0x11, &with(&V4, &[4, 0, 1])),
        binary(0x21, 0x11, &with(&V4, &[4, 0xff, 0xff, 1])),
        binary(0x21, 0x11, &with(&V4, &[TYPE_CRC32C, 0, 3, 0, 0, 0])),
        crc(1),
        binary(0x20, 0x00, &[0; HEADER_MAX - 15]),
    ];
    for bytes in bad {
        assert_eq!(taken(&bytes), Err(Some(Malformed)), "{bytes:?}");
    }
}

#[test]
fn the_checksum_is_crc32c() {
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
}

#[test]
fn what_is_written_is_read_again() {
    let rows = [
        ("1.2.3.4:5", "6.7.8.9:80", "1.2.3.4:5"),
        ("[2001:db8::1]:5", "[::1]:80", "[2001:db8::1]:5"),
        ("[::ffff:1.2.3.4]:5", "6.7.8.9:80", "1.2.3.4:5"),
        ("1.2.3.4:5", "[::1]:80", "[::ffff:1.2.3.4]:5"),
    ];
    for (from, to, expected) in rows {
        let addresses = Some((from.parse().unwrap(), to.parse().unwrap()));
        let said = Said { addresses, alpn: Some(b"h2"), name: Some("a.test"), id: "0123" };
        let (mut line, mut block) = (Vec::new(), Vec::new());
        put_line(&mut line, &said);
        put_binary(&mut block, &said);
        for bytes in [line, block] {
            assert_eq!(taken(&bytes), Ok((client(expected), &[][..])), "{from} {to}");
        }
    }
    for put in [put_line, put_binary] {
        let mut bytes = Vec::new();
        put(&mut bytes, &Said::default());
        assert_eq!(taken(&bytes), Ok((Origin::Socket, &[][..])));
    }
    let mut bytes = Vec::new();
    put_local(&mut bytes);
    assert_eq!(taken(&bytes), Ok((Origin::Socket, &[][..])));
}

#[test]
fn values_stand_as_the_specification_says() {
    let addresses = Some(("1.2.3.4:4660".parse().unwrap(), "5.6.7.8:80".parse().unwrap()));
    let said = Said { addresses, alpn: Some(b"h2"), name: Some("a.b"), id: "id" };
    let mut bytes = Vec::new();
    put_binary(&mut bytes, &said);
    let values = b"\x01\0\x02h2\x02\0\x03a.b\x05\0\x02id";
    assert_eq!(bytes, binary(0x21, 0x11, &[&V4[..], values].concat()));
    // An id that is too long, and what is not known, are left out.
    bytes.clear();
    put_binary(&mut bytes, &Said { addresses, id: &"x".repeat(129), ..Said::default() });
    assert_eq!(bytes, binary(0x21, 0x11, &V4));
}
