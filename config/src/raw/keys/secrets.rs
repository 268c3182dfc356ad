//! Keys of what never travels: authorities, identities, credentials, stores. Only declared here; read by `declare`, judged by `validate`.

use std::time::Duration;

use super::NAME;
use crate::model::TokenAlgorithm;
use crate::raw::declare::tables;
use crate::raw::read::{Off, Spanned, Word};

tables! {
    /// Authorities that endpoints of some apps may be believed by. The file is watched.
    RawCa as "[ca.NAME]" {
        /// PEM file with their certificates; relative to this file.
        file: Spanned<String> = "required" in 1, 4096;
        /// Apps that may use them; clusters of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// A certificate that endpoints of some apps may be shown. The files are watched.
    RawIdentity as "[identity.NAME]" {
        /// PEM file with the certificate, followed by what links it to its authority; relative to this file.
        cert: Spanned<String> = "required" in 1, 4096;
        /// PEM file with the private key of `cert`.
        key: Spanned<String> = "required" in 1, 4096;
        /// Apps that may show it; clusters of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// Users that routes of some apps may let in. The file is watched; one that cannot be used keeps the one before.
    RawUsers as "[users.NAME]" {
        /// File with `name:hash` lines, as `htpasswd -B` writes them: bcrypt or argon2; relative to this file.
        file: Spanned<String> = "required" in 1, 4096;
        /// Apps whose routes may name it; routes of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// Keys of programs that routes of some apps may let in. The file is watched; one that cannot be used keeps the one before.
    RawApiKeys as "[api_keys.NAME]" {
        /// File with `id:hash` lines, where the hash is the SHA-256 of a random key in hexadecimal; relative to this file.
        file: Spanned<String> = "required" in 1, 4096;
        /// Apps whose routes may name it; routes of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// A key of the marks of `affinity`. The file is watched; one that cannot be used keeps the one before.
    RawAffinityKey as "[affinity_key.NAME]" {
        /// File with one key a line, each 32 bytes in base64 or hexadecimal (`openssl rand -base64 32`): the first signs, all are
        /// believed; relative to this file.
        file: Spanned<String> = "required" in 1, 4096;
        /// Apps whose clusters may name it; clusters of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// Who signs JSON Web Tokens (RFC 7519) that routes of some apps may let in, and what they must say. `exp` must be there, `nbf`
    /// counts where it is.
    RawIssuer as "[jwt.NAME]" {
        /// File with its keys (JWKS, RFC 7517); relative to this file; watched.
        jwks_file: Spanned<String> = "none" in 1, 4096;
        /// Where its keys are asked for, `https://...`: in the background every 10 minutes, and for an unknown `kid`, at most every 30 s.
        jwks_url: Spanned<String> = "none" in 1, 2048;
        /// Authorities that the server of `jwks_url` is believed by: a name of `[ca.NAME]`.
        ca: Spanned<String> = "the authorities of the web, as the system has them" in 1, NAME;
        /// What `iss` must be.
        issuer: Spanned<String> = "required" in 1, 1024;
        /// What `aud` must be one of, or hold; `off` takes tokens that were made for others.
        audience: Off<Vec<Spanned<String>>> = "required" in 1, 64;
        /// Algorithms that are taken: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`; or `HS256`, `HS384`,
        /// `HS512`, from a file and with none of the others.
        algorithms: Vec<Spanned<Word<TokenAlgorithm>>> = "required" in 1, 12;
        /// How far clocks may differ.
        leeway: Duration = "\"30s\"" in 0, 600_000;
        /// Apps whose routes may name it; routes of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// A Redis through which routers share limits. It is asked in the background; no request waits for it. Without it each router
    /// goes on with its share of the rate.
    RawStore as "[store.NAME]" {
        /// Where it is: `redis://HOST`, `redis://HOST:PORT/DATABASE` or `unix:/path`. User and password have keys of their own.
        redis: Spanned<String> = "required" in 1, 512;
        /// User that asks (ACL of Redis 6).
        user: Spanned<String> = "the default user" in 1, NAME;
        /// File that holds the password, relative to this file; read at each connect.
        password_file: Spanned<String> = "no password" in 1, 4096;
        /// Routers that share it, as long as the store has not said how many there are: without it, each lets in this part.
        routers: u64 = "1" in 1, 10_000;
        /// Apps whose limits may name it; limits of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }
}
