//! Which interpreter to use for a project. Looks, but runs nothing.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::limits::PYVENV_BYTES_MAX;

/// The interpreter to use: the one named, else the one that the project's `.venv` or `venv` was made from,
/// else `python3` on the search path (the value of `PATH`).
///
/// # Errors
/// `no-python` where there is none, `untrusted-python` where the project's virtual environment names a program that may have
/// come with the project.
pub fn find(
    explicit: Option<&Path>,
    project_dir: &Path,
    search_path: Option<&std::ffi::OsStr>,
) -> Result<PathBuf> {
    if let Some(explicit) = explicit {
        return named(explicit, search_path);
    }
    for name in [".venv", "venv"] {
        let venv = project_dir.join(name);
        if let Some(base) = base_of(&venv)? {
            return trusted(&base, project_dir, &venv);
        }
    }
    on_path("python3", search_path)
        .ok_or_else(|| no_python("there is no `python3` on the search path".to_owned()))
}

fn no_python(message: String) -> Error {
    Error::new(Kind::Usage, "no-python", message)
        .hint("install Python 3, or name an interpreter with `--python`")
}

/// A path, or a command such as `python3.12`.
fn named(explicit: &Path, search_path: Option<&std::ffi::OsStr>) -> Result<PathBuf> {
    let is_command = explicit.components().count() == 1 && !explicit.is_absolute();
    if is_command && let Some(found) = on_path(&explicit.to_string_lossy(), search_path) {
        return Ok(found);
    }
    if is_executable(explicit) {
        return std::path::absolute(explicit)
            .map_err(|error| Error::io("make absolute", explicit, &error));
    }
    Err(no_python(format!("`{}` is not a program", explicit.display())))
}

fn on_path(command: &str, search_path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    std::env::split_paths(search_path?)
        // An empty or relative entry means the current directory, which may be a stranger's project.
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(command))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    let can_execute = rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    can_execute && path.metadata().is_ok_and(|metadata| metadata.is_file())
}

/// The interpreter that a virtual environment was made from, by its `pyvenv.cfg`; `None` without one.
fn base_of(venv: &Path) -> Result<Option<PathBuf>> {
    let path = venv.join("pyvenv.cfg");
    let mut text = String::new();
    match File::open(&path) {
        Ok(file) => {
            file.take(PYVENV_BYTES_MAX)
                .read_to_string(&mut text)
                .map_err(|error| Error::io("read", &path, &error))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(Error::io("read", &path, &error)),
    }
    let value = |wanted: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == wanted).then(|| PathBuf::from(value.trim()))
        })
    };
    if let Some(executable) = value("base-executable").or_else(|| value("executable"))
        && is_executable(&executable)
    {
        return Ok(Some(executable));
    }
    let Some(home) = value("home") else { return Ok(None) };
    let version = value("version").or_else(|| value("version_info"));
    let minor = version.as_ref().and_then(|version| {
        let mut parts = version.to_str()?.split('.');
        Some(format!("python{}.{}", parts.next()?, parts.next()?))
    });
    let names = minor.into_iter().chain(["python3".to_owned(), "python".to_owned()]);
    Ok(names.map(|name| home.join(name)).find(|candidate| is_executable(candidate)))
}

/// Where paths mean something else for every process, such as its current directory, or hold no installed programs.
const MOVING: [&str; 3] = ["/proc", "/dev", "/sys"];

/// The program behind `base`, without links: what is run is what was judged.
///
/// Refuses one that may have come with the project: running it would be running a stranger's code. What came with it is
/// all of its repository, of which the project may be one directory.
fn trusted(base: &Path, project_dir: &Path, venv: &Path) -> Result<PathBuf> {
    let is_moving = |path: &Path| MOVING.iter().any(|root| path.starts_with(root));
    let is_plain = base.is_absolute() && !base.components().any(|one| one == Component::ParentDir);
    if !is_plain || is_moving(base) {
        return Err(untrusted(base, venv, "which is not the plain path of an installed program"));
    }
    let canonical =
        |path: &Path| path.canonicalize().map_err(|error| Error::io("resolve", path, &error));
    let program = canonical(base)?;
    let project = canonical(project_dir)?;
    if program.starts_with(&project) {
        return Err(untrusted(base, venv, "which is inside the project"));
    }
    if program.starts_with(repository_of(&project)) {
        return Err(untrusted(base, venv, "which is inside the repository of the project"));
    }
    if is_moving(&program) {
        return Err(untrusted(base, venv, "which is not an installed program"));
    }
    Ok(program)
}

/// The outermost directory around the project that is a repository; the project itself without one. The outermost,
/// because a stranger's repository can hold further ones.
fn repository_of(project: &Path) -> &Path {
    let is_repository = |directory: &&Path| directory.join(".git").symlink_metadata().is_ok();
    project.ancestors().filter(is_repository).last().unwrap_or(project)
}

fn untrusted(base: &Path, venv: &Path, why: &str) -> Error {
    let message = format!(
        "`{}` was made from `{}`, {why} and is not run unasked",
        venv.display(),
        base.display(),
    );
    Error::new(Kind::Refused, "untrusted-python", message)
        .hint(format!("name it with `--python {}` if you trust it", base.display()))
}
