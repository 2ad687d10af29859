//! Connection pools, one pair per set of CA files and proxies, shared by all requests of the process.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use reqwest::NoProxy;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::trust::{Machine, Trust};
use crate::error::{Error, Kind, Result};
use crate::file_state::FileState;
use crate::io::endpoints::{ProxyAddress, TransportSettings};
use crate::io::environment::read_small;
use crate::io::limits::{
    CERTIFICATES_BYTES_MAX, CONNECT_TIMEOUT, IDLE_CONNECTIONS_MAX, IDLE_QUESTIONS_MAX,
    READ_TIMEOUT, TRANSPORTS_MAX,
};

/// Who we are, for the people who run registries.
const USER_AGENT: &str = concat!("bolide/", env!("CARGO_PKG_VERSION"));

/// One pair of pools, once a request that is not offline has asked for it.
#[derive(Debug, Default)]
pub(crate) struct Transport(OnceLock<Pair>);

#[derive(Debug)]
struct Pair {
    metadata: Pool,
    files: Pool,
}

/// Connections of one kind.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(super) client: reqwest::Client,
    trust: Arc<Trust>,
    /// Whether a proxy is spoken to with TLS, whatever is asked for.
    has_https_proxy: bool,
}

impl Pool {
    /// To be called before something is asked there: an encrypted connection needs what is trusted, once the server has shown who it
    /// is. What is begun with it need not be waited for.
    pub(super) fn begin(&self, url: &url::Url) -> Option<tokio::task::JoinHandle<()>> {
        let is_encrypted = self.has_https_proxy || url.scheme() == "https";
        is_encrypted.then(|| self.trust.begin()).flatten()
    }
}

impl Transport {
    /// HTTP/2 where the server can, with gzip: many small answers over few connections.
    pub(crate) fn metadata(&self) -> Result<&Pool> {
        self.pair().map(|pair| &pair.metadata)
    }

    /// HTTP/1.1 without content coding: every download has a connection of its own, since one stream does not
    /// fill a line, and the bytes are the ones that the hash is about.
    pub(crate) fn files(&self) -> Result<&Pool> {
        self.pair().map(|pair| &pair.files)
    }

    fn pair(&self) -> Result<&Pair> {
        self.0.get().ok_or_else(|| {
            let message = "the request is offline, so nothing is fetched";
            Error::new(Kind::Network, "offline", message).hint("leave `--offline` out")
        })
    }
}

/// How the CA files were that are trusted: one that is exchanged, or gone, counts from the next request on.
type Files = Vec<Option<FileState>>;

/// All pools of the process.
#[derive(Debug, Default)]
pub(crate) struct Transports {
    pools: Mutex<HashMap<TransportSettings, (Files, Arc<Transport>)>>,
    machine: Arc<Machine>,
}

