//! Directories of crates as `cargo vendor` leaves them, and as nobody should.

use agents_contract::Threads;

use super::*;
use crate::ecosystem::Ecosystem;
use crate::resolution::Artifact;

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One crate with one file beside its manifest.
fn write(place: &Path, directory: &str, version: &str, rest: &str) {
    let directory = place.join(directory);
    std::fs::create_dir_all(directory.join("src")).expect("made");
    let manifest = format!("[package]\nname = \"leaf\"\nversion = \"{version}\"\n{rest}");
    std::fs::write(directory.join(MANIFEST), &manifest).expect("written");
    std::fs::write(directory.join("src/lib.rs"), "").expect("written");
    let files = serde_json::json!({
        "Cargo.toml": sha256(manifest.as_bytes()),
        "src/lib.rs": sha256(b""),
    });
    let list = serde_json::json!({ "files": files, "package": "a1".repeat(32) });
    std::fs::write(directory.join(CHECKSUMS), list.to_string()).expect("written");
}

fn package() -> Package {
    let hashes = Hashes { sha256: Some("a1".repeat(32)), sha512: None };
    let (name, version) = ("leaf".to_owned(), "1.0.0".to_owned());
    let (file_name, url) = ("leaf-1.0.0.crate".to_owned(), String::new());
    let artifact = Artifact {
        built: None,
        by_address: false,
        file_name,
        url,
        hashes,
        size: None,
        source: None,
    };
    Package {
        ecosystem: Ecosystem::Cargo,
        name,
        version,
        direct: true,
        artifact: artifact.into(),
        dependencies: Vec::new(),
        place: String::new(),
        bin: BTreeMap::new(),
        extras: Vec::new(),
        license: None,
        published: None,
        scripts: Vec::new(),
    }
}

fn code(read: Result<HashMap<String, Arc<Crate>>>) -> String {
    read.expect_err("refused").code
}

#[test]
fn a_path_in_a_vendored_crate_is_a_need_of_the_registry() {
    let place = tempfile::tempdir().expect("a directory");
    let rest = "[dependencies]\nwinapi = { version = \"0.2.5\", path = \"../..\" }\n";
    write(place.path(), "leaf", "1.0.0", rest);
    let crates = read_all(place.path(), u64::MAX, &|| Ok(())).expect("read");
    assert_eq!(crates.keys().collect::<Vec<_>>(), ["leaf"]);
}

#[test]
fn a_vendored_tree_is_read_within_bounds_and_while_it_is_wanted() {
    let place = tempfile::tempdir().expect("a directory");
    write(place.path(), "leaf", "1.0.0", "");
    assert_eq!(code(read_all(place.path(), 100, &|| Ok(()))), "too-many-crates");
    let stop = || Err(Error::new(Kind::Failed, "stopped", "nobody waits"));
    assert_eq!(code(read_all(place.path(), u64::MAX, &stop)), "stopped");
    std::os::unix::fs::symlink("leaf", place.path().join("again")).expect("linked");
    assert_eq!(code(read_all(place.path(), u64::MAX, &|| Ok(()))), "bad-source");
}

#[test]
fn every_directory_that_claims_a_digest_is_verified() {
    let place = tempfile::tempdir().expect("a directory");
    write(place.path(), "leaf", "1.0.0", "");
    let source = LocalCrates::Directory(place.path().to_owned());
    let found = || {
        let examined = examine(&source, &[&package()], &Threads(1), &|| Ok(())).expect("examined");
        let names = examined.findings.into_iter().map(|(path, _)| {
            path.strip_prefix(place.path()).expect("below").to_string_lossy().into_owned()
        });
        names.collect::<Vec<String>>()
    };
    assert!(found().is_empty());
    // One that cargo does not see says nothing, one that it sees is looked at beside the other.
    std::fs::write(place.path().join("leaf/src/lib.rs"), "evil").expect("written");
    write(place.path(), ".leaf.bak", "1.0.0", "");
    assert_eq!(found(), ["leaf/src/lib.rs"]);
    write(place.path(), "leaf-1.0.0", "1.0.0", "");
    assert_eq!(found(), ["leaf/src/lib.rs"]);
    // A digest that belongs to another version is no proof.
    write(place.path(), "leaf", "1.0.1", "");
    assert_eq!(found(), ["leaf/Cargo.toml"]);
}
