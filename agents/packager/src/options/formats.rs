//! Which kinds of Python's files count: wheels, source, or both. Put together from what pip is configured with, the command line and the
//! manifest, in the way of pip's own options: what is said later holds, and a name is stronger than `:all:`.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use pep508_rs::PackageName;

use super::{Choice, Names};
use crate::limits::OPTION_NAMES_MAX;
use agents_versions::shorten;

/// What counts of which package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    no_binary: Names,
    only_binary: Names,
}

impl Formats {
    /// Takes one more option; its names are apart by commas or spaces.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn take(&mut self, choice: Choice, text: &str) -> Result<(), String> {
        let (target, other) = match choice {
            Choice::NoBinary => (&mut self.no_binary, &mut self.only_binary),
            _ => (&mut self.only_binary, &mut self.no_binary),
        };
        for name in text.split([',', ' ', '\t']).filter(|name| !name.is_empty()) {
            match name {
                ":all:" => {
                    *other = Names::default();
                    *target = Names { all: true, names: BTreeSet::new() };
                }
                ":none:" => *target = Names::default(),
                name => {
                    let name = PackageName::from_str(name)
                        .map_err(|_| format!("`{}` is not a Python package", shorten(name)))?;
                    other.names.remove(&name);
                    target.names.insert(name);
                }
            }
            if target.names.len() > OPTION_NAMES_MAX {
                return Err(format!("there are more than {OPTION_NAMES_MAX} names"));
            }
        }
        Ok(())
    }

    /// Whether a wheel of a package counts.
    pub fn has_wheels(&self, name: &PackageName) -> bool {
        self.only_binary.names.contains(name)
            || !(self.no_binary.names.contains(name) || self.no_binary.all)
            || (self.only_binary.all && !self.no_binary.names.contains(name))
    }

    /// Whether source of a package counts, where somebody asks for its build.
    pub fn has_sources(&self, name: &PackageName) -> bool {
        let is_source_only = self.no_binary.names.contains(name);
        !self.only_binary.names.contains(name) && (is_source_only || !self.only_binary.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds that count of `a` and of `b`: `w`heels and `s`ource.
    fn check(options: &[(Choice, &str)], expected: (&str, &str)) {
        let mut formats = Formats::default();
        for (choice, text) in options {
            formats.take(*choice, text).expect("an option");
        }
        let of = |name: &str| {
            let name = PackageName::from_str(name).expect("a name");
            let kinds = [(formats.has_wheels(&name), "w"), (formats.has_sources(&name), "s")];
            kinds.into_iter().filter(|(has, _)| *has).map(|(_, kind)| kind).collect::<String>()
        };
        assert_eq!((of("a").as_str(), of("b").as_str()), expected, "{options:?}");
    }

    #[test]
    fn options_are_put_together_as_pip_does() {
        use Choice::{NoBinary as No, OnlyBinary as Only};
        check(&[], ("ws", "ws"));
        check(&[(No, "a")], ("s", "ws"));
        check(&[(Only, "A")], ("w", "ws"));
        check(&[(No, ":all:")], ("s", "s"));
        check(&[(Only, ":all:")], ("w", "w"));
        check(&[(No, ":all:"), (Only, "a")], ("w", "s"));
        check(&[(Only, "a"), (No, ":all:")], ("s", "s"));
        check(&[(Only, ":all:"), (No, "a, x")], ("s", "w"));
        check(&[(No, "a"), (Only, "a")], ("w", "ws"));
        check(&[(No, "a b"), (No, ":none:")], ("ws", "ws"));
        check(&[(Only, ":all:"), (No, ":all:")], ("s", "s"));
        check(&[(No, "b,:all:"), (Only, ":none:,a")], ("w", "s"));
        assert!(Formats::default().take(No, "!").is_err());
    }
}
