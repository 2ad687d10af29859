//! Credentials: kept from every output, and given only to the place that they were configured for.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use url::Url;

/// The value of an `Authorization` header. Never printed, whatever the format.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential(String);

impl Credential {
    /// `Bearer TOKEN`.
    pub(crate) fn bearer(token: &str) -> Self {
        Self(format!("Bearer {token}"))
    }

    /// `Basic`, from a name and a password.
    pub(crate) fn basic(name: &str, password: &str) -> Self {
        Self(format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
    }

    /// `Basic`, from the already encoded form that npm keeps.
    pub(crate) fn basic_encoded(encoded: &str) -> Self {
        Self(format!("Basic {encoded}"))
    }

    /// The whole value, as cargo's registries expect it.
    pub(crate) fn raw(value: &str) -> Self {
        Self(value.to_owned())
    }

    /// The header, marked so that no library logs it; `None` where it holds bytes that no header may.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.0).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Bytes that differ for different credentials; for cache keys, which hash them.
    pub(crate) fn key_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credential(redacted)")
    }
}

/// The place that a credential belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    host: String,
    port: u16,
    /// Starts and ends with a slash.
    path: String,
    /// Whether it may travel without encryption: only where a trusted file says `http:` itself.
    plain: bool,
}

impl Scope {
    /// Everything beneath `url`.
    pub(crate) fn beneath(url: &Url) -> Option<Self> {
        let mut path = url.path().to_owned();
        if !path.ends_with('/') {
            path.push('/');
        }
        Some(Self {
            host: url.host_str()?.to_owned(),
            port: url.port_or_known_default()?,
            path,
            plain: url.scheme() == "http",
        })
    }

    /// The whole host of `url`.
    pub(crate) fn host_of(url: &Url) -> Option<Self> {
        Some(Self { path: "/".to_owned(), ..Self::beneath(url)? })
    }

    /// Whether a request to `url` is in this place.
    fn covers(&self, url: &Url) -> bool {
        let beneath = url.path().starts_with(&self.path)
            || self.path.strip_suffix('/').is_some_and(|path| url.path() == path);
        beneath && self.is_at_host_of(url)
    }

    /// Whether it is on the server of `url`, and may be shown on such a connection.
    fn is_at_host_of(&self, url: &Url) -> bool {
        let plain_allowed = self.plain || is_loopback(url);
        let encrypted = url.scheme() == "https";
        url.host_str() == Some(self.host.as_str())
            && url.port_or_known_default() == Some(self.port)
            && (encrypted || plain_allowed)
    }

    /// Where on the server it is.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// Whether `url` never leaves this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// All credentials of one ecosystem.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    entries: Vec<(Scope, Credential)>,
}

impl Credentials {
    /// Adds one; earlier ones win over later ones with the same place.
    pub(crate) fn add(&mut self, scope: Scope, credential: Credential) {
        self.entries.push((scope, credential));
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The credential with the narrowest place that covers `url`.
    pub(crate) fn for_url(&self, url: &Url) -> Option<&(Scope, Credential)> {
        let mut best: Option<&(Scope, Credential)> = None;
        for entry in self.entries.iter().filter(|(scope, _)| scope.covers(url)) {
            if best.is_none_or(|(scope, _)| scope.path.len() < entry.0.path.len()) {
                best = Some(entry);
            }
        }
        best
    }

    /// Those of which one may be shown where something beneath `base`, or `base` itself, is asked for.
    pub(crate) fn beneath<'c>(
        &'c self,
        base: &'c Url,
    ) -> impl Iterator<Item = &'c (Scope, Credential)> {
        let is_meant = |(scope, _): &&(Scope, Credential)| {
            let is_narrower = || scope.path.starts_with(base.path()) && scope.is_at_host_of(base);
            scope.covers(base) || is_narrower()
        };
        self.entries.iter().filter(is_meant)
    }

    /// Whether a redirect from a request with `entry` may carry it on to `url`.
    pub(crate) fn survives(entry: &(Scope, Credential), url: &Url) -> bool {
        entry.0.covers(url)
    }
}

/// Moves `user:password@` out of an address.
pub(crate) fn take_userinfo(url: &mut Url) -> Option<Credential> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode =
        |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let credential =
        Credential::basic(&decode(url.username()), &decode(url.password().unwrap_or("")));
    // Both fail only for addresses without a host, which have no user information either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(credential)
}

/// An address for people: without user information, query and fragment, which may all hold secrets.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    if url.query().is_some() {
        url.set_query(Some("..."));
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a valid address")
    }

    fn credentials(place: &str) -> Credentials {
        let mut credentials = Credentials::default();
        let scope = Scope::beneath(&url(place)).expect("a host");
        credentials.add(scope, Credential::bearer("hush"));
        credentials
    }

    #[test]
    fn a_credential_is_never_printed() {
        let text = format!(
            "{:?} {:#?}",
            Credential::bearer("hush"),
            credentials("https://r.example.invalid/")
        );
        assert!(!text.contains("hush"));
    }

    #[test]
    fn a_credential_goes_only_to_its_host_port_and_path() {
        let credentials = credentials("https://r.example.invalid/npm/");
        for (place, expected) in [
            ("https://r.example.invalid/npm/express", true),
            ("https://r.example.invalid/npm", true),
            ("https://r.example.invalid:443/npm/express", true),
            ("https://r.example.invalid/npm-other/express", false),
            ("https://r.example.invalid/npm/../other", false),
            ("https://r.example.invalid/npm/%2e%2e/other", false),
            ("https://r.example.invalid:444/npm/express", false),
            ("https://s.example.invalid/npm/express", false),
            ("http://r.example.invalid/npm/express", false),
            ("http://r.example.invalid:443/npm/express", false),
        ] {
            assert_eq!(credentials.for_url(&url(place)).is_some(), expected, "{place}");
        }
    }

    #[test]
    fn what_may_be_shown_beneath_an_address_is_known() {
        for (place, base, expected) in [
            ("https://r.example.invalid/npm/", "https://r.example.invalid/npm/", true),
            ("https://r.example.invalid/", "https://r.example.invalid/npm/", true),
            ("https://r.example.invalid/npm/express/", "https://r.example.invalid/npm/", true),
            ("https://r.example.invalid/other/", "https://r.example.invalid/npm/", false),
            ("https://s.example.invalid/npm/express/", "https://r.example.invalid/npm/", false),
            ("https://r.example.invalid/npm/", "http://r.example.invalid/npm/", false),
        ] {
            let found = credentials(place).beneath(&url(base)).count() == 1;
            assert_eq!(found, expected, "{place} for {base}");
        }
    }

    #[test]
    fn user_information_moves_out_of_an_address() {
        let mut address = url("https://me:p%40ss@r.example.invalid/simple");
        let credential = take_userinfo(&mut address).expect("user information");
        assert_eq!(credential, Credential::basic("me", "p@ss"));
        assert_eq!(address.as_str(), "https://r.example.invalid/simple");
    }

    #[test]
    fn a_shown_address_has_no_secrets() {
        let text = shown(&url("https://me:hush@r.example.invalid/a?sig=hush#hush"));
        assert_eq!(text, "https://r.example.invalid/a?...");
    }
}
