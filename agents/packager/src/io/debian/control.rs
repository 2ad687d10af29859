//! The paragraphs of apt's lists and of dpkg's status file: fields by name, and packages made of them.

use std::sync::Arc;

use agents_versions::{Family, Version};

use crate::io::limits::{DEBIAN_STANZA_BYTES_MAX, TABLE_ENTRIES_MAX};
use crate::metadata::Hashes;
use crate::metadata::debian::{
    ALL, Bound, Conflict, File, Group, MultiArch, Package, Provide, Relation,
};

/// One paragraph.
#[derive(Clone, Copy)]
pub(super) struct Stanza<'a>(pub(super) &'a str);

/// The names that deciding whether a paragraph matters takes.
pub(super) struct Heading<'a> {
    pub(super) name: &'a str,
    pub(super) provides: &'a str,
}

impl<'a> Stanza<'a> {
    /// The fields with their lines of continuation.
    fn fields(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                if rest.is_empty() {
                    return None;
                }
                let mut end = rest.find('\n').unwrap_or(rest.len());
                // A line that begins with a space goes on with the field before it.
                while rest[end..].starts_with("\n ") || rest[end..].starts_with("\n\t") {
                    end = rest[end + 1..].find('\n').map_or(rest.len(), |at| end + 1 + at);
                }
                let field = &rest[..end];
                rest = rest.get(end + 1..).unwrap_or_default();
                if let Some((name, value)) = field.split_once(':') {
                    return Some((name, value.trim()));
                }
            }
        })
    }

    /// A field by its name; upper and lower case are the same.
    pub(super) fn field(self, wanted: &str) -> Option<&'a str> {
        self.fields().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    }

    /// What the index is made from. Looks at the first letters of lines only: a list has more than a million.
    pub(super) fn heading(self) -> Option<Heading<'a>> {
        let (mut name, mut provides) = (None, "");
        let mut rest = self.0;
        while !rest.is_empty() {
            let end = rest.find('\n').unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if !matches!(line.as_bytes().first(), Some(b'P' | b'p')) {
                continue;
            }
            let Some((field, value)) = line.split_once(':') else { continue };
            if field.eq_ignore_ascii_case("Package") {
                name = Some(value.trim());
            } else if field.eq_ignore_ascii_case("Provides") {
                provides = value.trim();
            }
        }
        Some(Heading { name: name.filter(|name| !name.is_empty())?, provides })
    }
}

/// The paragraphs of a text with where each begins. One that is too long to be honest is left out.
pub(super) fn stanzas(text: &str) -> impl Iterator<Item = (usize, Stanza<'_>)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
            let (length, after) = match rest.find("\n\n") {
                Some(at) => (at + 1, at + 2),
                None => (rest.len(), rest.len()),
            };
            let found = (start, Stanza(&rest[..length]));
            start += after;
            if length <= DEBIAN_STANZA_BYTES_MAX && !rest[..length].trim().is_empty() {
                return Some(found);
            }
        }
    })
}

/// The names of a `Provides` without their versions.
pub(super) fn provided(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').take(TABLE_ENTRIES_MAX).filter_map(|one| {
        let name = one.trim().split([' ', '(', ':']).next().unwrap_or_default();
        (!name.is_empty()).then_some(name)
    })
}

/// A package without what only its source knows (its priority). `None` where the paragraph describes none.
pub(super) fn package(stanza: Stanza<'_>, native: &str) -> Option<Package> {
    let mut field = Fields::default();
    for (name, value) in stanza.fields() {
        field.set(name, value);
    }
    let version = field.version;
    let key = Version::parse(Family::Debian, version).ok()?;
    let architecture = match field.architecture {
        "" | ALL => native,
        other => other,
    };
    let conflicts = |text, is_break| {
        groups(text).into_iter().filter_map(move |mut group: Group| {
            let relation = (group.0.len() == 1).then(|| group.0.pop())??;
            Some(Conflict { relation, is_break })
        })
    };
    let sha256 = field.sha256.to_ascii_lowercase();
    let is_digest = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_file = !field.file.is_empty();
    let yes = |text: &str| text.eq_ignore_ascii_case("yes");
    Some(Package {
        name: (!field.name.is_empty()).then(|| field.name.to_owned())?,
        architecture: architecture.to_owned(),
        version: version.to_owned(),
        key,
        multi_arch: match field.multi_arch.to_ascii_lowercase().as_str() {
            "same" => MultiArch::Same,
            "foreign" => MultiArch::Foreign,
            "allowed" => MultiArch::Allowed,
            _ => MultiArch::No,
        },
        depends: [groups(field.pre_depends), groups(field.depends)].concat(),
        recommends: groups(field.recommends),
        conflicts: conflicts(field.conflicts, false).chain(conflicts(field.breaks, true)).collect(),
        provides: provides(field.provides),
        is_essential: yes(field.essential) || yes(field.protected),
        importance: importance(field.priority),
        is_installed: is_installed(field.status),
        is_held: field.status.split_whitespace().next() == Some("hold"),
        pin: 0,
        file: is_file.then(|| File {
            path: field.file.to_owned(),
            hashes: Hashes { sha256: is_digest.then_some(sha256), sha512: None },
            size: field.size.parse().ok(),
        }),
    })
}

