//! What the tests of all ecosystems share: a store and small packages in it.

use std::collections::BTreeMap;

use crate::ecosystem::Ecosystem;
use crate::metadata::Hashes;
use crate::resolution::{Artifact, Package};
use crate::store::{Object, Store};
use crate::unpack::Source;
use crate::unpack::attacks::forge::{self, TarEntry, ZipEnd, ZipEntry};

pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let place = tempfile::tempdir().expect("a directory");
    let store = Store::open(&place.path().join("store")).expect("a store");
    (place, store)
}

/// A package whose artefact is in the store.
pub(crate) fn package(
    store: &Store,
    ecosystem: Ecosystem,
    name: &str,
    version: &str,
    bytes: &[u8],
) -> Package {
    let file_name = match ecosystem {
        Ecosystem::Npm => format!("{name}-{version}.tgz"),
        Ecosystem::Pypi => format!("{name}-{version}-py3-none-any.whl"),
        Ecosystem::Cargo => format!("{name}-{version}.crate"),
        Ecosystem::Debian => format!("{name}_{version}_amd64.deb"),
        Ecosystem::Rpm | Ecosystem::Pacman => format!("{name}-{version}"),
    };
    let package = Package {
        ecosystem,
        name: name.to_owned(),
        version: version.to_owned(),
        direct: false,
        artifact: Artifact {
            built: None,
            by_address: false,
            file_name,
            url: "https://example.invalid/file".to_owned(),
            hashes: Hashes { sha256: Some(Object::of(bytes).hex()), sha512: None },
            size: None,
            source: None,
        }
        .into(),
        dependencies: Vec::new(),
        place: String::new(),
        bin: BTreeMap::new(),
        extras: Vec::new(),
        license: None,
        published: None,
        scripts: Vec::new(),
    };
    store.add_package(&package, Source::Bytes(bytes)).expect("honest");
    package
}

pub(crate) fn npm_entries(name: &str, version: &str, files: &[(&str, &str)]) -> Vec<TarEntry> {
    let manifest = format!("{{\"name\":\"{name}\",\"version\":\"{version}\"}}");
    let mut entries = vec![forge::file("package/package.json", manifest.as_bytes())];
    entries.extend(
        files
            .iter()
            .map(|(path, content)| forge::file(&format!("package/{path}"), content.as_bytes())),
    );
    entries
}

pub(crate) fn npm_artifact(name: &str, version: &str, files: &[(&str, &str)]) -> Vec<u8> {
    forge::tarball(&npm_entries(name, version, files))
}

/// A wheel with `RECORD`; what `files` has of the description replaces the usual.
pub(crate) fn wheel_artifact(name: &str, version: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let info = format!("{name}-{version}.dist-info");
    let mut members: Vec<ZipEntry> =
        files.iter().map(|(path, content)| forge::member(path, content)).collect();
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
    for (file, content) in
        [("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"), ("METADATA", &metadata)]
    {
        let path = format!("{info}/{file}");
        if !members.iter().any(|member| member.name == path.as_bytes()) {
            members.push(forge::member(&path, content.as_bytes()));
        }
    }
    let mut record = String::new();
    for member in &members {
        let object = Object::of(&member.content);
        let path = String::from_utf8_lossy(&member.name);
        crate::unpack::record::push_line(&mut record, &path, Some((&object.digest, object.size)));
    }
    members.push(forge::member(&format!("{info}/RECORD"), record.as_bytes()));
    forge::zip(&members, &ZipEnd::default())
}
