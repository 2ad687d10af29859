//! Workspaces of npm in `bolide.lock`: a clone gets the same tree, and a lock that leads elsewhere is not followed.

use super::packages::Npm;
use super::world::World;

const FILES: [&str; 4] =
    ["package.json", "packages/a/package.json", "packages/b/package.json", "bolide.lock"];
const A: &str = r#"{"name": "a", "version": "1.0.0", "bin": "a.js", "dependencies": {"b": "^2.0.0", "leaf": "1.0.0"}}"#;
const B: &str = r#"{"name": "b", "version": "2.1.0", "dependencies": {"tree": "*"}}"#;

/// A root that wants `leaf`, a member that wants another `leaf` and the other member, and that one.
fn author() -> World {
    let world = World::new();
    let root =
        r#"{"name": "demo", "workspaces": ["packages/*"], "dependencies": {"leaf": "^1.1"}}"#;
    world.file("package.json", root);
    world.file("packages/a/package.json", A);
    world.file("packages/a/a.js", "#!/usr/bin/env node\n");
    world.file("packages/b/package.json", B);
    world.bolide(&["install"]).succeeds();
    world
}

/// What a colleague has after cloning, where the registry has newer versions.
fn clone_of(author: &World) -> World {
    let world = World::new();
    for file in FILES {
        world.file(file, &author.read(file));
    }
    world.file("packages/a/a.js", "#!/usr/bin/env node\n");
    let leaf = |version| Npm { name: "leaf", version, dependencies: &[] };
    world.registry.npm(&[
        leaf("1.0.0"),
        leaf("1.1.0"),
        leaf("1.2.0"),
        leaf("2.0.0"),
        leaf("2.1.0"),
    ]);
    world
}

fn listed(world: &World) -> String {
    world.bolide(&["list"]).succeeds().stdout
}

fn leads_to(world: &World, link: &str) -> String {
    std::fs::read_link(world.project().join(link)).unwrap().display().to_string()
}

#[test]
fn a_clone_of_a_workspace_gets_what_was_locked() {
    let author = author();
    let lock = author.read("bolide.lock");
    assert!(lock.contains("place = \"node_modules/a\"\ntarget = \"packages/a\"\n"), "{lock}");
    assert!(lock.contains("place = \"packages/a/node_modules/leaf\""), "{lock}");
    let again = author.bolide(&["install", "--frozen", "--json"]).succeeds().json();
    assert!(again["transaction"].is_null(), "{again}");
    let world = clone_of(&author);
    world.bolide(&["install", "--frozen"]).succeeds();
    assert_eq!(world.registry.asked("/leaf"), 0, "no metadata is needed");
    assert_eq!(listed(&world), listed(&author));
    assert_eq!(world.read("bolide.lock"), lock);
    assert_eq!(leads_to(&world, "node_modules/a"), "../packages/a");
    assert!(world.project().join("node_modules/.bin/a").exists());
    world.run("npm", &["ls", "--all"]).succeeds();
    // Without it, a clone has the newest.
    let world = clone_of(&author);
    std::fs::remove_file(world.project().join("bolide.lock")).unwrap();
    world.bolide(&["install"]).succeeds();
    assert_ne!(world.read("bolide.lock"), lock);
}

