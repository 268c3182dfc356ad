//! Users of one file, each with the hash of a password; verifies one password. Slow by intent: called off the workers alone.
//!
//! An unknown user costs what a known one costs: the password is held against the hash of somebody else, and the result thrown
//! away. Whose it is goes by the name, so that it is the same each time.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use argon2::{Argon2, Params, PasswordHash, PasswordVerifier};
use ekiden_config::names::AppName;

use super::keyring::{each_line, new_id};

/// Users of one file at most.
const USERS_MAX: usize = 100_000;
/// Longest name, in bytes.
const NAME_MAX: usize = 255;
/// Most of bcrypt's cost: 14 takes about a second.
const BCRYPT_MAX: u32 = 14;
/// Most of argon2's memory (in KiB), passes and lanes.
const ARGON2_MAX: [u32; 3] = [256 << 10, 16, 16];
/// What is held against where a file has no users.
const NOBODY: &str = "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

/// The users of a file. Does not show hashes.
pub struct Users {
    /// Tells this reading of the file from all others: verdicts go by it.
    pub id: u64,
    /// The apps that may use it, beside `default`.
    pub apps: Vec<AppName>,
    /// Keyed by a secret of the process, since clients choose the names that are looked for.
    places: HashMap<Box<str>, usize, RandomState>,
    hashes: Vec<Hash>,
}

enum Hash {
    Bcrypt(Box<str>),
    Argon2(Box<PasswordHash>),
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users")
            .field("id", &self.id)
            .field("count", &self.hashes.len())
            .finish_non_exhaustive()
    }
}

impl Users {
    /// Reads `name:hash` lines. Empty lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// The line that is wrong, and why; never what stands in it.
    pub fn read(text: &[u8], apps: Vec<AppName>) -> Result<Self, String> {
        let (mut places, mut hashes) = (HashMap::default(), Vec::new());
        each_line(text, |name, hash| {
            if name.len() > NAME_MAX || name.chars().any(char::is_control) {
                return Err("the name is too long or has a control character".to_owned());
            }
            if hashes.len() >= USERS_MAX {
                return Err(format!("more than {USERS_MAX} users"));
            }
            let hash = Hash::read(hash)?;
            if places.insert(Box::from(name), hashes.len()).is_some() {
                return Err("the name stands twice".to_owned());
            }
            hashes.push(hash);
            Ok(())
        })?;
        Ok(Self { id: new_id(), apps, places, hashes })
    }

    /// Whether the password is that of the user. Takes as long for one that is not there.
    pub fn verify(&self, name: &str, password: &[u8]) -> bool {
        let known = self.places.get(name).copied();
        let place = known.unwrap_or_else(|| {
            let spread = usize::try_from(self.places.hasher().hash_one(name)).unwrap_or(0);
            spread.checked_rem(self.hashes.len()).unwrap_or(0)
        });
        let is_right = match self.hashes.get(place) {
            Some(hash) => hash.verify(password),
            None => bcrypt::verify(password, NOBODY).unwrap_or(false),
        };
        is_right & known.is_some()
    }
}

impl Hash {
    fn read(text: &str) -> Result<Self, String> {
        if ["$2a$", "$2b$", "$2y$"].iter().any(|begin| text.starts_with(begin)) {
            let parts: bcrypt::HashParts =
                text.parse().map_err(|_| "the hash is not one of bcrypt".to_owned())?;
            if parts.get_cost() > BCRYPT_MAX {
                return Err(format!(
                    "the cost of bcrypt is {}; at most {BCRYPT_MAX} is taken",
                    parts.get_cost()
                ));
            }
            return Ok(Hash::Bcrypt(Box::from(text)));
        }
        if text.starts_with("$argon2") {
            let bad = || "the hash is not one of argon2".to_owned();
            let hash = PasswordHash::new(text).map_err(|_| bad())?;
            let params = Params::try_from(&hash).map_err(|_| bad())?;
            let [memory, passes, lanes] = ARGON2_MAX;
            if params.m_cost() > memory || params.t_cost() > passes || params.p_cost() > lanes {
                return Err(format!("argon2 takes at most m={memory}, t={passes} and p={lanes}"));
            }
            return Ok(Hash::Argon2(Box::new(hash)));
        }
        Err("the hash is neither bcrypt (`htpasswd -B`) nor argon2; other kinds are too weak".to_owned())
    }

    fn verify(&self, password: &[u8]) -> bool {
        match self {
            Hash::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Hash::Argon2(hash) => Argon2::default().verify_password(password, hash.as_ref()).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: &str = "$2b$04$5k3OuKrLYyGaDd3M3bXhiO1KYsQCa37A2/9a4yvqwTsHOiXxuLWfG";

    fn read(text: &str) -> Result<Users, String> {
        Users::read(text.as_bytes(), vec![])
    }

    #[test]
    fn known_and_unknown_users() {
        let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).unwrap().to_string();
        let argon = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQxMjM0NTY$";
        let users = read(&format!("# staff\n\nann:{hash}\n")).unwrap();
        for (name, password, good) in [
            ("ann", "secret", true),
            ("ann", "secre", false),
            ("ann", "", false),
            ("Ann", "secret", false),
            ("bob", "secret", false),
        ] {
            assert_eq!(users.verify(name, password.as_bytes()), good, "{name}");
        }
        assert!(!read("").unwrap().verify("ann", b"secret"));
        assert!(read(&format!("ann:{argon}")).is_err());
        assert!(!format!("{users:?}").contains(&hash));
    }

    #[test]
    fn argon2() {
        use argon2::{Algorithm, PasswordHasher, Version};
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
        let hash = hasher.hash_password_with_salt(b"secret", b"somesalt").unwrap().to_string();
        let users = read(&format!("ann:{hash}")).unwrap();
        assert!(users.verify("ann", b"secret") && !users.verify("ann", b"secreT"));
        let strong = hash.replace("m=8", "m=999999999");
        assert!(read(&format!("ann:{strong}")).is_err());
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_without_secrets() {
        for (text, line, word) in [
            ("ann", 1, "name:hash"),
            ("# x\nann:plain", 2, "neither"),
            ("ann:$apr1$x$y", 1, "neither"),
            ("ann:$2b$04$short", 1, "bcrypt"),
            (":x", 1, "name:hash"),
            (&*format!("ann:{ANN}\nann:{ANN}"), 2, "twice"),
            (&*format!("ann:{}", ANN.replace("$04$", "$15$")), 1, "cost"),
            (&*format!("a\tb:{ANN}"), 1, "control"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(&format!("line {line}:")) && error.contains(word), "{text}: {error}");
            assert!(!error.contains("ann") && !error.contains("$2b"), "{error}");
        }
    }
}