macro_rules! fields {
    ($($field:ident = $name:literal),* $(,)?) => {
        /// The fields that count here.
        #[derive(Default)]
        struct Fields<'a> {
            $($field: &'a str,)*
        }

        impl<'a> Fields<'a> {
            fn set(&mut self, name: &str, value: &'a str) {
                $(if name.eq_ignore_ascii_case($name) {
                    self.$field = value;
                })*
            }
        }
    };
}

fields! {
    name = "Package",
    version = "Version",
    architecture = "Architecture",
    multi_arch = "Multi-Arch",
    pre_depends = "Pre-Depends",
    depends = "Depends",
    recommends = "Recommends",
    conflicts = "Conflicts",
    breaks = "Breaks",
    provides = "Provides",
    essential = "Essential",
    protected = "Protected",
    priority = "Priority",
    status = "Status",
    file = "Filename",
    size = "Size",
    sha256 = "SHA256",
}

/// Whether dpkg has the package's files unpacked: then its relations count.
fn is_installed(status: &str) -> bool {
    const STATES: [&str; 5] =
        ["installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending"];
    status.split_whitespace().nth(2).is_some_and(|state| STATES.contains(&state))
}

fn importance(priority: &str) -> u8 {
    match priority {
        "required" => 1,
        "important" => 2,
        "standard" => 3,
        "optional" => 4,
        _ => 5,
    }
}

/// The groups of a field.
fn groups(field: &str) -> Vec<Group> {
    let parts = field.split(',').map(str::trim).filter(|part| !part.is_empty());
    let group = |part: &str| Group(part.split('|').take(TABLE_ENTRIES_MAX).map(relation).collect());
    parts.take(TABLE_ENTRIES_MAX).map(group).collect()
}

/// `name:any (>= 1.2)`. What does not read becomes a name that no package can have: a want that cannot be met must not
/// look like none.
fn relation(text: &str) -> Relation {
    let text = text.trim();
    let unreadable = || Relation { name: text.into(), qualifier: None, bound: None };
    let (name, bound) = match text.split_once('(') {
        None => (text, None),
        Some((name, rest)) => {
            let Some((inner, _)) = rest.split_once(')') else { return unreadable() };
            let Some(bound) = Bound::parse(inner) else { return unreadable() };
            (name.trim_end(), Some(bound))
        }
    };
    let (name, qualifier) = match name.split_once(':') {
        Some((name, qualifier)) => (name, Some(Arc::from(qualifier))),
        None => (name, None),
    };
    Relation { name: name.into(), qualifier, bound }
}

fn provides(field: &str) -> Vec<Provide> {
    groups(field)
        .into_iter()
        .filter_map(|mut group| {
            let relation = group.0.pop()?;
            let version = relation.bound.map(|bound| bound.key);
            Some(Provide { name: relation.name.to_string(), version })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NGINX: &str = "Package: nginx\nVersion: 1.22.1-9\nArchitecture: amd64\nPriority: optional\n\
        Provides: httpd, httpd-cgi (= 3)\nDepends: libc6 (>= 2.34), iproute2 | net-tools:any (<< 3~)\n\
        Conflicts: old-nginx\nBreaks: nginx-common (<< 1.22)\nDescription: small\n long text\n .\n more\n\
        Filename: pool/nginx.deb\nSize: 12\nSHA256: 00\n\n";

    #[test]
    fn a_paragraph_becomes_a_package() {
        let (_, stanza) = stanzas(NGINX).next().expect("one");
        let found = package(stanza, "amd64").expect("a package");
        let texts: Vec<_> = found.depends.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["libc6 (>= 2.34)", "iproute2 | net-tools:any (<< 3~)"]);
        assert_eq!(found.conflicts.iter().map(|it| it.is_break).collect::<Vec<_>>(), [false, true]);
        assert_eq!(found.provides.len(), 2);
        // A digest that is none is not one.
        assert!(found.file.expect("a file").hashes.is_empty());
        let heading = stanza.heading().expect("names");
        assert_eq!(provided(heading.provides).collect::<Vec<_>>(), ["httpd", "httpd-cgi"]);
    }

    #[test]
    fn paragraphs_are_apart_however_many_lines_are_between() {
        let text = "Package: a\n\n\n\nPackage: b\nX: 1";
        let names: Vec<_> = stanzas(text).filter_map(|(_, it)| it.field("package")).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_does_not_read_cannot_be_met_and_is_not_lost() {
        for text in ["a (>= 1", "a (>= !!)", "a ("] {
            let found = groups(text);
            assert_eq!(found.len(), 1, "{text}");
            assert!(found[0].0[0].name.contains('('), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_only_configuration_is_not_installed() {
        assert!(!is_installed("deinstall ok config-files"));
        assert!(is_installed("hold ok installed") && is_installed("install ok unpacked"));
    }
}
