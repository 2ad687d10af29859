//! What a tool made, in a form in which tools can be compared: which file of which package holds what.
//!
//! Left out of the comparison, each for its reason:
//! - of npm's trees: names with a dot directly in `node_modules` (`.bin`, `.pnpm`'s own notes, `.package-lock.json`), which are
//!   each tool's own; where in the tree a package stands, because pnpm and bun place packages otherwise;
//! - of an environment: `bin` and `pyvenv.cfg`, which name their place; byte code; INSTALLER, REQUESTED, RECORD,
//!   `direct_url.json` and `uv_cache.json`, which say who installed; pip and setuptools, which `venv` and Bolide add and uv does not.

use std::collections::BTreeSet;
use std::path::Path;

use agents_packager::ecosystem::Ecosystem;
use agents_packager::store::Object;
use anyhow::Context as _;

/// A tree.
pub(super) struct Tree {
    /// Regular files in it, all of them.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// What is compared: a path that means the same to all tools, and the digest of the content.
    pub(super) contents: BTreeSet<(String, [u8; 32])>,
}

/// Differences that are told; the rest is counted by nobody, because one is too many.
const TOLD_MAX: usize = 10;

impl Tree {
    pub(super) fn read(ecosystem: Ecosystem, root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self { files: 0, bytes: 0, contents: BTreeSet::new() };
        let mut open = vec![root.to_owned()];
        while let Some(directory) = open.pop() {
            let entries = std::fs::read_dir(&directory);
            for entry in
                entries.with_context(|| format!("cannot read `{}`", directory.display()))?
            {
                let entry = entry?;
                let (path, kind) = (entry.path(), entry.file_type()?);
                if kind.is_dir() {
                    open.push(path);
                } else if kind.is_file() {
                    let content = std::fs::read(&path)?;
                    tree.files += 1;
                    tree.bytes += content.len() as u64;
                    let name = path.strip_prefix(root)?.to_string_lossy();
                    let key = match ecosystem {
                        Ecosystem::Npm => in_package(&name),
                        _ => in_environment(&name),
                    };
                    tree.contents.extend(key.map(|key| (key, Object::of(&content).digest)));
                }
            }
        }
        Ok(tree)
    }

    /// One digest of everything that is compared.
    pub(super) fn digest(&self) -> String {
        let mut bytes = Vec::new();
        for (path, digest) in &self.contents {
            bytes.extend_from_slice(path.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(digest);
        }
        format!("sha256:{}", Object::of(&bytes).hex())
    }

    /// What is here and not there.
    pub(super) fn beyond(&self, other: &Self) -> Vec<String> {
        let more = self.contents.difference(&other.contents);
        more.take(TOLD_MAX).map(|(path, _)| path.clone()).collect()
    }
}

/// A path from the package on: what stands after the last `node_modules`.
fn in_package(path: &str) -> Option<String> {
    let rest = match path.rsplit_once("node_modules/") {
        Some((_, rest)) => rest,
        None => path,
    };
    (!rest.starts_with('.')).then(|| rest.to_owned())
}

/// A path below `site-packages`.
fn in_environment(path: &str) -> Option<String> {
    let rest = path.split_once("/site-packages/")?.1;
    let (top, name) = (rest.split('/').next()?, rest.rsplit('/').next()?);
    let is_seed = ["pip", "setuptools", "pkg_resources", "_distutils_hack"].contains(&top)
        || ["pip-", "setuptools-"].iter().any(|seed| top.starts_with(seed))
        || top == "distutils-precedence.pth"
        || top.starts_with("_virtualenv");
    let is_note = top.ends_with(".dist-info")
        && ["INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"].contains(&name);
    let is_byte_code = rest.contains("__pycache__/");
    (!is_seed && !is_note && !is_byte_code).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_means_the_same_wherever_it_stands() {
        for (path, expected) in [
            ("a/index.js", Some("a/index.js")),
            ("a/node_modules/@b/c/index.js", Some("@b/c/index.js")),
            (".pnpm/a@1.0.0/node_modules/a/index.js", Some("a/index.js")),
            (".bin/tool", None),
            (".pnpm/lock.yaml", None),
        ] {
            assert_eq!(in_package(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn what_names_the_tool_is_left_out_of_an_environment() {
        for (path, is_compared) in [
            ("lib/python3.11/site-packages/flask/app.py", true),
            ("lib/python3.11/site-packages/flask/__pycache__/app.pyc", false),
            ("lib/python3.11/site-packages/flask-3.dist-info/METADATA", true),
            ("lib/python3.11/site-packages/flask-3.dist-info/RECORD", false),
            ("lib/python3.11/site-packages/pip/__init__.py", false),
            ("lib/python3.11/site-packages/pipeline/__init__.py", true),
            ("bin/flask", false),
        ] {
            assert_eq!(in_environment(path).is_some(), is_compared, "{path}");
        }
    }
}
