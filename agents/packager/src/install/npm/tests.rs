//! Trees of small packages made here; that npm itself accepts such trees is judged with real
//! packages elsewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::install::tests::{npm_artifact, package, store};
use crate::unpack::attacks::forge::TarEntry;

fn stored(
    store: &Store,
    place: &str,
    name: &str,
    version: &str,
    files: &[(&str, &str)],
    bin: &[(&str, &str)],
) -> Package {
    let bytes = npm_artifact(name, version, files);
    let mut package = package(store, Ecosystem::Npm, name, version, &bytes);
    package.place = place.to_owned();
    package.bin = bin.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect();
    package
}

fn resolution(packages: Vec<Package>) -> Resolution {
    Resolution { ecosystem: Ecosystem::Npm, packages, links: Vec::new(), warnings: Vec::new() }
}

#[track_caller]
fn check_refused(store: &Store, packages: Vec<Package>, code: &str) {
    let place = tempfile::tempdir().expect("a directory");
    let staging = place.path().join("staging");
    let error = stage(store, &resolution(packages), "node_modules", &staging, Options::default())
        .expect_err("hostile");
    assert_eq!(error.code, code, "{error}");
    assert!(error.hint.is_some());
}

#[test]
fn a_tree_with_commands_is_built() {
    let (place, store) = store();
    let packages = vec![
        stored(
            &store,
            "node_modules/a",
            "a",
            "1.0.0",
            &[("cli.js", "#!/usr/bin/env node\r\nx\r\n")],
            &[("a", "./cli.js")],
        ),
        stored(
            &store,
            "node_modules/a/node_modules/b",
            "b",
            "2.0.0",
            &[("b.js", "x")],
            &[("b", "b.js")],
        ),
        stored(
            &store,
            "node_modules/@s/c",
            "@s/c",
            "1.0.0",
            &[("bin/c", "x")],
            &[("c", "bin/c"), ("gone", "gone.js")],
        ),
        stored(&store, "node_modules/b", "real-b", "1.0.0", &[], &[]),
    ];
    let staging = place.path().join("node_modules");
    let report = stage(
        &store,
        &resolution(packages),
        "node_modules",
        &staging,
        Options { crew: &agents_contract::Threads(3), ..Options::default() },
    )
    .expect("honest");
    assert_eq!(report.commands, ["a", "c"]);
    assert_eq!(report.warnings.len(), 1);
    let link = |path: &str| {
        fs::read_link(staging.join(path)).expect("a link").to_string_lossy().into_owned()
    };
    assert_eq!(link(".bin/a"), "../a/cli.js");
    assert_eq!(link(".bin/c"), "../@s/c/bin/c");
    assert_eq!(link("a/node_modules/.bin/b"), "../b/b.js");
    assert_eq!(
        fs::read_to_string(staging.join(".bin/a")).expect("linked"),
        "#!/usr/bin/env node\nx\r\n"
    );
    let mode =
        |path: &str| fs::metadata(staging.join(path)).expect("there").permissions().mode() & 0o111;
    assert_eq!((mode(".bin/a"), mode("a/package.json")), (0o111, 0));
    assert!(!staging.join(".bin/gone").exists());
}

#[test]
fn the_first_package_keeps_a_contended_command() {
    let (place, store) = store();
    let packages = ["b", "a", "@z/c"].map(|name| {
        stored(&store, &format!("node_modules/{name}"), name, "1.0.0", &[("x", "")], &[("x", "x")])
    });
    let staging = place.path().join("node_modules");
    stage(&store, &resolution(packages.to_vec()), "node_modules", &staging, Options::default())
        .expect("honest");
    assert_eq!(
        fs::read_link(staging.join(".bin/x")).expect("a link").to_string_lossy(),
        "../@z/c/x"
    );
}

#[test]
fn a_copy_inside_of_a_tarball_gives_way_to_the_plan() {
    let (place, store) = store();
    let inside = [
        ("node_modules/b/package.json", "{}"),
        ("node_modules/b/old.js", ""),
        ("node_modules/k/x", ""),
    ];
    let packages = vec![
        stored(&store, "node_modules/a", "a", "1.0.0", &inside, &[]),
        stored(&store, "node_modules/a/node_modules/b", "b", "1.0.0", &[], &[]),
    ];
    let staging = place.path().join("node_modules");
    let report = stage(&store, &resolution(packages), "node_modules", &staging, Options::default())
        .expect("honest");
    assert_eq!(report.warnings.len(), 1);
    assert!(!staging.join("a/node_modules/b/old.js").exists());
    assert!(staging.join("a/node_modules/k/x").exists());
}

