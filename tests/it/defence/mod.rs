//! What floods and slow clients meet: a bound, a code, a metric, and a normal client that is served meanwhile.

mod descriptors;
mod door;
mod slow;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use ekiden_tests::{Client, Lost};
use socket2::{Domain, Socket, Type};

/// An address that attacks.
const HOSTILE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// An address that does not.
const NORMAL: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A connection from an address of this machine.
fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// A client at an address of this machine.
fn client_from(source: Ipv4Addr, to: SocketAddr) -> Client {
    Client::over(connect_from(source, to))
}

/// Whether a request on this connection is served; not when the router has reset it.
fn is_served(client: &mut Client) -> bool {
    client.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\n");
    match client.read(false) {
        Ok(response) => response.status == 200,
        Err(Lost::Closed) => false,
        Err(lost) => panic!("{lost:?}"),
    }
}
