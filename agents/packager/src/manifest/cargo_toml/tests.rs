//! Reading follows cargo's rules of inheritance; editing leaves the rest as it was.

use super::*;

fn wanted(name: &str, requirement: &str, features: &[&str]) -> Wanted {
    Wanted {
        name: name.to_owned(),
        requirement: requirement.to_owned(),
        features: features.iter().map(|one| (*one).to_owned()).collect(),
        inherits: false,
    }
}

#[track_caller]
fn check_add(text: &str, one: Wanted, expected: &str) {
    assert_eq!(add("Cargo.toml", Some(text), "x", &[one]).expect("added"), expected);
}

const PACKAGE: &str = "[package]\nname = \"x\"\nversion = \"0.1.0\"\n";

#[test]
fn a_new_file_is_a_minimal_package() {
    let text =
        add("Cargo.toml", None, "My Project!", &[wanted("serde", "1", &["derive"])]).expect("new");
    assert_eq!(
        text,
        "[package]\nname = \"my-project\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\nserde = { version = \"1\", features = [\"derive\"] }\n"
    );
    read("Cargo.toml", "", &text, None).expect("read");
}

#[test]
fn directories_become_valid_names() {
    for (directory, name) in [
        ("a", "a"),
        ("", "project"),
        ("1x", "app-1x"),
        ("test", "app-test"),
        ("fn", "fn-app"),
        ("Ünï", "n"),
        ("..", "project"),
        ("a b", "a-b"),
    ] {
        assert_eq!(new_package_name(directory), name, "{directory}");
    }
}

#[test]
fn crates_are_added_in_order_and_the_rest_stays() {
    let text = format!(
        "# top\n{PACKAGE}\n[dependencies]\n# why a\na = \"1\" # one\nc = {{ version = \"1\" }}\n\n[dev-dependencies]\nz = \"1\"\n"
    );
    let expected = text.replace("c = {", "b = \"2\"\nc = {");
    check_add(&text, wanted("b", "2", &[]), &expected);
    assert_eq!(remove("Cargo.toml", &expected, &["b"]).expect("removed"), text);
    let unsorted = format!("{PACKAGE}\n[dependencies]\nz = \"1\"\na = \"1\"\n");
    check_add(&unsorted, wanted("b", "2", &[]), &format!("{unsorted}b = \"2\"\n"));
    check_add(PACKAGE, wanted("b", "2", &[]), &format!("{PACKAGE}\n[dependencies]\nb = \"2\"\n"));
}

#[test]
fn an_entry_that_is_there_is_changed_where_it_is() {
    let text = format!(
        "{PACKAGE}\n[dependencies]\na = \"1\" # one\nr = {{ package = \"b\", version = \"1\", features = [\"x\"] }}\nw.workspace = true\n"
    );
    check_add(&text, wanted("a", "2", &[]), &text.replace("\"1\" # one", "\"2\" # one"));
    check_add(&text, wanted("a", "1", &[]), &text);
    let expected = text.replace(
        "version = \"1\", features = [\"x\"]",
        "version = \"2\", features = [\"x\", \"y\"]",
    );
    check_add(&text, wanted("b", "2", &["x", "y"]), &expected);
    check_add(&text, wanted("w", "2", &[]), &text);
    check_add(
        &text,
        wanted("a", "2", &["f"]),
        &text.replace("a = \"1\"", "a = { version = \"2\", features = [\"f\"] }"),
    );
}

#[test]
fn a_version_that_means_the_same_stays_as_it_is_written() {
    let text = format!(
        "{PACKAGE}\n[dependencies]\na = \"1\" # one\nb = {{ version = \"1\" }}\nc = {{ git = \"x\" }}\n"
    );
    for one in [wanted("a", "", &[]), wanted("b", "", &[]), wanted("c", "", &[])] {
        check_add(&text, one, &text);
    }
    check_add(&text, wanted("a", "^1", &[]), &text);
    check_add(&text, wanted("b", "^1", &[]), &text);
    for requirement in ["", "^1"] {
        let expected = text.replace("\"1\" #", "{ version = \"1\", features = [\"f\"] } #");
        check_add(&text, wanted("a", requirement, &["f"]), &expected);
    }
    check_add(&text, wanted("a", "=1", &[]), &text.replace("\"1\" #", "\"=1\" #"));
    let error = add("Cargo.toml", Some(&text), "x", &[wanted("new", "", &[])]).expect_err("none");
    assert!(error.message.contains("no version to write"), "{}", error.message);
}

#[track_caller]
fn check_remove(text: &str, names: &[&str], expected: &str) {
    let text = format!("{PACKAGE}\n{text}");
    let removed = remove("Cargo.toml", &text, names).expect("removed");
    assert_eq!(removed, format!("{PACKAGE}\n{expected}"));
    read("Cargo.toml", "", &removed, None).expect("still reads");
}

