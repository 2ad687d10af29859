//! What can go wrong between us and a registry, and the one error that people see of it.

use std::time::Duration;

use reqwest::StatusCode;
use url::Url;

use crate::error::{Error, Kind};
use crate::io::secret::shown;

/// Why a request was not answered usefully. Addresses are reduced to what may be shown when it is printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot reach `{}`: {cause}", shown(url))]
    Unreachable { url: Url, cause: String },
    #[error("the certificate of `{}` is not accepted: {cause}", shown(url))]
    Untrusted { url: Url, cause: String },
    #[error("the answer of `{}` broke off: {cause}", shown(url))]
    BrokenOff { url: Url, cause: String },
    #[error("`{}` did not answer completely within {} s", shown(url), limit.as_secs())]
    TooSlow { url: Url, limit: Duration },
    #[error("`{}` answered with status {status}", shown(url))]
    Status { url: Url, status: StatusCode },
    #[error("the answer of `{}` is larger than {bytes_max} bytes", shown(url))]
    TooLarge { url: Url, bytes_max: usize },
    #[error("`{}` answered with {why}", shown(url))]
    BadRedirect { url: Url, why: String },
    #[error("the request to `{}` cannot be made: {cause}", shown(url))]
    Unsendable { url: Url, cause: String },
}

impl Failure {
    /// Sorts an error of the HTTP library; its own text repeats the address, so only the deepest cause is kept.
    pub(crate) fn from_reqwest(url: &Url, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let (url, cause) = (url.clone(), deepest_cause(&error));
        if cause.contains("certificate") {
            Self::Untrusted { url, cause }
        } else if error.is_builder() {
            Self::Unsendable { url, cause }
        } else if error.is_body() || error.is_decode() {
            Self::BrokenOff { url, cause }
        } else {
            Self::Unreachable { url, cause }
        }
    }

    /// Whether another try may help.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::BrokenOff { .. } | Self::TooSlow { .. } => true,
            Self::Status { status, .. } => super::is_transient(*status),
            Self::Untrusted { .. }
            | Self::TooLarge { .. }
            | Self::BadRedirect { .. }
            | Self::Unsendable { .. } => false,
        }
    }

    /// Whether another server may have what this one does not give.
    pub(crate) fn may_differ_elsewhere(&self) -> bool {
        let is_its_own =
            matches!(self, Self::Status { .. } | Self::Untrusted { .. } | Self::BadRedirect { .. });
        self.is_transient() || is_its_own
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::BrokenOff { .. }
            | Self::TooSlow { .. } => "registry-unreachable",
            Self::Status { .. } | Self::Unsendable { .. } => "registry-error",
            Self::TooLarge { .. } | Self::BadRedirect { .. } => "registry-nonsense",
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::BrokenOff { .. } | Self::TooSlow { .. } => {
                "check the network, the proxy variables and the registry's address, then run the command \
                 again; `--offline` uses what is already known"
            }
            Self::Untrusted { .. } => {
                "if the registry or a proxy has a private certificate, name its CA file in `SSL_CERT_FILE` \
                 or in the package manager's own configuration"
            }
            Self::Status { status, .. } if matches!(status.as_u16(), 401 | 403 | 407) => {
                "the registry wants a credential that it accepts: configure it for the package manager of \
                 this ecosystem (npmrc, netrc or pip.conf, cargo's credentials.toml)"
            }
            Self::Status { status, .. } if super::is_transient(*status) => {
                "the registry is overloaded or broken; run the command again later"
            }
            _ => {
                "check the registry's address in the configuration of this ecosystem's package manager"
            }
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let error =
            Error::new(Kind::Network, failure.code(), failure.to_string()).hint(failure.hint());
        if failure.is_transient() { error.retryable() } else { error }
    }
}

/// The error for an answer that arrived well and makes no sense.
pub(crate) fn nonsense(url: &Url, why: impl std::fmt::Display) -> Error {
    let message = format!("the answer of `{}` makes no sense: {why}", shown(url));
    Error::new(Kind::Network, "registry-nonsense", message)
        .hint("check that the configured address is a registry of this ecosystem")
}

fn deepest_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    // Bounded, because a chain is data of libraries.
    for _ in 0..16 {
        match deepest.source() {
            Some(source) => deepest = source,
            None => break,
        }
    }
    deepest.to_string()
}
