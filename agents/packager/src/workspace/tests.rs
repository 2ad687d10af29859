//! Trees of directories, and the project that each place in them belongs to.

use std::os::unix::fs::PermissionsExt;

use super::*;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().expect("a directory"));
        for (path, text) in files {
            let path = tree.0.path().join(path);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
            if !path.as_os_str().as_encoded_bytes().ends_with(b"/") {
                std::fs::write(path, text).expect("written");
            }
        }
        tree
    }

    fn root(&self) -> PathBuf {
        self.0.path().canonicalize().expect("there")
    }

    /// Where the project of a place is, from the tree, and the member.
    fn found(&self, place: &str, purpose: Purpose<'_>) -> (String, String) {
        let home = self.root().join("home");
        let start = self.root().join(place);
        std::fs::create_dir_all(&start).expect("made");
        let found = find(&start, Some(&home), purpose).expect("found");
        let root = found.root.strip_prefix(self.root()).expect("inside");
        (root.to_str().expect("text").to_owned(), found.member)
    }

    #[track_caller]
    fn check(&self, rows: &[(&str, Purpose<'_>, &str, &str)]) {
        for (place, purpose, root, member) in rows {
            let found = self.found(place, *purpose);
            assert_eq!(found, ((*root).to_owned(), (*member).to_owned()), "{place} {purpose:?}");
        }
    }
}

#[test]
fn the_nearest_manifest_upwards_is_the_project() {
    let tree = Tree::new(&[
        ("home/package.json", "{}"),
        ("home/one/package.json", "{}"),
        ("home/two/requirements.txt", ""),
        ("home/two/crate/Cargo.toml", "[package]\nname = \"crate\"\n"),
        ("home/three/bolide.lock", ""),
        ("home/four/.bolide/x", ""),
    ]);
    let whole = Purpose::Whole;
    tree.check(&[
        ("home/one", whole, "home/one", ""),
        ("home/one/sub/deep", whole, "home/one", ""),
        ("home/one/sub/deep", Purpose::Record, "home/one", ""),
        ("home/two/crate/src", Purpose::Named(&[Ecosystem::Pypi]), "home/two/crate", ""),
        ("home/two/doc", whole, "home/two", ""),
        ("home/three/doc", whole, "home/three", ""),
        ("home/four/doc", whole, "home/four", ""),
        // What lies in the home directory captures nothing below; in it, it is the project.
        ("home/empty/sub", whole, "home/empty/sub", ""),
        ("home", whole, "home", ""),
    ]);
}

#[test]
fn a_member_of_a_cargo_workspace_is_led_to_its_root() {
    let tree = Tree::new(&[
        ("Cargo.toml", "[workspace]\nmembers = [\"parts/*\"]\nexclude = [\"parts/out\"]\n"),
        ("parts/one/Cargo.toml", "[package]\nname = \"one\"\n"),
        ("parts/out/Cargo.toml", "[package]\nname = \"out\"\n"),
        ("parts/two/Cargo.toml", "[package]\nname = \"two\"\n[workspace]\n"),
    ]);
    let cargo = Purpose::Named(&[Ecosystem::Cargo]);
    tree.check(&[
        ("parts/one", cargo, "", "parts/one"),
        ("parts/one/src", Purpose::Record, "", "parts/one"),
        ("parts/one/src", Purpose::Named(&[Ecosystem::Pypi]), "parts/one", ""),
        ("parts/out", cargo, "parts/out", ""),
        ("parts/two", cargo, "parts/two", ""),
        ("parts", cargo, "", ""),
    ]);
}

#[test]
fn a_member_of_an_npm_workspace_is_led_to_its_root() {
    let tree = Tree::new(&[
        ("package.json", r#"{"workspaces": ["packages/**", "!packages/old"]}"#),
        ("packages/a/package.json", "{}"),
        ("packages/old/package.json", "{}"),
        ("packages/a/node_modules/b/package.json", "{}"),
        ("packages/both/package.json", "{}"),
        ("packages/both/bolide.lock", ""),
        ("packages/both/pyproject.toml", "[tool.ruff]\n"),
        ("packages/snake/package.json", "{}"),
        ("packages/snake/pyproject.toml", "[project]\nname = \"snake\"\n"),
        ("other/package.json", "{}"),
    ]);
    let npm = Purpose::Named(&[Ecosystem::Npm]);
    tree.check(&[
        ("packages/a", npm, "", "packages/a"),
        ("packages/a/src/deep", Purpose::Whole, "", "packages/a"),
        ("packages/a", Purpose::Named(&[Ecosystem::Pypi]), "packages/a", ""),
        ("packages/a/node_modules/b", npm, "packages/a/node_modules/b", ""),
        ("packages/old", npm, "packages/old", ""),
        ("packages/both", Purpose::Whole, "", "packages/both"),
        ("packages/both", npm, "", "packages/both"),
        ("packages/snake", Purpose::Whole, "packages/snake", ""),
        ("packages/snake", npm, "", "packages/snake"),
        ("packages/both", Purpose::Record, "packages/both", ""),
        ("other", npm, "other", ""),
        ("packages", npm, "", ""),
    ]);
}

#[test]
fn a_workspace_that_cannot_be_understood_is_an_error() {
    for text in ["{", r#"{"workspaces": ["packages/[ab]"]}"#, r#"{"workspaces": ["../*"]}"#] {
        let tree = Tree::new(&[("package.json", text), ("packages/a/package.json", "{}")]);
        let error = find(&tree.root().join("packages/a"), None, Purpose::Whole).expect_err("error");
        assert!(error.message.contains("package.json"), "{error:?}");
    }
    let large = vec![b' '; MANIFEST_BYTES_MAX + 1];
    for bytes in [&b"{\"workspaces\": [\"packages/*\"], \"x\": \"\xff\"}"[..], &large] {
        let tree = Tree::new(&[("packages/a/package.json", "{}")]);
        std::fs::write(tree.root().join("package.json"), bytes).expect("written");
        let error = find(&tree.root().join("packages/a"), None, Purpose::Whole).expect_err("error");
        assert_eq!(error.code, "manifest-invalid", "{error:?}");
    }
}

#[test]
fn a_refusal_sees_all_the_way_up_but_no_leftovers() {
    let members = r#"{"workspaces": ["home/*"]}"#;
    for (text, expected) in [
        ("{ broken", None),
        (r#"{"workspaces": ["#, Some("manifest-syntax")),
        (r#"{"workspaces": ["other/*"]}"#, None),
        (r#"{"workspaces": ["../x", "./../x", "!../x", "a/../../x"]}"#, None),
        (r#"{"workspaces": "x"}"#, None),
        (r#"{"workspaces": [1]}"#, None),
        (r#"{"workspaces": ["home/{one"]}"#, Some("manifest-invalid")),
        (members, Some(IS_MEMBER)),
    ] {
        let tree = Tree::new(&[("package.json", text), ("home/one/package.json", "{}")]);
        let place = tree.root().join("home/one");
        let code = refuse_npm_member(&place).err().map(|error| error.code);
        assert_eq!(code.as_deref(), expected, "{text}");
        // What is in the home directory leads nobody anywhere.
        let found = find(&place, Some(&tree.root()), Purpose::Whole).expect("found");
        assert_eq!(found, Found::at(&place), "{text}");
    }
}

#[test]
fn a_root_that_cannot_be_read_is_no_reason_to_go_past_it() {
    let tree = Tree::new(&[("one/package.json", "{}")]);
    std::fs::write(tree.root().join("package.json"), b"{\"workspaces\": [\"*\", \"\xff\"]}")
        .expect("written");
    let refused = refuse_npm_member(&tree.root().join("one")).expect_err("unreadable");
    assert_eq!(refused.code, "manifest-invalid");
}

#[test]
fn what_others_may_write_captures_nothing() {
    let tree = Tree::new(&[
        ("open/package.json", r#"{"workspaces": ["*"]}"#),
        ("open/mine/package.json", "{}"),
        ("open/Cargo.toml", "[workspace]\nmembers = [\"*\"]\n"),
        ("open/mine/Cargo.toml", "[package]\nname = \"mine\"\n"),
    ]);
    tree.check(&[
        ("open/mine", Purpose::Whole, "open", "mine"),
        ("open/new", Purpose::Whole, "open", ""),
    ]);
    let open = tree.root().join("open");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o1777)).expect("changed");
    tree.check(&[
        ("open/mine", Purpose::Whole, "open/mine", ""),
        ("open/new", Purpose::Whole, "open/new", ""),
        ("open", Purpose::Whole, "open", ""),
    ]);
    let caller = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    for (of, expected) in [
        ((caller, group, 0o755), true),
        ((0, 0, 0o755), true),
        // A group of the caller's own has the caller's number.
        ((caller, group, 0o775), caller == group),
        ((caller, group + 1, 0o775), false),
        ((caller, group, 0o757), false),
        ((caller + 1, group, 0o755), false),
    ] {
        assert_eq!(is_safe(of), expected, "{of:?}");
    }
}

#[test]
fn a_group_is_one_persons_by_its_name_and_with_nobody_else_in_it() {
    let people = "root:x:0:0::/root:/bin/sh\nann:x:1002:1003::/home/ann:/bin/sh\n";
    let second = format!("{people}bob:x:1005:1003::/home/bob:/bin/sh\n");
    for (people, groups, expected) in [
        (people, "ann:x:1003:\n", true),
        (people, "ann:x:1003:ann\n", true),
        (people, "ann:x:1003:ann,bob\n", false),
        (people, "dev:x:1003:\n", false),
        (people, "ann:x:1004:\n", false),
        (people, "", false),
        // Whose first group it is stands in no list of it.
        (&*second, "ann:x:1003:\n", false),
        ("ann:x:1002\n", "ann\n", false),
    ] {
        assert_eq!(is_one_persons((people, groups), 1002, 1003), expected, "{people}{groups}");
    }
}

#[test]
fn the_way_up_has_an_end() {
    let tree = Tree::new(&[("package.json", "{}")]);
    let deep = |depth| vec!["d"; depth].join("/");
    assert_eq!(tree.found(&deep(ANCESTORS_MAX), Purpose::Whole).0, "");
    assert_eq!(tree.found(&deep(ANCESTORS_MAX + 1), Purpose::Whole).0, deep(ANCESTORS_MAX + 1));
}

#[test]
fn a_path_in_a_hint_is_one_that_a_shell_takes() {
    assert_eq!(quoted("/a/b-1_c.d"), "/a/b-1_c.d");
    assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
}
