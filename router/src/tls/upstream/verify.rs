//! The judge of an endpoint's certificate: chain and life, then its name, or one of the names that the cluster lists.
//!
//! Chains and DNS names are judged by `rustls` itself; URIs are compared byte by byte. Does not load authorities.

use std::sync::Arc;

use ekiden_config::model::San;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What is asked of a certificate.
#[derive(Debug)]
pub enum Demand {
    /// A chain to these authorities, and the name that was asked for.
    Name(Arc<RootCertStore>),
    /// A chain to these authorities, and one of these names.
    AnyOf(Arc<RootCertStore>, Vec<San>),
    /// Nothing: the operator has said so by name.
    Nothing,
}

/// Verifies the certificates of endpoints.
#[derive(Debug)]
pub struct Verifier {
    demand: Demand,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// One that asks this.
    pub fn new(demand: Demand, provider: Arc<CryptoProvider>) -> Self {
        Self { demand, provider }
    }

    fn chain(
        &self,
        roots: &RootCertStore,
        certificate: &ParsedCertificate<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(certificate, roots, between, now, algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.demand {
            Demand::Name(roots) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                self.chain(roots, &certificate, intermediates, now)?;
                verify_server_name(&certificate, server_name)?;
            }
            Demand::AnyOf(roots, names) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                self.chain(roots, &certificate, intermediates, now)?;
                if !names.iter().any(|name| has(&certificate, end_entity, name)) {
                    return Err(CertificateError::NotValidForName.into());
                }
            }
            Demand::Nothing => {}
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate has a name.
fn has(parsed: &ParsedCertificate<'_>, der: &CertificateDer<'_>, name: &San) -> bool {
    match name {
        San::Dns(name) => {
            ServerName::try_from(&**name).is_ok_and(|name| verify_server_name(parsed, &name).is_ok())
        }
        San::Uri(uri) => {
            let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
            let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
            names
                .value
                .general_names
                .iter()
                .any(|name| matches!(name, GeneralName::URI(has) if *has == &**uri))
        }
    }
}
