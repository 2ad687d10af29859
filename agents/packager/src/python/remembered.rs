//! What interpreters said of themselves, kept on the disk: starting one takes 20 ms, and the shim of a version manager in front of it
//! 100 ms more, which is longer than a small installation.
//!
//! An answer stands under the digest of all that it follows from: the question, the program's path and file, the configuration of
//! the virtual environment that it is in, the variables of Python and of the loader, the running kernel and the machine that it
//! shows, and the cache of the dynamic loader, which a new C library changes. Of programs that are scripts only pyenv's shims are
//! remembered, with what pyenv itself looks at: its variables, the versions that are there, and the files that name one; of others
//! only those that answered themselves. The interpreter that answered must be the same file still. A day later it is asked again
//! all the same.
//!
//! What cannot be read, or written, is not remembered; nothing fails for that.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agents_contract::Cancellation;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::Interpreter;
use super::inspect::{SCRIPT, ask, read};
use crate::error::Result;
use crate::file_state::FileState;
use crate::hex::hex;
use crate::kept::keep;
use crate::limits::{
    INTERPRETER_ANSWER_BYTES_MAX, INTERPRETER_REMEMBERED_FOR, INTERPRETERS_REMEMBERED_MAX,
    PYENV_SHIM_BYTES_MAX, PYENV_VERSION_BYTES_MAX,
};

/// The file in which a project says which version pyenv takes.
const VERSION_FILE: &str = ".python-version";

/// What stands in one file.
#[derive(Serialize, Deserialize)]
struct Remembered {
    /// The interpreter that answered, and its file then.
    executable: PathBuf,
    file: FileState,
    answer: String,
}

impl Interpreter {
    /// [`Self::inspect`] with a memory in `directory`.
    pub(crate) fn inspect_once(
        executable: &Path,
        directory: &Path,
        cancellation: &Cancellation,
    ) -> Result<Self> {
        let place = Surroundings::here().and_then(|around| around.key(executable));
        let place = place.map(|key| directory.join(key));
        if let Some(known) = place.as_deref().and_then(|place| recall(executable, place)) {
            return Ok(known);
        }
        let answer = ask(executable, cancellation)?;
        let interpreter = read(executable, &answer)?;
        if let Some(place) = place.filter(|_| is_itself(executable, &interpreter)) {
            remember(&place, &interpreter, answer);
        }
        Ok(interpreter)
    }
}

/// Whether the program that was asked is the one that answered, or a script whose ways are known: a shim of another kind decides by
/// what is not known here.
fn is_itself(asked: &Path, interpreter: &Interpreter) -> bool {
    let is_script = beginning(asked).is_some_and(|text| text.starts_with(b"#!"));
    let real = |path: &Path| path.canonicalize().ok();
    is_script || (real(asked).is_some() && real(asked) == real(&interpreter.executable))
}

fn recall(executable: &Path, place: &Path) -> Option<Interpreter> {
    let file = File::open(place).ok()?;
    let written = file.metadata().ok()?.modified().ok()?;
    // One from the future was written with a clock that was wrong.
    let age = SystemTime::now().duration_since(written).ok()?;
    if age > INTERPRETER_REMEMBERED_FOR {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(2 * INTERPRETER_ANSWER_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let known: Remembered = serde_json::from_slice(&bytes).ok()?;
    let is_same = FileState::at(&known.executable).as_ref() == Some(&known.file);
    is_same.then(|| read(executable, known.answer.as_bytes()).ok()).flatten()
}

fn remember(place: &Path, interpreter: &Interpreter, answer: Vec<u8>) {
    let write = || -> Option<()> {
        let executable = interpreter.executable.clone();
        let file = FileState::at(&executable)?;
        let known = Remembered { executable, file, answer: String::from_utf8(answer).ok()? };
        keep(place, &known, INTERPRETERS_REMEMBERED_MAX)
    };
    if write().is_none() {
        tracing::debug!(?place, "what an interpreter said is not remembered");
    }
}

/// What an answer follows from beside the program.
struct Surroundings {
    directory: PathBuf,
    variables: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    kernel: Vec<u8>,
    libraries: Option<FileState>,
}

impl Surroundings {
    /// Those of this process, which the program that is asked gets, too.
    fn here() -> Option<Self> {
        let file = |name: &str| std::fs::read(Path::new("/proc/sys/kernel").join(name)).ok();
        let kernel = [file("osrelease")?, file("version")?];
        Some(Self {
            directory: std::env::current_dir().ok()?,
            variables: std::env::vars_os().collect(),
            kernel: kernel.concat(),
            libraries: FileState::at(Path::new("/etc/ld.so.cache")),
        })
    }

    /// The name under which a program's answer stands; nothing where it is not known what it follows from.
    fn key(&self, executable: &Path) -> Option<String> {
        let mut key = Key(Context::new(&SHA256));
        key.add(SCRIPT.as_bytes());
        key.add(&self.kernel);
        key.add(format!("{:?}", self.libraries).as_bytes());
        key.add(executable.as_os_str().as_bytes());
        key.add(executable.canonicalize().ok()?.as_os_str().as_bytes());
        key.add(format!("{:?}", FileState::at(executable)?).as_bytes());
        let environment = executable.parent()?.parent()?.join("pyvenv.cfg");
        key.add(format!("{:?}", FileState::at(&environment)).as_bytes());
        let machine = rustix::system::uname();
        key.add(machine.machine().to_bytes());
        self.add_variables(&mut key, |name| {
            // Of an interpreter that is told to look at none (`-I`), and of the loader before it.
            [&b"PYTHON"[..], b"_PYTHON", b"LD_"].iter().any(|begin| name.starts_with(begin))
        });
        let text = beginning(executable)?;
        if text.starts_with(b"#!") {
            let text = std::str::from_utf8(&text).ok()?;
            text.contains("pyenv\" exec").then_some(())?;
            // It sets the variable of this name itself.
            self.add_pyenv(&mut key, executable.parent()?.parent()?)?;
        }
        Some(key.end())
    }

    fn add_variables(&self, key: &mut Key, is_wanted: impl Fn(&[u8]) -> bool) {
        for (name, value) in self.variables.iter().filter(|(name, _)| is_wanted(name.as_bytes())) {
            key.add(name.as_bytes());
            key.add(value.as_bytes());
        }
    }

    /// What pyenv decides by.
    fn add_pyenv(&self, key: &mut Key, root: &Path) -> Option<()> {
        self.add_variables(key, |name| name.starts_with(b"PYENV") || name == b"PATH");
        // What is installed decides what a beginning of a version means.
        key.add(format!("{:?}", FileState::at(&root.join("versions"))).as_bytes());
        let named = self.directory.ancestors().map(|above| above.join(VERSION_FILE));
        for path in named.chain([root.join("version")]) {
            key.add(&version(&path)?);
        }
        Some(())
    }
}

/// The content of a file that names a version; empty where there is none.
fn version(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(PYENV_VERSION_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(bytes),
        Err(_) => return None,
    };
    (bytes.len() as u64 <= PYENV_VERSION_BYTES_MAX).then_some(bytes)
}

/// The first bytes of a program: all of a shim.
fn beginning(program: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(program).ok()?.take(PYENV_SHIM_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A digest of parts, each with its length before it.
struct Key(Context);

impl Key {
    fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    fn end(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

#[cfg(test)]
mod tests;
