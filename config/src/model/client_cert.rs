//! What of a client's certificate routes and keys can ask for: words only. The router reads certificates; nothing here does.

use super::ValueTest;

/// A part of a client's verified certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertField {
    /// Its subject as text, such as `CN=anna, O=Example`, in the order of the certificate.
    Subject,
    /// A URI among its alternative names, such as a SPIFFE id.
    Uri,
    /// A DNS name among its alternative names, in lower case.
    Dns,
    /// The SHA-256 of the certificate, in lower hexadecimal.
    Fingerprint,
}

impl CertField {
    /// Each with its word.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("subject", CertField::Subject),
        ("uri", CertField::Uri),
        ("dns", CertField::Dns),
        ("fingerprint", CertField::Fingerprint),
    ];

    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            CertField::Subject => "subject",
            CertField::Uri => "uri",
            CertField::Dns => "dns",
            CertField::Fingerprint => "fingerprint",
        }
    }

    /// The part that a word names.
    pub fn of(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, field)| *field)
    }
}

/// A condition on the client's certificate. Where there are several values (names), one that passes suffices.
#[derive(Debug, Clone, PartialEq)]
pub struct CertCondition {
    /// What is looked at.
    pub field: CertField,
    /// What must hold. Without a certificate, and without such a name, only `Absent` does.
    pub test: ValueTest,
}
