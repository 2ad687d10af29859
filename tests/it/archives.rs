//! npm packages that are asked for by their archives, at addresses and in files: installed by digest, locked, judged by npm, undone, and
//! never believed.

mod named;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use super::packages::{self, Npm};
use super::registry::{Registry, hex};
use super::world::World;

const BOX: Npm = Npm { name: "box", version: "1.0.0", dependencies: &[("leaf", "^1.0.0")] };
const FILE: &str = "vendor/box-1.0.0.tgz";
const TYPE: &str = "application/octet-stream";

/// The same version with other needs, as an archive has it that was packed once more.
fn packed_again() -> Vec<u8> {
    packages::npm_tarball(&Npm { dependencies: &[("leaf", "1.0.0")], ..BOX })
}

fn sha512(bytes: &[u8]) -> String {
    hex(&Sha512::digest(bytes))
}

/// A package.json that asks for these.
fn manifest(world: &World, dependencies: &[(&str, &str)]) {
    let table: serde_json::Map<String, Value> =
        dependencies.iter().map(|(name, want)| ((*name).to_owned(), json!(want))).collect();
    let text = json!({ "name": "project", "version": "1.0.0", "dependencies": table });
    world.file("package.json", &format!("{text:#}\n"));
}

fn put(world: &World, path: &str, archive: &[u8]) {
    let path = world.project().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, archive).unwrap();
}

/// A project that asks for an archive beside it.
fn world() -> World {
    let world = World::quick();
    put(&world, FILE, &packages::npm_tarball(&BOX));
    manifest(&world, &[("box", &format!("file:{FILE}"))]);
    world
}

fn listed(world: &World) -> Vec<String> {
    let list = world.bolide(&["list", "--json"]).succeeds().json();
    let packages = list["packages"].as_array().unwrap();
    packages.iter().map(|package| package["purl"].as_str().unwrap().to_owned()).collect()
}

/// npm calls the tree right, down to the last edge; what it knows of it.
#[track_caller]
fn judged(world: &World) -> Value {
    let tree = world.run("npm", &["ls", "--all", "--json"]).succeeds().json();
    assert!(tree["problems"].is_null(), "{tree:#}");
    tree
}

