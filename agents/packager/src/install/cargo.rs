//! Puts verified crates and their index entries where cargo's own offline build looks for them.
//! Cargo unpacks and builds them itself; nothing is built here, and no project file is written
//! here.
//!
//! Everything below `CARGO_HOME` belongs to cargo and to all projects of the user, so each file
//! appears by an atomic rename under cargo's own lock, right files are left alone, and nothing else
//! is touched. A rollback leaves the files where they are: they are a cache.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ring::digest;
use rustix::fs::FlockOperation;

use super::Options;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::metadata::cargo::IndexFile;
use crate::resolution::Package;
use crate::store::{Durability, Existing, File, FillOptions, Object, Store, sync_tree};

mod examine;
mod index;

#[cfg(test)]
mod tests;

pub use examine::{Examined, difference, examine};
pub use index::{cache_entry, directory_name};

/// The registry that crates come from, as cargo knows it.
#[derive(Clone, Copy, Debug)]
pub struct Registry<'a> {
    /// The URL of its index as it stands in cargo's sources (`sparse+https://.../` or that of a git
    /// index).
    pub index_url: &'a str,
    /// The index's own `config.json`, as it was served. Written where cargo has none yet.
    pub config: &'a [u8],
    /// Whether the files come from a mirror that the caller named for this request, while `index_url` is the
    /// registry that cargo knows. What is present is then never replaced: all projects of the user trust it.
    pub is_override: bool,
}

/// What was done for one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `.crate` files that were not there.
    pub crates_written: usize,
    /// `.crate` files that were there with a wrong content.
    pub crates_replaced: usize,
    /// `.crate` files that were right.
    pub crates_kept: usize,
    /// Index entries that were written.
    pub entries_written: usize,
    /// Index entries that were right, or newer than ours.
    pub entries_kept: usize,
}

/// The crates that a lock file names, and where their index files come from, one at a time: together they can be large.
pub type Index<'a> = (&'a [&'a str], &'a dyn Fn(&str) -> Result<IndexFile>);

/// Makes everything that `crates` need available offline. `index` gives the index file of every
/// crate that the lock file names; `cargo_version` is the version of the installed cargo, which
/// decides about directory names.
pub fn populate(
    store: &Store,
    cargo_home: &Path,
    cargo_version: &semver::Version,
    registry: Registry<'_>,
    crates: &[&Package],
    (names, index): Index<'_>,
    options: Options<'_>,
) -> Result<Report> {
    let name = directory_name(registry.index_url, cargo_version)?;
    let cache = cargo_home.join("registry/cache").join(&name);
    let index_directory = cargo_home.join("registry/index").join(&name);
    let make = |directory: &Path| {
        fs::create_dir_all(directory)
            .map_err(|error| Error::io("create the directory", directory, &error))
    };
    make(cargo_home)?;
    let (_lock, is_locked) = lock(cargo_home)?;
    if registry.is_override {
        check_crates(store, &cache, crates)?;
        for name in names {
            check_index_entry(store, &index_directory, &index(name)?, crates)?;
        }
    }
    make(&cache)?;
    make(&index_directory)?;
    if is_locked {
        remove_abandoned(&cache);
        remove_abandoned(&index_directory);
    }
    let mut report = Report::default();
    write_crates(store, &cache, crates, options, &mut report)?;
    let config = index_directory.join("config.json");
    if !config.exists() {
        write_atomically(&index_directory, &config, registry.config)?;
    }
    for name in names {
        write_index_entry(&index_directory, &index(name)?, registry.is_override, &mut report)?;
    }
    if options.durability == Durability::Now {
        sync_tree(cargo_home)?;
    }
    Ok(report)
}

/// What names begin with under which something is written here.
const BEGUN: &str = ".bolide-";

/// Removes what processes of ours that died had begun to write: whoever writes has the lock that we have now.
fn remove_abandoned(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(BEGUN.as_bytes()) {
            let path = entry.path();
            // What cannot be removed is harmless: cargo does not look at it.
            let _ = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => fs::remove_dir_all(path),
                false => fs::remove_file(path),
            };
        }
    }
}

/// Cargo's lock on its package cache. Taken the way cargo takes it, so that a running cargo waits
/// for us and we for it. Whether there is one at all.
fn lock(cargo_home: &Path) -> Result<(fs::File, bool)> {
    let path = cargo_home.join(".package-cache");
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| Error::io("open", &path, &error))?;
    let deadline = Instant::now() + Duration::from_secs(limits::CARGO_LOCK_WAIT_SECONDS_MAX);
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok((file, true)),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR)
                if Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::new(
                    Kind::Failed,
                    "cargo-busy",
                    "another cargo holds the lock of the package cache",
                )
                .hint("wait until it is done, then run the command again")
                .retryable());
            }
            // Cargo, too, goes on without a lock where the file system has none.
            Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => return Ok((file, false)),
            Err(error) => return Err(Error::io("lock", &path, &error.into())),
        }
    }
}

