//! Adding artefacts: verified first, then unpacked file by file, and listed in the index at the
//! very end.

mod direct;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use agents_contract::Cancellation;
use ring::digest;

pub use self::direct::Direct;
use self::direct::Onto;
use super::entry::{self, Entry, Form, StoredFile};
use super::{Object, Store};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::hex::hex;
use crate::limits;
use crate::metadata::Hashes;
use crate::resolution::Package;
use crate::unpack::{ArchiveKind, Contents, Entry as Found, HELPER_FAILED, Refusal, Source};

impl Store {
    /// Adds the artefact of a package from a downloaded file. The hashes are checked (again) before
    /// anything is unpacked.
    pub fn add_package(&self, package: &Package, source: Source<'_>) -> Result<Entry> {
        self.add_package_as(package, source, Proof::Wanted, None)
    }

    /// The same for one whose hashes may have been checked in these very bytes, and which may be unpacked where it is given away from.
    pub fn add_package_as(
        &self,
        package: &Package,
        source: Source<'_>,
        proof: Proof,
        direct: Option<Direct<'_>>,
    ) -> Result<Entry> {
        match self.add_package_once(package, source, proof, direct) {
            // It says nothing about the artefact: another process reads it from the beginning.
            Err(error) if error.code == HELPER_FAILED => {
                self.add_package_once(package, source, proof, direct)
            }
            added => added,
        }
    }

    fn add_package_once(
        &self,
        package: &Package,
        source: Source<'_>,
        proof: Proof,
        direct: Option<Direct<'_>>,
    ) -> Result<Entry> {
        let artifact = &package.artifact;
        match package.ecosystem {
            Ecosystem::Npm => {
                if proof == Proof::Wanted {
                    verify(source, &artifact.hashes, &artifact.file_name)?;
                }
                self.add_verified_tarball(source, &artifact.hashes, &artifact.file_name, direct)
            }
            Ecosystem::Pypi => self.add_wheel(source, &artifact.hashes, &artifact.file_name),
            Ecosystem::Cargo => {
                let folder = format!("{}-{}", package.name, package.version);
                self.add_crate(source, &artifact.hashes, &folder)
            }
            Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => {
                Err(crate::error::Error::new(
                    crate::error::Kind::Failed,
                    "not-stored",
                    format!(
                        "`{}` is a package of the system, which its own tool unpacks",
                        package.name
                    ),
                ))
            }
        }
    }

    /// Adds a tarball of npm; `file_name` is for messages.
    pub fn add_tarball(
        &self,
        source: Source<'_>,
        hashes: &Hashes,
        file_name: &str,
    ) -> Result<Entry> {
        verify(source, hashes, file_name)?;
        self.add_verified_tarball(source, hashes, file_name, None)
    }

    pub(super) fn add_verified_tarball(
        &self,
        source: Source<'_>,
        hashes: &Hashes,
        file_name: &str,
        direct: Option<Direct<'_>>,
    ) -> Result<Entry> {
        let _use = self.gate.enter(Cancellation::NEVER)?;
        let mut files = BTreeMap::new();
        let mut buffer = Vec::new();
        let mut manifest = None;
        let mut onto = direct.map(Onto::new).transpose()?;
        let take = |found: Found, content: &mut dyn Read| -> Result<(), Failure> {
            let stored = match &mut onto {
                Some(onto) => self.store_direct(onto, &found, content, &mut buffer, file_name)?,
                None => {
                    let (size, executable) = (found.size, found.executable);
                    let buffer = &mut buffer;
                    self.store_file(&found.path, size, executable, content, buffer, file_name)?
                }
            };
            match files.get(&found.path) {
                Some(first) if *first != stored => Err(Refusal::Repeated(found.path).into()),
                Some(_) => Ok(()),
                None => {
                    if found.path == "package.json" && found.size <= limits::COPY_WHOLE_BYTES_MAX {
                        // It is whole in there.
                        manifest = Some(buffer.clone());
                    }
                    files.insert(found.path, stored);
                    Ok(())
                }
            }
        };
        let read = self.unpacker.read(source, ArchiveKind::Npm, Contents::All, take);
        let warnings = read.map_err(|failure| failure.of(file_name))?.warnings;
        let mut files: Vec<StoredFile> = files.into_values().collect();
        if rename_ignore_files(&mut files)
            && let Some(onto) = &mut onto
        {
            onto.spoil();
        }
        let mut entry =
            Entry { form: Form::Npm, name: String::new(), version: String::new(), warnings, files };
        (entry.name, entry.version) = self.npm_identity(&entry, manifest, file_name)?;
        let entry = self.list(entry, hashes)?;
        if let Some(onto) = onto {
            onto.finish(hashes, &entry);
        }
        Ok(entry)
    }

