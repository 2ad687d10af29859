//! Where the root of a cargo workspace is, seen from one of its members. For callers that start in a directory; operations
//! get the root as their project and the member by name.

use std::path::{Path, PathBuf};

use crate::limits::MANIFEST_BYTES_MAX;
use crate::manifest::cargo_toml;

/// The root of the workspace that names `directory` as a member, and the member's name there, `/`-separated. `None` where
/// there is none, and for a root itself.
pub fn root_of(directory: &Path) -> Option<(PathBuf, String)> {
    const MANIFEST: &str = "Cargo.toml";
    let place = directory.canonicalize().ok()?;
    let own = read(&place.join(MANIFEST))?;
    // One that is a root has no other.
    if cargo_toml::read(MANIFEST, "", &own, None).is_ok_and(|it| it.workspace.is_some()) {
        return None;
    }
    for root in place.ancestors().skip(1) {
        let Some(text) = read(&root.join(MANIFEST)) else { continue };
        // Somebody else's broken manifest is no reason to leave the directory.
        let Ok(manifest) = cargo_toml::read(MANIFEST, "", &text, None) else { continue };
        let member = place.strip_prefix(root).ok()?.to_str()?.to_owned();
        let Some(workspace) = &manifest.workspace else { continue };
        // What the root depends on by path is a member without being named.
        let is_member = workspace.is_member(&member)
            || manifest.path_dependencies.iter().any(|it| it.directory == member);
        return is_member.then(|| (root.to_owned(), member));
    }
    None
}

fn read(path: &Path) -> Option<String> {
    let bytes = crate::io::environment::read_small(path, MANIFEST_BYTES_MAX as u64).ok()??;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_led_to_its_root_and_others_stay_where_they_are() {
        let scratch = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = scratch.path().join(path);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("written");
            std::fs::write(path, text).expect("written");
        };
        write("Cargo.toml", "[workspace]\nmembers = [\"parts/*\"]\nexclude = [\"parts/out\"]\n");
        write("parts/one/Cargo.toml", "[package]\nname = \"one\"\n");
        write("parts/out/Cargo.toml", "[package]\nname = \"out\"\n");
        write("parts/two/Cargo.toml", "[package]\nname = \"two\"\n[workspace]\n");
        let root = scratch.path().canonicalize().expect("there");
        let found = |path: &str| root_of(&scratch.path().join(path));
        assert_eq!(found("parts/one"), Some((root, "parts/one".to_owned())));
        for other in ["parts/out", "parts/two", "parts", "."] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