#[test]
fn a_package_that_says_it_is_another_is_refused() {
    let (_place, store) = store();
    for (name, version) in [("b", "1.0.0"), ("a", "1.0.1")] {
        let mut package = stored(&store, "node_modules/a", name, version, &[], &[]);
        (package.name, package.version) = ("a".to_owned(), "1.0.0".to_owned());
        check_refused(&store, vec![package], "identity-mismatch");
    }
    assert!(
        same_version("v1.0.0", "1.0.0")
            && same_version("1.0.0+build", "1.0.0")
            && !same_version("1.0", "1.0.0")
    );
}

#[test]
fn places_outside_of_the_tree_are_refused() {
    let (_place, store) = store();
    for place in [
        "",
        "node_modules",
        "node_modules/..",
        "node_modules/../a",
        "/node_modules/a",
        "a",
        "node_modules/a/b",
        "node_modules/.bin",
        "node_modules/@s",
        "node_modules/@s/.c",
        "node_modules/a/node_modules",
        "node_modules/node_modules",
        "node_modules/a/../../../b",
    ] {
        check_refused(&store, vec![stored(&store, place, "a", "1.0.0", &[], &[])], "bad-place");
    }
    let orphan = stored(&store, "node_modules/x/node_modules/a", "a", "1.0.0", &[], &[]);
    check_refused(&store, vec![orphan], "bad-place");
    let twin = stored(&store, "node_modules/a", "a", "1.0.0", &[], &[]);
    check_refused(&store, vec![twin.clone(), twin], "bad-place");
}

#[test]
fn commands_that_leave_their_directory_are_refused() {
    let (_place, store) = store();
    for bin in [
        ("../x", "a"),
        ("..", "a"),
        ("a/b", "a"),
        ("", "a"),
        ("a\\b", "a"),
        ("c:x", "a"),
        ("x", "../a"),
        ("x", "b/../../a"),
        ("x", ""),
    ] {
        let package = stored(&store, "node_modules/a", "a", "1.0.0", &[("a", "")], &[bin]);
        check_refused(&store, vec![package], "unsafe-command");
    }
}

#[test]
fn a_package_that_was_not_fetched_is_an_error_worth_a_retry() {
    let (_place, store) = store();
    let mut package = stored(&store, "node_modules/a", "a", "1.0.0", &[], &[]);
    let artifact = std::sync::Arc::make_mut(&mut package.artifact);
    artifact.hashes.sha512 = None;
    artifact.hashes.sha256 = Some("ab".repeat(32));
    check_refused(&store, vec![package], "not-in-store");
}

#[test]
fn damage_in_the_store_makes_the_package_fetched_again() {
    let (place, store) = store();
    let package = stored(&store, "node_modules/a", "a", "1.0.0", &[("x", "content")], &[]);
    let entry = store.require(&package).expect("there");
    fs::remove_file(store.object_path(&entry.file("x").expect("there").object)).expect("there");
    let error = stage(
        &store,
        &resolution(vec![package.clone()]),
        "node_modules",
        &place.path().join("n"),
        Options::default(),
    )
    .expect_err("damaged");
    assert_eq!(error.code, crate::store::DAMAGED);
    assert!(store.package(&package).is_none());
}

#[test]
fn a_link_in_a_tarball_is_told() {
    let (place, store) = store();
    let mut entries = crate::install::tests::npm_entries("a", "1.0.0", &[]);
    entries
        .push(TarEntry { kind: b'2', ..crate::unpack::attacks::forge::file("package/link", b"") });
    let bytes = crate::unpack::attacks::forge::tarball(&entries);
    let mut package = package(&store, Ecosystem::Npm, "a", "1.0.0", &bytes);
    package.place = "node_modules/a".to_owned();
    let report = stage(
        &store,
        &resolution(vec![package]),
        "node_modules",
        &place.path().join("n"),
        Options::default(),
    )
    .expect("as npm");
    assert!(report.warnings[0].contains("`package/link` was left out"), "{:?}", report.warnings);
}

