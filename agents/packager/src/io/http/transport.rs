//! Connection pools, one pair per set of CA files and proxies, shared by all requests of the process.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use reqwest::NoProxy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::{Error, Kind, Result};
use crate::io::endpoints::TransportSettings;
use crate::io::environment::read_small;
use crate::io::limits::{
    CERTIFICATES_BYTES_MAX, CONNECT_TIMEOUT, IDLE_CONNECTIONS_MAX, IDLE_QUESTIONS_MAX,
    READ_TIMEOUT, TRANSPORTS_MAX,
};

/// Who we are, for the people who run registries.
const USER_AGENT: &str = concat!("bolide/", env!("CARGO_PKG_VERSION"));

/// One pair of pools, once a request that is not offline has asked for it: reading the machine's certificates takes longer than
/// a small resolution.
#[derive(Debug, Default)]
pub(crate) struct Transport(OnceLock<Pair>);

#[derive(Debug)]
struct Pair {
    metadata: reqwest::Client,
    files: reqwest::Client,
}

impl Transport {
    /// HTTP/2 where the server can, with gzip: many small answers over few connections.
    pub(crate) fn metadata(&self) -> Result<&reqwest::Client> {
        self.pair().map(|pair| &pair.metadata)
    }

    /// HTTP/1.1 without content coding: every download has a connection of its own, since one stream does not
    /// fill a line, and the bytes are the ones that the hash is about.
    pub(crate) fn files(&self) -> Result<&reqwest::Client> {
        self.pair().map(|pair| &pair.files)
    }

    fn pair(&self) -> Result<&Pair> {
        self.0.get().ok_or_else(|| {
            let message = "the request is offline, so nothing is fetched";
            Error::new(Kind::Network, "offline", message).hint("leave `--offline` out")
        })
    }
}

/// All pools of the process.
#[derive(Debug, Default)]
pub(crate) struct Transports {
    pools: Mutex<HashMap<TransportSettings, Arc<Transport>>>,
    system_roots: OnceLock<Vec<CertificateDer<'static>>>,
}

impl Transports {
    /// The pools for these settings, ready for use where that is not for a request that is offline.
    pub(crate) fn get(
        &self,
        settings: &TransportSettings,
        is_offline: bool,
    ) -> Result<Arc<Transport>> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pools.get(settings).map(Arc::clone);
        let transport = known.unwrap_or_default();
        if !is_offline && transport.0.get().is_none() {
            // Under the lock, so nobody else has set it.
            let _ = transport.0.set(self.build(settings)?);
        }
        if pools.len() >= TRANSPORTS_MAX && !pools.contains_key(settings) {
            pools.clear();
        }
        pools.insert(settings.clone(), Arc::clone(&transport));
        Ok(transport)
    }

    fn build(&self, settings: &TransportSettings) -> Result<Pair> {
        let roots = self.roots(settings)?;
        let metadata = client(settings, &roots, false)?;
        let files = client(settings, &roots, true)?;
        Ok(Pair { metadata, files })
    }

    fn roots(&self, settings: &TransportSettings) -> Result<Arc<rustls::RootCertStore>> {
        let system = self.system_roots.get_or_init(|| {
            let loaded = rustls_native_certs::load_native_certs();
            for error in &loaded.errors {
                tracing::debug!(%error, "cannot read a CA certificate of the machine");
            }
            loaded.certs
        });
        let mut store = rustls::RootCertStore::empty();
        // The machine's store may hold certificates that the library rejects; the others still count.
        store.add_parsable_certificates(system.iter().cloned());
        for path in &settings.authorities {
            store.add_parsable_certificates(read_certificates(path)?);
        }
        Ok(Arc::new(store))
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
    roots: &Arc<rustls::RootCertStore>,
    files: bool,
) -> Result<reqwest::Client> {
    let bad = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Failed, "bad-configuration", format!("cannot set up connections: {error}"))
            .hint("check the proxy variables and settings")
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?
        .with_root_certificates(Arc::clone(roots))
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
        assert!(transports.system_roots.get().is_none(), "certificates were read");
        transports.get(&settings, false).expect("pools");
        assert!(offline.metadata().is_ok() && offline.files().is_ok());
    }
}