#[test]
fn an_archive_beside_the_project_is_planned_installed_locked_and_undone() {
    let world = world();
    let before = world.tree();
    let plan = world.bolide(&["plan", "--install"]).succeeds();
    for word in ["+ pkg:npm/box@1.0.0", &format!("from file:{FILE}"), "+ pkg:npm/leaf@1.1.0"] {
        assert!(plan.stdout.contains(word), "{word}: {plan:#?}");
    }
    world.bolide(&["install"]).succeeds();
    assert_eq!(listed(&world), ["pkg:npm/box@1.0.0", "pkg:npm/leaf@1.1.0"]);
    assert_eq!(world.run("node_modules/.bin/box", &[]).succeeds().stdout, "1.0.0\n");
    let tree = judged(&world);
    assert!(tree["dependencies"]["box"]["resolved"].as_str().unwrap().ends_with(FILE), "{tree:#}");
    let digest = sha512(&packages::npm_tarball(&BOX));
    let lock = world.read("bolide.lock");
    assert!(
        lock.contains(&digest) && lock.contains(&format!("source = \"file:{FILE}\"")),
        "{lock}"
    );
    assert!(
        !lock.contains(&world.project().display().to_string()),
        "a lock is for any place: {lock}"
    );
    let again = world.bolide(&["install", "--json"]).succeeds().json();
    assert!(again["transaction"].is_null(), "{again}");
    world.bolide(&["install", "--frozen", "--offline"]).succeeds();
    world.bolide(&["verify"]).succeeds();
    let why = world.bolide(&["why", "npm:leaf"]).succeeds();
    assert!(why.stdout.contains("box"), "{why:#?}");
    // npm writes its own description of the tree, which is nobody's edit.
    world.file("node_modules/.package-lock.json", "{}");
    world.bolide(&["verify"]).succeeds();
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn what_is_mended_is_right_for_npm_too() {
    let world = world();
    world.bolide(&["install"]).succeeds();
    std::fs::remove_file(world.project().join("node_modules/leaf/index.js")).unwrap();
    world.bolide(&["verify"]).fails(6, &["leaf/index.js"]);
    world.bolide(&["verify", "--repair"]).succeeds();
    judged(&world);
    // Its bare name means no other one.
    let manifest = world.read("package.json");
    world.registry.npm(&[Npm { version: "9.0.0", ..BOX }]);
    world.bolide(&["add", "npm:box", "npm:leaf@1.0.0", "--yes"]).succeeds();
    assert!(world.read("package.json").contains(FILE) && !manifest.contains("leaf"));
    assert_eq!(listed(&world), ["pkg:npm/box@1.0.0", "pkg:npm/leaf@1.0.0"]);
}

#[test]
fn a_file_that_changes_after_planning_is_refused() {
    let world = world();
    let before = world.tree();
    let plan = world.bolide(&["plan", "--install", "--json"]).succeeds().json();
    let apply = ["apply", plan["digest"].as_str().unwrap(), "--yes"];
    put(&world, FILE, &packed_again());
    world.bolide(&apply).fails(4, &[FILE, "was changed"]);
    std::fs::remove_file(world.project().join(FILE)).unwrap();
    world.bolide(&apply).fails(4, &[FILE, "is gone"]);
    put(&world, FILE, &packages::npm_tarball(&BOX));
    assert_eq!(world.tree(), before, "nothing was changed");
    world.bolide(&apply).succeeds();
    judged(&world);
}

#[test]
fn an_archive_that_was_packed_again_is_taken_when_an_update_says_so() {
    let world = world();
    world.bolide(&["install"]).succeeds();
    let locked = world.read("bolide.lock");
    put(&world, FILE, &packed_again());
    let told = world.bolide(&["install"]).succeeds();
    assert!(told.stdout.contains("bolide update npm:box"), "{told:#?}");
    assert_eq!(world.read("bolide.lock"), locked, "an installation follows the lock");
    // What has to be decided anew does not take it silently either.
    world.bolide(&["add", "npm:tree", "--yes"]).fails(6, &[FILE, "bolide update npm:box"]);
    let plan = world.bolide(&["plan", "--update", "npm:box"]).succeeds();
    assert!(plan.stdout.contains("~ pkg:npm/box@1.0.0"), "{plan:#?}");
    world.bolide(&["update", "npm:box", "--yes"]).succeeds();
    assert!(world.read("bolide.lock").contains(&sha512(&packed_again())));
    assert!(world.read("node_modules/box/package.json").contains("\"leaf\":\"1.0.0\""));
    judged(&world);
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.read("bolide.lock"), locked);
    assert!(world.read("node_modules/box/package.json").contains("^1.0.0"));
    judged(&world);
}

#[test]
fn a_clone_installs_what_was_locked_and_nothing_else() {
    let author = world();
    author.bolide(&["install"]).succeeds();
    let clone = world();
    clone.file("bolide.lock", &author.read("bolide.lock"));
    clone.bolide(&["install", "--frozen"]).succeeds();
    assert_eq!(listed(&clone), listed(&author));
    judged(&clone);
    let other = world();
    other.file("bolide.lock", &author.read("bolide.lock"));
    put(&other, FILE, &packed_again());
    other.bolide(&["install", "--frozen"]).fails(6, &["box-1.0.0.tgz", "not the file"]);
    std::fs::remove_dir_all(other.project().join("vendor")).unwrap();
    other.bolide(&["install", "--frozen"]).fails(1, &["box-1.0.0.tgz", "there is no file"]);
    // A lock sends nobody anywhere that the project does not name.
    let elsewhere = World::quick();
    let lure = Registry::start();
    lure.page("/box.tgz", TYPE, packages::npm_tarball(&BOX));
    elsewhere.file("package.json", &author.read("package.json"));
    let lock = author.read("bolide.lock");
    let source = format!("source = \"{}/box.tgz\"", lure.base());
    elsewhere.file("bolide.lock", &lock.replace(&format!("source = \"file:{FILE}\""), &source));
    elsewhere.bolide(&["install"]).fails(1, &["box-1.0.0.tgz", "there is no file"]);
    assert!(lure.authorizations().is_empty(), "nobody asked there");
}

