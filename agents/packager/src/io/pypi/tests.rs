//! The client against a server.

use std::str::FromStr;

use super::*;
use crate::io::testing::{Reply, Seen, Server, World};

const METADATA: &str =
    "Metadata-Version: 2.1\nName: a\nVersion: 1.0\nRequires-Dist: b>=1\n\ndescription\n";

fn name() -> PackageName {
    PackageName::from_str("a").expect("a name")
}

fn archive(padding: usize) -> Vec<u8> {
    // Incompressible enough, so that METADATA is far from both ends.
    let mut state = 1_u32;
    let noise: Vec<u8> = (0..padding)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    let entries: &[(&str, &[u8])] = &[
        ("a/x.bin", &noise),
        ("a-1.0.dist-info/METADATA", METADATA.as_bytes()),
        ("a/y.bin", &noise),
    ];
    wheel::tests::wheel(entries, true)
}

fn page(attributes: &str) -> Reply {
    let digest =
        super::super::cache::hex(ring::digest::digest(&ring::digest::SHA256, b"any").as_ref());
    Reply::ok(format!(
        r#"<html><a href="/a-1.0-py3-none-any.whl#sha256={digest}" {attributes}>a</a></html>"#
    ))
    .html()
}

/// What a server that knows ranges answers.
fn ranged(bytes: &[u8], seen: &Seen) -> Reply {
    let Some(range) = seen.header("range").and_then(|range| range.strip_prefix("bytes=")) else {
        return Reply::ok(bytes);
    };
    let (from, to) = range.split_once('-').expect("a range");
    let total = bytes.len();
    let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Err(_), Ok(suffix)) => (total.saturating_sub(suffix), total),
        (Ok(from), Ok(to)) => (from, (to + 1).min(total)),
        (Ok(from), Err(_)) => (from, total),
        _ => (0, total),
    };
    let range = format!("bytes {from}-{}/{total}", to - 1);
    Reply::ok(&bytes[from..to]).with_status(206).header("content-range", &range)
}

/// Asks for the core metadata of the only file.
fn ask(world: &World) -> Result<Arc<CoreMetadata>> {
    let client = world.client();
    let project = client.pypi().project(&name())?;
    client.pypi().core_metadata(&project, &project.files[0])
}

fn check(metadata: &CoreMetadata) {
    assert_eq!(metadata.requires_dist[0].to_string(), "b>=1");
}

#[test]
fn an_unadvertised_metadata_file_is_used_and_kept_for_ever() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/a/" => page(""),
        "/a-1.0-py3-none-any.whl.metadata" => Reply::ok(METADATA),
        _ => Reply::status(404),
    });
    let mut world = World::with("pypi", &server.url());
    check(&ask(&world).expect("metadata"));
    world.request.max_age = std::time::Duration::ZERO;
    check(&ask(&world).expect("metadata"));
    assert_eq!(server.paths(), ["/a/", "/a-1.0-py3-none-any.whl.metadata", "/a/"]);
    world.request.offline = true;
    check(&ask(&world).expect("metadata"));
}

#[test]
fn an_advertised_hash_is_checked() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/a/" => page(&format!(r#"data-core-metadata="sha256={}""#, "0".repeat(64))),
        _ => Reply::ok(METADATA),
    });
    let error = ask(&World::with("pypi", &server.url())).expect_err("refused");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Verification, "hash-mismatch"));
}

#[test]
fn the_end_of_a_wheel_is_read_where_there_is_no_metadata_file() {
    for padding in [0, 1_000, 200_000] {
        let bytes = archive(padding);
        let total = bytes.len();
        let server = Server::start(move |seen| match seen.path.as_str() {
            "/a/" => page(""),
            "/a-1.0-py3-none-any.whl" => ranged(&bytes, seen),
            _ => Reply::status(404),
        });
        check(&ask(&World::with("pypi", &server.url())).expect("metadata"));
        let ranges: Vec<String> = server
            .seen()
            .iter()
            .filter_map(|seen| seen.header("range").map(str::to_owned))
            .collect();
        assert_eq!(ranges.len(), if total > 100_000 { 2 } else { 1 }, "{ranges:?}");
    }
}