    /// Adds a wheel; `file_name` is for messages.
    pub fn add_wheel(&self, source: Source<'_>, hashes: &Hashes, file_name: &str) -> Result<Entry> {
        let _use = self.gate.enter(Cancellation::NEVER)?;
        if !file_name.ends_with(".whl") {
            let message = format!("`{file_name}` is not a wheel");
            return Err(Error::new(Kind::Refused, "source-distribution", message).hint(
                "only wheels are installed; choose a version that has one for this machine",
            ));
        }
        verify(source, hashes, file_name)?;
        let mut files = Vec::new();
        let mut buffer = Vec::new();
        let take = |found: Found, content: &mut dyn Read| -> Result<(), Failure> {
            files.push(self.store_file(
                &found.path,
                found.size,
                found.executable,
                content,
                &mut buffer,
                file_name,
            )?);
            Ok(())
        };
        let read = self.unpacker.read(source, ArchiveKind::Wheel, Contents::All, take);
        let outcome = read.map_err(|failure| failure.of(file_name))?;
        let identity = outcome.identity.ok_or_else(|| {
            Refusal::Layout("it has no `.dist-info` directory".to_owned()).of(file_name)
        })?;
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.list(
            Entry {
                form: Form::Wheel,
                name: identity.name,
                version: identity.version,
                warnings: outcome.warnings,
                files,
            },
            hashes,
        )
    }

    /// Adds a `.crate` whose only folder must be `folder` (`name-version`). It is examined, but
    /// kept as it is.
    pub fn add_crate(&self, source: Source<'_>, hashes: &Hashes, folder: &str) -> Result<Entry> {
        let _use = self.gate.enter(Cancellation::NEVER)?;
        let file_name = format!("{folder}.crate");
        verify(source, hashes, &file_name)?;
        let mut manifest = false;
        let take = |found: Found, _: &mut dyn Read| -> Result<(), Refusal> {
            manifest |= found.path == "Cargo.toml";
            Ok(())
        };
        let kind = ArchiveKind::Crate { folder };
        let read = self.unpacker.read(source, kind, Contents::Names, take);
        let warnings = read.map_err(|refusal| refusal.of(&file_name))?.warnings;
        if !manifest {
            return Err(Refusal::Layout("it has no `Cargo.toml`".to_owned()).of(&file_name));
        }
        let read_error = |error| Refusal::from_read(error).of(&file_name);
        let size = source.size().map_err(read_error)?;
        let mut section = crate::unpack::source::Section::new(source, 0, size);
        let object = self.put_reader(&mut section, (size, false), &mut Vec::new(), read_error)?;
        let file = StoredFile {
            path: file_name.as_str().into(),
            object,
            executable: false,
            windows_shebang: false,
        };
        let entry = Entry {
            form: Form::Crate,
            name: folder.to_owned(),
            version: String::new(),
            warnings,
            files: vec![file],
        };
        self.list(entry, hashes)
    }

    fn store_file(
        &self,
        path: &str,
        size: u64,
        executable: bool,
        content: &mut dyn Read,
        buffer: &mut Vec<u8>,
        file_name: &str,
    ) -> Result<StoredFile> {
        let mut head = Head { content, bytes: Vec::new() };
        let object = self.put_reader(&mut head, (size, executable), buffer, |error| {
            Refusal::from_read(error).of(file_name)
        })?;
        let windows_shebang = has_windows_shebang(&head.bytes);
        Ok(StoredFile { path: path.into(), object, executable, windows_shebang })
    }

    fn list(&self, entry: Entry, hashes: &Hashes) -> Result<Entry> {
        let bytes = entry::encode(&entry);
        for name in entry::names(hashes, entry.form) {
            self.put_index(&name, &bytes)?;
        }
        Ok(entry)
    }

    /// What `package.json` says that the package is; read from the store unless it has just passed by.
    fn npm_identity(
        &self,
        entry: &Entry,
        manifest: Option<Vec<u8>>,
        file_name: &str,
    ) -> Result<(String, String)> {
        let missing = || {
            Refusal::Layout("it has no `package.json` with a name and a version".to_owned())
                .of(file_name)
        };
        let stored = entry.file("package.json").ok_or_else(missing)?;
        let bytes = match manifest {
            Some(bytes) => bytes,
            None => self.read_object(&stored.object, limits::PACKAGE_DESCRIPTION_BYTES_MAX)?,
        };
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let parsed: serde_json::Value = serde_json::from_slice(text).map_err(|error| {
            Refusal::Layout(format!("its `package.json` cannot be read: {error}")).of(file_name)
        })?;
        let text = |key: &str| parsed.get(key)?.as_str().map(|text| text.trim().to_owned());
        text("name").zip(text("version")).ok_or_else(missing)
    }
}

/// Whether somebody has compared the bytes of an artefact with all that is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// These very bytes, which nobody else can have changed since.
    Given,
    /// To be done first.
    Wanted,
}

/// Either side's failure while an archive is read.
enum Failure {
    Archive(Refusal),
    Store(Error),
}

impl Failure {
    fn of(self, file_name: &str) -> Error {
        match self {
            Failure::Archive(refusal) => refusal.of(file_name),
            Failure::Store(error) => error,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Archive(refusal)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Store(error)
    }
}

/// Remembers the beginning of what passes by.
struct Head<'a> {
    content: &'a mut dyn Read,
    bytes: Vec<u8>,
}

