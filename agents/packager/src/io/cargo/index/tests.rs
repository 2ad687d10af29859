//! Index files and registry configurations.

use super::*;
use crate::metadata::cargo::tests::unpacked;
use crate::metadata::cargo::{Dependency, DependencyKind, Version};
use proptest::prelude::*;

const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn check(lines: &str) -> Result<Crate, String> {
    parse(lines.replace("SUM", SUM).as_bytes(), "serde")
}

#[test]
fn paths_follow_the_length_of_the_name() {
    for (name, path) in [
        ("a", "1/a"),
        ("ab", "2/ab"),
        ("abc", "3/a/abc"),
        ("abcd", "ab/cd/abcd"),
        ("serde_json", "se/rd/serde_json"),
    ] {
        assert_eq!(relative_path(name), path);
    }
}

#[test]
fn a_line_gives_everything() {
    let found = check(
        r#"{"name":"serde","vers":"1.0.0","deps":[
            {"name":"alias","req":"^1","features":["x"],"optional":true,"default_features":false,"target":"cfg(unix)","kind":"normal","package":"real","registry":"https://x"},
            {"name":"t","req":"*","features":[],"optional":false,"default_features":true,"target":null,"kind":"dev"},
            {"name":"b","req":"=1.2.3","features":[],"optional":false,"default_features":true,"kind":"build"},
            {"name":"n","req":">=1, <2","kind":null}],
        "cksum":"SUM","features":{"default":["std"],"std":[]},"features2":{"x":["dep:alias"],"std":["b?/std"]},
        "yanked":true,"links":"z","rust_version":"1.56","pubtime":"2020-01-01T00:00:00Z","v":2,"extra":[{}]}"#
            .replace('\n', " ")
            .as_str(),
    )
    .expect("a crate");
    assert_eq!(found.name(), "serde");
    let version = unpacked(found.versions().next().expect("one"));
    let alias = &version.dependencies[0];
    assert_eq!((alias.alias.as_str(), alias.package.as_str()), ("alias", "real"));
    assert!(alias.optional && !alias.default_features);
    assert_eq!(alias.features, ["x"]);
    assert_eq!(alias.target.as_deref(), Some("cfg(unix)"));
    assert_eq!(alias.registry.as_deref(), Some("https://x"));
    let kinds: Vec<_> = version.dependencies.iter().map(|it| (&*it.alias, it.kind)).collect();
    // Nobody follows the one for tests.
    let (normal, build) = (DependencyKind::Normal, DependencyKind::Build);
    assert_eq!(kinds, [("alias", normal), ("b", build), ("n", normal)]);
    assert_eq!(version.dependencies[1].requirement.to_string(), "=1.2.3");
    assert!(version.dependencies[2].default_features);
    assert_eq!(version.features["std"], ["b?/std"]);
    assert_eq!(version.features["x"], ["dep:alias"]);
    assert_eq!(version.features.keys().collect::<Vec<_>>(), ["default", "std", "x"]);
    assert!(version.yanked);
    assert_eq!(version.links.as_deref(), Some("z"));
    assert_eq!(version.rust_version.as_deref(), Some("1.56"));
    assert_eq!(version.hashes.sha256.as_deref(), Some(SUM));
    assert_eq!(version.published.as_deref(), Some("2020-01-01T00:00:00Z"));
}

#[test]
fn bad_lines_are_skipped() {
    let lines = concat!(
        "not json\n\n",
        r#"{"name":"serde","vers":"1.0.0","deps":[],"cksum":"SUM","features":{},"yanked":false,"v":3}"#,
        "\n",
        r#"{"name":"serde","vers":"one","deps":[],"cksum":"SUM","features":{},"yanked":false}"#,
        "\n",
        r#"{"name":"serde","vers":"1.0.1","deps":[{"name":"a","req":"what","features":[]}],"cksum":"SUM","features":{}}"#,
        "\n",
        r#"{"name":"other","vers":"1.0.2","deps":[],"cksum":"SUM","features":{}}"#,
        "\n",
        r#"{"name":"serde","vers":"1.0.3","deps":[],"cksum":"short","features":{}}"#,
        "\n",
        r#"{"name":"Serde","vers":"1.0.4","deps":[],"cksum":"SUM","features":{}}"#,
    );
    let found = check(lines).expect("a crate");
    assert_eq!(found.versions().len(), 1);
    assert_eq!(found.name(), "Serde");
}

#[test]
fn a_file_without_a_usable_line_is_an_error() {
    for text in ["", "\n\n", "<html></html>", "{}", "[]\n7\n"] {
        assert!(check(text).is_err(), "{text}");
    }
}

