//! Which names an archive may use, and whether they fit together. Pure; knows no archive format.

use std::collections::HashMap;

use super::Refusal;
use crate::limits;

/// Checks one relative path with `/` between its components.
///
/// Refused are absolute paths, empty, `.` and `..` components, backslashes (separators elsewhere),
/// control characters and what reorders the text around it, and whatever exceeds the bounds on length and depth.
pub fn check(path: &str) -> Result<(), Refusal> {
    let refuse = |why| Err(Refusal::name(path, why));
    if path.is_empty() {
        return refuse("is empty");
    }
    if path.len() > limits::ARCHIVE_PATH_BYTES_MAX {
        return refuse("is too long");
    }
    if path.starts_with('/') {
        return refuse("is absolute");
    }
    if path.contains('\\') {
        return refuse("contains a backslash");
    }
    // Of plain text, which nearly all names are, the bytes tell.
    let is_odd = |byte: u8| !matches!(byte, b' '..=b'~');
    if path.bytes().fold(false, |found, byte| found | is_odd(byte)) {
        if path.chars().any(char::is_control) {
            return refuse("contains a control character");
        }
        if path.chars().any(reorders) {
            return refuse("contains a character that changes the order of text");
        }
    }
    let mut depth = 0;
    for component in path.as_bytes().split(|byte| *byte == b'/') {
        depth += 1;
        match component {
            b"" => return refuse("has an empty component"),
            b"." => return refuse("has the component `.`"),
            b".." => return refuse("has the component `..`"),
            _ if component.len() > limits::ARCHIVE_COMPONENT_BYTES_MAX => {
                return refuse("has a component that is too long");
            }
            _ => {}
        }
    }
    if depth > limits::ARCHIVE_DEPTH_MAX {
        return refuse("is nested too deeply");
    }
    Ok(())
}

/// The same for a path below a folder, both of which were checked: what is left is how long and deep they are together.
pub fn check_below(folder: &str, path: &str) -> Result<(), Refusal> {
    let depth = |path: &str| path.bytes().filter(|byte| *byte == b'/').count() + 1;
    let fits = folder.len() + 1 + path.len() <= limits::ARCHIVE_PATH_BYTES_MAX
        && depth(folder) + depth(path) <= limits::ARCHIVE_DEPTH_MAX;
    if fits { Ok(()) } else { check(&format!("{folder}/{path}")) }
}

/// Whether a character lets a name look like another one: the overrides of writing direction, and the ends of lines and
/// paragraphs that are no control characters. The marks that right-to-left names need are none of them.
fn reorders(character: char) -> bool {
    matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same for a path as bytes.
pub fn check_bytes(path: &[u8]) -> Result<&str, Refusal> {
    let path = std::str::from_utf8(path).map_err(|_| Refusal::name(path, "is not UTF-8"))?;
    check(path)?;
    Ok(path)
}

/// What a path was used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    File,
    Directory,
}

/// All names of one archive so far.
#[derive(Debug, Default)]
pub struct Names {
    uses: HashMap<Box<str>, Use>,
    folded: HashMap<Box<str>, Box<str>>,
    entries: usize,
    warnings: Vec<String>,
}

impl Names {
    /// Warnings for people, collected on the way.
    pub fn into_warnings(self) -> Vec<String> {
        self.warnings
    }

    /// Records something that people should know.
    pub fn warn(&mut self, text: String) {
        const WARNINGS_MAX: usize = 20;
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(text);
        }
    }

    /// Counts an entry of any type against the bound.
    pub fn count(&mut self) -> Result<(), Refusal> {
        self.entries += 1;
        if self.entries > limits::ARCHIVE_ENTRIES_MAX {
            return Err(Refusal::TooMuch {
                what: "entries",
                max: limits::ARCHIVE_ENTRIES_MAX as u64,
            });
        }
        Ok(())
    }

    /// Adds a directory, which may be repeated.
    pub fn add_directory(&mut self, path: &str) -> Result<(), Refusal> {
        self.add_parents(path)?;
        match self.uses.get(path) {
            Some(Use::File) => Err(Refusal::FileAndDirectory(path.to_owned())),
            Some(Use::Directory) => Ok(()),
            None => {
                self.uses.insert(path.into(), Use::Directory);
                Ok(())
            }
        }
    }

    /// Adds a file. `true` if the same path was added before; the caller decides what that means.
    pub fn add_file(&mut self, path: &str) -> Result<bool, Refusal> {
        match self.uses.get(path) {
            Some(Use::Directory) => return Err(Refusal::FileAndDirectory(path.to_owned())),
            Some(Use::File) => return Ok(true),
            None => {}
        }
        self.add_parents(path)?;
        self.uses.insert(path.into(), Use::File);
        self.fold(path)?;
        Ok(false)
    }

    fn add_parents(&mut self, path: &str) -> Result<(), Refusal> {
        let mut rest = path;
        while let Some((parent, _)) = rest.rsplit_once('/') {
            match self.uses.get(parent) {
                Some(Use::Directory) => break,
                Some(Use::File) => return Err(Refusal::FileAndDirectory(parent.to_owned())),
                None => self.uses.insert(parent.into(), Use::Directory),
            };
            rest = parent;
        }
        Ok(())
    }

    fn fold(&mut self, path: &str) -> Result<(), Refusal> {
        let folded = path.to_lowercase();
        let identity = is_identity(&folded);
        if let Some(other) = self.folded.get(folded.as_str()) {
            if identity {
                return Err(Refusal::Repeated(path.to_owned()));
            }
            let text = format!("`{path}` and `{other}` differ in case only");
            self.warn(text);
            return Ok(());
        }
        self.folded.insert(folded.into(), path.into());
        Ok(())
    }
}

/// Whether a (folded) path is one of those by which tools learn what a package is, with or without the folder of the package in
/// front.
fn is_identity(folded: &str) -> bool {
    let (first, rest) = folded.split_once('/').unwrap_or((folded, ""));
    let is_manifest = |path: &str| path == "package.json" || path == "cargo.toml";
    is_manifest(folded) || is_manifest(rest) || first.ends_with(".dist-info")
}
