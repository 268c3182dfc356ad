//! Which files a listener's certificates are in, and which version of each is there now. Does not parse them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ekiden_config::model::{CertificateSource, ListenerTls};

use super::certificate::{Certificate, Fault, Rank};

/// Largest file read, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// Certificates of one directory at most; the first by name count.
pub const DIRECTORY_MAX: usize = 100_000;

/// Two files that make a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Marks of the two files of a pair; none for one that is not there.
pub type Marks = (Option<Mark>, Option<Mark>);

/// The version of a file now. Follows links: a swapped link shows as another inode.
pub fn mark(path: &Path) -> Option<Mark> {
    let meta = fs::metadata(path).ok()?;
    Some(Mark {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

/// The versions of a pair's files now.
pub fn marks(pair: &Pair) -> Marks {
    (mark(&pair.cert), mark(&pair.key))
}

/// The pairs of a listener now, by rank. `Err` names a directory that cannot be listed; what is known of it stays.
pub fn pairs(base: &Path, settings: &ListenerTls) -> (BTreeMap<Rank, Pair>, Vec<(u32, String)>) {
    let (mut found, mut failed) = (BTreeMap::new(), Vec::new());
    for (number, source) in (0_u32..).zip(&settings.certificates) {
        match source {
            CertificateSource::Pair { cert, key } => {
                let rank = Rank { source: number, ordinary: false, stem: "".into() };
                found.insert(rank, Pair { cert: base.join(cert), key: base.join(key) });
            }
            CertificateSource::Directory(dir) => {
                let dir = base.join(dir);
                match list(&dir, number) {
                    Ok(pairs) => found.extend(pairs),
                    Err(error) => {
                        failed.push((number, format!("{}: cannot be listed: {error}", dir.display())));
                    }
                }
            }
        }
    }
    (found, failed)
}

/// `NAME.pem` or `NAME.crt` beside `NAME.key`. Hidden files are left out: editors and mounted volumes keep their own.
fn list(dir: &Path, source: u32) -> io::Result<BTreeMap<Rank, Pair>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let (Some(stem), Some(extension)) =
            (path.file_stem().and_then(|s| s.to_str()), path.extension().and_then(|e| e.to_str()))
        else {
            continue;
        };
        if stem.starts_with('.') || !matches!(extension, "pem" | "crt") {
            continue;
        }
        let key = path.with_extension("key");
        // `NAME-key.pem` and the like are keys of other habits, not certificates.
        if !key.exists() && stem.ends_with("key") {
            continue;
        }
        let rank = Rank { source, ordinary: stem != "default", stem: stem.into() };
        // `pem` wins over `crt` of the same name.
        if extension == "pem" || !found.contains_key(&rank) {
            found.insert(rank, Pair { cert: path, key });
        }
        if found.len() > DIRECTORY_MAX {
            found.pop_last();
        }
    }
    Ok(found)
}

/// Reads a pair and makes its certificate.
///
/// # Errors
/// What is wrong with it.
pub fn load(
    pair: &Pair,
    rank: Rank,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<Certificate, Fault> {
    let (cert, key) = (read(&pair.cert)?, read(&pair.key)?);
    Certificate::new(&cert, &key, rank, provider)
}

/// A file of bounded size.
///
/// # Errors
/// It cannot be read, or is larger than any such file.
pub fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let unreadable = |why: String| Fault::Unreadable(format!("{}: {why}", path.display()));
    let file = fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(unreadable(format!("it has more than {FILE_MAX} bytes")));
    }
    Ok(bytes)
}