#[test]
fn an_archive_on_a_server_is_fetched_once_to_learn_its_digest() {
    let (world, other) = (World::quick(), Registry::start());
    let archive = packages::npm_tarball(&BOX);
    other.page("/e/box.tgz", TYPE, archive.clone());
    other.page("/e/plain", TYPE, packages::npm_tarball(&Npm { name: "@s/plain", ..BOX }));
    let (far, plain) = (format!("{}/e/box.tgz", other.base()), format!("{}/e/plain", other.base()));
    // The name that it goes by here is the project's own choice.
    manifest(&world, &[("box", &far), ("other-name", &plain), ("tree", "latest")]);
    world.bolide(&["install"]).succeeds();
    assert_eq!(other.authorizations().len(), 2, "once each");
    let lock = world.read("bolide.lock");
    assert!(lock.contains(&sha512(&archive)), "{lock}");
    assert!(lock.contains("pkg:npm/%40s/plain@1.0.0"), "{lock}");
    assert!(world.read("node_modules/other-name/package.json").contains("@s/plain"));
    manifest(&world, &[("other-name", &plain), ("tree", "latest")]);
    world.bolide(&["install"]).succeeds();
    let tree = judged(&world);
    assert_eq!(tree["dependencies"]["other-name"]["resolved"], plain);
    world.bolide(&["update", "npm:other-name", "--yes"]).succeeds();
    // The registry knows nothing of it, and what is locked is fetched from where the project says, if it is still that.
    let copy = |world: &World| {
        let clone = World::quick();
        for file in ["package.json", "bolide.lock"] {
            clone.file(
                file,
                &world.read(file).replace(&world.registry.base(), &clone.registry.base()),
            );
        }
        clone
    };
    let clone = copy(&world);
    clone.bolide(&["install", "--frozen"]).succeeds();
    assert_eq!(listed(&clone), listed(&world));
    let late = copy(&world);
    other.spoil("/e/plain", |page| page.body = packages::npm_tarball(&BOX));
    late.bolide(&["install", "--frozen"]).fails(6, &["hash"]);
    late.bolide(&["add", "npm:leaf", "--yes"])
        .fails(6, &["not the file", "bolide update npm:@s/plain"]);
    assert!(!late.project().join("node_modules").exists());
    // What is in the store is there without a network; what is not is not.
    std::fs::remove_dir_all(world.project().join("node_modules")).unwrap();
    world.bolide(&["install", "--frozen", "--offline"]).succeeds();
    let far = copy(&world);
    far.bolide(&["install", "--frozen", "--offline"]).fails(7, &["offline"]);
}

#[test]
fn what_is_planned_is_what_is_installed_whatever_the_server_says_then() {
    let (world, other) = (World::quick(), Registry::start());
    other.page("/box.tgz", TYPE, packages::npm_tarball(&BOX));
    manifest(&world, &[("box", &format!("{}/box.tgz", other.base()))]);
    let plan = world.bolide(&["plan", "--install", "--json"]).succeeds().json();
    other.spoil("/box.tgz", |page| page.body = packed_again());
    std::fs::remove_dir_all(world.place("home/cache")).unwrap();
    let apply = ["apply", plan["digest"].as_str().unwrap(), "--yes"];
    world.bolide(&apply).fails(6, &["hash"]);
    assert!(!world.project().join("node_modules").exists());
    other.spoil("/box.tgz", |page| page.body = packages::npm_tarball(&BOX));
    world.bolide(&apply).succeeds();
    judged(&world);
}

