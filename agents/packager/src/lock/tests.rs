//! Locks that are written are read again, whatever was in them; locks that nobody wrote are refused.

use proptest::prelude::*;

use super::*;
use crate::limits::{LOCK_PACKAGES_MAX, LOCK_WANTS_MAX};
use crate::metadata::Hashes;
use crate::resolution::{Artifact, BuildRequirement, Built, Link};

fn package(ecosystem: Ecosystem, name: &str, version: &str, dependencies: &[usize]) -> Package {
    let file_name = match ecosystem {
        Ecosystem::Npm => format!("{name}-{version}.tgz"),
        Ecosystem::Pypi => format!("{name}-{version}-py3-none-any.whl"),
        Ecosystem::Cargo | Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => {
            format!("{name}-{version}.crate")
        }
    };
    let place = match ecosystem {
        Ecosystem::Npm => format!("node_modules/{name}"),
        _ => String::new(),
    };
    let sha512 = (ecosystem == Ecosystem::Npm).then(|| "a1".repeat(64));
    let sha256 = (ecosystem != Ecosystem::Npm).then(|| "b2".repeat(32));
    Package {
        ecosystem,
        name: name.to_owned(),
        version: version.to_owned(),
        direct: dependencies.is_empty(),
        artifact: Artifact {
            built: None,
            by_address: false,
            file_name,
            url: String::new(),
            hashes: Hashes { sha256, sha512 },
            size: None,
            source: None,
        }
        .into(),
        dependencies: dependencies.to_vec(),
        place,
        bin: BTreeMap::new(),
        extras: Vec::new(),
        license: None,
        published: None,
        scripts: Vec::new(),
    }
}

fn part(wants: &[&str], packages: Vec<Package>) -> Part {
    let ecosystem = packages[0].ecosystem;
    let resolution = Resolution { ecosystem, packages, links: Vec::new(), warnings: Vec::new() };
    let wants = wants.iter().map(|want| (*want).to_owned()).collect();
    Part { wants, target: "linux-x64-glibc".to_owned(), resolution }
}

fn sample() -> Lock {
    let mut leaf_below = package(Ecosystem::Npm, "leaf", "1.0.0", &[]);
    leaf_below.place = "node_modules/tree/node_modules/leaf".to_owned();
    let mut tree = package(Ecosystem::Npm, "tree", "2.0.0-rc.1", &[0, 1]);
    tree.bin = BTreeMap::from([("tree".to_owned(), "bin/tree.js".to_owned())]);
    tree.license = Some("MIT \"or\" \u{1f600}".to_owned());
    tree.scripts = vec!["postinstall".to_owned()];
    std::sync::Arc::make_mut(&mut tree.artifact).size = Some(12);
    let leaf = package(Ecosystem::Npm, "leaf", "1.0.0", &[]);
    let mut lock = Lock::default();
    let mut npm = part(&["tree@^2"], vec![leaf, leaf_below, tree]);
    npm.resolution.links.push(Link {
        place: "node_modules/a".to_owned(),
        target: "packages/a".to_owned(),
        bin: BTreeMap::new(),
    });
    lock.parts.insert(Ecosystem::Npm, npm);
    let pypi = part(&["wall>=1.0"], vec![package(Ecosystem::Pypi, "wall", "1.0+local", &[])]);
    lock.parts.insert(Ecosystem::Pypi, pypi);
    lock
}