impl Transports {
    /// The pools for these settings, ready for use where that is not for a request that is offline.
    pub(crate) fn get(
        &self,
        settings: &TransportSettings,
        is_offline: bool,
    ) -> Result<Arc<Transport>> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are read: who changes one meanwhile is noticed the next time.
        let files: Files = settings.authorities.iter().map(|path| FileState::at(path)).collect();
        let known = pools.get(settings).filter(|(known, _)| *known == files);
        let transport = known.map(|(_, transport)| Arc::clone(transport)).unwrap_or_default();
        if !is_offline && transport.0.get().is_none() {
            // Under the lock, so nobody else has set it.
            let _ = transport.0.set(self.build(settings)?);
        }
        if pools.len() >= TRANSPORTS_MAX && !pools.contains_key(settings) {
            pools.clear();
        }
        pools.insert(settings.clone(), (files, Arc::clone(&transport)));
        Ok(transport)
    }

    fn build(&self, settings: &TransportSettings) -> Result<Pair> {
        let mut configured = Vec::new();
        for path in &settings.authorities {
            configured.extend(read_certificates(path)?);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trust = Trust::new(&self.machine, configured, &provider);
        let is_https = |proxy: &ProxyAddress| !proxy.0.starts_with("http:");
        let has_https_proxy =
            [&settings.http_proxy, &settings.https_proxy].into_iter().flatten().any(is_https);
        let pool = |files| -> Result<Pool> {
            let client = client(settings, (&trust, &provider), files)?;
            Ok(Pool { client, trust: Arc::clone(&trust), has_https_proxy })
        };
        Ok(Pair { metadata: pool(false)?, files: pool(true)? })
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read_small(path, CERTIFICATES_BYTES_MAX)
        .map_err(|error| Error::io("read", path, &error))?;
    let Some(bytes) = bytes else {
        // A configured file that is gone is ignored by the package managers too; TLS then decides.
        tracing::warn!(path = %path.display(), "a configured CA file does not exist");
        return Ok(Vec::new());
    };
    CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().map_err(|error| {
        let message = format!("`{}` is not a file of CA certificates: {error}", path.display());
        Error::new(Kind::Failed, "bad-configuration", message)
            .hint("it must hold certificates in PEM form; it is named by the package manager's configuration")
    })
}

fn client(
    settings: &TransportSettings,
    (trust, provider): (&Arc<Trust>, &Arc<CryptoProvider>),
    files: bool,
) -> Result<reqwest::Client> {
    let bad = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Failed, "bad-configuration", format!("cannot set up connections: {error}"))
            .hint("check the proxy variables and settings")
    };
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?
        .dangerous()
        // The library's own rules; only what is trusted comes later.
        .with_custom_certificate_verifier(Arc::<Trust>::clone(trust))
        .with_no_client_auth();
    let protocols: &[&[u8]] = if files { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_max_idle_per_host(if files { IDLE_CONNECTIONS_MAX } else { IDLE_QUESTIONS_MAX })
        .tls_backend_preconfigured(tls)
        // The proxies are the caller's, not those of this process.
        .no_proxy();
    builder = if files {
        builder.http1_only().no_gzip()
    } else {
        // One connection carries many big answers: small windows would make them wait for each other.
        builder
            .gzip(true)
            .http2_initial_stream_window_size(4 << 20)
            .http2_initial_connection_window_size(16 << 20)
    };
    let excluded = || settings.no_proxy.as_deref().and_then(NoProxy::from_string);
    if let Some(address) = &settings.http_proxy {
        let proxy = reqwest::Proxy::http(&address.0)
            .map_err(|_| bad(&"the address of the http proxy is not valid"))?;
        builder = builder.proxy(proxy.no_proxy(excluded()));
    }
    if let Some(address) = &settings.https_proxy {
        let proxy = reqwest::Proxy::https(&address.0)
            .map_err(|_| bad(&"the address of the https proxy is not valid"))?;
        builder = builder.proxy(proxy.no_proxy(excluded()));
    }
    builder.build().map_err(|error| bad(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offline_sets_nothing_up_and_leaves_it_to_others() {
        let (transports, settings) = (Transports::default(), TransportSettings::default());
        let offline = transports.get(&settings, true).expect("pools");
        assert_eq!(offline.metadata().expect_err("none").code, "offline");
        transports.get(&settings, false).expect("pools");
        assert!(offline.metadata().is_ok() && offline.files().is_ok());
        assert!(transports.machine.get().is_none(), "certificates were read");
    }

    #[tokio::test]
    async fn certificates_are_read_for_an_encrypted_connection_and_not_for_others() {
        let transports = Transports::default();
        let transport = transports.get(&TransportSettings::default(), false).expect("pools");
        let files = transport.files().expect("a pool");
        let url = |text| url::Url::parse(text).expect("an address");
        assert!(files.begin(&url("http://r.example.invalid/")).is_none());
        assert!(!files.trust.is_read() && transports.machine.get().is_none());
        let begun = files.begin(&url("https://r.example.invalid/")).expect("it is read");
        begun.await.expect("it was read");
        let metadata = transport.metadata().expect("a pool");
        assert!(files.trust.is_read() && metadata.trust.is_read(), "both have the same");
        assert!(metadata.begin(&url("https://r.example.invalid/")).is_none(), "once");
    }

    #[tokio::test]
    async fn a_proxy_that_is_spoken_to_with_tls_needs_certificates_for_every_address() {
        let proxy = |text: &str| Some(ProxyAddress(text.to_owned()));
        let url = url::Url::parse("http://r.example.invalid/").expect("an address");
        for (address, is_read) in [("https://p.example.invalid/", true), ("http://p/", false)] {
            let settings =
                TransportSettings { http_proxy: proxy(address), ..TransportSettings::default() };
            let transport = Transports::default().get(&settings, false).expect("pools");
            let pool = transport.files().expect("a pool");
            assert_eq!(pool.begin(&url).is_some(), is_read, "{address}");
        }
    }

    #[test]
    fn a_configured_file_counts_as_it_is_now() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("ca.pem");
        std::fs::write(&path, "").expect("space");
        let authorities = vec![path.clone()];
        let settings = TransportSettings { authorities, ..TransportSettings::default() };
        let transports = Transports::default();
        let first = transports.get(&settings, false).expect("pools");
        assert!(Arc::ptr_eq(&first, &transports.get(&settings, false).expect("the same pools")));
        std::fs::write(&path, "# nobody\n").expect("space");
        let second = transports.get(&settings, false).expect("pools");
        assert!(!Arc::ptr_eq(&first, &second), "what was trusted is not what is");
        std::fs::remove_file(&path).expect("removed");
        assert!(!Arc::ptr_eq(&second, &transports.get(&settings, false).expect("pools")));
    }

    #[test]
    fn a_configured_file_that_is_damaged_is_told_before_anything_is_asked() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("ca.pem");
        let damaged = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, damaged).expect("space");
        let settings =
            TransportSettings { authorities: vec![path], ..TransportSettings::default() };
        let error = Transports::default().get(&settings, false).expect_err("damaged");
        assert_eq!(error.code, "bad-configuration");
    }
}
