//! Locks of other tools, as those tools write them.

use super::*;
use crate::ecosystem::Ecosystem;
use crate::resolution::Artifact;

fn shown(packages: &[Locked]) -> Vec<String> {
    let one = |locked: &Locked| {
        let files = locked.files.iter().map(|(file, hashes)| {
            let digest = hashes.to_string();
            format!(" {file}#{}", &digest[..digest.len().min(11)])
        });
        let files: String = files.collect();
        format!("{}@{} {}{files}", locked.name, locked.version, locked.place)
    };
    packages.iter().map(one).collect()
}

/// 64 zero bytes.
fn integrity() -> String {
    format!("sha512-{}==", "A".repeat(86))
}

#[test]
fn npm_locks_give_places_and_strong_digests() {
    let text = format!(
        r#"{{"name": "demo", "lockfileVersion": 3, "packages": {{
            "": {{"dependencies": {{"tree": "1"}}}},
            "node_modules/tree": {{"version": "1.0.0", "resolved": "https://x.invalid/t.tgz", "integrity": "{0}"}},
            "node_modules/tree/node_modules/alias": {{"name": "@s/leaf", "version": "2.0.0", "integrity": "sha1-AAAA"}},
            "node_modules/linked": {{"resolved": "packages/linked", "link": true}},
            "node_modules/git": {{"version": "1.0.0", "resolved": "git+ssh://git@x.invalid/y.git#abc"}},
            "node_modules/../../escape": {{"version": "1.0.0"}},
            "packages/linked": {{"version": "1.0.0"}}
        }}}}"#,
        integrity()
    );
    let packages = npm::read(&text).expect("a lock");
    assert_eq!(
        shown(&packages),
        [
            "tree@1.0.0 node_modules/tree #sha512:0000",
            "@s/leaf@2.0.0 node_modules/tree/node_modules/alias",
        ]
    );
    npm::read(r#"{"lockfileVersion": 1, "dependencies": {}}"#).expect_err("an old one");
    npm::read("{").expect_err("not JSON");
    npm::read(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).expect_err("deep");
}

#[test]
fn npm_locks_tell_archives_from_versions() {
    let text = r#"{"lockfileVersion": 3, "packages": {
        "": {"dependencies": {"far": "https://x.invalid/far.tgz", "more": "https://x.invalid/more.tgz?t=hush", "near": "file:./v/near.tgz", "odd": 1}},
        "node_modules/far": {"version": "1.0.0", "resolved": "https://x.invalid/far.tgz"},
        "node_modules/more": {"version": "1.0.0", "resolved": "https://x.invalid/more.tgz?t=hush"},
        "node_modules/near": {"version": "1.0.0", "resolved": "file:v/near.tgz"},
        "node_modules/plain": {"version": "1.0.0", "resolved": "https://x.invalid/plain.tgz?t=hush"},
        "node_modules/folder": {"version": "1.0.0", "resolved": "file:v/folder"}
    }}"#;
    let packages = npm::read(text).expect("a lock");
    let shown: Vec<(&str, Option<&str>)> =
        packages.iter().map(|it| (it.name.as_str(), it.source.as_deref())).collect();
    assert_eq!(
        shown,
        [
            ("far", Some("https://x.invalid/far.tgz")),
            ("near", Some("file:v/near.tgz")),
            ("plain", None)
        ]
    );
}

