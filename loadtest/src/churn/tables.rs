//! The tables of `churn` as files: apps of 100 routes and 10 clusters each, in a directory, and the process files around them.
//! Nobody asks for their endpoints, and nothing probes them.

use crate::failure::Fallible;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Routes of an app.
const ROUTES: usize = 100;
/// Clusters of an app.
const CLUSTERS: usize = 10;

/// How large a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Apps with [`ROUTES`] routes each.
    pub(super) apps: usize,
    /// Endpoints of each of their [`CLUSTERS`] clusters.
    pub(super) endpoints: usize,
}

impl Size {
    /// At least as many routes and endpoints as asked for, in whole apps.
    pub(super) fn of(routes: usize, endpoints: usize) -> Self {
        let apps = routes.div_ceil(ROUTES).max(1);
        Self { apps, endpoints: endpoints.div_ceil(apps * CLUSTERS).max(1) }
    }

    /// Routes, that of the traffic not counted.
    pub(super) fn routes(self) -> usize {
        self.apps * ROUTES
    }

    /// Endpoints, that of the traffic not counted.
    pub(super) fn all_endpoints(self) -> usize {
        self.apps * CLUSTERS * self.endpoints
    }

    /// The place of change number `number` in the API: another app and cluster each time, an id that is not in the files.
    pub(super) fn place(self, number: usize) -> String {
        // Coprime to the counts that are asked for, so that neighbours are far apart.
        let at = number.wrapping_mul(7_919);
        let (app, cluster) = (at % self.apps, at / self.apps % CLUSTERS);
        format!("/v1/apps/app{app}/clusters/c{cluster}/endpoints/moving")
    }
}

/// Writes the apps into `apps.d` in `dir`.
pub(super) fn write_apps(dir: &Path, size: Size) -> Fallible<()> {
    let apps = dir.join("apps.d");
    fs::create_dir_all(&apps)?;
    let mut number = 0_u32;
    for app in 0..size.apps {
        let mut text = String::new();
        for cluster in 0..CLUSTERS {
            write!(text, "[cluster.c{cluster}]\nendpoints = [")?;
            for _ in 0..size.endpoints {
                let [_, high, middle, low] = number.to_be_bytes();
                write!(text, "\"10.{high}.{middle}.{low}:80\", ")?;
                number += 1;
            }
            writeln!(text, "]\n")?;
        }
        for route in 0..ROUTES {
            let cluster = route % CLUSTERS;
            writeln!(text, "[[route]]\nhost = \"r{route}.app{app}.test\"\ncluster = \"c{cluster}\"\n")?;
        }
        fs::write(apps.join(format!("app{app}.toml")), text)?;
    }
    Ok(())
}

fn listener(address: SocketAddr) -> String {
    format!("[access_log]\nto = \"off\"\n\n[listener.edge]\naddress = \"{address}\"\n")
}

fn traffic(origin: SocketAddr) -> String {
    format!("[cluster.live]\nendpoints = [\"{origin}\"]\n\n[[route]]\ncluster = \"live\"\n")
}

/// Writes the file of `ekiden run`: a listener, the apps, and a route of its own to the origin.
pub(super) fn write_process(dir: &Path, address: SocketAddr, origin: SocketAddr) -> Fallible<PathBuf> {
    let file = dir.join("ekiden.toml");
    fs::write(&file, format!("apps = \"apps.d\"\n{}\n{}", listener(address), traffic(origin)))?;
    Ok(file)
}

/// Writes the file of `ekiden control`: the apps, that route, and where routers connect.
pub(super) fn write_control(dir: &Path, link: SocketAddr, origin: SocketAddr) -> Fallible<PathBuf> {
    let file = dir.join("control.toml");
    fs::write(&file, format!("apps = \"apps.d\"\n{}\n[fleet]\nlisten = \"{link}\"\n", traffic(origin)))?;
    Ok(file)
}

/// Writes the file of `ekiden router`: a listener.
pub(super) fn write_router(dir: &Path, address: SocketAddr) -> Fallible<PathBuf> {
    let file = dir.join("router.toml");
    fs::write(&file, listener(address))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_the_size_asked_for() {
        let size = Size::of(100_000, 1_000_000);
        assert_eq!((size.apps, size.routes(), size.all_endpoints()), (1_000, 100_000, 1_000_000));
        let dir = tempfile::tempdir().unwrap();
        let small = Size::of(150, 4_000);
        assert_eq!((small.apps, small.endpoints), (2, 200));
        write_apps(dir.path(), small).unwrap();
        let texts: Vec<String> = (0..2)
            .map(|n| fs::read_to_string(dir.path().join(format!("apps.d/app{n}.toml"))).unwrap())
            .collect();
        let count = |what: &str| texts.iter().map(|text| text.matches(what).count()).sum::<usize>();
        assert_eq!((count("[[route]]"), count("\"10.")), (200, 4_000));
        assert!(texts[1].contains("\"10.0.15.159:80\""), "no address twice");
    }

    #[test]
    fn changes_go_everywhere() {
        let size = Size::of(1_000, 1_000);
        let places: std::collections::BTreeSet<String> = (0..100).map(|n| size.place(n)).collect();
        assert_eq!(places.len(), 100);
    }
}
