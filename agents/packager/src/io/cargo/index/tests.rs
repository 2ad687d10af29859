//! Index files and registry configurations.

use super::*;
use crate::metadata::cargo::DependencyKind;
use proptest::prelude::*;

const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn check(lines: &str) -> Result<Crate, String> {
    parse(lines.replace("SUM", SUM).as_bytes(), "serde", &Validators::default())
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
    let version = &found.versions[0];
    assert_eq!(found.name, "serde");
    let alias = &version.dependencies[0];
    assert_eq!((alias.alias.as_str(), alias.package.as_str()), ("alias", "real"));
    assert!(alias.optional && !alias.default_features);
    assert_eq!(alias.registry.as_deref(), Some("https://x"));
    let kinds: Vec<DependencyKind> =
        version.dependencies.iter().map(|dependency| dependency.kind).collect();
    assert_eq!(
        kinds,
        [
            DependencyKind::Normal,
            DependencyKind::Dev,
            DependencyKind::Build,
            DependencyKind::Normal
        ]
    );
    assert!(version.dependencies[3].default_features);
    assert_eq!(version.features["std"], ["b?/std"]);
    assert_eq!(version.features["x"], ["dep:alias"]);
    assert!(version.yanked);
    assert_eq!(version.hashes.sha256.as_deref(), Some(SUM));
    assert_eq!(version.published.as_deref(), Some("2020-01-01T00:00:00Z"));
}

#[test]
fn bad_lines_are_skipped_and_the_bytes_kept() {
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
    assert_eq!(found.versions.len(), 1);
    assert_eq!(found.name, "Serde");
    assert_eq!(&*found.raw, lines.replace("SUM", SUM).as_bytes());
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
    assert_eq!(index_version(&both).as_deref(), Some("etag: \"x\""));
    let date = Validators { etag: None, last_modified: Some("then".to_owned()) };
    assert_eq!(index_version(&date).as_deref(), Some("last-modified: then"));
    assert_eq!(index_version(&Validators::default()), None);
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

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes, "serde", &Validators::default());
        let _ = RegistryConfig::parse(&bytes);
    }

    #[test]
    fn no_line_makes_the_parser_panic(version in "\\PC{0,20}", requirement in "\\PC{0,20}") {
        let line = serde_json::json!({"name": "serde", "vers": version, "cksum": SUM, "features": {},
            "deps": [{"name": "a", "req": requirement, "features": []}]});
        let _ = parse(line.to_string().as_bytes(), "serde", &Validators::default());
    }
}
