//! `bolide install` read without the command tree: what is said of it mostly, exactly as the tree reads it. To put even that one command's
//! tree together takes as long as to load the configuration and to find the daemon. Whatever is not known here for sure is left to it.

use std::ffi::OsString;
use std::path::PathBuf;

use super::Places;
use super::packages::{Install, Spoken};

/// What the line says where it asks for an installation in words that are known here; none of them twice, none without its value.
pub(super) fn install(line: &[OsString]) -> Option<(Places, Install)> {
    let mut places = Places { config: None, runtime_dir: None, state_dir: None };
    let mut spoken = Spoken::default();
    let mut is_asked_for = false;
    let mut words = line.iter().skip(1);
    while let Some(word) = words.next() {
        let word = word.to_str()?;
        if word == "install" && !is_asked_for {
            is_asked_for = true;
            continue;
        }
        if !is_asked_for && !matches!(head(word), "--config" | "--runtime-dir" | "--state-dir") {
            return None;
        }
        if let Some(flag) = spoken.flag(word) {
            if std::mem::replace(flag, true) {
                return None;
            }
            continue;
        }
        let value = match word.split_once('=') {
            Some((_, value)) => value,
            None => words.next()?.to_str()?,
        };
        // Which of these are values the tree knows.
        if value.is_empty() || value.starts_with('-') {
            return None;
        }
        match head(word) {
            "--config" => once(&mut places.config, PathBuf::from(value))?,
            "--runtime-dir" => once(&mut places.runtime_dir, PathBuf::from(value))?,
            "--state-dir" => once(&mut places.state_dir, PathBuf::from(value))?,
            "--dir" => once(&mut spoken.dir, PathBuf::from(value))?,
            "--python" => once(&mut spoken.python, value.to_owned())?,
            "--registry" => spoken.add_registry(value)?,
            _ => return None,
        }
    }
    is_asked_for.then(|| (places, spoken.install()))
}

/// The name of a flag, without a value that is written behind it.
fn head(word: &str) -> &str {
    word.split_once('=').map_or(word, |(name, _)| name)
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}
