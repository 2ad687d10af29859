//! Where archives may be named and by what: addresses that are refused, paths that are not, and what neither a lock nor a package of others
//! may make of them.

use serde_json::json;

use super::{BOX, TYPE, judged, listed, manifest, put};
use crate::packages::{self, Npm};
use crate::registry::Registry;
use crate::world::World;

#[test]
fn an_address_with_a_query_is_refused_wherever_it_stands_and_nobody_asks_there() {
    let (world, other) = (World::quick(), Registry::start());
    let mine = packages::npm_tarball(&Npm { name: "mine", dependencies: &[], ..BOX });
    let strangers = packages::npm_tarball(&Npm { name: "stranger", dependencies: &[], ..BOX });
    other.page("/dl?pkg=mine", TYPE, mine);
    other.page("/dl?pkg=stranger", TYPE, strangers);
    let address = |name: &str| format!("{}/dl?pkg={name}", other.base());
    manifest(&world, &[("mine", &address("mine"))]);
    let refused = world.bolide(&["install"]);
    refused.fails(2, &["`mine`", "a query or a fragment", "npm pack", "file:NAME.tgz"]);
    assert!(!format!("{refused:?}").contains("pkg=mine"), "{refused:?}");
    let needs: &'static [(&str, &str)] =
        vec![("stranger", &*String::leak(address("stranger")))].leak();
    world.registry.npm(&[Npm { name: "near", version: "1.0.0", dependencies: needs }]);
    manifest(&world, &[("near", "1.0.0")]);
    let refused = world.bolide(&["install"]);
    refused.fails(2, &["near", "`stranger`", "a query or a fragment", "overrides"]);
    world.file(
        "package.json",
        &json!({ "name": "project", "version": "1.0.0", "dependencies": { "tree": "1.0.0" },
            "overrides": { "leaf": address("mine") } })
        .to_string(),
    );
    world.bolide(&["install"]).fails(2, &["`leaf`", "a query or a fragment"]);
    assert!(other.authorizations().is_empty(), "nobody asked there");
    for made in ["node_modules", "bolide.lock"] {
        assert!(!world.project().join(made).exists(), "{made}");
    }
}

#[test]
fn a_path_may_have_what_would_be_more_behind_an_address() {
    let world = World::quick();
    let named = ["vendor/a?b.tgz", "vendor/a#b.tgz", "vendor/a%3Fb.tgz"];
    let names = ["one", "two", "three"];
    for (path, name) in named.iter().zip(names) {
        put(&world, path, &packages::npm_tarball(&Npm { name, dependencies: &[], ..BOX }));
    }
    let wants = named.map(|path| format!("file:{path}"));
    let wanted: Vec<(&str, &str)> =
        names.into_iter().zip(wants.iter().map(String::as_str)).collect();
    manifest(&world, &wanted);
    world.bolide(&["install"]).succeeds();
    assert_eq!(listed(&world), ["one", "three", "two"].map(|it| format!("pkg:npm/{it}@1.0.0")));
    let (lock, hidden) = (world.read("bolide.lock"), world.read("node_modules/.package-lock.json"));
    for want in &wants {
        assert!(lock.contains(&format!("source = \"{want}\"")), "{want}: {lock}");
        assert!(hidden.contains(&format!("\"resolved\": \"{want}\"")), "{want}: {hidden}");
    }
    judged(&world);
    world.bolide(&["install", "--frozen", "--offline"]).succeeds();
}

#[test]
fn a_lock_puts_no_other_package_where_the_project_names_one() {
    let (author, other) = (World::quick(), Registry::start());
    let good = Npm { name: "good", version: "7.0.0", dependencies: &[] };
    other.page("/good.tgz", TYPE, packages::npm_tarball(&good));
    let address = format!("{}/good.tgz", other.base());
    // What a lock says of leaf, where good is asked for.
    manifest(&author, &[("good", "npm:leaf@1.0.0")]);
    author.bolide(&["install"]).succeeds();
    let lock = author.read("bolide.lock");
    for want in [address.as_str(), "^7.0.0", "^1.0.0", "npm:good@7.0.0"] {
        let world = World::quick();
        let of_registry = Npm { version: "1.0.0", ..good };
        world.registry.npm(&[good, of_registry]);
        manifest(&world, &[("good", want)]);
        let planted = lock.replace("good@npm:leaf@1.0.0", &format!("good@{want}"));
        assert_ne!(planted, lock);
        world.file("bolide.lock", &planted);
        world.bolide(&["install", "--frozen"]).fails(4, &["disagree", "leaf"]);
        assert!(!world.project().join("node_modules").exists());
        world.bolide(&["install"]).succeeds();
        let version = if want == "^1.0.0" { "1.0.0" } else { "7.0.0" };
        assert_eq!(listed(&world), [format!("pkg:npm/good@{version}")], "{want}");
        world.bolide(&["install", "--frozen"]).succeeds();
    }
    // An override that names an archive is no package of a registry either.
    let world = World::quick();
    put(
        &world,
        "leaf.tgz",
        &packages::npm_tarball(&Npm { name: "leaf", version: "1.0.5", dependencies: &[] }),
    );
    let text =
        json!({ "name": "project", "version": "1.0.0", "dependencies": { "tree": "1.0.0" } });
    world.file("package.json", &text.to_string());
    world.bolide(&["install"]).succeeds();
    let lock = world.read("bolide.lock");
    let mut replaced = text;
    replaced["overrides"] = json!({ "leaf": "file:./leaf.tgz" });
    world.file("package.json", &replaced.to_string());
    let planted =
        lock.replace("\"tree@1.0.0\"", "\"override leaf = file:./leaf.tgz\", \"tree@1.0.0\"");
    assert_ne!(planted, lock, "{lock}");
    world.file("bolide.lock", &planted);
    world.bolide(&["install", "--frozen"]).fails(4, &["disagree", "leaf"]);
}

#[test]
fn a_token_of_a_registry_is_not_sent_to_what_a_package_names_beside_it() {
    let world = World::quick();
    std::fs::write(
        world.place("home/.npmrc"),
        format!("//{}/npm/:_authToken=hush\n", world.registry.address),
    )
    .unwrap();
    world.registry.page(
        "/far.tgz",
        TYPE,
        packages::npm_tarball(&Npm { name: "far", dependencies: &[], ..BOX }),
    );
    let far = format!("{}/far.tgz", world.registry.base());
    let needs: &'static [(&str, &str)] = vec![("far", &*String::leak(far))].leak();
    world.registry.npm(&[Npm { name: "near", version: "1.0.0", dependencies: needs }]);
    manifest(&world, &[("near", "1.0.0")]);
    world.bolide(&["install"]).succeeds();
    let seen = world.registry.authorizations();
    assert_eq!(seen.iter().filter(|it| it.is_none()).count(), 1, "{seen:?}");
    assert!(seen.contains(&Some("Bearer hush".to_owned())), "{seen:?}");
}