#[test]
fn pnpm_locks_become_a_tree() {
    let text = format!(
        "lockfileVersion: '9.0'

settings:
  autoInstallPeers: true

importers:

  .:
    dependencies:
      leaf:
        specifier: ^2
        version: 2.0.0
      tree:
        specifier: ^1
        version: 1.0.0(leaf@2.0.0)
    devDependencies:
      other:
        specifier: npm:@s/real@1
        version: '@s/real@1.0.0'

packages:

  '@s/real@1.0.0':
    resolution: {{integrity: {0}}}
    engines: {{node: '>=6', npm: '>=3'}}

  leaf@1.0.0:
    resolution: {{integrity: {0}, tarball: https://x.invalid/evil.tgz}}

  leaf@2.0.0:
    resolution: {{integrity: sha1-AAAA}}

  tree@1.0.0:
    resolution: {{integrity: {0}}}
    cpu: [x64, arm64]
    peerDependencies:
      leaf: '*'

snapshots:

  '@s/real@1.0.0':
    dependencies:
      leaf: 2.0.0

  leaf@1.0.0: {{}}

  leaf@2.0.0: {{}}

  tree@1.0.0(leaf@2.0.0):
    dependencies:
      leaf: 1.0.0
      tree: 1.0.0(leaf@2.0.0)
",
        integrity()
    );
    let packages = pnpm::read(&text).expect("a lock");
    assert_eq!(
        shown(&packages),
        [
            "leaf@2.0.0 node_modules/leaf",
            "@s/real@1.0.0 node_modules/other #sha512:0000",
            "tree@1.0.0 node_modules/tree #sha512:0000",
            "leaf@1.0.0 node_modules/tree/node_modules/leaf #sha512:0000",
        ]
    );
}

#[test]
fn older_pnpm_locks_have_the_edges_beside_the_packages() {
    let text = "lockfileVersion: '6.0'

dependencies:
  '@s/tree':
    specifier: 1.0.0
    version: 1.0.0

packages:

  /@s/tree@1.0.0:
    resolution: {integrity: sha1-AAAA}
    dependencies:
      leaf: 1.1.0
    dev: false

  /leaf@1.1.0:
    resolution: {integrity: sha1-AAAA}
";
    let packages = pnpm::read(text).expect("a lock");
    let expected = ["@s/tree@1.0.0 node_modules/@s/tree", "leaf@1.1.0 node_modules/leaf"];
    assert_eq!(shown(&packages), expected);
    for wrong in ["", "lockfileVersion: 5.4\n", "lockfileVersion: '9.0'\n&a x\n", "- a\n"] {
        pnpm::read(wrong).expect_err(wrong);
    }
    let deep: String = (0..1_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    pnpm::read(&format!("lockfileVersion: '9.0'\n{deep}")).expect_err("deep");
}

#[test]
fn a_graph_that_goes_in_circles_is_laid_out_once() {
    let mut text = "lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      a:\n        version: 1.0.0\npackages:\n  x@1.0.0: {}\nsnapshots:\n".to_owned();
    for (name, uses) in [
        ("a@1.0.0", "b: 1.0.0"),
        ("b@1.0.0", "a: 2.0.0"),
        ("a@2.0.0", "b: 2.0.0"),
        ("b@2.0.0", "a: 1.0.0"),
    ] {
        text += &format!("  {name}:\n    dependencies:\n      {uses}\n");
    }
    let packages = pnpm::read(&text).expect("a lock");
    assert!(packages.len() <= 130, "{}", packages.len());
}

#[test]
fn uv_locks_give_digests_by_file() {
    let digest = "ab".repeat(32);
    let text = format!(
        r#"version = 1
requires-python = ">=3.9"

[[package]]
name = "demo"
version = "0.1.0"
source = {{ virtual = "." }}

[[package]]
name = "Stone_Wall"
version = "1.0"
source = {{ registry = "https://x.invalid/simple" }}
sdist = {{ url = "https://x.invalid/stone_wall-1.0.tar.gz", hash = "sha256:{digest}", size = 3 }}
wheels = [
    {{ url = "https://x.invalid/a/stone_wall-1.0%2Bx-py3-none-any.whl#egg", hash = "sha256:{digest}" }},
    {{ url = "https://x.invalid/b.whl", hash = "md5:00" }},
]
"#
    );
    let packages = pypi::read_uv(&text).expect("a lock");
    assert_eq!(
        shown(&packages),
        [
            "stone-wall@1.0  stone_wall-1.0+x-py3-none-any.whl#sha256:abab stone_wall-1.0.tar.gz#sha256:abab"
        ]
    );
    pypi::read_uv("version = 9\n").expect_err("a newer one");
}

#[test]
fn uv_locks_say_which_commit_of_a_repository() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let source = |git: &str| {
        let text = format!(
            "version = 1\n[[package]]\nname = \"A\"\nversion = \"1\"\nsource = {{ git = \"{git}#{commit}\" }}\n"
        );
        let packages = pypi::read_uv(&text).expect("a lock");
        packages.into_iter().next().and_then(|package| package.source)
    };
    for (git, expected) in [
        ("https://h/a", "git+https://h/a"),
        ("https://h/a?rev=v1", "git+https://h/a@v1"),
        (
            "https://h/a?subdirectory=b%2Fc+d%2B&branch=d%2Fe",
            "git+https://h/a@refs/heads/d/e#subdirectory=b/c%20d+",
        ),
        ("ssh://git@h/a?tag=v1", "git+ssh://git@h/a@refs/tags/v1"),
    ] {
        let joint = if expected.contains('#') { "&" } else { "#" };
        let expected = format!("{expected}{joint}commit={commit}");
        assert_eq!(source(git).as_deref(), Some(expected.as_str()));
    }
    for odd in ["https://me:hush@h/a", "https://h/a?lfs=true", "ext::sh", "https://h/a?rev=--x"] {
        assert_eq!(source(odd), None, "{odd}");
    }
}

#[test]
fn pins_are_exact_versions_with_any_of_their_digests() {
    let digest = "ab".repeat(32);
    let text = format!(
        "stone==1.0 \\\n    --hash=sha256:{digest} \\\n    --hash=md5:00\nwall>=1\nTower === 1\n"
    );
    let packages = pypi::read_pins(&text).expect("pins");
    assert_eq!(shown(&packages), ["stone@1.0 "]);
    assert_eq!(packages[0].digests, [digest]);
}

fn resolution(sha256: &str) -> Resolution {
    let artifact = Artifact {
        built: None,
        by_address: false,
        file_name: "stone-1.0-py3-none-any.whl".to_owned(),
        url: "https://index.invalid/stone".to_owned(),
        hashes: Hashes { sha256: Some(sha256.to_owned()), sha512: None },
        size: None,
        source: None,
    };
    let package = Package {
        ecosystem: Ecosystem::Pypi,
        name: "stone".to_owned(),
        version: "1.0".to_owned(),
        direct: true,
        artifact: artifact.into(),
        dependencies: Vec::new(),
        place: String::new(),
        bin: Default::default(),
        extras: Vec::new(),
        license: None,
        published: None,
        scripts: Vec::new(),
    };
    Resolution {
        ecosystem: Ecosystem::Pypi,
        packages: vec![package],
        links: Vec::new(),
        warnings: Vec::new(),
    }
}

fn imported(files: Vec<(String, Hashes)>, digests: &[&str]) -> Imported {
    let digests = digests.iter().map(|digest| (*digest).to_owned()).collect();
    let (name, version) = ("stone".to_owned(), "1.0".to_owned());
    let packages = vec![Locked { name, version, files, digests, ..Locked::default() }];
    Imported { file: "uv.lock".to_owned(), packages, problem: None }
}

#[test]
fn a_lock_and_a_registry_that_disagree_about_an_artefact_end_it() {
    let file = "stone-1.0-py3-none-any.whl".to_owned();
    let of = |sha256: &str, sha512: Option<&str>| Hashes {
        sha256: Some(sha256.to_owned()),
        sha512: sha512.map(str::to_owned),
    };
    let mut agreed = resolution("aa");
    let more = imported(vec![(file.clone(), of("aa", Some("bb")))], &["cc", "aa"]);
    more.keep_hashes(&mut agreed).expect("they agree");
    assert_eq!(agreed.packages[0].artifact.hashes, of("aa", Some("bb")), "both are kept");
    let other = imported(vec![(file, of("ff", None))], &[]);
    let error = other.keep_hashes(&mut resolution("aa")).expect_err("they disagree");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Verification, "hash-mismatch"));
    assert!(error.message.contains("uv.lock") && error.message.contains("stone"), "{error:?}");
    let elsewhere = imported(vec![("stone-1.0.tar.gz".to_owned(), of("ff", None))], &[]);
    elsewhere.keep_hashes(&mut resolution("aa")).expect("another file");
    let pins = imported(Vec::new(), &["ff"]);
    pins.keep_hashes(&mut resolution("aa")).expect_err("none of the digests");
}

