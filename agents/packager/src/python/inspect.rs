//! Runs an interpreter once and reads its description of itself, within bounds of time and size.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use agents_contract::Cancellation;
use pep440_rs::Version;
use pep508_rs::MarkerEnvironment;
use serde::Deserialize;

use super::tags::{Abi, Elf, Libc, Overrides, Platform, compatible_tags};
use super::{Interpreter, PythonTarget};
use crate::error::{Error, Kind, Result};
use crate::limits::{INTERPRETER_ANSWER_BYTES_MAX, INTERPRETER_SECONDS_MAX};
use crate::process;

/// Prints the description as JSON.
pub(super) const SCRIPT: &str = include_str!("inspect.py");

/// What the script prints.
#[derive(Debug, Deserialize)]
struct Answer {
    markers: MarkerEnvironment,
    version: (u64, u64, u64),
    executable: PathBuf,
    base_executable: PathBuf,
    prefix: PathBuf,
    base_prefix: PathBuf,
    paths: BTreeMap<String, PathBuf>,
    platform: String,
    is_32bit: bool,
    is_debug: bool,
    is_free_threaded: bool,
    extension_suffix: Option<String>,
    glibc: Option<String>,
    musl: Option<String>,
    elf: Option<Elf>,
    manylinux: Option<Overrides>,
}

impl Interpreter {
    /// Has a program describe itself. Runs it isolated (`-I`), so that neither the environment nor the current
    /// directory can put code into it.
    ///
    /// # Errors
    /// `bad-python` where it does not answer like a Python of version 3.7 or later.
    pub fn inspect(executable: &Path, cancellation: &Cancellation) -> Result<Self> {
        let answer = ask(executable, cancellation)?;
        read(executable, &answer)
    }
}

/// Understands what a program said of itself.
pub(super) fn read(executable: &Path, answer: &[u8]) -> Result<Interpreter> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| {
        bad(executable, &format!("its description of itself does not parse: {error}"))
    })?;
    answer.into_interpreter(executable)
}

fn bad(executable: &Path, why: &str) -> Error {
    let message = format!("`{}` cannot be used as Python: {why}", executable.display());
    Error::new(Kind::Usage, "bad-python", message)
        .hint("name a Python of version 3.7 or later with `--python`")
}

pub(super) fn ask(executable: &Path, cancellation: &Cancellation) -> Result<Vec<u8>> {
    let limit = Duration::from_secs(INTERPRETER_SECONDS_MAX);
    let mut command = Command::new(executable);
    command.args(["-I", "-c", SCRIPT]);
    let output = process::run(&mut command, limit, INTERPRETER_ANSWER_BYTES_MAX, cancellation)
        .map_err(|error| Error::io("run", executable, &error))?;
    let Some(output) = output else {
        Error::if_cancelled(cancellation)?;
        let why = format!("it did not answer within {INTERPRETER_SECONDS_MAX} seconds");
        return Err(bad(executable, &why));
    };
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().last().unwrap_or("it failed without a word");
        let last: String =
            last.chars().filter(|character| !character.is_control()).take(200).collect();
        return Err(bad(executable, &last));
    }
    Ok(output.stdout)
}

impl Answer {
    fn into_interpreter(self, executable: &Path) -> Result<Interpreter> {
        if self.version < (3, 7, 0) {
            let (major, minor, _) = self.version;
            return Err(bad(executable, &format!("it is Python {major}.{minor}")));
        }
        let full = &self.markers.python_full_version().string;
        let python = Version::from_str(full)
            .map_err(|_| bad(executable, &format!("`{full}` is not a version")))?;
        let libc = self.musl.as_deref().and_then(Libc::musl);
        let libc = libc.or_else(|| self.glibc.as_deref().and_then(Libc::glibc));
        let implementation = self.markers.implementation_name().to_owned();
        let abi = Abi {
            implementation: implementation.clone(),
            version: (self.version.0, self.version.1),
            is_debug: self.is_debug,
            is_free_threaded: self.is_free_threaded,
            extension_suffix: self.extension_suffix,
        };
        let platform = Platform {
            name: self.platform.clone(),
            is_32bit: self.is_32bit,
            libc,
            elf: self.elf,
            overrides: self.manylinux,
        };
        let tags = compatible_tags(&abi, &platform);
        let native = platform;
        Ok(Interpreter {
            executable: self.executable,
            base_executable: self.base_executable,
            prefix: self.prefix,
            base_prefix: self.base_prefix,
            version: self.version,
            implementation,
            platform: self.platform,
            paths: self.paths,
            libc,
            native,
            target: PythonTarget { markers: self.markers, tags, python },
        })
    }
}
