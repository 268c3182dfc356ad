//! The client's verified certificate as routes and keys see it: texts that were made once, when the handshake ended. Does not read
//! certificates and does not verify them.

use ekiden_config::model::{CertCondition, CertField, ValueTest};

/// Who a client proved to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCert {
    /// The subject as text.
    pub subject: Box<str>,
    /// URIs among the alternative names, as they stand there.
    pub uris: Vec<Box<str>>,
    /// DNS names among the alternative names, in lower case.
    pub dns: Vec<Box<str>>,
    /// SHA-256 of the certificate, in lower hexadecimal.
    pub fingerprint: Box<str>,
    /// Some of its alternative names were too long to be kept: that it has none of a kind is not known.
    pub is_cut: bool,
}

impl ClientCert {
    /// The values of a part.
    pub fn values(&self, field: CertField) -> impl Iterator<Item = &str> {
        let values = match field {
            CertField::Subject => std::slice::from_ref(&self.subject),
            CertField::Uri => self.uris.as_slice(),
            CertField::Dns => self.dns.as_slice(),
            CertField::Fingerprint => std::slice::from_ref(&self.fingerprint),
        };
        values.iter().map(|value| &**value)
    }
}

/// Whether a condition holds; `certificate` is none where none was shown. No allocation.
pub(crate) fn holds(condition: &CertCondition, certificate: Option<&ClientCert>) -> bool {
    let passes = |value: &str| match &condition.test {
        ValueTest::Present | ValueTest::Absent => true,
        ValueTest::Equals(text) => **text == *value,
        ValueTest::Regex(expression) => expression.regex.is_match(value),
    };
    let found = certificate.is_some_and(|certificate| {
        let may_have = certificate.is_cut && matches!(condition.field, CertField::Uri | CertField::Dns);
        certificate.values(condition.field).any(passes)
            || (may_have && matches!(condition.test, ValueTest::Absent))
    });
    found != matches!(condition.test, ValueTest::Absent)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn certificate() -> ClientCert {
        ClientCert {
            subject: "CN=anna".into(),
            uris: vec!["spiffe://a.test/one".into(), "spiffe://a.test/two".into()],
            dns: Vec::new(),
            fingerprint: "ab".into(),
            is_cut: false,
        }
    }

    #[test]
    fn any_name_passes_and_only_absence_without_one() {
        let equals = |text: &str| ValueTest::Equals(Arc::from(text));
        let shown = certificate();
        let rows = [
            (CertField::Subject, equals("CN=anna"), true, false),
            (CertField::Subject, equals("CN=ann"), false, false),
            (CertField::Uri, equals("spiffe://a.test/two"), true, false),
            (CertField::Uri, equals("spiffe://a.test/three"), false, false),
            (CertField::Uri, ValueTest::Present, true, false),
            (CertField::Uri, ValueTest::Absent, false, true),
            (CertField::Dns, ValueTest::Present, false, false),
            (CertField::Dns, ValueTest::Absent, true, true),
            (CertField::Fingerprint, equals("ab"), true, false),
            (CertField::Fingerprint, ValueTest::Absent, false, true),
        ];
        for (field, test, with, without) in rows {
            let condition = CertCondition { field, test };
            let said = (holds(&condition, Some(&shown)), holds(&condition, None));
            assert_eq!(said, (with, without), "{condition:?}");
        }
    }

    /// A name that was too long to be kept makes no condition hold, not even that there is none.
    #[test]
    fn what_was_left_out_is_not_absent() {
        let cut = ClientCert { is_cut: true, ..certificate() };
        for (field, test, says) in [
            (CertField::Dns, ValueTest::Absent, false),
            (CertField::Dns, ValueTest::Present, false),
            (CertField::Uri, ValueTest::Present, true),
            (CertField::Fingerprint, ValueTest::Absent, false),
        ] {
            let condition = CertCondition { field, test };
            assert_eq!(holds(&condition, Some(&cut)), says, "{condition:?}");
        }
    }
}