#[test]
fn archives_are_named_on_the_command_line_in_workspaces_overrides_and_by_packages() {
    let (world, other) = (world(), Registry::start());
    other.page("/far.tgz", TYPE, packages::npm_tarball(&Npm { name: "far", ..BOX }));
    let far = format!("{}/far.tgz", other.base());
    let configured = format!("@s:registry={}/npm/\n", other.base());
    world.file(".npmrc", &configured);
    let needs: &'static [(&str, &str)] =
        vec![("far", &*String::leak(far.clone())), ("leaf", "^2.0.0")].leak();
    world.registry.npm(&[Npm { name: "near", version: "1.0.0", dependencies: needs }]);
    world.bolide(&["add", "npm:near", &format!("npm:again@./{FILE}"), "--yes"]).succeeds();
    assert!(world.read("package.json").contains(&format!("\"again\": \"file:./{FILE}\"")));
    assert_eq!(
        listed(&world),
        ["box@1.0.0", "box@1.0.0", "far@1.0.0", "leaf@1.1.0", "leaf@2.0.0", "near@1.0.0"]
            .map(|purl| format!("pkg:npm/{purl}"))
    );
    judged(&world);
    // What a package names is in the lock, and is asked of that package again, not of the lock.
    let clone = self::world();
    clone.registry.npm(&[Npm { name: "near", version: "1.0.0", dependencies: needs }]);
    for file in ["package.json", "bolide.lock", ".npmrc"] {
        clone.file(file, &world.read(file));
    }
    clone.bolide(&["install", "--frozen"]).succeeds();
    judged(&clone);
    other.spoil("/far.tgz", |page| page.body = packed_again());
    let late = self::world();
    late.registry.npm(&[Npm { name: "near", version: "1.0.0", dependencies: needs }]);
    for file in ["package.json", "bolide.lock", ".npmrc"] {
        late.file(file, &world.read(file));
    }
    late.bolide(&["install", "--frozen"]).fails(6, &["not the file"]);
    world.bolide(&["remove", "npm:again", "npm:near", "--yes"]).succeeds();
    // An override, and members of a workspace: npm has both from the project's directory.
    let project = World::quick();
    put(&project, FILE, &packages::npm_tarball(&BOX));
    put(
        &project,
        "vendor/leaf.tgz",
        &packages::npm_tarball(&Npm { name: "leaf", version: "1.0.5", dependencies: &[] }),
    );
    project.file(
        "package.json",
        r#"{"name": "p", "version": "1.0.0", "workspaces": ["packages/*"], "dependencies": {"leaf": "2.0.0"},
            "overrides": {"tree": {"leaf": "file:./vendor/leaf.tgz"}}}"#,
    );
    project.file(
        "packages/a/package.json",
        &format!(r#"{{"name": "a", "version": "1.0.0", "dependencies": {{"box": "file:../../{FILE}", "tree": "1.0.0", "leaf": "1"}}}}"#),
    );
    project.bolide(&["install"]).succeeds();
    assert!(project.read("node_modules/tree/node_modules/leaf/package.json").contains("1.0.5"));
    assert!(project.read("packages/a/node_modules/leaf/package.json").contains("1.1.0"));
    judged(&project);
    project.bolide(&["add", "npm:leaf@1.0.0", "--yes"]).succeeds();
    judged(&project);
    project.bolide(&["rollback"]).succeeds();
    judged(&project);
}

#[test]
fn what_an_archive_brings_along_is_known_and_its_scripts_are_not_run() {
    let world = World::quick();
    let package = r#"{"name": "crate", "version": "v1.0.0", "dependencies": {"inner": "1", "leaf": "1"},
        "bundleDependencies": ["inner"], "scripts": {"install": "touch ran"}, "directories": {"bin": "./bin"}}"#;
    let inner = r#"{"name": "inner", "version": "1.0.0", "dependencies": {"@s/deep": "1"}}"#;
    let deep = r#"{"name": "@s/deep", "version": "1.0.0"}"#;
    let archive = packages::tarball(&[
        ("any-name/package.json", package.as_bytes()),
        ("any-name/bin/run", b"#!/bin/sh\necho runs\n"),
        ("any-name/node_modules/inner/package.json", inner.as_bytes()),
        ("any-name/node_modules/@s/deep/package.json", deep.as_bytes()),
        ("any-name/node_modules/bare/index.js", b""),
    ]);
    put(&world, "vendor/crate.tgz", &archive);
    manifest(&world, &[("crate", "file:vendor/crate.tgz")]);
    let plan = world.bolide(&["plan", "--install", "--json"]).succeeds().json();
    assert_eq!(plan["packages"][0]["scripts"], json!(["install"]), "{plan:#}");
    world.bolide(&["install"]).succeeds();
    assert!(!world.project().join("node_modules/crate/ran").exists());
    assert_eq!(world.run("node_modules/.bin/run", &[]).succeeds().stdout, "runs\n");
    let ls = world.run("npm", &["ls", "--all", "--json"]).json();
    let of_crate = &ls["dependencies"]["crate"];
    assert!(of_crate["resolved"].as_str().unwrap().ends_with("vendor/crate.tgz"), "{ls:#}");
    assert!(of_crate["invalid"].is_null(), "{ls:#}");
    assert_eq!(of_crate["dependencies"]["inner"]["dependencies"]["@s/deep"]["version"], "1.0.0");
}

