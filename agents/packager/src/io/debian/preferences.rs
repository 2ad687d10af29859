//! Which of several versions apt would take: the sources' own words (`Release`), and `apt_preferences`.

use crate::metadata::debian::Bound;

/// The priority of what is installed and in no list.
pub(super) const INSTALLED: i32 = 100;
/// What an ordinary source gives.
const ORDINARY: i32 = 500;
/// A source that asks not to be used by itself.
const NOT_AUTOMATIC: i32 = 1;
/// The same, but what was taken from it goes on being upgraded from it.
const ONLY_UPGRADES: i32 = 100;

/// What a source says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) host: String,
    pub(super) origin: String,
    pub(super) label: String,
    pub(super) suite: String,
    pub(super) codename: String,
    pub(super) version: String,
    pub(super) component: String,
    pub(super) is_not_automatic: bool,
    pub(super) is_upgraded: bool,
}

impl Release {
    fn priority(&self) -> i32 {
        match (self.is_not_automatic, self.is_upgraded) {
            (true, true) => ONLY_UPGRADES,
            (true, false) => NOT_AUTOMATIC,
            _ => ORDINARY,
        }
    }
}

/// One record of `/etc/apt/preferences`.
#[derive(Clone, Debug)]
struct Pin {
    /// Patterns of names.
    packages: Vec<String>,
    rule: Rule,
    priority: i32,
}

#[derive(Clone, Debug)]
enum Rule {
    Version(String),
    Host(String),
    /// `a=stable, o=Debian`.
    Release(Vec<(char, String)>),
}

/// All records, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Preferences(Vec<Pin>);

impl Preferences {
    /// Adds the records of a file. What is not understood is left out, as apt leaves it out with a warning.
    pub(super) fn add(&mut self, text: &str) {
        for (_, stanza) in super::control::stanzas(text) {
            let (Some(packages), Some(pin), Some(priority)) =
                (stanza.field("Package"), stanza.field("Pin"), stanza.field("Pin-Priority"))
            else {
                continue;
            };
            let Some(rule) = rule(pin) else { continue };
            let Ok(priority) = priority.parse() else { continue };
            let packages = packages.split_whitespace().map(str::to_owned).collect();
            self.0.push(Pin { packages, rule, priority });
        }
    }

    /// apt's priority of a version from a source. Records that name the package come before general ones; the first of
    /// either kind that fits counts.
    pub(super) fn priority(&self, name: &str, version: &str, release: &Release) -> i32 {
        let fits = |pin: &&Pin| {
            pin.packages.iter().any(|pattern| matches(pattern, name))
                && pin.rule.fits(version, release)
        };
        let is_general = |pin: &&Pin| pin.packages.iter().all(|pattern| pattern == "*");
        let fitting = || self.0.iter().filter(fits);
        let specific = fitting().find(|pin| !is_general(pin));
        let found = specific.or_else(|| fitting().find(is_general));
        found.map_or_else(|| release.priority(), |pin| pin.priority)
    }
}

fn rule(text: &str) -> Option<Rule> {
    let (kind, rest) = text.split_once(char::is_whitespace)?;
    let rest = rest.trim();
    match kind {
        "version" => Some(Rule::Version(rest.to_owned())),
        "origin" => Some(Rule::Host(rest.trim_matches('"').to_owned())),
        "release" => {
            let parts = rest.split(',').map(str::trim).filter(|part| !part.is_empty());
            let part = |part: &str| {
                let (key, value) = part.split_once('=')?;
                let key = key.trim().chars().next()?;
                Some((key, value.trim().trim_matches('"').to_owned()))
            };
            let found: Option<Vec<_>> = parts.map(part).collect();
            found.filter(|parts| !parts.is_empty()).map(Rule::Release)
        }
        _ => None,
    }
}

impl Rule {
    fn fits(&self, version: &str, release: &Release) -> bool {
        match self {
            Rule::Version(pattern) => {
                matches(pattern, version)
                    || Bound::parse(pattern).is_some_and(|bound| *bound.text == *version)
            }
            Rule::Host(host) => *host == release.host,
            Rule::Release(parts) => parts.iter().all(|(key, value)| {
                let found = match key {
                    'a' => &release.suite,
                    'n' => &release.codename,
                    'o' => &release.origin,
                    'l' => &release.label,
                    'v' => &release.version,
                    'c' => &release.component,
                    _ => return false,
                };
                matches(value, found)
            }),
        }
    }
}

/// `*` and `?` as in file names; without recursion, in the product of both lengths at most.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((place, taken)) => {
                    at = place + 1;
                    from = taken + 1;
                    star = Some((place, from));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(suite: &str, host: &str) -> Release {
        Release { suite: suite.to_owned(), host: host.to_owned(), ..Release::default() }
    }

    #[test]
    fn a_record_that_names_the_package_comes_before_a_general_one() {
        let mut preferences = Preferences::default();
        preferences.add(
            "Package: *\nPin: release a=testing\nPin-Priority: -10\n\n\
             Package: node* npm\nPin: origin mirror.example.invalid\nPin-Priority: 600\n\n\
             Package: linux\nPin: version 6.1*\nPin-Priority: 1001\n",
        );
        let testing = release("testing", "mirror.example.invalid");
        assert_eq!(preferences.priority("nodejs", "18", &testing), 600);
        assert_eq!(preferences.priority("other", "18", &testing), -10);
        assert_eq!(preferences.priority("linux", "6.1.5-1", &release("stable", "")), 1001);
        assert_eq!(preferences.priority("linux", "6.2", &release("stable", "")), 500);
    }

    #[test]
    fn sources_that_ask_to_be_left_alone_are() {
        let mut backports = release("backports", "");
        backports.is_not_automatic = true;
        assert_eq!(Preferences::default().priority("a", "1", &backports), 1);
        backports.is_upgraded = true;
        assert_eq!(Preferences::default().priority("a", "1", &backports), 100);
    }

    #[test]
    fn patterns_end_in_time() {
        assert!(matches("*a*a*a*b", &format!("{}b", "a".repeat(1000))));
        assert!(!matches(&"*a".repeat(200), &"b".repeat(5000)));
        assert!(matches("", "") && !matches("", "a") && matches("lib?", "libc"));
    }
}
