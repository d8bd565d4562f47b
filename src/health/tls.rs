//! TLS configuration of connections to dependencies.

use std::io;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::error::ProbeError;
use crate::config::{CertificateAuthorities, TlsMode};

/// The client configuration for a mode; `None` without encryption. Reads the files of the system's
/// authorities.
pub fn client_config(mode: &TlsMode) -> Result<Option<Arc<ClientConfig>>, ProbeError> {
    let unusable = |_| ProbeError::Tls("initialisation failed");
    let provider = ring::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Unverified => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(algorithms))),
        TlsMode::Verified(authorities) => builder.with_root_certificates(root_store(authorities)?),
    };
    Ok(Some(Arc::new(builder.with_no_client_auth())))
}

fn root_store(authorities: &CertificateAuthorities) -> Result<RootCertStore, ProbeError> {
    let mut store = RootCertStore::empty();
    // Some systems keep outdated authorities that cannot be parsed.
    match authorities {
        CertificateAuthorities::Custom(certificates) => {
            store.add_parsable_certificates(certificates.iter().cloned());
        }
        CertificateAuthorities::System => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(ProbeError::Tls(
            "no certificate authorities found: set DB_SSLROOTCERT or REDIS_CACERT",
        ));
    }
    Ok(store)
}

/// The reason why a handshake failed, without the names in the certificate.
pub fn handshake_error(error: &io::Error) -> ProbeError {
    use CertificateError as Certificate;
    let Some(source) = error
        .get_ref()
        .and_then(|source| source.downcast_ref::<rustls::Error>())
    else {
        return ProbeError::ConnectionLost(error.kind());
    };
    ProbeError::Tls(match source {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            Certificate::UnknownIssuer => "the certificate is signed by an unknown authority",
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "the certificate is for another host name"
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                "the certificate has expired"
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "the certificate is not valid yet"
            }
            _ => "the certificate is invalid",
        },
        rustls::Error::AlertReceived(_) => "the server rejected the handshake",
        rustls::Error::PeerIncompatible(_) => "no common protocol version or cipher",
        _ => "the handshake failed",
    })
}

/// Accepts any certificate, as libpq does for `sslmode=require` without a root certificate.
#[derive(Debug)]
struct AcceptAnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
