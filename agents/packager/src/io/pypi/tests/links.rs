//! Files that are listed beside the indexes: in directories of this machine and on pages.

use super::*;

const WHEEL: &str = "wheels/a-1.0-py3-none-any.whl";
const NOBODY: &str = "http://127.0.0.1:9/";

/// A wheel of `a` that needs `needs`.
fn wheel_of(version: &str, needs: &str) -> Vec<u8> {
    let metadata =
        format!("Metadata-Version: 2.1\nName: a\nVersion: {version}\nRequires-Dist: {needs}\n\n");
    let path = format!("a-{version}.dist-info/METADATA");
    wheel::tests::wheel(&[("a/__init__.py", b""), (&path, metadata.as_bytes())], true)
}

fn put(world: &World, path: &str, bytes: &[u8]) {
    let path = world.directory.path().join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(path, bytes).expect("a file");
}

fn beside(index: &str) -> World {
    let mut world = World::new();
    world.set("PIP_INDEX_URL", index);
    world.set("PIP_FIND_LINKS", "../wheels");
    world
}

fn alone() -> World {
    let mut world = beside(NOBODY);
    world.set("PIP_NO_INDEX", "1");
    world
}

/// The files of `a`, by name.
fn files(world: &World) -> Result<Vec<String>> {
    let project = world.client().pypi().project(&name())?;
    Ok(project.files().map(|file| file.name.clone()).collect())
}

#[test]
fn a_directory_is_enough_where_no_index_is_to_be_asked() {
    let world = alone();
    put(&world, WHEEL, &wheel_of("1.0", "b>=2"));
    put(&world, "wheels/deeper/a-9.0-py3-none-any.whl", &wheel_of("9.0", "c"));
    put(&world, "wheels/ab-3.0-py3-none-any.whl", b"another's");
    put(&world, "wheels/README", b"not a package");
    let client = world.client();
    let project = client.pypi().project(&name()).expect("found");
    let all: Vec<_> = project.files().collect();
    assert_eq!(all.len(), 1, "{project:?}");
    let digest = ring::digest::digest(&ring::digest::SHA256, &wheel_of("1.0", "b>=2"));
    assert_eq!(all[0].hashes.sha256, Some(crate::hex::hex(digest.as_ref())));
    assert!(all[0].url.starts_with("file:///"), "{}", all[0].url);
    let metadata = client.pypi().core_metadata(&project, &all[0]).expect("metadata");
    assert_eq!(metadata.requires_dist[0].to_string(), "b>=2");
    let b = PackageName::from_str("b").expect("a name");
    let error = client.pypi().project(&b).expect_err("nowhere");
    assert_eq!(error.code, "unknown-package");
    assert!(error.hint.expect("advice").contains("no-index"));
    assert!(client.pypi().prefetch_project(&b), "there is nothing to wait for");
}

#[test]
fn what_was_exchanged_after_it_was_hashed_is_not_asked() {
    let world = alone();
    put(&world, WHEEL, &wheel_of("1.0", "b"));
    let client = world.client();
    let project = client.pypi().project(&name()).expect("found");
    put(&world, WHEEL, &wheel_of("1.0", "evil"));
    let file = project.files().next().expect("a file");
    let error = client.pypi().core_metadata(&project, &file).expect_err("another file");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Verification, "hash-mismatch"));
    std::fs::remove_file(world.directory.path().join(WHEEL)).expect("removed");
    let error = client.pypi().core_metadata(&project, &file).expect_err("gone");
    assert_eq!(error.code, "hash-mismatch");
}

#[test]
fn what_is_no_wheel_says_so_and_a_directory_that_is_not_there_too() {
    let world = alone();
    assert_eq!(files(&world).expect_err("no directory").code, "links-missing");
    for bytes in [&b""[..], b"PK\x05\x06", &[0; 4096], &wheel_of("1.0", "b")[..60]] {
        put(&world, WHEEL, bytes);
        let client = world.client();
        let project = client.pypi().project(&name()).expect("listed");
        let file = project.files().next().expect("a file");
        let error = client.pypi().core_metadata(&project, &file).expect_err("no wheel");
        assert_eq!(error.code, "bad-metadata");
    }
}

#[test]
fn what_is_listed_and_cannot_be_read_is_no_reason_to_ask_an_index() {
    let server = Server::start(|_| page(""));
    let world = beside(server.url().as_str());
    put(&world, "wheels/README", b"");
    let path = world.directory.path().join(WHEEL);
    std::os::unix::fs::symlink("/nowhere", &path).expect("a link");
    assert_eq!(files(&world).expect_err("it leads nowhere").code, "file-missing");
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a directory with the name of a file");
    assert_eq!(files(&world).expect_err("no file").code, "file-refused");
}