#[test]
fn validators_are_kept_in_the_form_of_cargo() {
    let both =
        Validators { etag: Some("\"x\"".to_owned()), last_modified: Some("then".to_owned()) };
    assert_eq!(revision(&both).as_deref(), Some("etag: \"x\""));
    let date = Validators { etag: None, last_modified: Some("then".to_owned()) };
    assert_eq!(revision(&date).as_deref(), Some("last-modified: then"));
    assert_eq!(revision(&Validators::default()), None);
}

#[test]
fn addresses_follow_the_template() {
    for (template, expected) in [
        ("https://d.example.invalid/api", "https://d.example.invalid/api/MyCrate/1.0.0/download"),
        ("https://d.example.invalid/api/", "https://d.example.invalid/api/MyCrate/1.0.0/download"),
        (
            "https://d.example.invalid/{crate}-{version}.crate",
            "https://d.example.invalid/MyCrate-1.0.0.crate",
        ),
        (
            "https://d.example.invalid/{prefix}/{lowerprefix}/{crate}",
            "https://d.example.invalid/My/Cr/my/cr/MyCrate",
        ),
        ("https://d.example.invalid/{sha256-checksum}", "https://d.example.invalid/sum"),
    ] {
        let config =
            RegistryConfig::parse(format!(r#"{{"dl":"{template}","api":null}}"#).as_bytes())
                .expect("valid");
        assert_eq!(config.artifact_url("MyCrate", "1.0.0", Some("sum")).as_deref(), Some(expected));
    }
    assert!(RegistryConfig::parse(b"{}").is_err());
}

#[test]
fn names_are_checked() {
    for name in ["serde", "serde_json", "a", "A-1"] {
        assert!(check_name(name).is_ok());
    }
    for name in ["", "a/b", "..", "a.b", "a b", "é", &"a".repeat(65)] {
        assert!(check_name(name).is_err(), "{name}");
    }
}

/// What a line says, read without any of what reads it in earnest. Optional dependencies are features by themselves where nothing says
/// otherwise.
fn told(line: &serde_json::Value) -> Version {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let texts = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(text).collect()
    };
    let mut features: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for table in [&line["features"], &line["features2"]] {
        for (name, values) in table.as_object().into_iter().flatten() {
            features.entry(name.clone()).or_default().extend(texts(values));
        }
    }
    let dependencies = line["deps"].as_array().expect("a list").iter();
    let dependencies: Vec<Dependency> = dependencies
        .filter(|it| it["kind"] != "dev")
        .map(|it| Dependency {
            alias: text(&it["name"]).expect("a name"),
            package: text(&it["package"]).or(text(&it["name"])).expect("a name"),
            requirement: it["req"].as_str().expect("one").parse().expect("one"),
            features: texts(&it["features"]),
            default_features: it["default_features"].as_bool().unwrap_or(true),
            optional: it["optional"].as_bool().unwrap_or(false),
            target: text(&it["target"]),
            kind: match it["kind"].as_str() {
                Some("build") => DependencyKind::Build,
                _ => DependencyKind::Normal,
            },
            registry: text(&it["registry"]),
        })
        .collect();
    let mentioned: Vec<String> = features.values().flatten().cloned().collect();
    for alias in dependencies.iter().filter(|it| it.optional).map(|it| &it.alias) {
        let value = format!("dep:{alias}");
        if !mentioned.contains(&value) {
            features.entry(alias.clone()).or_insert_with(|| vec![value]);
        }
    }
    Version {
        version: line["vers"].as_str().expect("one").parse().expect("one"),
        dependencies,
        features,
        yanked: line["yanked"].as_bool().unwrap_or(false),
        links: text(&line["links"]),
        rust_version: text(&line["rust_version"]),
        hashes: crate::metadata::Hashes { sha256: text(&line["cksum"]), sha512: None },
        published: text(&line["pubtime"]),
    }
}

#[track_caller]
fn check_told(lines: &[serde_json::Value], name: &str) {
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    let found = parse(text.join("\n").as_bytes(), name).expect("a crate");
    let mut expected: Vec<Version> = lines.iter().map(told).collect();
    expected.sort_by(|one, other| one.version.cmp(&other.version));
    assert_eq!(found.versions().map(unpacked).collect::<Vec<_>>(), expected);
    let again = Crate::open(found.archive()).expect("whole");
    assert_eq!(again.versions().map(unpacked).collect::<Vec<_>>(), expected);
    for (version, expected) in again.versions().zip(&expected) {
        for (feature, values) in &expected.features {
            assert!(version.feature(feature).expect("there").eq(values.iter()), "{feature}");
        }
        assert!(version.feature("no such feature").is_none());
        assert_eq!(version.has_default(), expected.features.contains_key("default"));
    }
}

#[test]
fn recorded_files_are_packed_as_they_were_read() {
    let place =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/resolve/cargo/tests/recorded");
    let mut count = 0;
    for entry in std::fs::read_dir(place).expect("there") {
        let text = std::fs::read(entry.expect("one").path()).expect("readable");
        let universe: serde_json::Value = serde_json::from_slice(&text).expect("a universe");
        for (name, lines) in universe["index"].as_object().expect("crates") {
            let mut lines = lines.as_array().expect("versions").clone();
            for line in &mut lines {
                // What the recordings leave out, because it decides nothing there.
                line["name"] = name.as_str().into();
                line["cksum"] = SUM.into();
                for table in ["deps", "features"] {
                    if line[table].is_null() {
                        line[table] =
                            if table == "deps" { "[]" } else { "{}" }.parse().expect("one");
                    }
                }
            }
            check_told(&lines, name);
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

fn version_text() -> impl Strategy<Value = String> {
    let number = || prop_oneof![0..3_u64, Just(u64::from(u32::MAX) + 1)];
    let rest = prop::sample::select(&["", "-rc.1", "+build.7", "-a.10+z"][..]);
    (number(), number(), number(), rest)
        .prop_map(|(major, minor, patch, rest)| format!("{major}.{minor}.{patch}{rest}"))
}

fn generated_line() -> impl Strategy<Value = serde_json::Value> {
    let names = || prop::sample::select(&["a", "b", "default", "ü\"\n", "std", "x-y"][..]);
    let values = ["dep:a", "b", "a/std", "b?/x-y", "dep:serde", "\\", "std"];
    let values = prop::collection::vec(prop::sample::select(values.to_vec()), 0..4);
    let features = || prop::collection::btree_map(names(), values.clone(), 0..4);
    let optional_text = || prop::option::of(names());
    let requirement =
        prop::sample::select(&["1", "^1.2", ">=1, <3", "*", "=1.0.0-rc.1", "~0.3"][..]);
    let kind = prop::option::of(prop::sample::select(&["normal", "dev", "build"][..]));
    let dependency =
        (names(), optional_text(), requirement, kind, any::<(bool, bool)>(), optional_text())
            .prop_map(|(name, package, req, kind, (optional, default), target)| {
                serde_json::json!({"name": name, "package": package, "req": req, "kind": kind,
                "optional": optional && kind != Some("dev"), "default_features": default,
                "target": target, "registry": target, "features": [name]})
            });
    let dependencies = prop::collection::vec(dependency, 0..5);
    let rest = (optional_text(), optional_text(), optional_text(), any::<bool>(), "[0-9a-f]{64}");
    (version_text(), dependencies, features(), prop::option::of(features()), rest).prop_map(
        |(version, dependencies, features, more, (links, rust, time, yanked, sum))| {
            serde_json::json!({"name": "serde", "vers": version, "deps": dependencies,
                "features": features, "features2": more, "links": links, "rust_version": rust,
                "pubtime": time, "yanked": yanked, "cksum": sum, "v": 2})
        },
    )
}

proptest! {
    #[test]
    fn generated_files_are_packed_as_they_were_read(
        lines in prop::collection::vec(generated_line(), 1..8),
    ) {
        check_told(&lines, "serde");
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes, "serde");
        let _ = RegistryConfig::parse(&bytes);
    }

    #[test]
    fn no_line_makes_the_parser_panic(version in "\\PC{0,20}", requirement in "\\PC{0,20}") {
        let line = serde_json::json!({"name": "serde", "vers": version, "cksum": SUM, "features": {},
            "deps": [{"name": "a", "req": requirement, "features": []}]});
        let _ = parse(line.to_string().as_bytes(), "serde");
    }
}

mod fuzz {
    use super::{Crate, RegistryConfig, SUM, parse, unpacked};
    use crate::fuzz::{changed, fuzz};

    const LINE: &str = r#"{"name":"serde","vers":"1.0.0","deps":[{"name":"a","req":"^1, <1.5","features":["x"],"optional":true,
"default_features":false,"target":"cfg(unix)","kind":"dev","registry":null,"package":"b"}],"cksum":"SUM","features":{"default":["a"]},
"features2":{"y":["dep:a","a?/z"]},"yanked":false,"links":"z","v":2,"rust_version":"1.60"}"#;

    #[test]
    fn files_are_packed_as_they_were_read() {
        let honest = LINE.replace('\n', "").replace("SUM", SUM);
        let more = honest.replace("1.0.0", "2.0.0-rc.1+b");
        let (two, config) = (
            format!("{honest}\n{more}"),
            r#"{"dl":"https://h/{crate}","api":null,"auth-required":true}"#,
        );
        fuzz(400, |chance| {
            let text = changed(chance, &[&honest, &two, config]);
            let _ = RegistryConfig::parse(text.as_bytes());
            let Ok(found) = parse(text.as_bytes(), "serde") else { return };
            let again = Crate::open(found.archive()).expect("whole");
            let all = |one: &Crate| one.versions().map(unpacked).collect::<Vec<_>>();
            assert_eq!(all(&again), all(&found));
        });
    }
}
