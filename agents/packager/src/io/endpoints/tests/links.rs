//! Where Python packages are looked for beside the indexes, and what a requirements file says of indexes.

use super::*;

/// The same place below a directory of the world.
fn at(found: &Found, path: &str) -> Url {
    Url::from_file_path(found.world.directory.path().join(path)).expect("an address")
}

#[test]
fn places_come_from_everywhere_in_the_order_of_their_strength() {
    let mut world = World::new();
    world.set("XDG_CONFIG_DIRS", "/nowhere");
    world.set("PIP_INDEX_URL", "https://main.example.invalid/simple");
    world.set("UV_FIND_LINKS", "https://me:hush@uv.example.invalid/torch.html, ../uv wheels");
    world.set("PIP_FIND_LINKS", "one\ttwo/../three");
    world.write("project/pyproject.toml", "[tool.uv]\nfind-links = ['./own']\n");
    world.write("home/.config/pip/pip.conf", "[global]\nfind-links =\n  ~/wheels\n  one\n");
    world.write(
        "home/.config/uv/uv.toml",
        "find-links = ['beside']\n[[index]]\nurl = 'https://flat.example.invalid/'\nformat = 'flat'\n\
         [[index]]\nname = 'x'\nurl = '/x'\nformat = 'flat'\nexplicit = true\n",
    );
    let found = Found::new(world);
    let pypi = found.pypi();
    let expected = [
        url("https://uv.example.invalid/torch.html"),
        at(&found, "uv wheels"),
        at(&found, "project/one"),
        at(&found, "project/three"),
        at(&found, "project/own"),
        url("https://flat.example.invalid/"),
        at(&found, "home/.config/uv/beside"),
    ];
    assert_eq!(pypi.links, expected);
    assert!(!pypi.has_no_index);
    assert_eq!(pypi.not_followed.len(), 1, "{:?}", pypi.not_followed);
    let login = pypi.credentials.for_url(&url("https://uv.example.invalid/torch.html"));
    assert!(login.is_some());
    assert!(!format!("{pypi:?}").contains("hush"));
}

#[test]
fn a_requirements_file_names_indexes_as_a_pyproject_does() {
    let mut world = World::new();
    world.set("XDG_CONFIG_DIRS", "/nowhere");
    world.write(
        "home/.config/pip/pip.conf",
        "[global]\nindex-url = https://mine.example.invalid/\n",
    );
    world.write("home/.netrc", "default login me password hush\n");
    world.write(
        "project/requirements.txt",
        "-r more/all.txt\n--index-url https://their.example.invalid/simple --trusted-host their.example.invalid\nflask\n",
    );
    world.write(
        "project/more/all.txt",
        "--extra-index-url=https://extra.example.invalid/whl\n-f wheels\n--no-index\n",
    );
    let found = Found::new(world);
    let pypi = found.pypi();
    assert_eq!(pypi.index, url("https://their.example.invalid/simple/"));
    assert_eq!(pypi.first, [url("https://extra.example.invalid/whl/")]);
    // As pip does, from where it is run and not from where the file lies.
    assert_eq!(pypi.links, [at(&found, "project/wheels")]);
    assert!(pypi.has_no_index);
    assert_eq!(pypi.not_followed.len(), 1, "{:?}", pypi.not_followed);
    assert!(pypi.credentials.for_url(&url("https://their.example.invalid/simple/a/")).is_none());
    // As with pip, it is stronger than a variable.
    let mut found = found;
    found.world.set("PIP_INDEX_URL", "https://variable.example.invalid/");
    assert_eq!(found.pypi().index, url("https://their.example.invalid/simple/"));
    found.world.request.environment.variables.remove("PIP_INDEX_URL");
    // Where the project describes itself otherwise, that file is somebody else's.
    found.world.write("project/pyproject.toml", "[project]\nname = 'p'\n");
    let pypi = found.pypi();
    assert_eq!(pypi.index, url("https://mine.example.invalid/"));
    assert!(pypi.first.is_empty() && pypi.links.is_empty() && !pypi.has_no_index);
}

#[test]
fn an_index_with_a_variable_is_refused_and_not_asked_for_something_else() {
    for option in ["-i", "--extra-index-url", "--find-links"] {
        let mut world = World::new();
        world.set("PIP_INDEX_URL", "https://main.example.invalid/");
        let line = format!("{option} https://host.example.invalid/${{HUSH}}/simple\n");
        world.write("project/requirements.txt", &line);
        let found = Found::new(world);
        let error = super::super::pypi(&found.finder()).expect_err(option);
        assert!(["bad-registry", "bad-links"].contains(&error.code.as_str()), "{error:?}");
        assert!(error.message.contains("variable"), "{error:?}");
    }
}

#[test]
fn variables_of_pip_stand_in_the_place_of_its_files() {
    let mut world = World::new();
    world.set("XDG_CONFIG_DIRS", "/nowhere");
    world.set("PIP_INDEX_URL", "https://main.example.invalid/");
    world.write("home/.config/pip/pip.conf", "[global]\nno-index = yes\nfind-links = /opt/a\n");
    let mut found = Found::new(world);
    assert!(found.pypi().has_no_index);
    found.world.set("PIP_NO_INDEX", "0");
    found.world.set("PIP_FIND_LINKS", "/opt/b");
    let pypi = found.pypi();
    assert!(!pypi.has_no_index);
    assert_eq!(pypi.links, [url("file:///opt/b")]);
}

#[test]
fn who_names_an_index_for_one_command_means_that_one_alone() {
    let mut world = World::new();
    world.set("PIP_NO_INDEX", "true");
    world.set("PIP_FIND_LINKS", "/opt/wheels");
    let mut found = Found::new(world);
    found.world.set("PIP_INDEX_URL", "https://main.example.invalid/");
    assert!(found.pypi().has_no_index);
    found.world.set("PIP_NO_INDEX", "0");
    assert!(!found.pypi().has_no_index);
    found.world.request.overrides.add("pypi=https://one.example.invalid").expect("valid");
    let pypi = found.pypi();
    assert!(pypi.links.is_empty() && !pypi.has_no_index);
}

#[test]
fn what_is_no_place_is_refused_without_being_repeated() {
    let mut world = World::new();
    world.set("PIP_INDEX_URL", "https://main.example.invalid/");
    let mut found = Found::new(world);
    for text in [
        "ftp://me:hush@h/x",
        "https://me:hush@[x",
        "file://hush.example.invalid/x",
        "https://${HUSH}@h/",
        "git+https://hush",
    ] {
        found.world.set("PIP_FIND_LINKS", text);
        let error = super::super::pypi(&found.finder()).expect_err(text);
        assert_eq!(error.code, "bad-links", "{text}");
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    }
    let many: Vec<String> = (0..100).map(|number| format!("/opt/{number}")).collect();
    found.world.set("PIP_FIND_LINKS", &many.join(" "));
    assert_eq!(super::super::pypi(&found.finder()).expect_err("many").code, "too-many-indexes");
}
