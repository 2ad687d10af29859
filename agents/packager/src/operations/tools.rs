//! What the ecosystems' own tools on this machine are, asked once and remembered as long as their file stays the same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::error::Result;
use crate::limits::{TOOL_OUTPUT_BYTES_MAX, TOOLS_REMEMBERED_MAX};
use crate::python::Interpreter;

/// The memory of what was asked. Bounded: it starts anew when it is full.
#[derive(Default)]
pub(crate) struct Tools {
    versions: Mutex<HashMap<Program, Option<semver::Version>>>,
    interpreters: Mutex<HashMap<Program, Interpreter>>,
}

/// A program file at one state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Program {
    path: PathBuf,
    modified: SystemTime,
    size: u64,
}

impl Program {
    fn at(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let metadata = path.metadata().ok()?;
        Some(Self { modified: metadata.modified().ok()?, size: metadata.len(), path })
    }
}

impl Tools {
    /// The version that `name --version` prints, where there is such a program on `search_path` (the value of `PATH`).
    pub(crate) fn version(&self, name: &str, search_path: Option<&str>) -> Option<semver::Version> {
        let path = find(name, search_path?)?;
        // The path as found, not resolved: a version manager's shim decides by the name it is called by.
        let program = Program { path: path.clone(), ..Program::at(&path)? };
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = versions.get(&program) {
            return version.clone();
        }
        let version = ask(&path, search_path?);
        if versions.len() >= TOOLS_REMEMBERED_MAX {
            versions.clear();
        }
        versions.insert(program, version.clone());
        version
    }

    /// What an interpreter says of itself.
    pub(crate) fn interpreter(&self, path: &Path) -> Result<Interpreter> {
        let program = Program::at(path).map(|program| Program { path: path.to_owned(), ..program });
        let known = program.as_ref().and_then(|program| {
            let interpreters = self.interpreters.lock().unwrap_or_else(PoisonError::into_inner);
            interpreters.get(program).cloned()
        });
        if let Some(interpreter) = known {
            return Ok(interpreter);
        }
        let interpreter = Interpreter::inspect(path)?;
        if let Some(program) = program {
            let mut interpreters = self.interpreters.lock().unwrap_or_else(PoisonError::into_inner);
            if interpreters.len() >= TOOLS_REMEMBERED_MAX {
                interpreters.clear();
            }
            interpreters.insert(program, interpreter.clone());
        }
        Ok(interpreter)
    }
}

fn find(name: &str, search_path: &str) -> Option<PathBuf> {
    std::env::split_paths(search_path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// Runs `program --version` and takes the first word that is a version (`v20.1.0`, `cargo 1.95.0 (...)`).
fn ask(program: &Path, search_path: &str) -> Option<semver::Version> {
    let output = Command::new(program)
        .arg("--version")
        .env("PATH", search_path)
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = &output.stdout[..output.stdout.len().min(TOOL_OUTPUT_BYTES_MAX)];
    let text = std::str::from_utf8(text).ok()?;
    text.split_whitespace()
        .find_map(|word| semver::Version::parse(word.trim_start_matches('v')).ok())
}
