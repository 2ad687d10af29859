//! Crates of several registries in one project: a private one that wants a token beside the default one, judged by cargo itself.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tame_index::index::git::CRATES_IO_INDEX;

use super::packages;
use super::registry::{Registry, hex};
use super::world::World;

/// The token of the private registry.
const TOKEN: &str = "Bearer hush-hush";

/// A crate of the private registry: what it needs is (name, requirement, index of its registry where it is not this one).
struct Private<'a> {
    name: &'a str,
    version: &'a str,
    needs: &'a [(&'a str, &'a str, Option<&'a str>)],
}

/// A private registry beside the world's, configured as `bakery` in the person's own files, with a token.
fn bakery(world: &World) -> Registry {
    let bakery = Registry::start();
    let about =
        json!({"dl": format!("{}/crates", bakery.base()), "auth-required": true}).to_string();
    bakery.page("/index/config.json", "application/json", about.into_bytes());
    bakery.demand(TOKEN);
    let home = world.place("cargo");
    let mut configuration = std::fs::read_to_string(home.join("config.toml")).unwrap();
    configuration += &format!(
        "\n[registry]\nglobal-credential-providers = [\"cargo:token\"]\n\n[registries.bakery]\nindex = \"{}\"\n",
        index(&bakery)
    );
    std::fs::write(home.join("config.toml"), configuration).unwrap();
    let credentials = format!("[registries.bakery]\ntoken = \"{TOKEN}\"\n");
    std::fs::write(home.join("credentials.toml"), credentials).unwrap();
    bakery
}

fn index(registry: &Registry) -> String {
    format!("sparse+{}/index/", registry.base())
}