#[test]
fn crates_are_removed_from_every_table() {
    for table in [
        "dependencies",
        "dev-dependencies",
        "dev_dependencies",
        "build-dependencies",
        "build_dependencies",
        "target.'cfg(unix)'.dependencies",
        "target.x86_64-unknown-linux-gnu.dev-dependencies",
    ] {
        let left = format!("[{table}]\nz = \"1\"\n");
        check_remove(&format!("{left}a = \"1\"\n"), &["a"], &left);
        let renamed = format!("{left}a = \"1\"\nr = {{ package = \"p\", version = \"1\" }}\n");
        check_remove(&renamed, &["p", "a"], &left);
        check_remove(&renamed, &["r", "nowhere"], &renamed);
    }
    let both = "[dependencies]\na = \"1\"\nb = { package = \"a\", version = \"2\" }\n[target.'cfg(unix)'.dependencies]\na = \"1\"\n";
    check_remove(both, &["a"], "[dependencies]\n[target.'cfg(unix)'.dependencies]\n");
}

#[test]
fn a_removed_crate_leaves_the_features() {
    let dependencies = "[dependencies]\nz = { version = \"1\", optional = true }\n";
    let alias = "a = { package = \"real\", version = \"1\", optional = true }\n";
    check_remove(
        &format!(
            "{dependencies}{alias}[features]\none = [\"a\", \"z\"]\ntwo = [ \"z/x\", \"dep:a\" ]\nthree = [\n    \"a/x\",\n    \"ab\",\n    \"a?/y\"\n]\nall = [\"dep:a\"]\nab = []\n"
        ),
        &["real"],
        &format!(
            "{dependencies}[features]\none = [\"z\"]\ntwo = [ \"z/x\" ]\nthree = [\n    \"ab\"\n]\nall = []\nab = []\n"
        ),
    );
    let own = format!("[features]\ndefault = [\"a\"]\na = [\"dep:a\", \"z\"]\n{dependencies}");
    check_remove(&format!("{own}{alias}"), &["real"], &own.replace("\"dep:a\", ", ""));
    let elsewhere = "[dependencies]\n[dev-dependencies]\na = \"1\"\n[features]\nf = [\"a/x\"]\n";
    let text = elsewhere.replace("[dev", &format!("{alias}[dev"));
    check_remove(&text, &["real"], elsewhere);
}

#[test]
fn a_crate_renamed_by_the_workspace_is_removed_by_its_package() {
    let text =
        "[workspace.dependencies]\nr = { package = \"p\", version = \"1\" }\n[dependencies]\n";
    check_remove(&format!("{text}r.workspace = true\n"), &["p"], text);
}

#[test]
fn windows_line_ends_stay() {
    let text = format!("{PACKAGE}\n[dependencies]\na = \"1\"\n").replace('\n', "\r\n");
    check_add(&text, wanted("b", "2", &[]), &format!("{text}b = \"2\"\r\n"));
}

