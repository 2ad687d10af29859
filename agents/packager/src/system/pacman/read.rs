//! What pacman says of packages, as data: its answers for people, which have one line for each field, and its lists.

use std::collections::{BTreeMap, BTreeSet};

/// A package as `pacman -Qi` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Installed {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
    pub(super) is_automatic: bool,
    pub(super) built: String,
    pub(super) provides: Vec<String>,
    pub(super) conflicts: Vec<String>,
    pub(super) required_by: Vec<String>,
}

/// A package as a repository's list has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
    pub(super) file: String,
    pub(super) sha256: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) license: Option<String>,
    pub(super) provides: Vec<String>,
    pub(super) conflicts: Vec<String>,
    pub(super) depends: Vec<String>,
}

/// Reads `Name : value` blocks. Several values stand two spaces apart.
pub(super) fn installed(text: &str) -> Vec<Installed> {
    let blocks = text.split("\n\n").map(|block| {
        let mut found = Installed::default();
        // What a package says of another one goes on in lines that begin with spaces.
        for line in block.lines().filter(|line| !line.starts_with(char::is_whitespace)) {
            let Some((key, value)) = line.split_once(" : ") else { continue };
            let value = value.trim();
            let list = || -> Vec<String> {
                let words = value.split_whitespace().filter(|word| *word != "None");
                words.map(str::to_owned).collect()
            };
            match key.trim() {
                "Name" => found.name = value.to_owned(),
                "Version" => found.version = value.to_owned(),
                "Architecture" if value != "None" => found.architecture = value.to_owned(),
                "Install Reason" => found.is_automatic = value != "Explicitly installed",
                "Build Date" => found.built = value.to_owned(),
                "Provides" => found.provides = list(),
                "Conflicts With" => found.conflicts = list(),
                "Required By" => found.required_by = list(),
                _ => {}
            }
        }
        found
    });
    // An entry that a crash left without content has a name and a version, and nothing else: that is no package.
    let is_whole = |it: &Installed| !it.version.is_empty() && !it.architecture.is_empty();
    blocks.filter(|it| !it.name.is_empty() && is_whole(it)).collect()
}

/// Reads `desc` files of a list, one after the other: `%FIELD%`, then its values, then an empty line.
pub(super) fn listed(text: &str) -> Vec<Listed> {
    let mut all: Vec<BTreeMap<&str, Vec<&str>>> = Vec::new();
    let mut field = "";
    for line in text.lines().map(str::trim) {
        let name = line.strip_prefix('%').and_then(|line| line.strip_suffix('%'));
        match name {
            Some(name) => {
                if name == "FILENAME" {
                    all.push(BTreeMap::new());
                }
                field = name;
            }
            None if line.is_empty() => field = "",
            None if field.is_empty() => {}
            None => {
                if let Some(last) = all.last_mut() {
                    last.entry(field).or_default().push(line);
                }
            }
        }
    }
    let read = |fields: BTreeMap<&str, Vec<&str>>| {
        let all = |name: &str| -> Vec<String> {
            fields.get(name).into_iter().flatten().map(|it| (*it).to_owned()).collect()
        };
        let first = |name: &str| all(name).into_iter().next();
        let is_digest =
            |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some(Listed {
            name: first("NAME")?,
            version: first("VERSION")?,
            architecture: first("ARCH").unwrap_or_default(),
            file: first("FILENAME")?,
            sha256: first("SHA256SUM").filter(is_digest).map(|it| it.to_ascii_lowercase()),
            size: first("CSIZE").and_then(|size| size.parse().ok()),
            license: Some(all("LICENSE").join(" AND ")).filter(|text| !text.is_empty()),
            provides: all("PROVIDES"),
            conflicts: all("CONFLICTS"),
            depends: all("DEPENDS"),
        })
    };
    all.into_iter().filter_map(read).collect()
}

/// The name in a relation such as `lib>=1.5`.
pub(super) fn named(relation: &str) -> &str {
    relation.split(['<', '>', '=']).next().unwrap_or_default()
}

/// Whether a package, by its name or by what it provides, is one of those that a relation is about. `compare` answers how two
/// versions stand to each other.
pub(super) fn is_about(
    relation: &str,
    (name, version): (&str, &str),
    provides: &[String],
    compare: &dyn Fn(&str, &str) -> std::cmp::Ordering,
) -> bool {
    let wanted = named(relation);
    let rest = &relation[wanted.len()..];
    let bound = rest.trim_start_matches(['<', '>', '=']);
    let operator = &rest[..rest.len() - bound.len()];
    let holds = |version: &str| {
        let order = compare(version, bound);
        match operator {
            "" => true,
            "=" => order.is_eq(),
            ">=" => order.is_ge(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            "<" => order.is_lt(),
            _ => false,
        }
    };
    if wanted == name && holds(version) {
        return true;
    }
    provides.iter().any(|it| {
        let (provided, version) = it.split_once('=').unwrap_or((it, ""));
        provided == wanted && (operator.is_empty() || (!version.is_empty() && holds(version)))
    })
}

/// Lines of a list of packages, `name version`.
pub(super) fn names_and_versions(text: &str) -> BTreeSet<(String, String)> {
    let lines = text.lines().filter_map(|line| line.trim().split_once(' '));
    lines.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_lists_are_read() {
        let text = "Name            : web\nVersion         : 1:2.0-1\nArchitecture    : any\n\
            Provides        : httpd=2  www\nConflicts With  : None\nRequired By     : guest\n\
            Optional Deps   : lib: more\n                  Version : 9-9\n\
            Install Reason  : Installed as a dependency for another package\n\nName : half\nVersion : 1-1\nArchitecture : None\n\n";
        let found = installed(text);
        assert_eq!(found.len(), 1, "an entry without content is none");
        assert_eq!((found[0].version.as_str(), found[0].is_automatic), ("1:2.0-1", true));
        assert_eq!(found[0].provides, ["httpd=2", "www"]);
        assert!(found[0].conflicts.is_empty());
        let digest = "ab".repeat(32);
        let text = format!(
            "%FILENAME%\nweb-1-1-any.pkg.tar.zst\n\n%NAME%\nweb\n\n%VERSION%\n1-1\n\n%CSIZE%\n12\n\n\
             %SHA256SUM%\n{digest}\n\n%DEPENDS%\nlib>=1\nsh\n\n%FILENAME%\nx\n\n%NAME%\nx\n\n\
             %VERSION%\n2\n\n%SHA256SUM%\n../../etc\n\n"
        );
        let found = listed(&text);
        assert_eq!((found.len(), found[0].size), (2, Some(12)));
        assert_eq!(found[0].sha256.as_ref(), Some(&digest));
        assert_eq!(found[0].depends, ["lib>=1", "sh"]);
        assert_eq!(found[1].sha256, None);
        assert!(listed("%NAME%\nlost\n\n\n").is_empty());
    }

    #[test]
    fn a_relation_is_about_names_versions_and_what_is_provided() {
        let compare = |one: &str, other: &str| one.len().cmp(&other.len()).then(one.cmp(other));
        let check = |relation: &str, expected: bool| {
            let provides = ["httpd=2".to_owned(), "www".to_owned()];
            assert_eq!(
                is_about(relation, ("web", "5"), &provides, &compare),
                expected,
                "{relation}"
            );
        };
        for relation in ["web", "web>=5", "web<6", "httpd", "httpd=2", "httpd>1", "www"] {
            check(relation, true);
        }
        for relation in ["we", "web>5", "web=4", "httpd>=3", "www=1", "webs", ""] {
            check(relation, false);
        }
    }
}