#[test]
fn environments_of_own_packages_are_built_each_by_itself_and_links_lead_there() {
    let (place, store) = store();
    let mut resolution = resolution(vec![
        stored(&store, "node_modules/a", "a", "1.0.0", &[("x", "")], &[("x", "x")]),
        stored(&store, "packages/w/node_modules/a", "a", "2.0.0", &[("x", "")], &[("x", "x")]),
        stored(&store, "packages/w/node_modules/a/node_modules/b", "b", "1.0.0", &[], &[]),
    ]);
    let link = |place: &str, target: &str, bin: &[(&str, &str)]| Link {
        place: place.to_owned(),
        target: target.to_owned(),
        bin: bin.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect(),
    };
    resolution.links = vec![
        link(
            "node_modules/@own/w",
            "packages/w",
            &[("w", "./bin/w.js"), ("../up", "x"), ("out", "../x")],
        ),
        link("packages/w/node_modules/v", "v", &[]),
    ];
    assert_eq!(
        environments(&resolution).into_iter().collect::<Vec<_>>(),
        ["node_modules", "packages/w/node_modules"]
    );
    assert!(is_empty(&resolution, "v/node_modules") && !is_empty(&resolution, "node_modules"));
    let build = |environment: &str| {
        let staging = place.path().join(environment.replace('/', "-"));
        let report = stage(&store, &resolution, environment, &staging, Options::default());
        (staging, report.expect("honest"))
    };
    let text = |path: std::path::PathBuf| {
        fs::read_link(path).expect("a link").to_string_lossy().into_owned()
    };
    let (root, report) = build("node_modules");
    assert_eq!(report.commands, ["w", "x"]);
    assert_eq!(report.warnings.len(), 2, "{:?}", report.warnings);
    assert_eq!(text(root.join("@own/w")), "../../packages/w");
    assert_eq!(text(root.join(".bin/w")), "../@own/w/bin/w.js");
    assert!(!root.join("a/node_modules").exists());
    let (own, report) = build("packages/w/node_modules");
    assert_eq!(report.commands, ["x"]);
    assert_eq!(text(own.join("v")), "../../../v");
    assert!(own.join("a/node_modules/b/package.json").exists());
}