#[test]
fn a_lock_that_cannot_be_read_is_passed_over_aloud() {
    let imported = usable("pnpm-lock.yaml", pnpm::read("nonsense\u{1b}[2J"));
    assert!(imported.packages.is_empty());
    let mut resolution = resolution("aa");
    imported.keep_hashes(&mut resolution).expect("nothing to disagree about");
    let [warning] = &resolution.warnings[..] else { panic!("{:?}", resolution.warnings) };
    assert!(warning.contains("pnpm-lock.yaml") && !warning.contains('\u{1b}'), "{warning}");
}

#[test]
fn digests_of_cargo_count_however_its_registry_is_spelled() {
    let lock = |source: &str| {
        let digest = "a1".repeat(32);
        format!(
            "[[package]]\nname = \"leaf\"\nversion = \"1.0.0\"\nsource = \"{source}\"\nchecksum = \"{digest}\"\n"
        )
    };
    let default = "registry+https://d.example.invalid/index";
    let check = |written: &str, source: Option<&str>| {
        let mut resolution = resolution(&"b2".repeat(32));
        let package = &mut resolution.packages[0];
        (package.ecosystem, package.name) = (Ecosystem::Cargo, "leaf".to_owned());
        package.version = "1.0.0".to_owned();
        let artifact = Arc::make_mut(&mut package.artifact);
        artifact.source = source.map(str::to_owned);
        let imported = super::cargo(&lock(written), default).expect("a lock");
        imported.keep_hashes(&mut resolution).map_err(|error| error.code)
    };
    let mismatch = Err("hash-mismatch".to_owned());
    let own = Some("sparse+https://r.example.invalid/index/");
    assert_eq!(check("sparse+https://r.example.invalid/index", own), mismatch);
    assert_eq!(check("registry+https://d.example.invalid/index.git", None), mismatch);
    assert_eq!(check("sparse+https://other.example.invalid/index", own), Ok(()));
}
