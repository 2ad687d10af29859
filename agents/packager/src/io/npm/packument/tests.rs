//! What packuments in the wild look like.

use super::*;
use crate::io::limits::MEMBERS_MAX;
use proptest::prelude::*;

fn registry() -> Url {
    Url::parse("https://r.example.invalid/npm/").expect("an address")
}

fn check(text: &str) -> Packument {
    let packument = parse(text.as_bytes(), "a", &registry()).expect("a packument");
    assert_packs(text.as_bytes());
    packument
}

/// What is packed at once is what is packed of the value.
fn assert_packs(bytes: &[u8]) {
    match (parse(bytes, "a", &registry()), pack(bytes, "a", &registry())) {
        (Ok(packument), Ok((name, packed))) => {
            assert_eq!(name, packument.name);
            assert_eq!(packed, packument.pack().expect("packed"));
        }
        (Err(one), Err(NotPacked::Unreadable(other))) => {
            assert_eq!(one.to_string(), other.to_string());
        }
        (one, other) => panic!("{one:?} and {other:?}"),
    }
}

/// One version with `fields` beside its `dist`.
fn version(fields: &str) -> Version {
    let text = format!(
        r#"{{"name":"a","versions":{{"1.0.0":{{{fields}"dist":{{"tarball":"a.tgz"}}}}}}}}"#
    );
    (*check(&text).versions.get("1.0.0").expect("there")).clone()
}

#[test]
fn a_full_packument_gives_everything() {
    let packument = check(
        r#"{"_id":"a","name":"a","readme":"\ud800 broken","dist-tags":{"latest":"1.0.0","odd":7},
        "versions":{"1.0.0":{"name":"a","version":"1.0.0","description":{"x":[1,{}]},
            "dependencies":{"b":"^1","c":"2","d":5},"optionalDependencies":{"c":"2"},
            "peerDependencies":{"p":">=1","q":"*"},"peerDependenciesMeta":{"q":{"optional":true},"p":{}},
            "bin":"./cli.js","engines":{"node":">=18","npm":">8"},"os":["!win32"],"cpu":"x64","libc":["glibc"],
            "deprecated":"use b","license":{"type":"MIT","url":"x"},
            "scripts":{"test":"x","postinstall":"evil","install":""},
            "dist":{"tarball":"https://files.example.invalid/a-1.0.0.tgz","unpackedSize":12,
                "integrity":"sha1-x sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="}}},
        "time":{"created":"x","1.0.0":"2020-01-01T00:00:00.000Z"}}"#,
    );
    assert_eq!(packument.dist_tags, BTreeMap::from([("latest".to_owned(), "1.0.0".to_owned())]));
    let version = &packument.versions.get("1.0.0").expect("there");
    assert_eq!(version.dependencies.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(version.optional_dependencies.keys().collect::<Vec<_>>(), ["c"]);
    assert_eq!(version.optional_peers, ["q"]);
    assert_eq!(version.bin, BTreeMap::from([("a".to_owned(), "cli.js".to_owned())]));
    assert_eq!(version.engines_node.as_deref(), Some(">=18"));
    assert_eq!(
        (&version.os[..], &version.cpu[..]),
        (&["!win32".to_owned()][..], &["x64".to_owned()][..])
    );
    assert_eq!(version.deprecated.as_deref(), Some("use b"));
    assert_eq!(version.license.as_deref(), Some("MIT"));
    assert_eq!(version.install_scripts, ["postinstall"]);
    assert_eq!(version.published.as_deref(), Some("2020-01-01T00:00:00.000Z"));
    assert_eq!(version.unpacked_size, Some(12));
    let digest = version.hashes.sha512.as_deref().expect("a digest");
    assert!(digest.starts_with("cf83e1357eefb8bd"), "{digest}");
    assert_eq!(version.hashes.sha256, None);
}

#[test]
fn a_damaged_version_does_not_spoil_the_others() {
    let packument = check(
        r#"{"versions":{"1.0.0":null,"1.1.0":[],"1.2.0":{"dist":"x"},"1.3.0":{"dist":{"tarball":3}},
        "1.4.0":{"dependencies":"none","bin":[1],"engines":["node >= 0.2"],"scripts":[],"os":{"a":1},
            "deprecated":false,"dist":{"tarball":"a.tgz"}}},"dist-tags":[]}"#,
    );
    assert_eq!(packument.name, "a");
    assert_eq!(packument.versions.keys().collect::<Vec<_>>(), ["1.4.0"]);
    assert_eq!(packument.versions.get("1.4.0").expect("there").deprecated, None);
}

