//! Which distribution this is, by what it says of itself and by the tools that are there. Starts nothing.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dnf;
use crate::ecosystem::Ecosystem;
use crate::io::environment::read_small;
use crate::limits::SYSTEM_RELEASE_BYTES_MAX;

/// Where a distribution's tools are. Never the caller's path: what runs as root is not found by a variable.
const TOOLS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// Who carries changes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// apt with dpkg: Debian, Ubuntu and their kin.
    Apt,
    /// dnf 4 with rpm: Fedora, RHEL and their kin.
    Dnf,
    /// pacman: Arch and its kin.
    Pacman,
}

impl Manager {
    /// Whose packages it changes.
    pub fn ecosystem(self) -> Ecosystem {
        match self {
            Self::Apt => Ecosystem::Debian,
            Self::Dnf => Ecosystem::Rpm,
            Self::Pacman => Ecosystem::Pacman,
        }
    }
}

/// A distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// As people call it.
    pub name: String,
    /// `debian`, `fedora`; empty where it does not say.
    pub id: String,
    /// The purl type and short name of its packages: `deb`, `rpm`, `pacman`, `apk`; `None` where that is not known.
    pub packages: Option<&'static str>,
    /// Who carries changes out here.
    pub manager: Option<Manager>,
}

/// Kinds of packages: the distributions that have them, the place of their database, and the tools that change them.
const KINDS: [(&str, &[&str], &str, &[&str]); 4] = [
    (
        "deb",
        &["debian", "ubuntu"],
        "var/lib/dpkg/status",
        &["apt-get", "apt-mark", "dpkg", "dpkg-query"],
    ),
    ("rpm", &["fedora", "rhel", "centos", "suse", "opensuse"], "var/lib/rpm", &["dnf", "rpm"]),
    (
        "pacman",
        &["arch", "archlinux"],
        "var/lib/pacman/local",
        &["pacman", "pacman-conf", "vercmp", "bsdtar"],
    ),
    ("apk", &["alpine"], "lib/apk/db", &["apk"]),
];

impl Distribution {
    /// Looks below `root`. The release file comes first; a system without one is known by its database of packages.
    pub fn recognise(root: &Path) -> Self {
        let text = ["etc/os-release", "usr/lib/os-release"]
            .iter()
            .find_map(|name| read_small(&root.join(name), SYSTEM_RELEASE_BYTES_MAX).ok()?)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default();
        let id = field(&text, "ID").unwrap_or_default();
        let like = field(&text, "ID_LIKE").unwrap_or_default();
        let ids: Vec<&str> = std::iter::once(id.as_str()).chain(like.split(' ')).collect();
        let says = KINDS.iter().find(|(_, known, ..)| ids.iter().any(|id| known.contains(id)));
        let has = || KINDS.iter().find(|(_, _, database, _)| root.join(database).exists());
        let kind = says.or_else(has);
        let name = field(&text, "PRETTY_NAME").or_else(|| field(&text, "NAME"));
        Self {
            name: name.filter(|name| !name.is_empty()).unwrap_or_else(|| "this system".to_owned()),
            id,
            packages: kind.map(|(kind, ..)| *kind),
            manager: kind.and_then(|(kind, _, database, tools)| {
                let is_there = || tools.iter().all(|name| tool(name).is_some());
                let has_database = || root.join(database).exists();
                match *kind {
                    "deb" if has_database() && is_there() => Some(Manager::Apt),
                    // Where rpm keeps its database, rpm itself was built to know.
                    "rpm" if tool("rpm").is_some() && has_dnf() => Some(Manager::Dnf),
                    "pacman" if has_database() && is_there() => Some(Manager::Pacman),
                    _ => None,
                }
            }),
        }
    }

    /// Why there is no manager.
    pub(super) fn why_not(&self) -> String {
        match self.packages {
            Some("deb") => "apt or dpkg is missing".to_owned(),
            Some("rpm") => "rpm or dnf of version 4 is missing (5 is another program, which is \
                 not known here)"
                .to_owned(),
            Some("pacman") => {
                "pacman, `vercmp` or bsdtar is missing, or pacman's database".to_owned()
            }
            Some(kind) => {
                format!("its packages are of the kind `{kind}`, which is not carried out here")
            }
            None => {
                "neither its release file nor a database of packages says what it has".to_owned()
            }
        }
    }
}

/// A tool of the distribution.
pub(super) fn tool(name: &str) -> Option<PathBuf> {
    TOOLS.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

fn has_dnf() -> bool {
    dnf::NAMES.into_iter().any(|name| interpreter_of(name).is_some())
}

/// The program that a tool is a script of, by the script's first line.
pub(super) fn interpreter_of(name: &str) -> Option<PathBuf> {
    use std::io::Read;
    let mut line = [0; 128];
    let mut file = std::fs::File::open(tool(name)?).ok()?;
    let length = file.read(&mut line).ok()?;
    let first = line[..length].split(|byte| *byte == b'\n').next()?;
    let rest = std::str::from_utf8(first).ok()?.strip_prefix("#!")?;
    let path = PathBuf::from(rest.split_whitespace().next()?);
    (path.is_absolute() && path.is_file() && !path.ends_with("env")).then_some(path)
}

/// One value of a release file, without its quotes and what a terminal would obey.
fn field(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.trim().split_once('='));
    let (_, value) = lines.find(|(key, _)| *key == name)?;
    let value = value.trim();
    let inner = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value);
    Some(inner.chars().filter(|one| !one.is_control() && *one != '\\').take(100).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], name: &str, packages: Option<&str>) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = Distribution::recognise(root.path());
        assert_eq!((found.name.as_str(), found.packages), (name, packages), "{files:?}");
        // Without a database of dpkg there is nothing that apt could change, nor pacman without its own.
        let has = |end: &str| files.iter().any(|(path, _)| path.contains(end));
        assert!(has("dpkg/status") || found.manager != Some(Manager::Apt));
        assert!(has("lib/pacman") || found.manager != Some(Manager::Pacman));
        // Whose packages these are, there is somebody for, or nobody; never somebody else.
        assert!(found.manager.is_none_or(|it| Some(it.ecosystem().as_str()) == packages));
    }

    #[test]
    fn a_distribution_says_what_it_is() {
        check(
            &[("etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n")],
            "Debian GNU/Linux 12",
            Some("deb"),
        );
        check(
            &[(
                "usr/lib/os-release",
                "NAME='Linux Mint'\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
            )],
            "Linux Mint",
            Some("deb"),
        );
        check(&[("etc/os-release", "ID=fedora\nNAME=Fedora\n")], "Fedora", Some("rpm"));
        check(&[("etc/os-release", "ID=manjaro\nID_LIKE=arch\n")], "this system", Some("pacman"));
        check(&[("etc/os-release", "ID=alpine\nNAME=Alpine\n")], "Alpine", Some("apk"));
    }

    #[test]
    fn one_that_says_nothing_is_known_by_its_database() {
        check(&[("var/lib/dpkg/status", "")], "this system", Some("deb"));
        check(&[("var/lib/pacman/local/ALPM_DB_VERSION", "9")], "this system", Some("pacman"));
        check(&[], "this system", None);
        check(&[("etc/os-release", "NAME=\"\x1b[31mred\"\nID=\"")], "[31mred", None);
    }
}
