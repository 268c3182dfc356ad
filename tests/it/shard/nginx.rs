//! The same keys come to the same endpoints as with a real nginx: `ketama` beside `hash ... consistent`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use ekiden_tests::{Background, Client, Ekiden, Served, Setup, free_port, until};
use tempfile::TempDir;

use super::get;

const KEYS: usize = 2000;

/// An nginx that balances over its own servers, each of which answers with its address.
fn nginx(dir: &TempDir, front: SocketAddr, servers: &[(SocketAddr, u16)]) -> Option<Background> {
    let program = crate::nginx::installed()?;
    let root = dir.path().display();
    let list: String =
        servers.iter().map(|(address, weight)| format!("server {address} weight={weight};\n")).collect();
    let each: String = servers
        .iter()
        .map(|(address, _)| {
            format!("server {{ listen {address}; location / {{ return 200 \"{address}\"; }} }}\n")
        })
        .collect();
    let config = format!(
        "daemon off; master_process off; pid {root}/pid; error_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000;\n\
           client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
           uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
           upstream all {{ hash $http_x_key:$arg_id consistent; {list} }}\n\
           {each}\
           server {{ listen {front}; location / {{ proxy_pass http://all; }} }} }}\n"
    );
    fs::write(dir.path().join("nginx.conf"), config).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(dir.path().join("nginx.conf")).arg("-p").arg(dir.path()).args(["-e", "stderr"]);
    let running = Background::start(&mut command);
    until("nginx", || TcpStream::connect(front).ok());
    Some(running)
}

fn whom(client: &mut Client, key: usize) -> String {
    let response = client.ask(get(&format!("/?id={key}"), &format!("X-Key: user-{key}\r\n")));
    assert_eq!(response.status, 200, "{response:?}");
    response.text()
}

#[test]
fn ketama_places_every_key_as_nginx_does() {
    let port = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    let servers: Vec<(SocketAddr, u16)> =
        [1, 1, 3, 1, 2].into_iter().map(|weight| (port(), weight)).collect();
    let (dir, front) = (TempDir::new().unwrap(), port());
    let Some(_running) = nginx(&dir, front, &servers) else { return };
    let list: Vec<String> = servers
        .iter()
        .map(|(address, weight)| format!("{{ address = \"{address}\", weight = {weight} }}"))
        .collect();
    let config = format!(
        "[cluster.web]\nendpoints = [{}]\n\
         shard = {{ by = \"{{header:x-key}}:{{query:id}}\", algorithm = \"ketama\", bound = \"off\", hot_keys = \"off\" }}\n\
         [[route]]\ncluster = \"web\"\n",
        list.join(", ")
    );
    let router = Ekiden::start(Setup::new(config).workers(2));
    let (mut ours, mut theirs) = (router.client(), Client::connect(front));
    let mut seen = std::collections::BTreeSet::new();
    for key in 0..KEYS {
        let (we, they) = (whom(&mut ours, key), whom(&mut theirs, key));
        assert_eq!(we, they, "key {key}");
        seen.insert(we);
    }
    assert_eq!(seen.len(), servers.len(), "all of them have keys");
}