#[test]
fn bundled_packages_have_their_commands_beside_them() {
    let (place, store) = store();
    let file = crate::unpack::attacks::forge::file;
    let manifest = r#"{"name":"a","version":"1.0.0","bundleDependencies":["b","@s/c","taken"]}"#;
    let archive = |manifest: &str| {
        crate::unpack::attacks::forge::tarball(&[
            file("package/package.json", manifest.as_bytes()),
            file("package/node_modules/b/package.json", br#"{"name":"b","bin":"./cli.js"}"#),
            file("package/node_modules/b/cli.js", b"#!/usr/bin/env node\r\nx"),
            file(
                "package/node_modules/@s/c/package.json",
                br#"{"bin":{"c":"c.js","out":"../b/cli.js","none":"none.js","../up":"c.js"}}"#,
            ),
            file("package/node_modules/@s/c/c.js", b"x"),
            file("package/node_modules/broken/package.json", b"{"),
            file("package/node_modules/taken/package.json", br#"{"bin":{"old":"old.js"}}"#),
            file("package/node_modules/taken/old.js", b"x"),
            file("package/test/node_modules/d/package.json", br#"{"name":"d","bin":"d.js"}"#),
            file("package/test/node_modules/d/d.js", b"x"),
        ])
    };
    let build = |name: &str, manifest: &str| {
        let bytes = archive(manifest);
        let mut a = package(&store, Ecosystem::Npm, "a", "1.0.0", &bytes);
        a.place = "node_modules/a".to_owned();
        let taken = "node_modules/a/node_modules/taken";
        let taken =
            stored(&store, taken, "taken", "2.0.0", &[("new.js", "x")], &[("new", "new.js")]);
        let staging = place.path().join(name);
        let packages = resolution(vec![a, taken]);
        stage(&store, &packages, "node_modules", &staging, Options::default()).expect("honest");
        let list = fs::read_dir(staging.join("a/node_modules/.bin")).expect("links");
        let mut names: Vec<String> = list
            .map(|one| one.expect("a name").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        (staging, names)
    };
    let (staging, names) = build("bundles", manifest);
    assert_eq!(names, ["b", "c", "new"]);
    let command = staging.join("a/node_modules/.bin/b");
    assert_eq!(fs::read_link(&command).expect("a link").to_string_lossy(), "../b/cli.js");
    assert_eq!(fs::read_to_string(&command).expect("linked"), "#!/usr/bin/env node\nx");
    assert_eq!(fs::metadata(&command).expect("there").permissions().mode() & 0o111, 0o111);

    let (_, names) = build("says-nothing", r#"{"name":"a","version":"1.0.0"}"#);
    assert_eq!(names, ["new"], "who says of nothing that it is bundled bundles nothing");
}

#[test]
fn what_a_package_has_where_a_link_would_go_stays_and_the_rest_is_installed() {
    let (place, store) = store();
    let file = crate::unpack::attacks::forge::file;
    let manifest = br#"{"name":"a","version":"1.0.0","bundleDependencies":["b","c"]}"#;
    let build = |name: &str, own: &str| {
        let own = format!("package/node_modules/.bin{own}");
        let bytes = crate::unpack::attacks::forge::tarball(&[
            file("package/package.json", manifest),
            file("package/node_modules/b/package.json", br#"{"name":"b","bin":"b.js"}"#),
            file("package/node_modules/b/b.js", b"x"),
            file("package/node_modules/c/package.json", br#"{"name":"c","bin":"c.js"}"#),
            file("package/node_modules/c/c.js", b"x"),
            file(&own, b"its own"),
        ]);
        let mut a = package(&store, Ecosystem::Npm, "a", "1.0.0", &bytes);
        a.place = "node_modules/a".to_owned();
        let planned = "node_modules/a/node_modules/planned";
        let bin = [("planned", "x.js")];
        let planned = stored(&store, planned, "planned", "2.0.0", &[("x.js", "x")], &bin);
        let staging = place.path().join(name);
        let packages = resolution(vec![a, planned]);
        let report = stage(&store, &packages, "node_modules", &staging, Options::default());
        let warnings = report.expect("honest").warnings;
        let own = staging.join("a/node_modules").join(own.rsplit_once("node_modules/").unwrap().1);
        assert_eq!(fs::read_to_string(own).expect("there"), "its own");
        let is_link = |name: &str| {
            let link = staging.join("a/node_modules/.bin").join(name);
            fs::symlink_metadata(link).is_ok_and(|it| it.is_symlink())
        };
        (["b", "c", "planned"].map(is_link), warnings.len())
    };
    assert_eq!(build("file", "/b"), ([false, true, true], 0));
    assert_eq!(build("directory", "/c/inside"), ([true, false, true], 0));
    assert_eq!(build("beside", "/b.txt"), ([true, true, true], 0));
    assert_eq!(build("taken", "/planned"), ([true, true, false], 1));
    assert_eq!(build("no-directory", ""), ([false, false, false], 1));
}

/// The files of a tree with their contents and whether they can be executed.
fn listed(root: &std::path::Path) -> Vec<(String, Vec<u8>, bool)> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            if entry.file_type().expect("there").is_dir() {
                left.push(path);
                continue;
            }
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            found.push((name, fs::read(&path).expect("a file"), mode & 0o111 != 0));
        }
    }
    found.sort();
    found
}

/// What a walk finds in a directory, in the order in which it is noted, but for the packages inside.
fn walk(root: &std::path::Path, folder: &str, found: &mut Vec<crate::store::Mark>) {
    let entries = fs::read_dir(root.join(folder)).expect("a directory").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().into_string().expect("a name")).collect();
    names.sort();
    for name in names.iter().filter(|name| *name != "node_modules") {
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let at = root.join(&path);
        let status = rustix::fs::lstat(&at).expect("there");
        let content = at.is_file().then(|| fs::read(&at).expect("a file"));
        let digest = content.map(|content| crate::store::Object::of(&content).digest);
        found.push(crate::store::Mark::of(&path, &status, digest));
        if at.is_dir() {
            walk(root, &path, found);
        }
    }
}

#[test]
fn what_was_unpacked_for_a_tree_is_moved_into_it_and_the_tree_is_the_same() {
    use std::os::unix::fs::MetadataExt as _;

    use crate::store::{Direct, Fresh, Mode, Proof, Wanted, Written};
    let artifacts = [
        (
            "node_modules/a",
            "a",
            vec![("cli.js", "x"), ("lib/deep/b.js", "y")],
            vec![("a", "cli.js")],
        ),
        ("node_modules/a/node_modules/b", "b", vec![("b.js", "x"), ("lib/deep/c.js", "z")], vec![]),
        // Its command is rewritten, so it is made for this tree.
        ("node_modules/c", "c", vec![("c.js", "#!/usr/bin/env node\r\n")], vec![("c", "c.js")]),
        ("node_modules/d", "a", vec![("cli.js", "x"), ("lib/deep/b.js", "y")], vec![]),
    ];
    let mut trees = Vec::new();
    for is_direct in [false, true] {
        let (place, store) = store();
        let store = store.with_mode(Wanted::Only(Mode::Link));
        if !store.are_births_sealed() {
            println!("nothing is unpacked for a tree on this file system");
            return;
        }
        // What is only fetched here never was in the store of the tree.
        let (_other_place, other) = self::store();
        let incoming = place.path().join("incoming");
        fs::create_dir(&incoming).expect("a directory");
        let fresh = Fresh::new(&incoming, &store).expect("a directory").expect("it is linked");
        let mut seen = HashSet::new();
        let packages: Vec<Package> = artifacts
            .iter()
            .map(|(at, name, files, bin)| {
                let package = stored(&other, at, name, "1.0.0", files, bin);
                if seen.insert(package.artifact.hashes.to_string()) {
                    let bytes = npm_artifact(name, "1.0.0", files);
                    let source = crate::unpack::Source::Bytes(&bytes);
                    let commands = commands(&package);
                    let direct = is_direct.then_some(Direct { fresh: &fresh, commands: &commands });
                    let added = store.add_package_as(&package, source, Proof::Wanted, direct);
                    added.expect("honest");
                }
                package
            })
            .collect();
        let staging = place.path().join("node_modules");
        let written = Written::default();
        let options = Options {
            fresh: is_direct.then_some(&fresh),
            written: Some(&written),
            ..Options::default()
        };
        let report = stage(&store, &resolution(packages), "node_modules", &staging, options);
        assert_eq!(report.expect("honest").filled.files, 11);
        let listed = listed(&staging);
        let given: &[&str] = if is_direct { &["a/node_modules/b"] } else { &[] };
        for (path, content, _) in &listed {
            let status = rustix::fs::stat(staging.join(path)).expect("there");
            let object = crate::store::Object::of(content);
            let is_given = is_direct && path.starts_with("a/node_modules/b/");
            // What was given is known with its directory, unless another package is put into that.
            assert_eq!(written.digest(&status), (!is_given).then_some(object.digest), "{path}");
        }
        if is_direct {
            // Two were given, and that of `c` was removed; `d` is another place of what `a` got.
            assert_eq!(fs::read_dir(&incoming).expect("a directory").count(), 0);
            for (path, names) in [
                ("a/package.json", 2),
                ("a/cli.js", 2),
                ("a/lib/deep/b.js", 2),
                ("a/node_modules/b/package.json", 2),
                ("a/node_modules/b/lib/deep/c.js", 2),
                // The content of `cli.js`, which is in use.
                ("a/node_modules/b/b.js", 1),
                ("d/cli.js", 1),
            ] {
                let found = fs::metadata(staging.join(path)).expect("there").nlink();
                assert_eq!(found, names, "{path}");
            }
        }
        for place in given {
            let directory = staging.join(place);
            let status = rustix::fs::stat(&directory).expect("there");
            let known = written.given(&status).expect("it was given");
            let mut walked = Vec::new();
            walk(&directory, "", &mut walked);
            assert_eq!(known.inner, walked, "{place}");
        }
        trees.push(listed);
    }
    assert_eq!(trees[0], trees[1]);
}