/// Publishes all versions of one crate, as `cargo publish` would have it.
fn publish(registry: &Registry, versions: &[Private<'_>]) {
    let name = versions[0].name;
    let mut lines = String::new();
    for Private { version, needs, .. } in versions {
        let (mut manifest, mut listed) = (String::new(), Vec::new());
        let own = index(registry);
        for (need, requirement, other) in *needs {
            let place = other.unwrap_or(&own);
            manifest += &match place == CRATES_IO_INDEX {
                true => format!("{need} = {requirement:?}\n"),
                false => format!(
                    "{need} = {{ version = {requirement:?}, registry-index = {place:?} }}\n"
                ),
            };
            listed.push(json!({
                "name": need, "req": requirement, "features": [], "optional": false,
                "default_features": true, "target": null, "kind": "normal", "registry": other,
            }));
        }
        let manifest = format!(
            "[package]\nname = {name:?}\nversion = {version:?}\nedition = \"2021\"\n\n[dependencies]\n{manifest}"
        );
        let code = format!("pub const VERSION: &str = {version:?};\n");
        let archive = packages::tarball(&[
            (&format!("{name}-{version}/Cargo.toml"), manifest.as_bytes()),
            (&format!("{name}-{version}/src/lib.rs"), code.as_bytes()),
        ]);
        let digest = hex(&Sha256::digest(&archive));
        let entry = json!({
            "name": name, "vers": version, "deps": listed, "cksum": digest, "features": {},
            "yanked": false, "links": null,
        });
        lines += &format!("{entry}\n");
        let path = format!("/crates/{name}/{version}/download");
        registry.page(&path, "application/octet-stream", archive);
    }
    let place = format!("/index/{}/{}/{name}", &name[..2], &name[2..4]);
    registry.page(&place, "text/plain", lines.into_bytes());
}

/// `loaf` of the bakery needs `yeast` of the bakery and `grain` of the public registry; `grain` of the bakery is another crate.
fn stocked(world: &World) -> Registry {
    let bakery = bakery(world);
    let public = Some(CRATES_IO_INDEX);
    let yeast = |version| Private { name: "yeast", version, needs: &[] };
    publish(&bakery, &[yeast("1.0.0"), yeast("1.2.0")]);
    publish(&bakery, &[Private { name: "grain", version: "0.1.5", needs: &[] }]);
    let needs = [("yeast", "^1", None), ("grain", "^0.1", public)];
    publish(&bakery, &[Private { name: "loaf", version: "1.0.0", needs: &needs }]);
    bakery
}

/// Compares the lock with the one that cargo makes anew.
fn locks_as_cargo_does(world: &World) {
    let ours = world.read("Cargo.lock");
    std::fs::remove_file(world.project().join("Cargo.lock")).unwrap();
    world.run("cargo", &["generate-lockfile"]).succeeds();
    assert_eq!(ours, world.read("Cargo.lock"));
}

/// What the project's program prints, built without a network from what is locked.
fn output_of(world: &World) -> String {
    let target = world.place("target").display().to_string();
    let arguments = ["run", "--quiet", "--offline", "--locked", "--target-dir", &target];
    world.run("cargo", &arguments).succeeds().stdout
}

const MANIFEST: &str = "[package]\nname = \"demo\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nbread = \"1\"\n\
    loaf = { version = \"1\", registry = \"bakery\" }\nown-grain = { version = \"0.1\", registry = \"bakery\", package = \"grain\" }\n";
const MAIN: &str =
    "fn main() { print!(\"{} {} {}\", bread::VERSION, loaf::VERSION, own_grain::VERSION); }\n";

#[test]
fn crates_of_two_registries_are_one_project_as_cargo_has_it() {
    let world = World::new();
    let bakery = stocked(&world);
    world.file("Cargo.toml", MANIFEST);
    world.file("src/main.rs", MAIN);
    let before = world.tree();
    let plan = world.bolide(&["plan", "--install", "--json"]).succeeds().json();
    let source = |name: &str| -> Vec<String> {
        let packages = plan["packages"].as_array().unwrap().iter();
        let named = packages.filter(|it| it["purl"].as_str().unwrap().contains(name));
        named.map(|it| it["source"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(source("loaf"), [index(&bakery)]);
    assert_eq!(source("bread"), ["cargo"]);
    assert_eq!(source("grain"), ["cargo".to_owned(), index(&bakery)]);
    let shown = world.bolide(&["plan", "--install"]).succeeds();
    let told = format!("+ pkg:cargo/loaf@1.0.0  from {}\n", index(&bakery));
    assert!(shown.stdout.contains(&told), "{}", shown.stdout);
    let installed = world.bolide(&["install", "--yes"]).succeeds();
    let ours = world.read("Cargo.lock");
    assert!(ours.contains(&format!("source = \"{}\"", index(&bakery))), "{ours}");
    // Two crates of one name and version are two, in our lock and in cargo's.
    let lock = world.read("bolide.lock");
    assert_eq!(lock.matches("purl = \"pkg:cargo/grain@0.1.5\"").count(), 2, "{lock}");
    assert_eq!(output_of(&world), "1.0.0 1.0.0 0.1.5");
    locks_as_cargo_does(&world);
    world.bolide(&["install", "--frozen", "--yes"]).succeeds();
    // The token goes to its registry, and nowhere else.
    assert!(bakery.authorizations().iter().flatten().all(|seen| seen == TOKEN));
    assert!(bakery.authorizations().iter().any(Option::is_some));
    assert!(world.registry.authorizations().iter().all(Option::is_none));
    let log = world.place("log");
    world.bolide(&["history", "--export", &log.display().to_string()]).succeeds();
    let said = format!("{plan} {} {} {}", installed.stdout, installed.stderr, lock + &ours);
    for text in [said, std::fs::read_to_string(log).unwrap()] {
        assert!(!text.contains("hush"), "{text}");
    }
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn what_cargo_has_of_another_registry_is_verified_and_mended() {
    let world = World::new();
    let bakery = stocked(&world);
    world.file("Cargo.toml", MANIFEST);
    world.file("src/main.rs", MAIN);
    world.bolide(&["install", "--yes"]).succeeds();
    world.bolide(&["verify"]).succeeds();
    let cache = world.place("cargo").join("registry/cache");
    let parts = std::fs::read_dir(cache).unwrap().flatten();
    let loaf = parts.map(|it| it.path().join("loaf-1.0.0.crate")).find(|path| path.is_file());
    let loaf = loaf.expect("a crate of the bakery");
    let whole = std::fs::read(&loaf).unwrap();
    std::fs::write(&loaf, b"spoilt").unwrap();
    world.bolide(&["verify"]).fails(6, &["loaf-1.0.0.crate"]);
    world.bolide(&["verify", "--repair", "--force"]).succeeds();
    assert_eq!(std::fs::read(&loaf).unwrap(), whole);
    let yeast = |version| Private { name: "yeast", version, needs: &[] };
    publish(&bakery, &[yeast("1.0.0"), yeast("1.2.0"), yeast("1.3.0")]);
    let newer = Private { name: "loaf", version: "1.1.0", needs: &[("yeast", "=1.0.0", None)] };
    let old = Private { name: "loaf", version: "1.0.0", needs: &[] };
    publish(&bakery, &[old, newer]);
    // Fresh caches, for what is known of an index counts for a while.
    std::fs::remove_dir_all(world.place("home/cache")).unwrap();
    let outdated = world.bolide(&["outdated", "--json"]).succeeds().json();
    let loaf = outdated["packages"].as_array().unwrap().iter();
    let loaf = loaf.map(|it| (&it["purl"], &it["newest"])).collect::<Vec<_>>();
    assert_eq!(loaf, [(&json!("pkg:cargo/loaf"), &json!("1.1.0"))]);
    world.bolide(&["update", "cargo:loaf", "--yes"]).succeeds();
    assert!(world.read("Cargo.lock").contains("name = \"yeast\"\nversion = \"1.0.0\""));
}

#[test]
fn a_project_can_name_a_registry_and_gets_no_token_for_it() {
    let world = World::new();
    let bakery = stocked(&world);
    let thief = Registry::start();
    publish(&thief, &[Private { name: "loaf", version: "1.0.0", needs: &[] }]);
    world.file("Cargo.toml", MANIFEST);
    world.file("src/main.rs", MAIN);
    let own = format!("[registries.bakery]\nindex = \"{}\"\n", index(&thief));
    world.file(".cargo/config.toml", &own);
    publish(&thief, &[Private { name: "grain", version: "0.1.5", needs: &[] }]);
    let plan = world.bolide(&["plan", "--install", "--json"]).succeeds().json();
    assert!(thief.authorizations().iter().all(Option::is_none));
    assert!(!thief.authorizations().is_empty() && bakery.authorizations().is_empty());
    let warned = plan["warnings"].as_array().unwrap().iter().filter_map(Value::as_str);
    let warned: Vec<&str> = warned.filter(|it| it.contains("token of the registry")).collect();
    assert!(warned[0].contains("CARGO_REGISTRIES_BAKERY_INDEX"), "{warned:?}");
    assert!(!warned[0].contains("hush"));
    // The same index as in the person's own files is theirs, whoever else names it.
    world.file(".cargo/config.toml", &own.replace(&index(&thief), &index(&bakery)));
    world.bolide(&["plan", "--install"]).succeeds();
}

#[test]
fn an_index_entry_sends_nobody_to_an_address_that_is_not_configured() {
    let world = World::new();
    let bakery = bakery(&world);
    let inner = Registry::start();
    publish(&inner, &[Private { name: "bait", version: "1.0.0", needs: &[] }]);
    let place = index(&inner);
    let needs = [("bait", "^1", Some(place.as_str()))];
    let old = Private { name: "loaf", version: "1.0.0", needs: &[] };
    let new = || Private { name: "loaf", version: "1.1.0", needs: &needs };
    publish(&bakery, &[new()]);
    let manifest = MANIFEST.split("own-grain").next().unwrap();
    world.file("Cargo.toml", manifest);
    world.file("src/main.rs", "fn main() {}\n");
    let told = format!("{}/index/", inner.base());
    world.bolide(&["plan", "--install"]).fails(5, &["bait", &told, "none of this project's"]);
    publish(&bakery, &[old, new()]);
    std::fs::remove_dir_all(world.place("home/cache")).unwrap();
    let plan = world.bolide(&["plan", "--install"]).succeeds();
    assert!(plan.stdout.contains("loaf@1.0.0"), "{}", plan.stdout);
    assert!(inner.authorizations().is_empty(), "nobody asks there");
}

#[test]
fn a_registry_that_nobody_defines_or_that_cannot_be_read_is_named() {
    let world = World::new();
    world.file("Cargo.toml", MANIFEST);
    world.file("src/main.rs", MAIN);
    world.bolide(&["plan", "--install"]).fails(1, &["`bakery`", "[registries.bakery]"]);
    let git = "[registries.bakery]\nindex = \"https://git.example.invalid/index\"\n";
    world.file(".cargo/config.toml", git);
    world.bolide(&["plan", "--install"]).fails(1, &["git index"]);
    let secret = "[registries.bakery]\nindex = \"sparse+https://me:hush@r.example.invalid/\"\n";
    world.file(".cargo/config.toml", secret);
    let refused = world.bolide(&["plan", "--install"]);
    refused.fails(2, &["password", "cargo login --registry bakery"]);
    assert!(!refused.stderr.contains("hush"), "{}", refused.stderr);
}

/// A package in a directory of the project whose `VERSION` is `own`.
fn package(world: &World, directory: &str, name: &str, version: &str, needs: &str) {
    let manifest = format!(
        "[package]\nname = {name:?}\nversion = {version:?}\nedition = \"2021\"\n\n[dependencies]\n{needs}"
    );
    world.file(&format!("{directory}/Cargo.toml"), &manifest);
    world.file(&format!("{directory}/src/lib.rs"), "pub const VERSION: &str = \"own\";\n");
}

const PATCHED: &str = "[package]\nname = \"demo\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n\
    bread = \"1\"\ngrain = \"0.1\"\n\n[patch.crates-io]\ngrain = { path = \"near/grain\" }\n";
const PATCHED_MAIN: &str = "fn main() { print!(\"{} {}\", bread::VERSION, grain::VERSION); }\n";

#[test]
fn a_package_of_the_project_stands_for_a_crate_as_cargo_has_it() {
    let world = World::new();
    world.registry.cargo(&[packages::RustCrate {
        name: "salt",
        version: "1.0.0",
        dependencies: &[],
    }]);
    world.file("Cargo.toml", PATCHED);
    world.file("src/main.rs", PATCHED_MAIN);
    // What is locked already gives way, too.
    world.file("Cargo.toml", PATCHED.split("\n[patch").next().unwrap());
    world.bolide(&["install", "--yes"]).succeeds();
    assert_eq!(output_of(&world), "1.0.0 0.1.5");
    world.file("Cargo.toml", PATCHED);
    package(&world, "near/grain", "grain", "0.1.3", "salt = \"1\"\n");
    let before = world.tree();
    let plan = world.bolide(&["plan", "--install", "--json"]).succeeds().json();
    let purls = plan["packages"].as_array().unwrap().iter().map(|it| it["purl"].as_str().unwrap());
    assert_eq!(purls.collect::<Vec<_>>(), ["pkg:cargo/bread@1.0.0", "pkg:cargo/salt@1.0.0"]);
    assert!(plan["warnings"].to_string().contains("`grain` 0.1.3 is taken from `near/grain`"));
    // Its manifest is part of what the plan was made from.
    let digest = plan["digest"].as_str().unwrap();
    package(&world, "near/grain", "grain", "0.1.4", "salt = \"1\"\n");
    world.bolide(&["apply", digest, "--yes"]).fails(4, &["near/grain/Cargo.toml"]);
    package(&world, "near/grain", "grain", "0.1.3", "salt = \"1\"\n");
    world.bolide(&["install", "--yes"]).succeeds();
    assert_eq!(output_of(&world), "1.0.0 own");
    locks_as_cargo_does(&world);
    world.bolide(&["verify"]).succeeds();
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn what_patch_names_and_nothing_uses_stands_in_the_lock_and_in_a_warning() {
    let world = World::new();
    world.file("Cargo.toml", PATCHED);
    world.file("src/main.rs", PATCHED_MAIN);
    package(&world, "near/grain", "grain", "0.3.0", "");
    let done = world.bolide(&["install", "--yes", "--json"]).succeeds();
    assert!(
        world
            .read("Cargo.lock")
            .ends_with("\n[[patch.unused]]\nname = \"grain\"\nversion = \"0.3.0\"\n")
    );
    locks_as_cargo_does(&world);
    assert_eq!(output_of(&world), "1.0.0 0.1.5");
    let plan = world.bolide(&["plan", "--install"]).succeeds();
    assert!((plan.stdout + &plan.stderr + &done.stdout).contains("which nothing uses"));
}

#[test]
fn a_member_may_stand_for_a_crate_and_for_one_of_a_private_registry() {
    let world = World::new();
    let _bakery = stocked(&world);
    let root = "[workspace]\nmembers = [\"crates/*\"]\nresolver = \"2\"\n\n[patch.crates-io]\ngrain = { path = \"crates/grain\" }\n\n\
        [patch.bakery]\nyeast = { path = \"near/yeast\" }\n\n[workspace.dependencies]\nloaf = { version = \"1\", registry = \"bakery\" }\n";
    world.file("Cargo.toml", &root.replace("[workspace]\n", "[workspace]\nexclude = [\"near\"]\n"));
    package(&world, "crates/grain", "grain", "0.1.9", "");
    package(&world, "near/yeast", "yeast", "1.1.0", "");
    package(&world, "crates/demo", "demo", "0.1.0", "loaf = { workspace = true }\nbread = \"1\"\n");
    world.bolide(&["install", "--yes"]).succeeds();
    locks_as_cargo_does(&world);
    let lock = world.read("Cargo.lock");
    assert_eq!(lock.matches("name = \"grain\"").count(), 1, "{lock}");
    assert!(lock.ends_with("name = \"yeast\"\nversion = \"1.1.0\"\n"), "{lock}");
}

#[test]
fn what_cannot_stand_for_a_crate_is_named() {
    let world = World::new();
    world.file("Cargo.toml", PATCHED);
    world.file("src/main.rs", PATCHED_MAIN);
    world.bolide(&["plan", "--install"]).fails(1, &["near/grain/Cargo.toml"]);
    package(&world, "near/grain", "chaff", "0.1.3", "");
    world.bolide(&["plan", "--install"]).fails(2, &["`grain`", "`near/grain`", "`chaff`"]);
    package(&world, "near/grain", "grain", "0.1.3", "husk = { path = \"../husk\" }\n");
    package(&world, "near/husk", "husk", "0.1.0", "");
    world.bolide(&["plan", "--install"]).fails(2, &["near/grain", "`husk`", "by path"]);
    world.file("Cargo.toml", &PATCHED.replace("near/grain", "../grain"));
    world.bolide(&["plan", "--install"]).fails(1, &["outside of the project"]);
    let away = PATCHED.replace("patch.crates-io", "patch.nowhere");
    package(&world, "near/grain", "grain", "0.1.3", "");
    world.file("Cargo.toml", &away);
    world.bolide(&["plan", "--install"]).fails(1, &["`nowhere`"]);
}

/// A project whose crates are vendored by cargo itself, configured as it advises.
fn vendored(world: &World) {
    world.file("Cargo.toml", PATCHED.split("\n[patch").next().unwrap());
    world.file("src/main.rs", PATCHED_MAIN);
    let arguments = ["vendor", "--quiet", "--respect-source-config", "near/crates"];
    world.run("cargo", &arguments).succeeds();
    let configuration = "[source.crates-io]\nreplace-with = \"near\"\n\n[source.near]\ndirectory = \"near/crates\"\n";
    world.file(".cargo/config.toml", configuration);
    // From now on nobody needs a registry.
    std::fs::remove_file(world.place("cargo").join("config.toml")).unwrap();
    std::fs::remove_dir_all(world.place("cargo").join("registry")).unwrap();
}

#[test]
fn what_cargo_vendored_stands_for_the_registry() {
    let world = World::new();
    vendored(&world);
    let asked = world.registry.authorizations().len();
    std::fs::remove_file(world.project().join("Cargo.lock")).unwrap();
    world.bolide(&["install", "--yes", "--offline"]).succeeds();
    locks_as_cargo_does(&world);
    assert_eq!(output_of(&world), "1.0.0 0.1.5");
    world.bolide(&["verify"]).succeeds();
    // Only what is there can be had.
    world.bolide(&["add", "cargo:grain@0.2", "--yes"]).fails(5, &["grain"]);
    world.bolide(&["add", "cargo:salt", "--yes"]).fails(1, &["`salt`", "cargo vendor"]);
    let code = "near/crates/grain/src/lib.rs";
    let whole = world.read(code);
    world.file(code, "pub const VERSION: &str = \"evil\";\n");
    world.bolide(&["verify"]).fails(6, &["grain/src/lib.rs"]);
    let before = world.tree();
    world.bolide(&["install", "--yes"]).fails(6, &["grain/src/lib.rs", "checksum"]);
    assert_eq!(world.tree(), before);
    world.file(code, &whole);
    world.bolide(&["install", "--yes"]).succeeds();
    assert_eq!(world.registry.authorizations().len(), asked, "nobody was asked");
}

#[test]
fn a_local_registry_stands_for_the_registry() {
    let world = World::new();
    world.file("Cargo.toml", PATCHED.split("\n[patch").next().unwrap());
    world.file("src/main.rs", PATCHED_MAIN);
    for (name, versions) in [("grain", &["0.1.0", "0.1.5", "0.2.0"][..]), ("bread", &["1.0.0"])] {
        let place = format!("{}/{}/{name}", &name[..2], &name[2..4]);
        let entry = world.registry.pages_under(&format!("/index/{place}")).remove(0);
        world.file(&format!("near/registry/index/{place}"), &String::from_utf8(entry).unwrap());
        for version in versions {
            let path = format!("/crates/{name}/{version}/download");
            let archive = world.registry.pages_under(&path).remove(0);
            let file = world.project().join(format!("near/registry/{name}-{version}.crate"));
            std::fs::write(file, archive).unwrap();
        }
    }
    let configuration = "[source.crates-io]\nreplace-with = \"near\"\n\n[source.near]\nlocal-registry = \"near/registry\"\n";
    world.file(".cargo/config.toml", configuration);
    let asked = world.registry.authorizations().len();
    world.bolide(&["install", "--yes"]).succeeds();
    locks_as_cargo_does(&world);
    assert_eq!(output_of(&world), "1.0.0 0.1.5");
    world.bolide(&["verify"]).succeeds();
    world.file("near/registry/grain-0.1.5.crate", "spoilt");
    world.bolide(&["verify"]).fails(6, &["grain-0.1.5.crate"]);
    assert_eq!(world.registry.authorizations().len(), asked, "nobody was asked");
}

#[test]
fn a_vendored_tree_that_lies_is_refused() {
    let world = World::new();
    vendored(&world);
    let list = "near/crates/grain/.cargo-checksum.json";
    let whole = world.read(list);
    let mut hostile: Value = serde_json::from_str(&whole).unwrap();
    hostile["files"]["../../../secret"] = json!("0".repeat(64));
    world.file(list, &hostile.to_string());
    world.bolide(&["install", "--yes"]).fails(6, &["../../../secret"]);
    world.file(list, &whole.replace("\"package\":\"", "\"package\":\"x"));
    world.bolide(&["install", "--yes"]).fails(6, &[".cargo-checksum.json", "SHA-256"]);
    world.file(list, "{");
    world.bolide(&["install", "--yes"]).fails(6, &[".cargo-checksum.json"]);
    // Another digest than the lock's is another crate.
    let mut other: Value = serde_json::from_str(&whole).unwrap();
    other["package"] = json!("ab".repeat(32));
    world.file(list, &other.to_string());
    world.bolide(&["install", "--yes"]).fails(6, &["Cargo.lock", "grain"]);
    let bakery = "[registries.bakery]\nindex = \"sparse+http://127.0.0.1:1/index/\"\n";
    let configured = world.read(".cargo/config.toml");
    world.file(".cargo/config.toml", &(configured + bakery));
    world.file("Cargo.toml", MANIFEST);
    world.bolide(&["plan", "--install"]).fails(2, &["near/crates", "stands for the registry"]);
}