/// Writes the missing `.crate` files into a folder of their own first, then moves each to its name.
fn write_crates(
    store: &Store,
    cache: &Path,
    crates: &[&Package],
    options: Options<'_>,
    report: &mut Report,
) -> Result<()> {
    let mut missing: HashMap<String, (Object, bool)> = HashMap::new();
    for package in crates {
        let object = store.crate_object(package)?;
        let name = format!("{}-{}.crate", package.name, package.version);
        crate::unpack::names::check(&name).map_err(|refusal| refusal.of(&name))?;
        match is_right(&cache.join(&name), &object)? {
            Some(true) => report.crates_kept += 1,
            found => {
                missing.insert(name, (object, found.is_some()));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let staging = Staging::create(cache)?;
    let files = missing.iter().map(|(name, (object, _))| File {
        path: name.clone(),
        content: crate::store::Content::Object(*object),
        executable: false,
    });
    let fill = FillOptions {
        crew: options.crew,
        verify: options.verify,
        existing: Existing::Refuse,
        cancellation: options.cancellation,
        written: None,
    };
    let filled = store.fill(&staging.0, files.collect(), fill);
    if filled.as_ref().is_err_and(|error| error.code == crate::store::DAMAGED) {
        for package in crates {
            store.check(&package.artifact.hashes, crate::store::Form::Crate, options.verify);
        }
    }
    filled?;
    for (name, (_, replaced)) in missing {
        let to = cache.join(&name);
        fs::rename(staging.0.join(&name), &to).map_err(|error| Error::io("create", &to, &error))?;
        match replaced {
            true => report.crates_replaced += 1,
            false => report.crates_written += 1,
        }
    }
    Ok(())
}

/// Whether the file has the content; `None` if it is missing.
fn is_right(path: &Path, object: &Object) -> Result<Option<bool>> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path, &error)),
    };
    let read_error = |error| Error::io("read", path, &error);
    let metadata = file.metadata().map_err(read_error)?;
    if !metadata.is_file() || metadata.len() != object.size {
        return Ok(Some(false));
    }
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).map_err(read_error)? {
            0 => return Ok(Some(hash.finish().as_ref() == object.digest)),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Refuses to go on where a present `.crate` is another one.
fn check_crates(store: &Store, cache: &Path, crates: &[&Package]) -> Result<()> {
    for package in crates {
        let object = store.crate_object(package)?;
        let name = format!("{}-{}.crate", package.name, package.version);
        crate::unpack::names::check(&name).map_err(|refusal| refusal.of(&name))?;
        let path = cache.join(&name);
        if is_right(&path, &object)? == Some(false) {
            return Err(mismatch(package, &path));
        }
    }
    Ok(())
}

/// Refuses to go on where a present index entry says something else of a crate, or nothing.
fn check_index_entry(
    store: &Store,
    directory: &Path,
    krate: &IndexFile,
    crates: &[&Package],
) -> Result<()> {
    let path = directory.join(".cache").join(index::entry_path(&krate.name)?);
    let present = match fs::read(&path) {
        Ok(present) => present,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return cache_entry(&krate.raw, krate.revision.as_deref()).map(drop);
        }
        Err(error) => return Err(Error::io("read", &path, &error)),
    };
    for package in crates.iter().filter(|package| package.name == krate.name) {
        let expected = crate::hex::hex(&store.crate_object(package)?.digest);
        let known = index::checksums(&present, &package.version).unwrap_or_default();
        if known.is_empty() {
            let message = format!(
                "`{}` does not know `{}@{}`, and it is not replaced by what a mirror says",
                path.display(),
                package.name,
                package.version
            );
            return Err(Error::new(Kind::Verification, "index-entry-differs", message)
                .hint("let cargo update its index first, or leave `--registry` out"));
        }
        if known.iter().any(|one| !one.eq_ignore_ascii_case(&expected)) {
            return Err(mismatch(package, &path));
        }
    }
    Ok(())
}

fn mismatch(package: &Package, path: &Path) -> Error {
    let message = format!(
        "`{}@{}` of the mirror is not the one that cargo has in `{}`",
        package.name,
        package.version,
        path.display()
    );
    Error::new(Kind::Verification, "hash-mismatch", message).hint(
        "find out which of the two is right: leave `--registry` out, or remove the file if it is damaged",
    )
}

fn write_index_entry(
    directory: &Path,
    krate: &IndexFile,
    is_override: bool,
    report: &mut Report,
) -> Result<()> {
    let path = directory.join(".cache").join(index::entry_path(&krate.name)?);
    if let Ok(present) = fs::read(&path)
        && (is_override || index::is_at_least(&present, krate))
    {
        report.entries_kept += 1;
        return Ok(());
    }
    let bytes = cache_entry(&krate.raw, krate.revision.as_deref())?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .map_err(|error| Error::io("create the directory", parent, &error))?;
    }
    write_atomically(directory, &path, &bytes)?;
    report.entries_written += 1;
    Ok(())
}

/// `directory` is above `path`; what a death leaves lies directly in it, where the next one finds it.
fn write_atomically(directory: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    // Unique, because everybody who writes here holds cargo's lock; the process number covers those
    // without locks.
    let temporary = directory.join(format!("{BEGUN}{}", std::process::id()));
    let written = fs::File::create(&temporary).and_then(|mut file| file.write_all(bytes));
    written.and_then(|()| fs::rename(&temporary, path)).map_err(|error| {
        // The failure that is reported matters; the rest is only an attempt to leave nothing
        // behind.
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, &error)
    })
}

/// A folder beside the final files, so that renames stay on one file system; removed when done.
struct Staging(PathBuf);

impl Staging {
    fn create(cache: &Path) -> Result<Self> {
        let path = cache.join(format!("{BEGUN}{}", std::process::id()));
        // One of the same number can only be left over from a process that died: the lock is held.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).map_err(|error| Error::io("create the directory", &path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // A folder that stays behind is harmless: cargo does not look at it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