#[test]
fn what_members_ask_for_is_part_of_the_lock_and_their_versions_only_where_they_count() {
    let author = author();
    let lock = author.read("bolide.lock");
    let frozen = || author.bolide(&["install", "--frozen"]);
    author.file("packages/b/package.json", &B.replace("2.1.0", "2.2.0"));
    frozen().succeeds();
    assert_eq!(author.read("bolide.lock"), lock);
    // No longer what its neighbour wants.
    author.file("packages/b/package.json", &B.replace("2.1.0", "3.0.0"));
    frozen().fails(1, &["no npm package named `b`"]);
    author.file("packages/b/package.json", &B.replace("\"*\"", "\"^1\""));
    frozen().fails(4, &["packages/b: tree@^1", "packages/b: tree@*"]);
    author.bolide(&["install"]).succeeds();
    frozen().succeeds();
    author.file("packages/c/package.json", r#"{"name": "c"}"#);
    frozen().fails(4, &["member packages/c c"]);
    author.bolide(&["install"]).succeeds();
    frozen().succeeds();
    // A change of a member from its own directory locks what it asks for then.
    author.bolide(&["add", "npm:leaf@2", "--dir", "packages/c", "--yes"]).succeeds();
    frozen().succeeds();
    let of_c = "\"packages/c: leaf@";
    assert!(author.read("bolide.lock").contains(of_c));
    author.bolide(&["remove", "npm:leaf", "--dir", "packages/c", "--yes"]).succeeds();
    frozen().succeeds();
    assert!(!author.read("bolide.lock").contains(of_c));
}

#[test]
fn a_registrys_package_never_stands_for_a_workspace_that_does() {
    let author = author();
    let lock = author.read("bolide.lock");
    // A stranger publishes what the workspace calls its own, and adds it to the lock where only one member finds it.
    let b = |version| Npm { name: "b", version, dependencies: &[] };
    author.registry.npm(&[b("2.0.5")]);
    let manifest = author.read("packages/a/package.json");
    author.file("packages/a/package.json", &manifest.replace("\"b\": \"^2.0.0\", ", ""));
    author.file("packages/b/package.json", &B.replace("2.1.0", "3.0.0"));
    author.bolide(&["add", "npm:b@2.0.5", "--dir", "packages/a", "--yes"]).succeeds();
    let entry = entry(&author.read("bolide.lock"), "pkg:npm/b@2.0.5");
    assert!(entry.contains("packages/a/node_modules/b"), "{entry}");
    for arguments in
        [&["install"][..], &["update", "npm:tree", "--yes"], &["add", "npm:tree", "--yes"]]
    {
        let world = clone_of(&author);
        world.registry.npm(&[b("2.0.5")]);
        world.file("packages/a/package.json", A);
        world.file("packages/b/package.json", B);
        world.file("bolide.lock", &format!("{lock}\n{entry}\n"));
        world.bolide(arguments).succeeds();
        assert!(!world.project().join("packages/a/node_modules/b").exists(), "{arguments:?}");
    }
    let world = clone_of(&author);
    world.registry.npm(&[b("2.0.5")]);
    world.file("packages/a/package.json", A);
    world.file("packages/b/package.json", B);
    world.file("bolide.lock", &format!("{lock}\n{entry}\n"));
    world.bolide(&["install", "--frozen"]).fails(4, &["pkg:npm/b@2.0.5"]);
}

/// The entry of a locked package.
fn entry(lock: &str, purl: &str) -> String {
    let start = lock.find(&format!("[[package]]\npurl = \"{purl}\"")).expect("locked");
    let end = lock[start..].find("\n\n").map_or(lock.len(), |at| start + at);
    lock[start..end].to_owned()
}

#[test]
fn an_override_that_means_the_workspace_is_not_met_by_a_strangers_package() {
    let world = |registry: &World, a: &str, b: &str, overrides: &str| {
        let npm = |version| Npm { name: "a", version, dependencies: &[] };
        registry.registry.npm(&[npm("1.0.5"), npm("2.0.0")]);
        let root = format!(
            r#"{{"name": "demo", "workspaces": ["packages/*"], "overrides": {overrides}}}"#
        );
        registry.file("package.json", &root);
        registry.file("packages/a/package.json", &format!(r#"{{"name": "a", "version": "{a}"}}"#));
        let b = format!(r#"{{"name": "b", "version": "1.0.0", "dependencies": {{"a": "{b}"}}}}"#);
        registry.file("packages/b/package.json", &b);
    };
    let stranger = World::new();
    world(&stranger, "9.0.0", "1.0.5", "{}");
    stranger.bolide(&["install"]).succeeds();
    let of_stranger = entry(&stranger.read("bolide.lock"), "pkg:npm/a@1.0.5");
    assert!(of_stranger.contains("packages/b/node_modules/a"), "{of_stranger}");
    let honest = World::new();
    world(&honest, "1.0.0", "^2", r#"{"b": {"a": "^1"}}"#);
    honest.bolide(&["install"]).succeeds();
    let lock = honest.read("bolide.lock");
    assert!(!lock.contains("pkg:npm/a@"), "{lock}");
    let evil = format!("{lock}\n{of_stranger}\n");
    honest.file("bolide.lock", &evil);
    honest.bolide(&["install", "--frozen"]).fails(4, &["pkg:npm/a@1.0.5"]);
    honest.bolide(&["install"]).succeeds();
    assert!(!honest.project().join("packages/b/node_modules").exists());
}

#[test]
fn what_a_package_uses_of_a_workspaces_name_stays_as_it_was_locked() {
    const TOOL: Npm = Npm { name: "tool", version: "1.0.0", dependencies: &[("own", "^0.5.0")] };
    let own = |version| Npm { name: "own", version, dependencies: &[] };
    let author = World::new();
    author.registry.npm(&[TOOL]);
    author.registry.npm(&[own("0.5.0")]);
    // The root wants its own workspace by a range that it does not have, and gets it all the same, as with npm.
    let root = r#"{"name": "demo", "workspaces": ["packages/*"], "dependencies": {"tool": "1", "own": "^2"}}"#;
    author.file("package.json", root);
    author.file("packages/own/package.json", r#"{"name": "own", "version": "1.5.0"}"#);
    author.bolide(&["install"]).succeeds();
    let lock = author.read("bolide.lock");
    let clone = World::new();
    clone.registry.npm(&[TOOL]);
    clone.registry.npm(&[own("0.5.0"), own("0.5.1")]);
    for file in ["package.json", "packages/own/package.json", "bolide.lock"] {
        clone.file(file, &author.read(file));
    }
    clone.bolide(&["install", "--frozen"]).succeeds();
    assert_eq!(clone.registry.asked("/tool"), 0);
    assert_eq!(clone.read("bolide.lock"), lock);
    clone.bolide(&["add", "npm:leaf", "--yes"]).succeeds();
    assert!(clone.read("bolide.lock").contains("pkg:npm/own@0.5.0"), "{lock}");
}

#[test]
fn a_member_that_is_gone_is_no_finding() {
    let world = author();
    std::fs::remove_dir_all(world.project().join("packages/a")).unwrap();
    world.bolide(&["verify"]).fails(6, &[]);
    world.bolide(&["install"]).succeeds();
    world.bolide(&["verify"]).succeeds();
    assert!(!world.project().join("packages/a").exists());
}

#[test]
fn what_a_member_no_longer_names_is_no_longer_locked() {
    let world = World::new();
    world.file("package.json", r#"{"name": "demo", "workspaces": ["packages/*"]}"#);
    world.file("libs/lib/package.json", r#"{"name": "lib", "dependencies": {"leaf": "1"}}"#);
    let a = r#"{"name": "a", "dependencies": {"lib": "file:../../libs/lib", "leaf": "^1\t"}}"#;
    world.file("packages/a/package.json", a);
    world.bolide(&["install"]).succeeds();
    world.bolide(&["install", "--frozen"]).succeeds();
    assert!(world.read("bolide.lock").contains("directory libs/lib lib"));
    world.bolide(&["remove", "npm:lib", "--dir", "packages/a", "--yes"]).succeeds();
    world.bolide(&["install", "--frozen"]).succeeds();
    assert!(!world.read("bolide.lock").contains("libs/lib"));
}

#[test]
fn a_lock_that_leads_elsewhere_is_not_followed() {
    let author = author();
    let lock = author.read("bolide.lock");
    let to_a = "target = \"packages/a\"";
    let leaf = "place = \"packages/a/node_modules/leaf\"";
    for (from, to) in [
        (to_a, "target = \"../elsewhere\""),
        (to_a, "target = \"packages/b\""),
        (to_a, "target = \"node_modules/leaf\""),
        ("place = \"node_modules/a\"", "place = \"node_modules/other\""),
        (leaf, "place = \"src/node_modules/leaf\""),
        (leaf, "place = \"packages/b/node_modules/leaf\""),
        // In what is linked, in what is not there, and where nobody asks for it.
        (leaf, "place = \"node_modules/a/node_modules/leaf\""),
        (leaf, "place = \"node_modules/gone/node_modules/leaf\""),
        ("place = \"node_modules/a\"", "place = \"node_modules/tree/node_modules/x\""),
    ] {
        assert_eq!(lock.matches(from).count(), 1, "{from}: {lock}");
        let world = clone_of(&author);
        world.file("bolide.lock", &lock.replace(from, to));
        // What is decided anew prefers what is locked, and is that but for where it stands.
        world.bolide(&["install"]).succeeds();
        assert_eq!(leads_to(&world, "node_modules/a"), "../packages/a", "{to}");
        assert!(world.project().join("packages/a/node_modules/leaf").is_dir(), "{to}");
        assert!(!world.project().join("src").exists());
        world.run("npm", &["ls", "--all"]).succeeds();
    }
    for (from, to) in [
        (to_a, "target = \"\""),
        ("place = \"node_modules/a\"", "place = \"packages/a\""),
        ("place = \"node_modules/a\"", "place = \"node_modules/leaf\""),
        ("place = \"node_modules/a\"", "place = \"../x/node_modules/a\""),
        (leaf, "place = \"packages/../../node_modules/leaf\""),
        (to_a, "target = \"packages/a\\u001b\""),
    ] {
        let world = clone_of(&author);
        world.file("bolide.lock", &lock.replace(from, to));
        world.bolide(&["install"]).fails(6, &["bolide.lock"]);
        assert!(!world.project().join("node_modules").exists(), "{to}");
    }
}
