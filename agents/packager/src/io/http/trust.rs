//! Whom an encrypted connection trusts: the machine's certificates and those that the user has configured.
//!
//! To read and parse the machine's takes longer than a small installation, and a mirror on this machine or in its network often speaks
//! plain HTTP. So they are read when the first encrypted connection is about to be made ([`Trust::begin`]), on a thread that may
//! block, while the server is looked up, connected to and answers; who finds them missing when it has shown its certificate waits for
//! them there. What the user has configured is read at once, because who sets up the connections has to be told that it is damaged.
//!
//! The machine has most of its certificates several times, in one file and in a directory of hundreds, which takes longest to read. So there are two sets: what is configured, or else the machine's file; and everything, which is read only where the first does not
//! do. Whom the one trusts the other trusts, too, so together they trust whom everything does, and an error is that of everything.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

/// The certificates of the machine, once somebody needed them.
pub(super) type Machine = OnceLock<Vec<CertificateDer<'static>>>;

/// What one set of settings trusts.
pub(crate) struct Trust {
    machine: Arc<Machine>,
    configured: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    near: OnceLock<Verifier>,
    all: OnceLock<Verifier>,
    is_begun: AtomicBool,
}

/// Nothing where nobody is trusted.
type Verifier = Option<Arc<WebPkiServerVerifier>>;

/// Which of the two sets.
#[derive(Clone, Copy, Debug)]
enum Reach {
    Near,
    All,
}

impl Trust {
    pub(super) fn new(
        machine: &Arc<Machine>,
        configured: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Arc<Self> {
        let (machine, provider) = (Arc::clone(machine), Arc::clone(provider));
        let (near, all, is_begun) = (OnceLock::new(), OnceLock::new(), AtomicBool::new(false));
        Arc::new(Self { machine, configured, provider, near, all, is_begun })
    }

    /// Has what was not read yet read on another thread; that need not be waited for.
    pub(super) fn begin(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        if self.near.get().is_some() || self.is_begun.swap(true, Ordering::Relaxed) {
            return None;
        }
        let own = Arc::clone(self);
        Some(tokio::task::spawn_blocking(move || drop(own.verifier(Reach::Near))))
    }

    fn verifier(&self, reach: Reach) -> Verifier {
        let known = match reach {
            Reach::Near => &self.near,
            Reach::All => &self.all,
        };
        if let Some(verifier) = known.get() {
            return verifier.clone();
        }
        let read = || known.get_or_init(|| self.read(reach)).clone();
        // A thread that moves bytes must not keep the others from theirs while a disk is slow.
        match Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(read),
            _ => read(),
        }
    }

    fn read(&self, reach: Reach) -> Verifier {
        let mut roots = rustls::RootCertStore::empty();
        // The machine's store may hold certificates that the library rejects; the others still count.
        match reach {
            Reach::Near if self.configured.is_empty() => {
                let [file, directory] = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(std::env::var_os);
                let file = machine_file(file, directory)?;
                let loaded = rustls_native_certs::load_certs_from_paths(Some(&file), None);
                roots.add_parsable_certificates(loaded.certs);
            }
            Reach::Near => {
                roots.add_parsable_certificates(self.configured.iter().cloned());
            }
            Reach::All => {
                let machine = self.machine.get_or_init(read_machine);
                roots.add_parsable_certificates(machine.iter().chain(&self.configured).cloned());
            }
        }
        let provider = Arc::clone(&self.provider);
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        // The only reason without lists of revoked certificates: there is not one root.
        built.map_err(|error| tracing::debug!(%error, "no CA certificate can be used")).ok()
    }

    /// Whether it was read.
    #[cfg(test)]
    pub(super) fn is_read(&self) -> bool {
        self.near.get().is_some()
    }
}

fn read_machine() -> Vec<CertificateDer<'static>> {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::debug!(%error, "cannot read a CA certificate of the machine");
    }
    loaded.certs
}

/// The one file in which a machine has its certificates, by the rules of the library that reads all of them: where one of the two
/// variables is set, nothing else counts.
fn machine_file(file: Option<OsString>, directory: Option<OsString>) -> Option<PathBuf> {
    match (file, directory) {
        (Some(file), _) => Some(PathBuf::from(file)),
        (None, Some(_)) => None,
        (None, None) => openssl_probe::probe().cert_file,
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let configured = &self.configured.len();
        formatter.debug_struct("Trust").field("configured", configured).finish_non_exhaustive()
    }
}

/// As the library's own verifier does it, with the roots that are read when they are needed.
impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let by = |reach: Reach| match self.verifier(reach) {
            Some(verifier) => {
                verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        by(Reach::Near).or_else(|_| by(Reach::All))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
