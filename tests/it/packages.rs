//! Small real packages made on the spot: npm tarballs, wheels, crates, and what a registry says of them.

use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A version of an npm package: `index.js` exports its version; a command `NAME` prints it.
#[derive(Clone, Copy)]
pub(crate) struct Npm {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) dependencies: &'static [(&'static str, &'static str)],
}

/// A version of a Python project: a module of its name with `VERSION` and `main`, and a console script.
#[derive(Clone, Copy)]
pub(crate) struct Python {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) requires: &'static [&'static str],
}

/// A version of a crate: a library with `pub const VERSION`.
#[derive(Clone, Copy)]
pub(crate) struct RustCrate {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) dependencies: &'static [(&'static str, &'static str)],
}

pub(crate) fn package_json(package: &Npm) -> Value {
    let dependencies: serde_json::Map<String, Value> = package
        .dependencies
        .iter()
        .map(|(name, range)| ((*name).to_owned(), json!(range)))
        .collect();
    let command = package.name.rsplit('/').next().unwrap();
    json!({
        "name": package.name,
        "version": package.version,
        "license": "MIT",
        "main": "index.js",
        "bin": {command: "cli.js"},
        "dependencies": dependencies,
    })
}

pub(crate) fn npm_tarball(package: &Npm) -> Vec<u8> {
    let manifest = package_json(package).to_string();
    let index = format!("module.exports = {:?};\n", package.version);
    let command = "#!/usr/bin/env node\nconsole.log(require('./index.js'));\n";
    tarball(&[
        ("package/package.json", manifest.as_bytes()),
        ("package/index.js", index.as_bytes()),
        ("package/cli.js", command.as_bytes()),
    ])
}

pub(crate) fn wheel_name(package: &Python) -> String {
    format!("{}-{}-py3-none-any.whl", package.name.replace('-', "_"), package.version)
}

pub(crate) fn metadata(package: &Python) -> String {
    let mut text =
        format!("Metadata-Version: 2.1\nName: {}\nVersion: {}\n", package.name, package.version);
    for requirement in package.requires {
        text += &format!("Requires-Dist: {requirement}\n");
    }
    text
}

pub(crate) fn wheel(package: &Python) -> Vec<u8> {
    let code = format!("VERSION = {:?}\n\n\ndef main():\n    print(VERSION)\n", package.version);
    wheel_with(package, code)
}

/// The same with another module.
pub(crate) fn wheel_with(package: &Python, code: String) -> Vec<u8> {
    let module = package.name.replace('-', "_");
    let info = format!("{module}-{}.dist-info", package.version);
    let marker = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let entry_points = format!("[console_scripts]\n{} = {module}:main\n", package.name);
    let files = [
        (format!("{module}/__init__.py"), code),
        (format!("{info}/METADATA"), metadata(package)),
        (format!("{info}/WHEEL"), marker.to_owned()),
        (format!("{info}/entry_points.txt"), entry_points),
    ];
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut record = String::new();
    for (path, content) in &files {
        archive.start_file(path.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
        let digest = base64::Engine::encode(
            &base64::engine::general_purpose::URL_SAFE_NO_PAD,
            Sha256::digest(content.as_bytes()),
        );
        record += &format!("{path},sha256={digest},{}\n", content.len());
    }
    record += &format!("{info}/RECORD,,\n");
    archive.start_file(format!("{info}/RECORD"), zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(record.as_bytes()).unwrap();
    archive.finish().unwrap().into_inner()
}

pub(crate) fn index_entry(package: &RustCrate) -> Value {
    let dependencies: Vec<Value> = package
        .dependencies
        .iter()
        .map(|(name, requirement)| {
            json!({
                "name": name, "req": requirement, "features": [], "optional": false,
                "default_features": true, "target": null, "kind": "normal",
            })
        })
        .collect();
    json!({
        "name": package.name, "vers": package.version, "deps": dependencies,
        "features": {}, "yanked": false, "links": null,
    })
}

pub(crate) fn crate_archive(package: &RustCrate) -> Vec<u8> {
    let top = format!("{}-{}", package.name, package.version);
    let mut manifest = format!(
        "[package]\nname = {:?}\nversion = {:?}\nedition = \"2021\"\n\n[dependencies]\n",
        package.name, package.version
    );
    for (name, requirement) in package.dependencies {
        manifest += &format!("{name} = {requirement:?}\n");
    }
    let code = format!("pub const VERSION: &str = {:?};\n", package.version);
    tarball(&[
        (&format!("{top}/Cargo.toml"), manifest.as_bytes()),
        (&format!("{top}/src/lib.rs"), code.as_bytes()),
    ])
}

pub(crate) fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(encoder);
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}
