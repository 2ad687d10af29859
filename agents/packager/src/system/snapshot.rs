//! What the distribution's tools say of every package: the only memory of how the system stands.

use std::collections::{BTreeMap, BTreeSet};

use super::{Standing, Version};
use crate::error::{Error, Kind, Result};

/// The columns that dpkg is asked for, in the order in which [`Snapshot::read`] takes them.
pub(super) const FORMAT: &str = "${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Want}\\t${db:Status-Status}\\t${db:Status-Eflag}\\n";

/// The state of a package that is there in more than one version. dpkg has no such; elsewhere kernels are so, and what a crash
/// left in the middle of a change.
const SEVERAL: &str = "installed in several versions";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    packages: BTreeMap<String, Known>,
    automatic: BTreeSet<String>,
}

/// One package as a tool without states between installed and not has it.
pub(super) struct Entry {
    /// Its name, with the architecture where that is a foreign one.
    pub(super) name: String,
    pub(super) architecture: String,
    pub(super) version: String,
    /// Whether it is there only because others need it.
    pub(super) is_automatic: bool,
}

/// One package as dpkg has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    version: String,
    architecture: String,
    status: String,
    is_sound: bool,
    /// Whether it is to stay: apt says that it is not before it takes it away.
    is_wanted: bool,
}

impl Snapshot {
    /// Reads what `dpkg-query` and `apt-mark showauto` say on a machine of the architecture `native`.
    pub(super) fn read(native: &str, packages: &str, automatic: &str) -> Result<Self> {
        let mut snapshot = Self::default();
        for line in packages.lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            let [name, architecture, version, want, status, flag] = columns[..] else {
                let message =
                    format!("dpkg says what is not understood: `{}`", line.escape_debug());
                return Err(Error::new(Kind::Failed, "system-unreadable", message));
            };
            if status == "not-installed" {
                continue;
            }
            let known = Known {
                version: version.to_owned(),
                architecture: architecture.to_owned(),
                status: status.to_owned(),
                is_sound: flag == "ok",
                is_wanted: matches!(want, "install" | "hold"),
            };
            snapshot.packages.insert(qualified(native, name, architecture), known);
        }
        snapshot.automatic = automatic.lines().map(str::trim).map(str::to_owned).collect();
        Ok(snapshot)
    }

    /// The same of a tool that knows installed packages only.
    pub(super) fn of(entries: impl Iterator<Item = Entry>) -> Self {
        let mut snapshot = Self::default();
        for Entry { name, architecture, version, is_automatic } in entries {
            if is_automatic {
                snapshot.automatic.insert(name.clone());
            }
            let is_several = snapshot.packages.contains_key(&name);
            let status = if is_several { SEVERAL } else { "installed" }.to_owned();
            let known = Known { version, architecture, status, is_sound: true, is_wanted: true };
            snapshot.packages.insert(name, known);
        }
        snapshot
    }

    /// How a package stands. One that is between two states counts as installed in the version that dpkg names; whether it is
    /// so, [`Self::is_settled`] says.
    pub(crate) fn standing(&self, name: &str) -> Standing {
        match self.packages.get(name) {
            None => Standing::Absent,
            Some(known) if known.status == "config-files" => Standing::Residue,
            Some(known) => Standing::Installed(Version {
                architecture: known.architecture.clone(),
                is_automatic: self.automatic.contains(name),
                origin: String::new(),
                sha256: None,
                version: known.version.clone(),
            }),
        }
    }

    /// Whether nothing of a package is half done, and nothing begun: what is installed is to stay so.
    pub(crate) fn is_settled(&self, name: &str) -> bool {
        let is_settled = |known: &Known| {
            known.is_settled() && (known.is_wanted || known.status == "config-files")
        };
        self.packages.get(name).is_none_or(is_settled)
    }

    /// Whether a package was being unpacked when its tool died: dpkg does not know all of its files.
    pub(crate) fn is_torn(&self, name: &str) -> bool {
        let is_torn = |known: &Known| known.status == "half-installed" || !known.is_sound;
        self.packages.get(name).is_some_and(is_torn)
    }

    /// Packages that are half installed or wait to be configured.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        let is_unsettled = |known: &Known| !known.is_settled() && known.status != SEVERAL;
        let found = self.packages.iter().filter(|(_, known)| is_unsettled(known));
        found.map(|(name, known)| format!("`{name}` is {}", known.status)).collect()
    }

    /// Refuses a system that somebody left half changed.
    pub(crate) fn require_whole(&self) -> Result<()> {
        let unsettled = self.unsettled();
        if unsettled.is_empty() {
            return Ok(());
        }
        let shown = unsettled.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        let message = format!("the system was left half changed before this: {shown}");
        Err(Error::new(Kind::Failed, "system-broken", message)
            .hint("run `dpkg --configure -a` and `apt-get --fix-broken install`, then try again"))
    }
}

impl Known {
    fn is_settled(&self) -> bool {
        self.is_sound && matches!(self.status.as_str(), "installed" | "config-files")
    }
}

/// A package's name as apt takes it: with the architecture where that is a foreign one.
pub(super) fn qualified(native: &str, name: &str, architecture: &str) -> String {
    match architecture == native || architecture == "all" {
        true => name.to_owned(),
        false => format!("{name}:{architecture}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_in_several_versions_is_not_settled_and_breaks_nothing() {
        let entry = |name: &str, version: &str| Entry {
            name: name.to_owned(),
            architecture: "x86_64".to_owned(),
            version: version.to_owned(),
            is_automatic: false,
        };
        let entries = [entry("kernel", "1-1"), entry("kernel", "2-1"), entry("lib", "1-1")];
        let snapshot = Snapshot::of(entries.into_iter());
        assert!(!snapshot.is_settled("kernel") && snapshot.is_settled("lib"));
        assert!(snapshot.require_whole().is_ok());
        assert_eq!(snapshot.standing("lib").version().unwrap().version, "1-1");
    }

    #[test]
    fn what_dpkg_says_is_what_stands() {
        let text = "lib\tall\t1.0\tinstall\tinstalled\tok\n\
            lib\ti386\t1.0\tinstall\tinstalled\tok\n\
            leaving\tamd64\t2\tdeinstall\tinstalled\tok\n\
            gone\tamd64\t2\tdeinstall\tconfig-files\tok\n\
            never\t\t\tunknown\tnot-installed\tok\n\
            half\tamd64\t3\tinstall\thalf-configured\tok\n\
            torn\tamd64\t4\tinstall\thalf-installed\treinstreq\n";
        let snapshot = Snapshot::read("amd64", text, "lib\n").unwrap();
        let version = |name: &str| snapshot.standing(name).version().cloned().unwrap();
        assert!(version("lib").is_automatic && !version("lib:i386").is_automatic);
        assert_eq!(snapshot.standing("gone"), Standing::Residue);
        assert_eq!(snapshot.standing("never"), Standing::Absent);
        assert!(!snapshot.is_settled("leaving"), "apt had begun to take it away");
        assert!(snapshot.is_settled("gone") && snapshot.is_settled("never"));
        assert_eq!(snapshot.unsettled(), ["`half` is half-configured", "`torn` is half-installed"]);
        assert_eq!(snapshot.require_whole().unwrap_err().code, "system-broken");
        assert!(Snapshot::read("amd64", "one\ttwo\n", "").is_err());
    }
}
