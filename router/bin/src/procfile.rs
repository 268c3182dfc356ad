//! From the arguments of `run` to what is run: a configuration as it is, or a Procfile with the configuration beside it or one of its own.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ekiden_control::{
    Launcher, Options, ProcfileRun, configuration, configuration_beside, is_procfile, port_in_env,
};

use crate::cli::{OfProcfile, Run};

/// Where a Procfile's clients come in unless told otherwise: foreman's first port.
const PORT: u16 = 5000;
/// This very program, also after another was put in its place.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Puts the file in, and all that a Procfile needs. `descriptors` is the limit of open files that its dynos get back.
pub(crate) fn with_file(
    options: Options,
    arguments: &Run,
    descriptors: Option<u64>,
) -> Result<Options, String> {
    let (file, asked) = (&arguments.file, &arguments.procfile);
    if !is_procfile(file) {
        let OfProcfile { formation, listen, ready, boot_timeout: _, stop_timeout: _ } = asked;
        let given =
            [(formation.is_some(), "-m"), (listen.is_some(), "--listen"), (ready.is_some(), "--ready")];
        return match given.iter().find(|(given, _)| *given) {
            Some((_, flag)) => Err(format!("{flag} is for a Procfile, and {} is none", file.display())),
            None => Ok(Options { file: file.clone(), ..options }),
        };
    }
    let mut before = vec!["dyno-exec".into()];
    if let Some(soft) = descriptors {
        before.extend(["--descriptors".into(), soft.to_string().into()]);
    }
    let seconds = |count: u16| Duration::from_secs(count.into());
    let run = ProcfileRun {
        file: file.clone(),
        formation: asked.formation.clone().unwrap_or_default(),
        ready_path: asked.ready.clone(),
        boot_timeout: seconds(asked.boot_timeout),
        stop_timeout: seconds(asked.stop_timeout),
        launcher: Launcher { program: PathBuf::from(THIS_PROGRAM), before },
        colour: std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty()),
    };
    let options = Options { procfile: Some(run), ..options };
    match configuration_beside(file) {
        Some(beside) if asked.listen.is_some() => {
            Err(format!("--listen is for a Procfile alone: {} has the listeners", beside.display()))
        }
        Some(beside) => Ok(Options { file: beside, ..options }),
        None => {
            let listen = asked.listen.map_or_else(|| listen(file), Ok)?;
            Ok(Options { file: file.clone(), text: Some(Arc::from(configuration(listen))), ..options })
        }
    }
}

fn listen(procfile: &std::path::Path) -> Result<SocketAddr, String> {
    let port = match std::env::var("PORT").ok().filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map_err(|_| format!("PORT={text:?} is no port"))?,
        None => port_in_env(procfile).unwrap_or(PORT),
    };
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}
