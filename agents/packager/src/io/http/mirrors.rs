//! Other addresses for what a registry has: a mirror has the same paths below another base. They are asked in the order in which
//! they are configured; who did not answer lately is asked last.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use url::Url;

use crate::io::cache::Key;
use crate::io::limits::{AILING_FOR, AILING_MAX};
use crate::io::secret::Credentials;

/// The mirrors of one registry.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    /// What addresses of the registry begin with.
    pub(crate) base: Option<Url>,
    pub(crate) others: Vec<Url>,
}

impl Mirrors {
    /// The address itself, and what it is at each mirror.
    pub(crate) fn addresses(&self, url: &Url, ailing: &Ailing) -> Vec<Url> {
        let mut addresses = vec![url.clone()];
        let rest = self.base.as_ref().and_then(|base| beneath(base, url));
        if let Some(rest) = rest {
            addresses.extend(self.others.iter().filter_map(|other| {
                let mut address = other.join(rest).ok()?;
                address.set_query(url.query());
                // A path must not lead out of the mirror.
                beneath(other, &address).is_some().then_some(address)
            }));
        }
        ailing.last(addresses)
    }

    /// The same key where these stand for the registry: what one of them said must not be taken for what the registry said by who never
    /// named it.
    pub(crate) fn key(&self, key: Key, credentials: &Credentials) -> Key {
        self.others.iter().fold(key, |key, mirror| key.and(mirror, Some(credentials)))
    }
}

/// The path of `url` behind that of `base`.
fn beneath<'u>(base: &Url, url: &'u Url) -> Option<&'u str> {
    let same = base.scheme() == url.scheme()
        && base.host() == url.host()
        && base.port_or_known_default() == url.port_or_known_default();
    let rest = url.path().strip_prefix(base.path()).filter(|_| same)?;
    // An address of its own would replace the mirror's.
    (!rest.starts_with('/') && !rest.contains(':')).then_some(rest)
}

/// Servers that did not answer lately, so that not each of a thousand files finds out by itself.
#[derive(Debug, Default)]
pub(crate) struct Ailing(Mutex<HashMap<String, Instant>>);

impl Ailing {
    /// The server of this address did not answer.
    pub(crate) fn note(&self, url: &Url) {
        let mut ailing = self.lock();
        if ailing.len() >= AILING_MAX {
            ailing.clear();
        }
        ailing.insert(url.origin().ascii_serialization(), Instant::now());
    }

    /// The same addresses, those of ailing servers last.
    pub(crate) fn last(&self, mut addresses: Vec<Url>) -> Vec<Url> {
        let ailing = self.lock();
        let is_ailing = |url: &Url| {
            let since = ailing.get(&url.origin().ascii_serialization());
            since.is_some_and(|since| since.elapsed() < AILING_FOR)
        };
        addresses.sort_by_key(is_ailing);
        addresses
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // A map of plain values is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("an address")
    }

    #[test]
    fn a_mirror_has_the_same_paths_below_its_own_base() {
        let mirrors = Mirrors {
            base: Some(url("https://r.example.invalid/npm/")),
            others: vec![url("https://m.example.invalid/"), url("http://n.example.invalid/a/b/")],
        };
        let ailing = Ailing::default();
        let of = |text: &str| -> Vec<String> {
            let addresses = mirrors.addresses(&url(text), &ailing);
            addresses.iter().map(Url::to_string).collect()
        };
        assert_eq!(
            of("https://r.example.invalid/npm/@s%2fx?y=1"),
            [
                "https://r.example.invalid/npm/@s%2fx?y=1",
                "https://m.example.invalid/@s%2fx?y=1",
                "http://n.example.invalid/a/b/@s%2fx?y=1",
            ]
        );
        for other in [
            "https://r.example.invalid/other/x",
            "http://r.example.invalid/npm/x",
            "https://r.example.invalid:8443/npm/x",
            "https://elsewhere.example.invalid/npm/x",
            "https://r.example.invalid/npm//evil.example.invalid/x",
            "https://r.example.invalid/npm/http://evil.example.invalid/x",
        ] {
            assert_eq!(of(other), [other]);
        }
        ailing.note(&url("https://r.example.invalid/"));
        assert_eq!(of("https://r.example.invalid/npm/x")[2], "https://r.example.invalid/npm/x");
    }
}
