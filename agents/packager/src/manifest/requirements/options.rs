//! The options that a line of a requirements file has, and what they say of where packages come from.

use super::super::without_bom;
use super::Logical;
use super::include::{Open, follow};
use crate::error::Error;

/// Options that are followed by a value, in both of their spellings.
const WITH_VALUE: [(&str, &str); 9] = [
    ("-i", "--index-url"),
    ("", "--pypi-url"),
    ("", "--extra-index-url"),
    ("-f", "--find-links"),
    ("", "--trusted-host"),
    ("", "--no-binary"),
    ("", "--only-binary"),
    ("", "--use-feature"),
    ("-C", "--config-settings"),
];

/// One option of a line, by its long name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'l> {
    /// `--index-url`; what is not known, as it is written.
    pub name: &'l str,
    /// What stands behind it; `None` where it takes nothing, or where the line ends.
    pub value: Option<&'l str>,
}

/// The options of a line, in their order.
pub fn named(line: &str) -> Vec<Named<'_>> {
    let mut found = Vec::new();
    let mut words = line.split_whitespace().map(unquoted);
    while let Some(word) = words.next() {
        let (plain, written) = match word.split_once('=').filter(|_| word.starts_with("--")) {
            Some((plain, value)) => (plain, Some(unquoted(value))),
            None => (word, None),
        };
        let is_it = |(short, long): &&(&str, &str)| plain == *long || plain == *short;
        // pip reads `-fPLACE` as one word, too.
        let is_joined = |(short, _): &&(&str, &str)| {
            !short.is_empty() && !plain.starts_with("--") && plain.starts_with(short)
        };
        if let Some((_, name)) = WITH_VALUE.iter().find(is_it) {
            found.push(Named { name, value: written.or_else(|| words.next()) });
        } else if let Some((short, name)) = WITH_VALUE.iter().find(is_joined) {
            found.push(Named { name, value: Some(unquoted(&plain[short.len()..])) });
        } else {
            found.push(Named { name: plain, value: written });
        }
    }
    found
}

fn unquoted(word: &str) -> &str {
    word.trim_matches(['"', '\''])
}

/// Where a requirements file, with what it includes, says that packages come from. As written: nothing of it is checked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The last `--index-url`.
    pub index: Option<String>,
    /// Every `--extra-index-url`, in their order.
    pub others: Vec<String>,
    /// Every `--find-links`, in their order.
    pub links: Vec<String>,
    /// `--no-index`.
    pub has_no_index: bool,
    /// Hosts whose certificates pip would not look at.
    pub trusted_hosts: Vec<String>,
}

impl Places {
    /// Takes one option; whether it says where packages come from.
    pub fn take(&mut self, option: &Named<'_>) -> bool {
        let value = || option.value.filter(|value| !value.is_empty()).map(str::to_owned);
        match (option.name, value()) {
            ("--no-index", None) => self.has_no_index = true,
            ("--index-url" | "--pypi-url", Some(url)) => self.index = Some(url),
            ("--extra-index-url", Some(url)) => self.others.push(url),
            ("--find-links", Some(place)) => self.links.push(place),
            ("--trusted-host", Some(host)) => self.trusted_hosts.push(host),
            _ => return false,
        }
        true
    }
}

/// What a requirements file says of where packages come from, with the files that it includes. What does not belong to that is
/// passed over: whoever reads the requirements tells what is wrong with them.
///
/// # Errors
/// Those of `open`.
pub fn places(file: &str, text: &str, open: Open<'_>) -> Result<Places, Error> {
    let mut found = Places::default();
    follow(file, text, open, &mut |logical: &Logical| {
        for option in named(&logical.body) {
            found.take(&option);
        }
    })?;
    Ok(found)
}

/// The lines of a text that hold options.
pub(super) fn lines_of(file: &str, text: &str) -> Result<Vec<Logical>, Error> {
    let (text, _) = without_bom(file, text)?;
    let lines = super::logical_lines(text).into_iter();
    Ok(lines.filter(|logical| logical.body.starts_with('-')).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn of(files: &[(&str, &str)]) -> Places {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        let open = &mut |path: &str| Ok(files.get(path).map(|text| (*text).to_owned()));
        places("requirements.txt", files["requirements.txt"], open).expect("places")
    }

    #[test]
    fn options_are_read_in_every_spelling() {
        let options = named("--pre -i https://a.example.invalid/simple --find-links=./wheels");
        let option = |name, value| Named { name, value };
        assert_eq!(
            options,
            [
                option("--pre", None),
                option("--index-url", Some("https://a.example.invalid/simple")),
                option("--find-links", Some("./wheels")),
            ]
        );
        assert_eq!(named("-f'x'"), [option("--find-links", Some("x"))]);
        assert_eq!(named("-fwheels"), [option("--find-links", Some("wheels"))]);
        assert_eq!(named("--find-links \"a\""), [option("--find-links", Some("a"))]);
        assert_eq!(named("--index-url"), [option("--index-url", None)]);
        assert_eq!(named("--unheard=of it"), [option("--unheard", Some("of")), option("it", None)]);
    }

    #[test]
    fn places_of_included_files_count_too() {
        let found = of(&[
            (
                "requirements.txt",
                "-r sub/more.txt\n-i https://a.example.invalid\nflask>=\n-c c.txt\n",
            ),
            (
                "sub/more.txt",
                "--extra-index-url https://b.example.invalid\n-r ../requirements.txt\n",
            ),
            ("c.txt", "--no-index --trusted-host h\n-f wheels # here\n-r gone.txt\n"),
        ]);
        assert_eq!(found.index.as_deref(), Some("https://a.example.invalid"));
        assert_eq!(found.others, ["https://b.example.invalid"]);
        assert_eq!(found.links, ["wheels"]);
        assert_eq!(found.trusted_hosts, ["h"]);
        assert!(found.has_no_index);
        assert_eq!(
            of(&[("requirements.txt", "--find-links\n-i\n--no-index=x\n")]),
            Places::default()
        );
    }
}
