//! Commands that only look: who wants a package, what could be newer, what there is.

use serde_json::json;

use super::world::World;

#[test]
fn why_gives_the_way_from_the_project() {
    let world = World::new();
    world.bolide(&["add", "npm:tree@1", "pypi:wall", "cargo:bread@1", "--yes"]).succeeds();
    let why = world.bolide(&["why", "npm:leaf", "--json"]).succeeds().json();
    assert_eq!(why["schema"], "bolide.why/1");
    assert_eq!(why["packages"][0]["paths"], json!([["pkg:npm/tree@1.0.0", "pkg:npm/leaf@1.1.0"]]));
    let why = world.bolide(&["why", "pkg:pypi/stone@1.5"]).succeeds();
    assert!(why.stdout.contains("pkg:pypi/wall@1.0 > pkg:pypi/stone@1.5"), "{why:#?}");
    let why = world.bolide(&["why", "cargo:bread", "--json"]).succeeds().json();
    assert_eq!(why["packages"][0]["direct"], true);
    assert_eq!(why["packages"][0]["paths"], json!([["pkg:cargo/bread@1.0.0"]]));
    world.bolide(&["why", "npm:leaf@2"]).fails(1, &["not used"]);
    world.bolide(&["why", "npm:nobody"]).fails(1, &["not used"]);
    world.bolide(&["why", "leaf"]).fails(2, &["npm:leaf"]);
}

#[test]
fn why_answers_from_the_lock_of_a_project_that_is_not_installed() {
    let author = World::new();
    author.bolide(&["add", "npm:tree@1", "--yes"]).succeeds();
    let world = World::new();
    world.file("package.json", &author.read("package.json"));
    world.file("bolide.lock", &author.read("bolide.lock"));
    let why = world.bolide(&["why", "npm:leaf"]).succeeds();
    assert!(why.stdout.contains("tree@1.0.0 > pkg:npm/leaf@1.1.0"), "{why:#?}");
}

#[test]
fn outdated_tells_what_the_manifest_allows_from_what_is_newest() {
    let world = World::new();
    world
        .bolide(&["add", "npm:leaf@1.0.0", "pypi:stone==1.0", "cargo:grain@=0.1.0", "--yes"])
        .succeeds();
    for (file, from, to) in [
        ("package.json", "\"1.0.0\"", "\"^1.0.0\""),
        ("requirements.txt", "==1.0", ">=1.0,<2"),
        ("Cargo.toml", "=0.1.0", "0.1"),
    ] {
        world.file(file, &world.read(file).replace(from, to));
    }
    let outdated = world.bolide(&["outdated", "--json"]).succeeds().json();
    assert_eq!(outdated["schema"], "bolide.outdated/1");
    let rows: Vec<[&str; 4]> = outdated["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| ["purl", "current", "allowed", "newest"].map(|key| one[key].as_str().unwrap()))
        .collect();
    assert_eq!(
        rows,
        [
            ["pkg:npm/leaf", "1.0.0", "1.1.0", "2.0.0"],
            ["pkg:pypi/stone", "1.0", "1.5", "2.0"],
            ["pkg:cargo/grain", "0.1.0", "0.1.5", "0.2.0"],
        ]
    );
    let text = world.bolide(&["outdated"]).succeeds();
    assert!(text.stdout.contains("newest") && text.stdout.contains("2.0.0"), "{text:#?}");
    world.bolide(&["add", "npm:leaf@2", "pypi:stone>=2", "cargo:grain@0.2", "--yes"]).succeeds();
    let outdated = world.bolide(&["outdated", "--json"]).succeeds().json();
    assert_eq!(outdated["packages"], json!([]));
    let all = world.bolide(&["outdated", "--all", "--json"]).succeeds().json();
    assert_eq!(all["packages"].as_array().unwrap().len(), 3);
}

#[test]
fn search_asks_the_registries_that_can_be_asked() {
    let world = World::new();
    world.bolide(&["add", "npm:leaf@1", "pypi:stone", "--yes"]).succeeds();
    let purls = |arguments: &[&str]| -> Vec<String> {
        let answer = world.bolide(arguments).succeeds().json();
        assert_eq!(answer["schema"], "bolide.search/1");
        let results = answer["results"].as_array().unwrap();
        results
            .iter()
            .map(|one| {
                format!("{} {}", one["origin"].as_str().unwrap(), one["purl"].as_str().unwrap())
            })
            .collect()
    };
    assert_eq!(purls(&["search", "stone", "--json"]), ["installed pkg:pypi/stone@2.0"]);
    let answer = world.bolide(&["search", "leaf"]).succeeds();
    for note in ["npm registry", "Python's index", "crate index", "no search"] {
        assert!(answer.stdout.contains(note), "{answer:#?}");
    }
    let found = json!({"objects": [
        {"package": {"name": "leaf", "version": "2.0.0", "description": "green"}},
        {"package": {"name": "leaflet", "version": "9.0.0", "description": "\u{1b}[2Jmaps"}},
        {"package": {"name": "../leaf", "version": "9.0.0"}},
    ]});
    let path = "/npm/-/v1/search?text=leaf&size=20";
    world.registry.page(path, "application/json", found.to_string().into_bytes());
    let fresh = World::new();
    fresh.registry.page(path, "application/json", found.to_string().into_bytes());
    let answer =
        fresh.bolide(&["search", "leaf", "--ecosystem", "npm", "--json"]).succeeds().json();
    let purls: Vec<&str> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["purl"].as_str().unwrap())
        .collect();
    assert_eq!(purls, ["pkg:npm/leaf@2.0.0", "pkg:npm/leaflet@9.0.0"]);
    assert_eq!(answer["notes"], json!([]));
    assert!(!answer.to_string().contains('\u{1b}'));
    fresh.bolide(&["search", "  "]).fails(2, &["words"]);
}