#[test]
fn the_text_is_what_people_are_told() {
    let text = sample().render().expect("written").expect("something");
    let expected = format!(
        r#"# What Bolide installs here. `bolide install` follows it, `bolide update` renews it.
version = 2

[npm]
target = "linux-x64-glibc"
wants = ["tree@^2"]

[pypi]
target = "linux-x64-glibc"
wants = ["wall>=1.0"]

[[package]]
purl = "pkg:npm/leaf@1.0.0"
direct = true
hashes = ["sha512:{0}"]
source = "npm"
place = "node_modules/leaf"

[[package]]
purl = "pkg:npm/leaf@1.0.0"
direct = true
hashes = ["sha512:{0}"]
source = "npm"
place = "node_modules/tree/node_modules/leaf"

[[package]]
purl = "pkg:npm/tree@2.0.0-rc.1"
hashes = ["sha512:{0}"]
source = "npm"
size = 12
place = "node_modules/tree"
bin = {{ "tree" = "bin/tree.js" }}
scripts = ["postinstall"]
license = "MIT \"or\" {2}"
dependencies = [
    "pkg:npm/leaf@1.0.0 node_modules/leaf",
    "pkg:npm/leaf@1.0.0 node_modules/tree/node_modules/leaf",
]

[[package]]
purl = "pkg:pypi/wall@1.0%2Blocal"
direct = true
hashes = ["sha256:{1}"]
source = "pypi"
file = "wall-1.0+local-py3-none-any.whl"

[[link]]
place = "node_modules/a"
target = "packages/a"
"#,
        "a1".repeat(64),
        "b2".repeat(32),
        '\u{1f600}',
    );
    assert_eq!(text, expected);
    assert_eq!(Lock::read(&text).expect("read"), sample());
}

#[test]
fn crates_of_one_name_and_version_are_told_apart_by_their_registries() {
    const INDEX: &str = "sparse+https://r.example.invalid/index/";
    let own = package(Ecosystem::Cargo, "leaf", "1.0.0", &[]);
    let mut other = own.clone();
    std::sync::Arc::make_mut(&mut other.artifact).source = Some(INDEX.to_owned());
    let mut tree = package(Ecosystem::Cargo, "tree", "1.0.0", &[0, 1]);
    tree.direct = false;
    let mut lock = Lock::default();
    lock.parts.insert(Ecosystem::Cargo, part(&[], vec![own, other, tree]));
    let text = lock.render().expect("written").expect("something");
    let used = format!("    \"pkg:cargo/leaf@1.0.0\",\n    \"pkg:cargo/leaf@1.0.0 {INDEX}\",\n");
    assert!(text.contains(&used), "{text}");
    assert_eq!(Lock::read(&text).expect("read"), lock);
    for hostile in [
        "sparse+https://me:hush@r.example.invalid/",
        "sparse+file:///etc/",
        "sparse+ssh://git@r.example.invalid/",
        "sparse+https://r.example.invalid/?token=hush",
        "registry+https://me:hush@r.example.invalid/",
        "registry+data:x",
        "https://r.example.invalid/",
        "npm",
    ] {
        let text =
            text.replace(&format!("source = \"{INDEX}\""), &format!("source = \"{hostile}\""));
        let error = Lock::read(&text).expect_err(hostile);
        assert!(error.message.contains("source"), "{}", error.message);
        assert!(!error.message.contains("hush"), "{}", error.message);
    }
}

#[test]
fn a_registry_is_locked_only_by_what_is_read_again() {
    let locked = |source: &str| {
        let mut leaf = package(Ecosystem::Cargo, "leaf", "1.0.0", &[]);
        std::sync::Arc::make_mut(&mut leaf.artifact).source = Some(source.to_owned());
        let mut lock = Lock::default();
        lock.parts.insert(Ecosystem::Cargo, part(&[], vec![leaf]));
        lock
    };
    for source in ["registry+https://g.example.invalid/i.git", "registry+ssh://git@g.invalid/i"] {
        let text = locked(source).render().expect("written").expect("something");
        assert_eq!(Lock::read(&text).expect("read"), locked(source));
    }
    for source in ["https://g.example.invalid/i.git", "sparse+https://r.invalid/?hush"] {
        let error = locked(source).render().expect_err(source);
        assert_eq!(error.code, "lock-unwritable");
        assert!(!error.message.contains("hush"), "{}", error.message);
    }
    let of = |source: &str| locked(source).parts.remove(&Ecosystem::Cargo).expect("one").resolution;
    let one = of("sparse+https://r.example.invalid/index");
    assert!(is_same(&one, &of("sparse+https://R.example.invalid/index/")));
    assert!(!is_same(&one, &of("sparse+https://r.example.invalid/")));
}

