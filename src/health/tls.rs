//! TLS configuration of connections to dependencies.

use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::error::ProbeError;
use crate::config::{CertificateAuthorities, TlsMode, TlsSettings};

const UNUSABLE: ProbeError = ProbeError::Tls("initialisation failed");

/// The client configuration. Reads the files of the system's authorities.
pub fn client_config(settings: &TlsSettings) -> Result<Arc<ClientConfig>, ProbeError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(&settings.mode, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| UNUSABLE)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(Arc::new(match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(identity.certificates(), identity.key())
            .map_err(|_| UNUSABLE)?,
    }))
}

fn verifier(mode: &TlsMode, provider: &Arc<CryptoProvider>) -> Result<Verifier, ProbeError> {
    let (authorities, checks_name) = match mode {
        TlsMode::Off | TlsMode::Allow | TlsMode::Prefer | TlsMode::Unverified => (None, false),
        TlsMode::VerifyAuthority(authorities) => (Some(authorities), false),
        TlsMode::Verified(authorities) => (Some(authorities), true),
    };
    let chain = match authorities {
        None => None,
        Some(authorities) => {
            let roots = Arc::new(root_store(authorities)?);
            let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
            Some(builder.build().map_err(|_| UNUSABLE)?)
        }
    };
    let own_authorities = match authorities {
        Some(CertificateAuthorities::Custom(certificates)) => certificates.clone(),
        _ => Vec::new(),
    };
    Ok(Verifier {
        chain,
        own_authorities,
        checks_name,
        algorithms: provider.signature_verification_algorithms,
    })
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

/// Verifies certificates as libpq and redis-cli do.
#[derive(Debug)]
struct Verifier {
    /// Verifies chain, dates and name. Without it, any certificate is accepted.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// The authorities of the settings. The certificate of a server may be one of them.
    own_authorities: Vec<CertificateDer<'static>>,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError as Certificate;
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        let result = chain.verify_server_cert(certificate, intermediates, name, ocsp, now);
        let Err(rustls::Error::InvalidCertificate(reason)) = &result else {
            return result;
        };
        match reason {
            // The name is checked last.
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }
                if !self.checks_name =>
            {
                Ok(ServerCertVerified::assertion())
            }
            // The library takes no authority for the certificate of a server. It has checked the
            // dates before it says so. A certificate that it cannot parse fails below.
            Certificate::Other(_) if self.own_authorities.contains(certificate) => {
                let parsed = ParsedCertificate::try_from(certificate)?;
                if self.checks_name {
                    verify_server_name(&parsed, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            _ => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