#[test]
fn what_npm_locked_of_archives_is_what_is_taken() {
    let world = world();
    let other = Registry::start();
    other.page("/far.tgz", TYPE, packages::npm_tarball(&Npm { name: "far", ..BOX }));
    let far = format!("{}/far.tgz", other.base());
    manifest(&world, &[("box", &format!("file:{FILE}")), ("far", &far)]);
    world.run("npm", &["install", "--ignore-scripts", "--no-audit", "--no-fund"]).succeeds();
    let npm = std::fs::read_to_string(world.project().join("package-lock.json")).unwrap();
    std::fs::remove_dir_all(world.project().join("node_modules")).unwrap();
    let digest = |bytes: &[u8]| format!("sha512-{}", STANDARD.encode(Sha512::digest(bytes)));
    let right = digest(&packages::npm_tarball(&BOX));
    assert!(npm.contains(&right), "{npm}");
    world.file("package-lock.json", &npm.replace(&right, &digest(&packed_again())));
    world.bolide(&["install"]).fails(6, &[FILE, "not the file", "bolide update npm:box"]);
    world.file("package-lock.json", &npm);
    world.bolide(&["install"]).succeeds();
    judged(&world);
    let ci = world.run("npm", &["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    ci.succeeds();
    assert_eq!(listed(&world).len(), 3);
}

#[test]
fn a_token_stays_with_its_host() {
    let (world, other) = (World::quick(), Registry::start());
    std::fs::write(
        world.place("home/.npmrc"),
        format!("//{}/npm/:_authToken=hush\n", world.registry.address),
    )
    .unwrap();
    let archive = packages::npm_tarball(&BOX);
    other.page("/box.tgz", TYPE, archive.clone());
    let led = format!("{}/box.tgz", other.base());
    world.registry.page("/npm/led.tgz", "text/plain", led.clone().into_bytes());
    world.registry.spoil("/npm/led.tgz", |page| page.status = 302);
    manifest(&world, &[("box", &format!("{}/npm/led.tgz", world.registry.base()))]);
    world.bolide(&["install"]).succeeds();
    assert!(world.registry.authorizations().contains(&Some("Bearer hush".to_owned())));
    assert_eq!(other.authorizations(), [None], "neither a redirect");
    manifest(&world, &[("box", &led)]);
    world.bolide(&["update", "--yes"]).succeeds();
    assert!(other.authorizations().iter().all(Option::is_none), "nor an address");
    judged(&world);
}

#[test]
fn a_package_that_names_an_archive_is_as_old_as_nobody_knows() {
    let (world, other) = (World::quick(), Registry::start());
    other.page(
        "/far.tgz",
        TYPE,
        packages::npm_tarball(&Npm { name: "far", dependencies: &[], ..BOX }),
    );
    let far = format!("{}/far.tgz", other.base());
    let needs: &'static [(&str, &str)] = vec![("far", &*String::leak(far.clone()))].leak();
    put(&world, FILE, &packages::npm_tarball(&Npm { dependencies: needs, ..BOX }));
    manifest(&world, &[("box", &format!("file:{FILE}"))]);
    let aged = ["install", "--minimum-age", "3d"];
    world.bolide(&aged).fails(2, &["`far`", &far, "without encryption"]);
    world.file(".npmrc", &format!("@s:registry={}/npm/\n", other.base()));
    world.bolide(&aged).fails(5, &["how old", "--allow-new npm:far"]);
    let others = ["plan", "--install", "--minimum-age", "3d", "--allow-new", "npm:box"];
    world.bolide(&others).fails(5, &["how old", "--allow-new npm:far"]);
    assert!(other.authorizations().is_empty(), "nobody asked there");
    let plan =
        world.bolide(&["plan", "--install", "--minimum-age", "3d", "--allow-new", "npm:far"]);
    assert!(plan.stdout.contains("box@1.0.0") && plan.code == 0, "{plan:#?}");
    manifest(&world, &[("box", &format!("file:{FILE}")), ("far", &far)]);
    world.bolide(&aged).succeeds();
}

#[test]
fn what_is_no_archive_of_a_package_is_refused() {
    let world = World::quick();
    let project = world.project();
    let put = |name: &str, bytes: &[u8]| put(&world, &format!("vendor/{name}"), bytes);
    let package = |text: &str| packages::tarball(&[("package/package.json", text.as_bytes())]);
    put("bare.tgz", &packages::tarball(&[("package/index.js", b"")]));
    put("nameless.tgz", &package(r#"{"version": "1.0.0"}"#));
    put("odd.tgz", &package(r#"{"name": "../x", "version": "1.0.0"}"#));
    put("unversioned.tgz", &package(r#"{"name": "x", "version": "new"}"#));
    put("broken.tgz", &package("{"));
    put("text.tgz", b"no archive");
    put(
        "needs.tgz",
        &package(
            r#"{"name": "x", "version": "1.0.0", "dependencies": {"../../y": "http://127.0.0.1:1/y.tgz"}}"#,
        ),
    );
    put(
        "reads.tgz",
        &package(
            r#"{"name": "x", "version": "1.0.0", "dependencies": {"y": "file:../../../secret.tgz"}}"#,
        ),
    );
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..13].copy_from_slice(b"package/../..");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut climbing = tar::Builder::new(Vec::new());
    climbing.append(&header, std::io::empty()).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, &climbing.into_inner().unwrap()).unwrap();
    put("climbing.tgz", &gz.finish().unwrap());
    std::os::unix::fs::symlink("/dev/zero", project.join("vendor/zero.tgz")).unwrap();
    std::fs::write(world.place("secret.tgz"), "secret words").unwrap();
    std::os::unix::fs::symlink(world.place("secret.tgz"), project.join("vendor/out.tgz")).unwrap();
    std::fs::create_dir(project.join("vendor/folder.tgz")).unwrap();
    let large = std::fs::File::create(project.join("vendor/large.tgz")).unwrap();
    large.set_len(64 << 30).unwrap();
    for (name, code, word) in [
        ("bare", 6, "package.json"),
        ("nameless", 6, "with a name"),
        ("odd", 6, "not a name"),
        ("unversioned", 6, "version is none"),
        ("broken", 6, "cannot be read"),
        ("text", 6, "text.tgz"),
        ("needs", 2, "not a name"),
        ("reads", 2, "a path on this machine"),
        ("climbing", 6, "climbing.tgz"),
        ("zero", 3, "not a file"),
        ("out", 6, "out.tgz"),
        ("folder", 3, "not a file"),
        ("large", 3, "more than"),
        ("gone", 1, "there is no file"),
    ] {
        manifest(&world, &[("x", &format!("file:vendor/{name}.tgz"))]);
        let outcome = world.bolide(&["install"]);
        outcome.fails(code, &[word]);
        assert!(!format!("{outcome:?}").contains("secret words"), "{outcome:?}");
    }
    for (want, code, word) in [
        ("https://me:hush@h.invalid/x.tgz", 2, "npmrc"),
        ("npm:x@https://h.invalid/x.tgz", 2, "an alias of what no registry has"),
        ("npm:x@https://h.invalid/x.tgz?hush", 2, "a query or a fragment"),
        ("https://h.invalid/x.tgz?hush", 2, "npm pack"),
        ("https://h.invalid/x.tgz#hush", 2, "a query or a fragment"),
        ("~/x.tgz", 2, "home"),
        ("file:node_modules/x.tgz", 2, "installed package"),
        ("git+https://me:hush@h.invalid/x.git?hush", 2, "npm pack"),
        ("user/project", 2, "npm pack"),
    ] {
        manifest(&world, &[("x", want)]);
        let outcome = world.bolide(&["install"]);
        outcome.fails(code, &[word]);
        assert!(!format!("{outcome:?}").contains("hush"), "{outcome:?}");
    }
    for spec in
        ["npm:x@https://h.invalid/x.tgz?token=hush", "npm:x@https://me:hush@h.invalid/x.tgz"]
    {
        let outcome = world.bolide(&["add", spec, "--yes"]);
        outcome.fails(2, &["x"]);
        assert!(!format!("{outcome:?}").contains("hush"), "{outcome:?}");
    }
    for made in ["node_modules", "bolide.lock"] {
        assert!(!project.join(made).exists(), "{made}");
    }
}
