//! What can be said of dynos without starting one.

use super::*;

#[test]
fn a_procfile_is_known_by_its_name() {
    for (path, wanted) in [
        ("Procfile", true),
        ("app/Procfile", true),
        ("Procfile.dev", true),
        ("Procfile.toml", false),
        ("ekiden.toml", false),
        ("procfile", false),
        ("Procfiles", false),
    ] {
        assert_eq!(is_procfile(Path::new(path)), wanted, "{path}");
    }
}

#[test]
fn the_configuration_of_a_procfile_can_be_served() {
    let text = configuration("127.0.0.1:5000".parse().unwrap());
    let main =
        ekiden_config::Source { file: "Procfile".to_owned(), text, format: ekiden_config::Format::Toml };
    let hosts = ekiden_config::HostOwners::default();
    let input = ekiden_config::Input { main: &main, apps: &[], previous: None, hosts: &hosts };
    let built = ekiden_config::build(input).unwrap();
    assert!(built.diagnostics.iter().all(|found| found.code == "empty_cluster"), "{:?}", built.diagnostics);
    assert_eq!(built.model.route_count(), 1);
}

#[test]
fn what_is_wrong_with_a_procfile_has_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let run = |formation: &str| ProcfileRun {
        file: dir.path().join("Procfile"),
        formation: formation.parse().unwrap(),
        ready_path: None,
        boot_timeout: Duration::from_secs(1),
        stop_timeout: Duration::from_secs(1),
        launcher: Launcher { program: PathBuf::from("sh"), before: Vec::new() },
        colour: false,
    };
    let found = |formation: &str| check(&run(formation)).map_err(|found| (found.code, found.line));
    assert_eq!(found(""), Err(("bad_procfile", 1)));
    std::fs::write(dir.path().join("Procfile"), "web: a\n\nworker\n").unwrap();
    assert_eq!(found(""), Err(("bad_procfile", 3)));
    std::fs::write(dir.path().join("Procfile"), "web: a\nworker: b\n").unwrap();
    assert_eq!(found("web=2,all=1"), Ok(()));
    assert_eq!(found("clock=1"), Err(("unknown_process_type", 1)));
    std::fs::write(dir.path().join(".env"), "A=1\nnonsense\n").unwrap();
    assert_eq!(found(""), Err(("bad_procfile", 2)));
    std::fs::write(dir.path().join(".env"), "PORT=1\nPORT=6000\n").unwrap();
    assert_eq!(port_in_env(&run("").file), Some(6000));
}