/// As much as npm looks at.
const SHEBANG_WINDOW_BYTES: usize = 2_048;

impl Read for Head<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.content.read(buffer)?;
        let wanted = SHEBANG_WINDOW_BYTES.saturating_sub(self.bytes.len());
        if wanted > 0 && (buffer.starts_with(b"#!") || !self.bytes.is_empty()) {
            self.bytes.extend_from_slice(&buffer[..count.min(wanted)]);
        }
        Ok(count)
    }
}

fn has_windows_shebang(head: &[u8]) -> bool {
    let line = head.strip_prefix(b"#!").and_then(|rest| rest.split(|byte| *byte == b'\n').next());
    let complete = head.contains(&b'\n');
    complete && line.is_some_and(|line| line.len() > 1 && line.ends_with(b"\r"))
}

/// npm gives `.gitignore` the name `.npmignore`, unless there is one. Whether there was any.
fn rename_ignore_files(files: &mut Vec<StoredFile>) -> bool {
    let is_ignore = |path: &str| path == ".gitignore" || path.ends_with("/.gitignore");
    if !files.iter().any(|file| is_ignore(&file.path)) {
        return false;
    }
    let taken: std::collections::HashSet<Box<str>> = files
        .iter()
        .map(|file| file.path.clone())
        .filter(|path| path.ends_with(".npmignore"))
        .collect();
    files.retain_mut(|file| {
        if !is_ignore(&file.path) {
            return true;
        }
        let renamed = file.path.trim_end_matches(".gitignore").to_owned() + ".npmignore";
        file.path = renamed.into();
        !taken.contains(&file.path)
    });
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    true
}

/// Compares an artefact with every digest that is known of it. None known is a refusal, too.
pub(super) fn verify(source: Source<'_>, hashes: &Hashes, file_name: &str) -> Result<()> {
    if hashes.is_empty() {
        let message = format!("no strong hash is known for `{file_name}`");
        return Err(Error::new(Kind::Verification, "hash-missing", message).hint(
            "the registry has to publish a SHA-256 or SHA-512; nothing is installed without one",
        ));
    }
    let computed = hash(source, hashes.sha256.is_some(), hashes.sha512.is_some())
        .map_err(|error| Refusal::from_read(error).of(file_name))?;
    let pairs = [
        ("sha256", &hashes.sha256, &computed.sha256),
        ("sha512", &hashes.sha512, &computed.sha512),
    ];
    for (algorithm, expected, got) in pairs {
        if expected.is_some() && expected != got {
            let text = |digest: &Option<String>| digest.clone().unwrap_or_default();
            let message = format!(
                "`{file_name}` has the {algorithm} {}, but {} is expected",
                text(got),
                text(expected)
            );
            return Err(Error::new(Kind::Verification, "hash-mismatch", message).hint(
                "the file was damaged on the way or replaced on the server; nothing was installed",
            ));
        }
    }
    Ok(())
}

/// The digests of an artefact, each only where it is wanted.
pub(super) fn hash(source: Source<'_>, sha256: bool, sha512: bool) -> std::io::Result<Hashes> {
    let mut short = sha256.then(|| digest::Context::new(&digest::SHA256));
    let mut long = sha512.then(|| digest::Context::new(&digest::SHA512));
    let mut buffer = vec![0; 256 << 10];
    let mut offset = 0;
    loop {
        let count = source.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        offset += count as u64;
        for context in [&mut short, &mut long].into_iter().flatten() {
            context.update(&buffer[..count]);
        }
    }
    let text =
        |context: Option<digest::Context>| context.map(|context| hex(context.finish().as_ref()));
    Ok(Hashes { sha256: text(short), sha512: text(long) })
}

impl Store {
    /// Adds a wheel that came with the machine (the interpreter's own pip) and so has no published
    /// hash.
    pub fn add_local_wheel(&self, path: &Path) -> Result<Entry> {
        let file = std::fs::File::open(path).map_err(|error| Error::io("open", path, &error))?;
        let hashes = hash(Source::File(&file), true, false)
            .map_err(|error| Error::io("read", path, &error))?;
        let file_name =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(entry) = self.check(&hashes, Form::Wheel, false) {
            return Ok(entry);
        }
        match self.add_wheel(Source::File(&file), &hashes, &file_name) {
            Err(error) if error.code == HELPER_FAILED => {
                self.add_wheel(Source::File(&file), &hashes, &file_name)
            }
            added => added,
        }
    }

    /// The object of a stored crate.
    pub fn crate_object(&self, package: &Package) -> Result<Object> {
        let entry = self.require(package)?;
        let expected = format!("{}-{}", package.name, package.version);
        match entry.files.as_slice() {
            [file] if entry.name == expected => Ok(file.object),
            _ => {
                let message = format!("the file for `{expected}` is `{}`", entry.name);
                Err(Error::new(Kind::Verification, "identity-mismatch", message)
                    .hint("the registry answers with the file of another package"))
            }
        }
    }
}