#[test]
fn a_package_of_an_index_of_its_own_is_not_asked_for_either_without_an_index() {
    let server = Server::start(|_| page(""));
    let mut world = alone();
    put(&world, "wheels/README", b"");
    let project = format!(
        "[project]\nname = 'p'\n[tool.uv.sources]\na = {{ index = 'i' }}\n\
         [[tool.uv.index]]\nname = 'i'\nurl = '{}'\n",
        server.url()
    );
    world.write("project/pyproject.toml", &project);
    assert_eq!(files(&world).expect_err("nothing is asked").code, "unknown-package");
    assert!(server.paths().is_empty());
    world.set("PIP_NO_INDEX", "0");
    assert_eq!(files(&world).expect("asked").len(), 1);
}

#[test]
fn a_file_without_a_digest_on_a_page_does_not_hide_the_one_of_the_index() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/a/" => page(""),
        "/flat" => Reply::ok("<a href='/other/a-1.0-py3-none-any.whl'>a</a>").html(),
        _ => Reply::status(404),
    });
    let mut world = World::new();
    world.set("PIP_INDEX_URL", server.url().as_str());
    world.set("PIP_FIND_LINKS", &format!("{}flat", server.url()));
    let project = world.client().pypi().project(&name()).expect("both");
    let all: Vec<_> = project.files().collect();
    assert_eq!(all.len(), 1);
    assert!(!all[0].hashes.is_empty() && !all[0].url.contains("other"), "{project:?}");
}

#[test]
fn an_index_and_a_directory_are_one_and_the_directory_has_the_first_word() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/a/" => page(""),
        _ => Reply::status(404),
    });
    let mut world = beside(server.url().as_str());
    put(&world, "wheels/a-0.5-py3-none-any.whl", &wheel_of("0.5", "b"));
    let both = ["a-0.5-py3-none-any.whl", "a-1.0-py3-none-any.whl"];
    assert_eq!(files(&world).expect("both"), both);
    put(&world, WHEEL, &wheel_of("1.0", "b"));
    let project = world.client().pypi().project(&name()).expect("both");
    assert!(project.files().all(|file| file.url.starts_with("file:///")), "{project:?}");
    assert_eq!(project.files_count(), 2);
    // An index that does not have it is no reason, one that fails is.
    let nobody = Server::start(|_| Reply::status(404));
    world.set("PIP_INDEX_URL", nobody.url().as_str());
    assert_eq!(files(&world).expect("the directory").len(), 2);
    let refusing = Server::start(|_| Reply::status(418));
    world.set("PIP_INDEX_URL", refusing.url().as_str());
    assert_eq!(files(&world).expect_err("refused").kind, Kind::Network);
}

#[test]
fn a_page_lists_files_of_all_packages_and_is_asked_for_once() {
    let digest = "ab".repeat(32);
    let flat = format!(
        "<html><a href='whl/a-2.0-py3-none-any.whl#sha256={digest}'>a</a>\
         <a href='file:///etc/a-8.0-py3-none-any.whl#sha256={digest}'>a</a>\
         <a href='b_c-1.0.tar.gz#sha256={digest}'>b</a>\
         <a href='A-3.0.tar.gz#sha256={digest}'>a</a></html>"
    );
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/flat/all.html" => Reply::ok(flat.clone()).html(),
        _ => Reply::status(404),
    });
    let mut world = World::new();
    world.set("PIP_INDEX_URL", server.url().as_str());
    world.set("PIP_FIND_LINKS", &format!("{}flat/all.html", server.url()));
    let client = world.client();
    let of = |text: &str| {
        let name = PackageName::from_str(text).expect("a name");
        let project = client.pypi().project(&name)?;
        Ok::<_, Error>(project.files().map(|file| file.url.clone()).collect::<Vec<_>>())
    };
    let base = server.url();
    let place = |path: &str| format!("{base}flat/{path}");
    assert_eq!(
        of("a").expect("listed"),
        [place("whl/a-2.0-py3-none-any.whl"), place("A-3.0.tar.gz")]
    );
    assert_eq!(of("b-c").expect("listed"), [place("b_c-1.0.tar.gz")]);
    assert_eq!(of("d").expect_err("nowhere").code, "unknown-package");
    let asked = server.paths();
    assert_eq!(asked.iter().filter(|path| *path == "/flat/all.html").count(), 1, "{asked:?}");
}