#[test]
fn what_is_no_object_is_no_packument() {
    for text in ["", "[]", "7", "null", "\"x\"", "{", "{}x", r#"{"versions":{"1":{}"#] {
        assert!(parse(text.as_bytes(), "a", &registry()).is_err(), "{text}");
    }
}

#[test]
fn a_version_of_too_many_members_is_refused() {
    let of = |count: usize| {
        let members = vec![r#""os":0"#; count].join(",");
        parse(format!(r#"{{"versions":{{"1.0.0":{{{members}}}}}}}"#).as_bytes(), "a", &registry())
    };
    assert!(of(MEMBERS_MAX).is_ok());
    let error = of(MEMBERS_MAX + 1).expect_err("too many");
    assert_eq!(error.to_string(), "it has more than 10000 members in a version");
}

#[test]
fn tarballs_are_made_absolute_and_keep_the_scheme_of_their_registry() {
    for (written, expected) in [
        ("a/-/a-1.tgz", Some("https://r.example.invalid/npm/a/-/a-1.tgz")),
        ("/a/-/a-1.tgz", Some("https://r.example.invalid/a/-/a-1.tgz")),
        ("//s.example.invalid/a.tgz", Some("https://s.example.invalid/a.tgz")),
        ("http://r.example.invalid/a.tgz", Some("https://r.example.invalid/a.tgz")),
        ("http://s.example.invalid/a.tgz", Some("http://s.example.invalid/a.tgz")),
        (
            "https://me:hush@s.example.invalid/@a/b.tgz#x",
            Some("https://s.example.invalid/@a/b.tgz"),
        ),
        ("file:///etc/passwd", None),
        ("javascript:alert(1)", None),
    ] {
        assert_eq!(tarball_url(written, &registry()).as_deref(), expected, "{written}");
    }
}

#[test]
fn commands_cannot_leave_the_package() {
    let bin = |fields: &str| version(&format!(r#""bin":{fields},"#)).bin;
    let table = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, path)| ((*name).to_owned(), (*path).to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(
        bin(r#"{"../../x":"../../etc/passwd","..":"a","":"b","ok":"/bin/./ok.js"}"#),
        table(&[("x", "etc/passwd"), ("ok", "bin/ok.js")])
    );
    assert_eq!(
        bin(r#"{"c:\\d\\e":"a\\..\\b.js","f":"..","g\u0007":"h"}"#),
        table(&[("e", "b.js")])
    );
    let packument = parse(
        br#"{"versions":{"1.0.0":{"bin":"x.js","dist":{"tarball":"a.tgz"}}}}"#,
        "@scope/tool",
        &registry(),
    );
    assert_eq!(
        packument.expect("valid").versions.get("1.0.0").expect("there").bin,
        table(&[("tool", "x.js")])
    );
}

#[test]
fn install_scripts_are_seen_in_every_form() {
    assert_eq!(version(r#""hasInstallScript":true,"#).install_scripts, ["install"]);
    assert_eq!(
        version(r#""hasInstallScript":true,"scripts":{"preinstall":"x"},"#).install_scripts,
        ["preinstall"]
    );
    assert_eq!(version(r#""gypfile":true,"#).install_scripts, ["install"]);
    assert!(
        version(r#""hasInstallScript":false,"scripts":{"prepare":"x"},"#)
            .install_scripts
            .is_empty()
    );
}

#[test]
fn bundled_names_are_a_list_a_table_or_all() {
    assert_eq!(version(r#""bundleDependencies":["x",1],"#).bundled, ["x"]);
    assert_eq!(version(r#""bundledDependencies":{"x":"1"},"#).bundled, ["x"]);
    assert_eq!(
        version(r#""dependencies":{"x":"1","y":"2"},"bundleDependencies":true,"#).bundled,
        ["x", "y"]
    );
    assert!(version(r#""dependencies":{"x":"1"},"bundleDependencies":false,"#).bundled.is_empty());
}

#[test]
fn weak_or_damaged_integrity_gives_no_hash() {
    for text in
        ["", "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "sha512-AAAA", "sha512-%%%", "md5-x", "sha512"]
    {
        assert!(integrity(text).is_empty(), "{text}");
    }
    let both = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=?opt sha1-x";
    let digest = integrity(both).sha256.expect("a digest");
    assert!(digest.starts_with("e3b0c44298fc1c14"));
}

#[test]
fn the_packed_form_says_the_same() {
    let full = check(
        r#"{"name":"a","dist-tags":{"latest":"1.0.0"},"time":{"1.0.0":"2020"},"versions":{"1.0.0":{
        "dependencies":{"b":"^1"},"optionalDependencies":{"c":"2"},"peerDependencies":{"q":"*"},
        "peerDependenciesMeta":{"q":{"optional":true}},"bundleDependencies":["b"],"bin":{"x":"y"},
        "engines":{"node":"1"},"os":["o"],"cpu":["p"],"libc":["l"],"deprecated":"d","hasInstallScript":true,
        "license":"MIT","dist":{"tarball":"x.tgz","unpackedSize":1,
            "integrity":"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}}}}"#,
    );
    assert_is_same(&full, &packed(&full));
}

fn packed(packument: &Packument) -> Packument {
    Packument::unpack(&packument.pack().expect("packed")).expect("our own form")
}

fn assert_is_same(one: &Packument, other: &Packument) {
    assert_eq!((&one.name, &one.dist_tags), (&other.name, &other.dist_tags));
    let listed = |packument: &Packument| -> Vec<_> {
        let versions = packument.versions.iter();
        versions.map(|(text, version)| (text.to_owned(), version)).collect()
    };
    assert_eq!(listed(one), listed(other));
}

/// Members of a version, some of which begin as others do, or are about the same.
const MEMBERS: [&str; 24] = [
    r#""dist":{"tarball":"a.tgz"}"#,
    r#""dist":{"tarball":"a.tgz","unpackedSize":1}"#,
    r#""dist":{"tarball":"a.tgz","unpackedSize":12}"#,
    r#""dist":7"#,
    r#""dist" : {"tarball":"\u0061.tgz","tarball":8}"#,
    r#""dependencies":{"b":"^1"}"#,
    r#""dependencies":{"b":"^1","c":"2"}"#,
    r#""dependencies":{}"#,
    r#""dependencies":"b""#,
    r#""depend\u0065ncies":{"d":"4"}"#,
    r#""bundleDependencies":["b"]"#,
    r#""bundledDependencies":["c"]"#,
    r#""bundledDependencies":true"#,
    r#""bin":"x""#,
    r#""bin":{"x":"y"}"#,
    r#""hasInstallScript":true"#,
    r#""hasInstallScript":false"#,
    r#""os":["linux"]"#,
    r#""os":["linux", "\"]}"]"#,
    r#""license":"MIT""#,
    r#""deprecated":"gone""#,
    r#""_id":1"#,
    r#""_id":12"#,
    r#""_id":[{"os":["none"]},"}"]"#,
];

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        assert_packs(&bytes);
    }

    #[test]
    fn packing_at_once_is_packing_the_value(
        versions in proptest::collection::vec(("[0-2]\\.[0-2]\\.[0-2](-[a-z])?|[a-z]", 0_usize..6, 0_usize..6), 0..12),
    ) {
        const TABLES: [&str; 6] = [
            r#""dependencies":{"b":"^1","c":"2"},"#,
            r#""dependencies":{"c":"2","b":"^1"},"#,
            r#""dependencies":{"b":"^1","b":7,"c":"2"},"optionalDependencies":{"c":"3"},"#,
            r#""peerDependencies":{"q":"*"},"peerDependenciesMeta":{"q":{"optional":true}},"engines":{"node":"1"},"#,
            r#""dependencies":{"b":"\u0031"},"bundleDependencies":true,"bin":"x","license":"MIT","#,
            r#""deprecated":"d","hasInstallScript":true,"#,
        ];
        const DIST: [&str; 6] = [
            r#"{"tarball":"a.tgz"}"#,
            r#"{"tarball":"https://files.example.invalid/a-1.0.0.tgz","unpackedSize":3}"#,
            r#"{"tarball":"ftp://files.example.invalid/a"}"#,
            r#"{"tarball":"http:a","integrity":"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}"#,
            "7",
            r#"{"tarball":"\u0061.tgz"}"#,
        ];
        let lines = versions.iter().map(|(text, tables, dist)| {
            format!(r#""{text}":{{{}"dist":{}}}"#, TABLES[*tables], DIST[*dist])
        });
        let lines: Vec<String> = lines.collect();
        let times = r#"{"1.0.0":"2020","1.1.1":"2021","1.0.0":"2022","2.0.0":5}"#;
        assert_packs(format!(r#"{{"time":{times},"versions":{{{}}}}}"#, lines.join(",")).as_bytes());
    }

    /// What stands in the version before is not read again.
    #[test]
    fn versions_are_read_as_if_each_stood_alone(
        versions in proptest::collection::vec(proptest::collection::vec(0_usize..MEMBERS.len(), 0..9), 1..7),
    ) {
        let objects = versions.iter().map(|members| {
            let members: Vec<&str> = members.iter().map(|member| MEMBERS[*member]).collect();
            format!("{{{}}}", members.join(", "))
        });
        let lines: Vec<_> = objects.enumerate().map(|(n, object)| format!(r#""{n}.0.0":{object}"#)).collect();
        let all = check(&format!(r#"{{"versions":{{{}}}}}"#, lines.join(",")));
        for (n, line) in lines.iter().enumerate() {
            let number = format!("{n}.0.0");
            let alone = check(&format!(r#"{{"versions":{{{line}}}}}"#));
            assert_eq!(all.versions.get(&number), alone.versions.get(&number), "{lines:?}");
        }
    }

    #[test]
    fn no_json_makes_the_parser_panic(
        field in "(dependencies|bin|dist|os|scripts|engines|bundleDependencies|license|deprecated|peerDependenciesMeta)",
        value in r#"(\{"[a-z./\\\\]{0,5}":("[^"\\]{0,9}"|1|null|\{\}|\[\])\}|\[("x"|1|\{\}),null\]|"[^"\\]{0,9}"|-?[0-9]{1,20}(\.5)?|true|null)"#,
    ) {
        let text = format!(r#"{{"versions":{{"1":{{"{field}":{value}, "dist":{{"tarball":"x"}}}}}}}}"#);
        assert_packs(text.as_bytes());
        if let Ok(packument) = parse(text.as_bytes(), "a", &registry()) {
            assert_is_same(&packument, &packed(&packument));
        }
    }

    #[test]
    fn an_address_that_is_not_parsed_is_what_parsing_makes_of_it(
        base in "(https|http)://(u@|)r\\.example\\.invalid(:80|:443|:8080|)/(npm/|n%70m/|npm|)",
        rest in "([a-z@./\\\\~_-]|%2e|\\?|#|:|\\+){0,8}",
    ) {
        let registry = Url::parse(&base).expect("an address");
        let text = format!("{registry}{rest}");
        if is_plainly_below(&text, &registry) {
            let parsed = registry.join(&text).expect("an address");
            assert_eq!(parsed.as_str(), text);
            assert!(parsed.username().is_empty() && parsed.fragment().is_none());
        }
    }

    #[test]
    fn no_integrity_makes_the_parser_panic(text in "\\PC{0,64}") {
        let _ = integrity(&text);
    }
}

mod fuzz {
    use super::assert_packs;
    use crate::fuzz::{changed, fuzz};

    const PACKUMENT: &str = r#"{"name":"a","dist-tags":{"latest":"1.0.0"},"time":{"1.0.0":"2020-01-02T03:04:05.678Z"},"versions":{
"1.0.0":{"name":"a","version":"1.0.0","dependencies":{"b":"^1","@s/c":"npm:d@2"},"optionalDependencies":{"b":"1"},
"peerDependencies":{"p":">=1"},"peerDependenciesMeta":{"p":{"optional":true}},"bundleDependencies":["b"],"bin":{"a":"./a.js"},
"engines":{"node":">=4"},"os":["!win32","linux"],"cpu":"x64","libc":["glibc"],"hasInstallScript":true,"deprecated":"no",
"dist":{"tarball":"https://files.example.invalid/a-1.0.0.tgz","integrity":"sha512-AA==","shasum":"00","unpackedSize":7}},
"1.0.1-rc.1":{"dist":{"tarball":"a.tgz"}}}}"#;

    #[test]
    fn packing_at_once_is_packing_the_value() {
        fuzz(400, |chance| assert_packs(changed(chance, &[PACKUMENT]).as_bytes()));
    }
}