#[test]
fn a_whole_wheel_is_read_where_ranges_are_unknown() {
    for refusal in [None, Some(501), Some(416), Some(400)] {
        let bytes = archive(1_000);
        let server = Server::start(move |seen| match (seen.path.as_str(), refusal) {
            ("/a/", _) => page("data-core-metadata=false"),
            (_, Some(status))
                if seen.header("range").is_some_and(|range| range.starts_with("bytes=-")) =>
            {
                Reply::status(status)
            }
            _ => Reply::ok(bytes.clone()),
        });
        check(&ask(&World::with("pypi", &server.url())).expect("metadata"));
        assert!(!server.paths().iter().any(|path| path.ends_with(".metadata")));
    }
}

#[test]
fn a_host_without_metadata_files_is_not_asked_again_and_again() {
    let bytes = archive(10);
    let server = Server::start(move |seen| {
        let path = seen.path.as_str();
        if path.ends_with('/') {
            let version = |index: usize| {
                format!(r#"<a href="/a-1.{index}-py3-none-any.whl#sha256={index:064x}">a</a>"#)
            };
            return Reply::ok((0..8).map(version).collect::<String>()).html();
        }
        if path.ends_with(".metadata") { Reply::status(404) } else { ranged(&bytes, seen) }
    });
    let client = World::with("pypi", &server.url()).client();
    let project = client.pypi().project(&name()).expect("a page");
    for file in &project.files {
        // All but the first are about another version, which is an error; the question counts here.
        let _ = client.pypi().core_metadata(&project, file);
    }
    let asked = server.paths().iter().filter(|path| path.ends_with(".metadata")).count();
    assert_eq!(asked, ABSENT_METADATA_FILES_MAX as usize);
}

#[test]
fn a_helpful_page_is_not_taken_for_metadata() {
    let bytes = archive(10);
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/a/" => page(""),
        "/a-1.0-py3-none-any.whl" => ranged(&bytes, seen),
        _ => Reply::ok("<html>welcome</html>").html(),
    });
    check(&ask(&World::with("pypi", &server.url())).expect("metadata"));
}

#[test]
fn damaged_metadata_is_told_apart_from_a_damaged_registry() {
    for (metadata, code) in [
        ("Name: a\nVersion: 1.0\nRequires-Dist: b>=one\n", "bad-metadata"),
        ("Name: z\nVersion: 1.0\n", "bad-metadata"),
    ] {
        let server = Server::start(move |seen| match seen.path.as_str() {
            "/a/" => page(""),
            _ => Reply::ok(metadata),
        });
        assert_eq!(ask(&World::with("pypi", &server.url())).expect_err("damaged").code, code);
    }
    let server = Server::start(|seen| match seen.path.as_str() {
        "/a/" => page("data-core-metadata=false"),
        _ => Reply::ok("this is no wheel"),
    });
    assert_eq!(
        ask(&World::with("pypi", &server.url())).expect_err("damaged").code,
        "registry-nonsense"
    );
}

#[test]
fn the_other_form_and_redirects_work() {
    let server = Server::start(|seen| {
        match seen.path.as_str() {
        "/a/" => Reply::redirect("/moved/simple/a/"),
        "/moved/simple/a/" => Reply::ok(r#"{"files":[{"filename":"a-1.0-py3-none-any.whl","url":"../x/a.whl","core-metadata":true}]}"#)
            .header("content-type", page::JSON),
        "/moved/simple/x/a.whl.metadata" => Reply::ok(METADATA),
        _ => Reply::status(500),
    }
    });
    check(&ask(&World::with("pypi", &server.url())).expect("metadata"));
    assert!(server.seen()[0].header("accept").expect("sent").contains("simple.v1+json"));
}

#[test]
fn a_source_archive_has_no_metadata_without_a_build() {
    let server = Server::start(|_| Reply::ok(r#"<a href="a-1.0.tar.gz">a</a>"#).html());
    assert_eq!(ask(&World::with("pypi", &server.url())).expect_err("a source").code, "needs-build");
}

#[test]
fn an_unknown_project_says_which_indexes_were_not_asked() {
    let server = Server::start(|_| Reply::status(404));
    let mut world = World::with("pypi", &server.url());
    world.set("PIP_EXTRA_INDEX_URL", "https://me:hush@x.example.invalid/");
    let error = world.client().pypi().project(&name()).expect_err("unknown");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Failed, "unknown-package"));
    let hint = error.hint.expect("advice");
    assert!(hint.contains("PIP_EXTRA_INDEX_URL") && !hint.contains("hush"), "{hint}");
}
