//! The `ekiden` command: reads the command line and calls the one module a command has.
//!
//! Has no logic of its own: what runs is control's and the router's.

mod ask;
mod check;
mod cli;
mod demo;
mod deploy;
mod descriptors;
mod exit;
mod explain;
mod fleet;
mod guarded;
mod logging;
mod procfile;
mod ring;
mod run;
mod signals;
mod sources;
mod start;

use std::process::ExitCode;

/// Cheaper than the system's for the many small pieces that the codec of HTTP/2 and handshakes ask for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Control(arguments) => fleet::control(&arguments),
        Command::Router(arguments) => fleet::router(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Ring(arguments) => ring::ring(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Apply(arguments) => ask::apply(&arguments),
        Command::Diff(arguments) => ask::diff(&arguments),
        Command::Get(arguments) => ask::get(&arguments),
        Command::Set(arguments) => ask::set(&arguments),
        Command::Scale(arguments) => ask::scale(&arguments),
        Command::Deploy(arguments) => deploy::deploy(&arguments),
        Command::DynoExec(cli::DynoExec { descriptors, parent, command }) => {
            logging::say(ekiden_control::become_dyno(parent, descriptors, &command));
            exit::system()
        }
        Command::Releases(arguments) => ask::releases(&arguments),
        Command::Versions(arguments) => ask::versions(&arguments),
        Command::Rollback(arguments) => ask::rollback(&arguments),
        Command::Maintenance(arguments) => ask::maintenance(&arguments),
        Command::Drain(arguments) => ask::drain(&arguments),
        Command::Hold(arguments) => ask::hold(&arguments),
        Command::Confirm(arguments) => sources::confirm(&arguments),
        Command::Schema => print(&format!("{:#}\n", ekiden_config::schema())),
        Command::Version(arguments) => print(&cli::version(&arguments)),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ekiden", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Writes to standard output; a reader that has had enough (`| head`) is no failure.
pub(crate) fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
