//! TLS of the `http` check: whom to trust, and when the certificate ends.
//!
//! `verify = true`: the certificate is judged by webpki, and an expired one fails the handshake. `verify = false`: any
//! certificate will do, an expired one too: the operator said not to judge it; the warning about its end remains.

use rustls_native_certs::load_native_certs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use x509_cert::der::{Decode as _, Reader as _, SliceReader};

/// What a check trusts. Reads files: to be called aside.
///
/// # Errors
/// When there is nothing to trust.
pub(super) fn config(verify: bool, ca_file: Option<&Path>) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = if verify {
        builder.with_root_certificates(roots(ca_file)?).with_no_client_auth()
    } else {
        let any = Arc::new(AnyCertificate(provider));
        builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth()
    };
    // Each run is to see the certificate: no session is resumed.
    config.resumption = tokio_rustls::rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots(ca_file: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let place = match ca_file {
        Some(path) => {
            let named = |e: &dyn std::fmt::Display| {
                io::Error::other(format!("ca-file {}: {e}", path.display()))
            };
            let found = CertificateDer::pem_file_iter(path).map_err(|e| named(&e))?;
            for certificate in found {
                let certificate = certificate.map_err(|e| named(&e))?;
                roots.add(certificate).map_err(|e| named(&e))?;
            }
            path.display().to_string()
        }
        None => {
            // Some in the system's store may be beyond us.
            roots.add_parsable_certificates(load_native_certs().certs);
            "the system's store (package ca-certificates)".to_owned()
        }
    };
    if roots.is_empty() {
        return Err(io::Error::other(format!("no authority in {place}: name a ca-file")));
    }
    Ok(roots)
}

/// Time from now until a certificate ends: `Err` of the time since then. `None`: it cannot be read.
pub(super) fn ends_in(der: &[u8], now: SystemTime) -> Option<Result<Duration, Duration>> {
    let ends = not_after(der).ok()?;
    Some(ends.duration_since(now).map_err(|past| past.duration()))
}

/// The end of validity: parsed alone, because what an old device puts in its other fields is not asked.
fn not_after(der: &[u8]) -> Result<SystemTime, x509_cert::der::Error> {
    use x509_cert::der::{Header, Tag, asn1::AnyRef};
    let mut reader = SliceReader::new(der)?;
    let certificate = Header::decode(&mut reader)?;
    certificate.tag().assert_eq(Tag::Sequence)?;
    let tbs = Header::decode(&mut reader)?;
    tbs.tag().assert_eq(Tag::Sequence)?;
    // Version (left out in version 1), serial number, signature algorithm, issuer.
    let first = AnyRef::decode(&mut reader)?;
    let rest = if x509_cert::der::Tagged::tag(&first).is_context_specific() { 3 } else { 2 };
    for _ in 0..rest {
        AnyRef::decode(&mut reader)?;
    }
    Ok(reader.decode::<x509_cert::time::Validity>()?.not_after.to_system_time())
}

/// Trusts every certificate, but not a handshake that its key did not sign.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
