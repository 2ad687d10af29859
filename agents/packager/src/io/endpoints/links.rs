//! Pages and directories that list files of Python packages beside the indexes: pip's and uv's `find-links`, uv's flat indexes.

use std::path::{Component, Path, PathBuf};

use url::Url;

use super::pip::ConfigFile;
use super::uv::Uv;
use crate::error::{Error, Kind, Result};
use crate::io::environment::Environment;
use crate::io::limits::LINKS_MAX;
use crate::io::secret::{Credentials, Scope, take_userinfo};

/// What was found.
#[derive(Default)]
pub(super) struct Links {
    /// On the web, or a directory as `file:///...`; whether the person names it.
    pub(super) places: Vec<(Url, bool)>,
    /// Whether no index is asked at all.
    pub(super) has_no_index: bool,
}

/// Finds them in the order of their strength; their credentials are added.
///
/// # Errors
/// `bad-links` for a place that is none, `too-many-indexes`.
pub(super) fn find(
    environment: &Environment,
    files: &[ConfigFile],
    uv: &Uv,
    credentials: &mut Credentials,
) -> Result<Links> {
    let mut found =
        Links { has_no_index: has_no_index(environment, files, uv), ..Links::default() };
    let mut take = |text: &str, base: &Path, from: &str, is_the_persons: bool| -> Result<()> {
        let mut url = place(environment, text, base, from, is_the_persons)?;
        if let Some(credential) = take_userinfo(&mut url) {
            for scope in [Scope::host_of(&url), Scope::beneath(&url)].into_iter().flatten() {
                credentials.add(scope, credential.clone());
            }
        }
        if found.places.iter().all(|(known, _)| *known != url) {
            found.places.push((url, is_the_persons));
        }
        if found.places.len() > LINKS_MAX {
            let message = format!("more than {LINKS_MAX} places list files of Python packages");
            return Err(Error::new(Kind::Usage, "too-many-indexes", message));
        }
        Ok(())
    };
    let here = &environment.project;
    for (name, separators) in
        [("UV_FIND_LINKS", &[','][..]), ("PIP_FIND_LINKS", &[' ', '\n', '\t'])]
    {
        let from = format!("the environment variable `{name}`");
        let said = environment.variable(name).unwrap_or_default();
        for text in said.split(separators).map(str::trim).filter(|text| !text.is_empty()) {
            take(text, here, &from, true)?;
        }
    }
    for link in uv.links.iter().filter(|link| !link.is_the_persons) {
        take(&link.place, &link.base, &link.from, false)?;
    }
    let strongest = files.iter().find_map(|file| Some((file.get("find-links")?, file)));
    // With pip a variable stands in the place of its files.
    let strongest = strongest.filter(|_| environment.variable("PIP_FIND_LINKS").is_none());
    if let Some((said, file)) = strongest {
        let from = format!("`{}`", file.path.display());
        for text in said.split_whitespace() {
            take(text, here, &from, true)?;
        }
    }
    for link in uv.links.iter().filter(|link| link.is_the_persons) {
        take(&link.place, &link.base, &link.from, true)?;
    }
    Ok(found)
}

fn has_no_index(environment: &Environment, files: &[ConfigFile], uv: &Uv) -> bool {
    let is_yes = |text: &str| {
        ["1", "true", "yes", "on", "y", "t"].contains(&text.trim().to_ascii_lowercase().as_str())
    };
    let written = files.iter().find_map(|file| file.get("no-index"));
    let of_pip = environment.variable("PIP_NO_INDEX").or(written);
    let of_uv = environment.variable("UV_NO_INDEX");
    of_pip.is_some_and(is_yes) || of_uv.is_some_and(is_yes) || uv.has_no_index
}

/// Reads a place as pip does: an address, or a path.
fn place(
    environment: &Environment,
    text: &str,
    base: &Path,
    from: &str,
    is_the_persons: bool,
) -> Result<Url> {
    // The text itself may hold a password, so it is not repeated.
    let bad = |why: &str| {
        let message = format!("a place to look for Python packages in {from} {why}");
        Error::new(Kind::Usage, "bad-links", message)
            .hint("write it as `https://HOST/PATH`, or as the path of a directory")
    };
    if text.contains("${") {
        return Err(bad("names a variable, which is not looked up"));
    }
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let path = match scheme.as_deref() {
        Some("https" | "http") => {
            let mut url = Url::parse(text).map_err(|why| bad(&format!("cannot be read: {why}")))?;
            url.set_fragment(None);
            return Ok(url);
        }
        Some("file") => {
            let url = Url::parse(text).map_err(|why| bad(&format!("cannot be read: {why}")))?;
            url.to_file_path().map_err(|()| bad("names a directory of another machine"))?
        }
        Some(_) => return Err(bad("is neither on the web nor a directory")),
        None if text.starts_with("~/") && is_the_persons => environment.expand_home(text),
        None => base.join(text),
    };
    Url::from_file_path(plain(&path)).map_err(|()| bad("is not a whole path"))
}

/// Without `.` and `..`, so that one directory has one name.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}
