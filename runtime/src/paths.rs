//! Where things live: runtime, state and cache directories, by flag, environment and XDG, and how
//! the runtime directory is made so that nobody else can have prepared it.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The name of the control socket in the runtime directory.
pub(crate) const SOCKET_NAME: &str = "bolide.sock";

const OURS: &str = "bolide";

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathsError {
    /// Neither the XDG variable nor `HOME` is usable.
    #[error(
        "no place for {what}: neither `{variable}` nor `HOME` is an absolute path (hint: set one of them, or `{flag}`)"
    )]
    NoHome {
        /// What the directory would hold.
        what: &'static str,
        /// Which variable was looked at.
        variable: &'static str,
        /// The setting that would do.
        flag: &'static str,
    },
    /// The directory cannot be made or looked at.
    #[error("directory `{}`: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory is not safe to put a socket into.
    #[error("directory `{}` {why} (hint: choose another with `--runtime-dir`, or remove it)", path.display())]
    Unsafe {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The environment, as a function so that tests can give their own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The real environment.
pub(crate) fn process_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The runtime directory: `$XDG_RUNTIME_DIR/bolide`, else `/run/user/UID/bolide`, else one in the
/// temporary directory. A parent counts only if it exists and is this user's own.
pub(crate) fn runtime_directory(environment: Environment<'_>) -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    let named = absolute(environment, "XDG_RUNTIME_DIR");
    let usual = PathBuf::from(format!("/run/user/{uid}"));
    let own = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|meta| meta.uid() == uid);
    match [named, Some(usual)].into_iter().flatten().find(own) {
        Some(parent) => parent.join(OURS),
        None => absolute(environment, "TMPDIR")
            .unwrap_or_else(|| PathBuf::from("/tmp"))
            .join(format!("{OURS}-{uid}")),
    }
}

/// The state directory: SQLite, journal, keys, learnt endpoints.
pub(crate) fn state_directory(environment: Environment<'_>) -> Result<PathBuf, PathsError> {
    home_directory(environment, "XDG_STATE_HOME", ".local/state").ok_or(PathsError::NoHome {
        what: "state",
        variable: "XDG_STATE_HOME",
        flag: "--state-dir",
    })
}

/// The cache directory: the store, metadata, advisories.
pub(crate) fn cache_directory(environment: Environment<'_>) -> Result<PathBuf, PathsError> {
    home_directory(environment, "XDG_CACHE_HOME", ".cache").ok_or(PathsError::NoHome {
        what: "caches",
        variable: "XDG_CACHE_HOME",
        flag: "BOLIDE_CACHE_DIR",
    })
}

/// The user's configuration file, whether it exists or not.
pub(crate) fn user_configuration(environment: Environment<'_>) -> Option<PathBuf> {
    Some(home_directory(environment, "XDG_CONFIG_HOME", ".config")?.join("config.toml"))
}

/// The machine's configuration file.
pub(crate) fn machine_configuration() -> PathBuf {
    PathBuf::from("/etc/bolide/config.toml")
}

/// Makes the runtime directory (0700, parents included) where it is missing, and refuses one that
/// is not a directory of this user's own or that others may enter (an empty one is made private
/// first): whoever can put a socket there can pose as the daemon. It is the link itself that is
/// looked at, never what it points to.
pub(crate) fn make_runtime_directory(path: &Path) -> Result<(), PathsError> {
    let failed = |source| PathsError::Io { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let found = std::fs::symlink_metadata(path).map_err(failed)?;
    let uid = rustix::process::getuid().as_raw();
    let why = if !found.is_dir() {
        "is not a directory".to_owned()
    } else if found.uid() != uid {
        format!("belongs to uid {}, not to uid {uid}", found.uid())
    } else if found.mode() & 0o022 != 0 {
        format!("may be written by others (mode {:o})", found.mode() & 0o7777)
    } else if found.mode() & 0o077 != 0 && is_empty(path).map_err(failed)? {
        // Made for us by hand, as it seems: nothing in it can have been read or prepared.
        let private = std::fs::Permissions::from_mode(0o700);
        return std::fs::set_permissions(path, private).map_err(failed);
    } else if found.mode() & 0o077 != 0 {
        format!("may be entered by others (mode {:o})", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(PathsError::Unsafe { path: path.to_owned(), why })
}

fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(std::fs::read_dir(path)?.next().is_none())
}

fn home_directory(environment: Environment<'_>, variable: &str, below: &str) -> Option<PathBuf> {
    let base = absolute(environment, variable)
        .or_else(|| absolute(environment, "HOME").map(|home| home.join(below)));
    base.map(|base| base.join(OURS))
}

/// XDG says that a relative path is to be ignored.
fn absolute(environment: Environment<'_>, variable: &str) -> Option<PathBuf> {
    environment(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn with(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        move |name| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn xdg_comes_before_home_and_relative_paths_are_ignored() {
        let state = |pairs: &[(&str, &str)]| state_directory(&with(pairs)).ok();
        assert_eq!(state(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")]), Some("/s/bolide".into()));
        assert_eq!(
            state(&[("XDG_STATE_HOME", "s"), ("HOME", "/h")]),
            Some("/h/.local/state/bolide".into())
        );
        assert_eq!(state(&[("HOME", "")]), None);
    }

    #[test]
    fn the_runtime_directory_skips_a_parent_that_is_not_there() {
        let temporary = tempfile::tempdir().unwrap();
        let given = temporary.path().to_str().unwrap();
        assert_eq!(
            runtime_directory(&with(&[("XDG_RUNTIME_DIR", given)])),
            temporary.path().join("bolide")
        );
        let absent = format!("{given}/absent");
        assert!(!runtime_directory(&with(&[("XDG_RUNTIME_DIR", &absent)])).starts_with(&absent));
    }

    #[test]
    fn the_written_protocol_has_the_sockets_name() {
        let text = include_str!("../../ipc/PROTOCOL.md");
        assert!(text.contains(&format!("Unix socket `{SOCKET_NAME}` in the runtime directory")));
    }

    #[test]
    fn the_runtime_directory_is_made_private() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a/b");
        make_runtime_directory(&path).unwrap();
        make_runtime_directory(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn an_empty_directory_is_made_private_and_a_filled_one_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("by-hand");
        std::fs::create_dir(&path).unwrap();
        let open = || std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        open();
        make_runtime_directory(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        open();
        std::fs::write(path.join("file"), "").unwrap();
        assert!(matches!(make_runtime_directory(&path), Err(PathsError::Unsafe { .. })));
    }

    #[test]
    fn a_prepared_directory_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let open = temporary.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(matches!(make_runtime_directory(&open), Err(PathsError::Unsafe { .. })));
        let link = temporary.path().join("link");
        symlink(temporary.path(), &link).unwrap();
        assert!(matches!(make_runtime_directory(&link), Err(PathsError::Unsafe { .. })));
        let file = temporary.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(make_runtime_directory(&file), Err(PathsError::Unsafe { .. })));
    }
}