#[test]
fn all_tables_are_read() {
    let text = format!(
        "{PACKAGE}links = \"l\"\n[features]\ndefault = [\"a\"]\n[dependencies]\na = {{ version = \"1\", optional = true, default-features = false, features = [\"f\"] }}\nrenamed = {{ package = \"real\", version = \"=2.0.1\" }}\nown = {{ path = \"../own\", version = \"0.1\" }}\n[build-dependencies]\ncc = \"1\"\n[dev-dependencies]\nd = \"*\"\n[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n"
    );
    let read = read("Cargo.toml", "crates/x", &text, None).expect("read");
    let seen: Vec<String> = read
        .dependencies
        .iter()
        .map(|one| {
            format!(
                "{} {} {} {:?} {}{}",
                one.alias,
                one.package,
                one.requirement,
                one.kind,
                one.target.as_deref().unwrap_or("-"),
                if one.optional { " optional" } else { "" }
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            "a a ^1 Normal - optional",
            "renamed real =2.0.1 Normal -",
            "cc cc ^1 Build -",
            "d d * Dev -",
            "libc libc ^0.2 Normal cfg(unix)"
        ]
    );
    assert_eq!(read.path_dependencies[0].directory, "crates/own");
    assert_eq!(read.features["default"], ["a"]);
}

#[test]
fn members_inherit_from_the_workspace() {
    let root = "[workspace]\nmembers = [\"crates/*\"]\nexclude = [\"crates/old\"]\n[workspace.package]\nversion = \"2.0.0\"\nedition = \"2024\"\n[workspace.dependencies]\nserde = { version = \"1\", default-features = false, features = [\"a\"] }\nown = { path = \"crates/own\" }\n";
    let workspace = read("Cargo.toml", "", root, None).expect("root").workspace.expect("workspace");
    assert!(
        workspace.is_member("crates/x")
            && !workspace.is_member("crates/old")
            && !workspace.is_member("crates/x/y")
    );
    let text = "[package]\nname = \"x\"\nversion.workspace = true\nedition = { workspace = true }\n[dependencies]\nserde = { workspace = true, features = [\"b\"], optional = true }\nown.workspace = true\n";
    let member = read("crates/x/Cargo.toml", "crates/x", text, Some(&workspace)).expect("member");
    assert_eq!(member.package.expect("package").version, "2.0.0");
    assert_eq!(member.dependencies[0].features, ["a", "b"]);
    assert!(member.dependencies[0].optional && !member.dependencies[0].default_features);
    assert_eq!(member.path_dependencies[0].directory, "crates/own");
    let error = read("c", "crates/x", text, None).expect_err("no workspace");
    assert!(error.message.contains("inherited"), "{}", error.message);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (table, part) in [
        ("[dependencies]\na = { git = \"https://example.invalid/a\" }", "git repository"),
        ("[dependencies]\na = { path = \"../../outside\" }", "outside of the workspace"),
        ("[dependencies]\na = { path = \"/abs\" }", "outside of the workspace"),
        ("[dependencies]\na = { version = \"1\", registry = \"o/t\" }", "not the name of one"),
        (
            "[dependencies]\na = { version = \"1\", registry = \"o\", registry-index = \"p\" }",
            "has both",
        ),
        ("[dependencies]\na = {}", "no version"),
        ("[dependencies]\na = 1", "neither a version nor a table"),
        ("[dependencies]\na = \"x.y\"", "does not read"),
        ("[dependencies]\n\"a b\" = \"1\"", "not a name"),
        ("[patch.crates-io]\na = { git = \"https://example.invalid/a\" }", "a git repository"),
        ("[patch.crates-io]\na = { version = \"1\", registry = \"o\" }", "a version of a registry"),
        ("[patch.crates-io]\na = { path = \"../a\" }", "outside of the project"),
        ("[patch.crates-io]\na = { path = \".\" }", "outside of the project"),
        ("[patch.crates-io]\n\"a b\" = { path = \"a\" }", "not a name"),
        ("[patch]\ncrates-io = 1", "not a table"),
        ("[replace]\n\"a:1.0.0\" = { path = \"a\" }", "`[replace]`"),
        ("dependencies = 1", "not a table"),
    ] {
        let text = format!("{table}\n");
        let text = if table.starts_with('[') {
            format!("{PACKAGE}{text}")
        } else {
            format!("{text}{PACKAGE}")
        };
        let error = read("Cargo.toml", "x", &text, None).expect_err(table);
        assert!(error.message.contains(part), "{table}: {}", error.message);
    }
    let error = read("Cargo.toml", "", "[package\nname", None).expect_err("syntax");
    assert!(error.message.contains("line 1 column"), "{}", error.message);
    add("Cargo.toml", Some("[workspace]\n"), "x", &[wanted("a", "1", &[])]).expect_err("virtual");
}

#[test]
fn patterns_name_directories() {
    for (pattern, directory, expected) in [
        ("a", "a", true),
        ("./a/", "a", true),
        ("a/*", "a/b", true),
        ("a/*", "a/b/c", false),
        ("**", "a/b/c", true),
        ("a/**/z", "a/z", true),
        ("a/**/z", "a/b/c/z", true),
        ("a/x-*", "a/x-1", true),
        ("a/?", "a/bc", false),
        ("a/[b-d]", "a/c", true),
        ("a/[!b-d]", "a/c", false),
        ("a/[", "a/[", true),
        ("", "", true),
    ] {
        assert_eq!(matches(pattern, directory), expected, "{pattern} {directory}");
    }
    assert!(!matches(&"*a".repeat(2_000), &"a".repeat(1_999)));
}

#[test]
fn a_published_manifest_needs_nothing_by_path() {
    let text = format!(
        "{PACKAGE}[workspace]\nmembers = 1\n[patch.crates-io]\nz = {{ git = 'https://g.invalid/z' }}\n[replace]\n'a:1.0.0' = {{ path = 'a' }}\n\
         [dependencies]\nwinapi = {{ version = '0.2.5', path = '../..' }}\nsub = {{ version = '1', path = 'sub' }}\n\
         [target.'cfg(unix)'.dev-dependencies]\nnear = {{ path = 'near' }}\n"
    );
    read("Cargo.toml", "", &text, None).expect_err("nothing that a project could have");
    let manifest = read_published("Cargo.toml", &text).expect("read");
    let needs = manifest.dependencies.iter();
    let needs: Vec<String> = needs.map(|it| format!("{} {}", it.package, it.requirement)).collect();
    assert_eq!(needs, ["winapi ^0.2.5", "sub ^1", "near *"]);
    assert!(manifest.path_dependencies.is_empty() && manifest.patches.is_empty());
    assert!(manifest.workspace.is_none());
}