/// A lock with a package that was built.
fn with_built() -> Lock {
    let mut lock = sample();
    let part = lock.parts.get_mut(&Ecosystem::Pypi).expect("Python");
    let artifact = std::sync::Arc::make_mut(&mut part.resolution.packages[0].artifact);
    let requirement = |name: &str, digit: &str| BuildRequirement {
        hash: format!("sha256:{}", digit.repeat(64)),
        purl: format!("pkg:pypi/{name}@1.0"),
    };
    let file_name = "wall-1.0+local.tar.gz".to_owned();
    artifact.built = Some(Box::new(Built {
        file_name: file_name.clone(),
        form: None,
        hashes: artifact.hashes.clone(),
        requirements: vec![requirement("a", "1"), requirement("b", "2")],
        size: None,
        url: String::new(),
    }));
    artifact.file_name = file_name;
    lock
}

#[test]
fn what_was_built_is_locked_as_what_it_was_built_of() {
    let read = with_built();
    let text = read.render().expect("written").expect("something");
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let expected = format!(
        "file = \"wall-1.0+local.tar.gz\"\nbuilt = true\nbuilt_with = [\n    \"pkg:pypi/a@1.0 sha256:{one}\",\n    \"pkg:pypi/b@1.0 sha256:{two}\",\n]\n"
    );
    assert!(text.contains(&expected), "{text}");
    assert_eq!(Lock::read(&text).expect("read"), read);
    // A repository says which commit of it.
    let mut of_git = with_built();
    let part = of_git.parts.get_mut(&Ecosystem::Pypi).expect("Python");
    let artifact = std::sync::Arc::make_mut(&mut part.resolution.packages[0].artifact);
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let source = format!("git+https://x.invalid/y.git@v1#subdirectory=z&commit={commit}");
    artifact.source = Some(source.clone());
    let of_git_text = of_git.render().expect("written").expect("something");
    assert!(of_git_text.contains(&format!("source = \"{source}\"\n")), "{of_git_text}");
    assert_eq!(Lock::read(&of_git_text).expect("read"), of_git);
    for odd in ["#commit=0123", "", "#egg=y&commit=0123456789abcdef0123456789abcdef01234567"] {
        let odd = of_git_text.replace(&source, &format!("git+https://x.invalid/y.git{odd}"));
        assert_eq!(Lock::read(&odd).expect_err("no commit").code, "lock-damaged");
    }
    let artifact = std::sync::Arc::make_mut(
        &mut of_git.parts.get_mut(&Ecosystem::Pypi).expect("Python").resolution.packages[0]
            .artifact,
    );
    artifact.source = Some(format!("git+https://me:hush@x.invalid/y#commit={commit}"));
    let error = of_git.render().expect_err("a secret");
    assert!(!error.to_string().contains("hush"), "{error}");
    // The wheel that was made of it here leaves no trace in it.
    let mut made = with_built();
    let part = made.parts.get_mut(&Ecosystem::Pypi).expect("Python");
    let artifact = std::sync::Arc::make_mut(&mut part.resolution.packages[0].artifact);
    artifact.file_name = "wall-1.0+local-py3-none-any.whl".to_owned();
    artifact.hashes.sha256 = Some("9".repeat(64));
    artifact.size = Some(9);
    assert_eq!(made.render().expect("written").expect("something"), text);
    for (from, to) in [
        ("built = true\n", ""),
        ("built = true", "built = false"),
        ("wall-1.0+local.tar.gz", "wall-1.0+local-py3-none-any.whl"),
        ("pkg:pypi/a@1.0 sha256", "pkg:npm/a@1.0.0 sha256"),
        ("pkg:pypi/a@1.0 sha256", "pkg:pypi/a sha256"),
        ("pkg:pypi/a@1.0 sha256", "pkg:pypi/a@1.0 md5"),
        ("pkg:pypi/a@1.0 sha256", "pkg:pypi/a@1.0  sha256"),
        ("source = \"npm\"", "source = \"npm\"\nbuilt = true"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = Lock::read(&text.replacen(from, to, 1)).expect_err(to);
        assert_eq!(error.code, "lock-damaged", "{to}: {error:?}");
    }
}

#[test]
fn nothing_locked_is_no_file() {
    assert_eq!(Lock::default().render().expect("written"), None);
    let lock = sample();
    let nothing = [Ecosystem::Npm, Ecosystem::Pypi].map(|ecosystem| {
        let resolution =
            Resolution { ecosystem, packages: Vec::new(), links: Vec::new(), warnings: Vec::new() };
        Part { wants: Vec::new(), target: "anywhere".to_owned(), resolution }
    });
    let mut parts = lock.view();
    nothing.iter().for_each(|part| parts.put(part.view()));
    assert_eq!(parts.render().expect("written"), None);
}

#[test]
fn the_same_packages_in_another_order_are_the_same_bytes() {
    let mut shuffled = sample();
    let packages = &mut shuffled.parts.get_mut(&Ecosystem::Npm).expect("npm").resolution.packages;
    packages.reverse();
    packages[0].dependencies = vec![2, 1];
    let sample = sample();
    assert_eq!(shuffled.render().expect("written"), sample.render().expect("written"));
    let npm = |lock: &Lock| lock.parts[&Ecosystem::Npm].resolution.clone();
    assert!(is_same(&npm(&shuffled), &npm(&sample)));
    let mut other = npm(&sample);
    std::sync::Arc::make_mut(&mut other.packages[0].artifact).hashes.sha512 = Some("00".repeat(64));
    assert!(!is_same(&other, &npm(&sample)), "another digest is another environment");
    let mut other = npm(&sample);
    other.packages[2].dependencies = vec![0];
    assert!(!is_same(&other, &npm(&sample)), "another edge is another environment");
    let mut other = npm(&sample);
    std::sync::Arc::make_mut(&mut other.packages[2].artifact).url =
        "https://elsewhere.invalid/".to_owned();
    other.packages[2].license = None;
    assert!(is_same(&other, &npm(&sample)), "addresses and words do not count");
}

/// The sample with one text replaced, and what the refusal says.
#[track_caller]
fn refused(from: &str, to: &str, word: &str) {
    let text = sample().render().expect("written").expect("something");
    assert!(text.contains(from), "{from}");
    let error = Lock::read(&text.replacen(from, to, 1)).expect_err(to);
    assert!(error.message.contains(word), "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
    let is_plain = !error.message.chars().any(char::is_control);
    assert!(is_plain && error.message.len() < 2_000, "{error:?}");
}

#[test]
fn what_a_stranger_wrote_is_refused_with_its_place() {
    refused("version = 2\n", "version = 3\nnews = true\n", "version 3");
    refused("version = 2\n", "version = \"x\"\n", "version");
    refused("version = 2\n", "", "version");
    refused("version = 2\n", "version = 2\nurl = \"https://x.invalid\"\n", "url");
    refused("[npm]", "[gem]", "gem");
    refused("[npm]\ntarget = \"linux-x64-glibc\"\nwants = [\"tree@^2\"]\n", "", "no `[npm]`");
    for odd in [
        "https://me@x.invalid/y",
        "https://x.invalid/y?z",
        "git+https://x.invalid",
        "file:y",
        "y.tgz",
        "pypi",
    ] {
        refused("source = \"npm\"", &format!("source = \"{odd}\""), "source");
    }
    refused("source = \"pypi\"", "source = \"https://x.invalid/y.tgz\"", "source");
    refused("source = \"npm\"", "source = \"npm\"\nresolved = \"https://x.invalid\"", "resolved");
    refused("pkg:npm/leaf@1.0.0", "pkg:npm/leaf", "exact");
    refused("pkg:npm/leaf@1.0.0", "pkg:npm/../leaf@1.0.0", "exact");
    refused("pkg:npm/leaf@1.0.0", "pkg:npm/%2e%2e@1.0.0", "exact");
    refused("pkg:npm/leaf@1.0.0", "pkg:npm/leaf@1.0.0?repository_url=x", "exact");
    refused("pkg:npm/leaf@1.0.0", "pkg:npm/leaf@^1.0.0", "exact");
    refused("pkg:pypi/wall@1.0%2Blocal", "pkg:pypi/Wall@1.0", "exact");
    refused("pkg:pypi/wall@1.0%2Blocal", "pkg:deb/wall@1.0", "exact");
    refused("node_modules/tree/node_modules/leaf", "node_modules/../../leaf", "place");
    refused("node_modules/tree/node_modules/leaf", "/etc/node_modules/leaf", "place");
    refused("node_modules/tree/node_modules/leaf", "node_modules/.bin", "place");
    refused("node_modules/tree/node_modules/leaf", "node_modules/leaf", "twice");
    refused("node_modules/tree/node_modules/leaf\"", "node_modules/tree\"", "two packages");
    refused("    \"pkg:npm/leaf@1.0.0 node_modules/leaf\",", "\"pkg:npm/leaf@1.0.0\",", "names no");
    refused("place = \"node_modules/a\"", "place = \"packages/../node_modules/a\"", "stand there");
    refused("place = \"node_modules/a\"", "place = \"a\"", "stand there");
    refused("place = \"node_modules/a\"", "place = \"node_modules/leaf\"", "stand there");
    refused("target = \"packages/a\"", "target = \"\"", "stand there");
    refused("target = \"packages/a\"", "target = \"\\u001B[2J\"", "stand there");
    refused("wall-1.0+local-py3-none-any.whl", "../wall.whl", "name");
    refused("wall-1.0+local-py3-none-any.whl", ".whl", "name");
    refused("file = ", "place = \"node_modules/wall\"\nfile = ", "place");
    refused("sha512:a1", "sha512:A1", "sha512");
    refused("sha512:a1", "sha1:a1", "sha512");
    refused("sha512:a1", "sha512:", "sha512");
    refused("\"sha256:", "\"md5:00\", \"sha256:", "sha256");
    refused("license = \"MIT", "license = \"\\u001B[2JMIT", "cannot stand there");
    refused("\"bin/tree.js\"", &format!("\"{}\"", "x".repeat(5_000)), "cannot stand there");
    refused("size = 12", "size = -1", "line");
    refused("[[package]]", "[[package]]\npurl = 1", "line");
}

#[test]
fn too_much_of_anything_is_refused() {
    let head = "version = 1\n[cargo]\n";
    let wants: String = (0..=LOCK_WANTS_MAX).map(|index| format!("\"a{index}\",")).collect();
    let error = Lock::read(&format!("version = 1\n[npm]\nwants = [{wants}]\n"))
        .map(drop)
        .expect_err("many");
    assert!(error.message.contains("wants"), "{error:?}");
    let link =
        |index: usize| format!("[[link]]\nplace = \"node_modules/a{index}\"\ntarget = \"a\"\n");
    let links: String = (0..=LOCK_PACKAGES_MAX).map(link).collect();
    let error = Lock::read(&format!("version = 1\n[npm]\n{links}")).map(drop).expect_err("many");
    assert!(error.message.contains("links"), "{error:?}");
    let error = Lock::read(&format!("{head}{}", link(0))).map(drop).expect_err("links are npm's");
    assert!(error.message.contains("links"), "{error:?}");
    let entry = |index: usize| {
        let digest = "0".repeat(64);
        format!(
            "[[package]]\npurl = \"pkg:cargo/a@0.0.{index}\"\nhashes = [\"sha256:{digest}\"]\nsource = \"cargo\"\n"
        )
    };
    let entries: String = (0..=LOCK_PACKAGES_MAX).map(entry).collect();
    let error = Lock::read(&format!("{head}{entries}")).expect_err("many");
    assert!(error.message.contains("packages"), "{error:?}");
    let deep = format!("version = 1\nx = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    Lock::read(&deep).expect_err("deep");
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let mut lock = sample();
    let npm = lock.parts.get_mut(&Ecosystem::Npm).expect("npm");
    npm.wants = vec!["x".repeat(5_000)];
    assert_eq!(lock.render().expect_err("too long").code, "lock-unwritable");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Changing any bytes gives a lock that means something, or an error; never a panic, and never another meaning in other
    /// bytes: what is read and written is read as the same.
    #[test]
    fn a_changed_lock_is_read_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), "[a-z0-9\"\\[\\]\\\\=.:@/%\n -]{0,3}", 0usize..4), 1..4)
    ) {
        let mut text = sample().render().expect("written").expect("something");
        for (at, insert, remove) in changes {
            let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let from = at.index(boundaries.len());
            let to = (from + remove).min(boundaries.len() - 1);
            text.replace_range(boundaries[from]..boundaries[to], &insert);
        }
        if let Ok(lock) = Lock::read(&text) {
            let rendered = lock.render().expect("written").unwrap_or_default();
            if !rendered.is_empty() {
                let again = Lock::read(&rendered).expect("read again");
                prop_assert_eq!(again.render().expect("written").unwrap_or_default(), rendered);
            }
        }
    }
}
