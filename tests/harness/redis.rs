//! A real `redis-server` on a port of its own, in memory; killed when dropped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{free_port, until};

/// A running store.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    /// Where it is.
    pub address: SocketAddr,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts one and waits until it answers. It keeps nothing.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        let mut this = Self { child: None, address, arguments };
        this.begin();
        this
    }

    /// Starts it again at the same address, with nothing kept.
    pub fn begin(&mut self) {
        let port = self.address.port().to_string();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(&self.arguments)
            .stdout(Stdio::null());
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("redis-server: {error}")));
        until("the store", || {
            let mut stream = TcpStream::connect(self.address).ok()?;
            stream.write_all(b"PING\r\n").ok()?;
            let mut answer = [0; 4];
            // With a password it says so; it answers all the same.
            stream.read_exact(&mut answer).ok()
        });
    }

    /// Kills it as the kernel does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended_already = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Runs a script of one line, without `"`; gives the number that it returns.
    pub fn eval(&self, script: &str) -> i64 {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "EVAL \"{script}\" 0\r\nQUIT\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let number = answer.strip_prefix(':').and_then(|text| text.lines().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("{script}: {answer}"))
    }

    /// Sends a signal, SIGSTOP for example.
    pub fn signal(&self, number: i32) {
        let id = self.child.as_ref().map(Child::id);
        crate::signal(id.unwrap(), number);
    }

    /// The lines of `[store.NAME]`.
    pub fn table(&self, name: &str, keys: &str) -> String {
        format!("[store.{name}]\nredis = \"redis://{}\"\n{keys}\n", self.address)
    }

    /// A file of a password in a directory.
    pub fn write_password(dir: &Path, text: &str) {
        std::fs::write(dir.join("redis.password"), text).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
