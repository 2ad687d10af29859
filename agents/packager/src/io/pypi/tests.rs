//! The client against a server.

mod keys;
mod links;

use std::str::FromStr;

use super::*;
use crate::io::limits::{DOWNLOAD_TIMEOUT, METADATA_TIMEOUT};
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
    let digest = crate::hex::hex(ring::digest::digest(&ring::digest::SHA256, b"any").as_ref());
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
    client.pypi().core_metadata(&project, &project.files_at(0)[0])
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
    let mut paths = server.paths();
    // The wheel may have been asked for as well, before it was known that the host has such files.
    paths.retain(|path| !path.ends_with(".whl"));
    assert_eq!(paths, ["/a/", "/a-1.0-py3-none-any.whl.metadata", "/a/"]);
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
    for file in &project.files().collect::<Vec<_>>() {
        // All but the first are about another version, which is an error; the question counts here.
        let _ = client.pypi().core_metadata(&project, file);
    }
    let asked = server.paths().iter().filter(|path| path.ends_with(".metadata")).count();
    assert_eq!(asked, METADATA_FILES_TRIED_MAX as usize);
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
fn a_file_without_a_digest_is_fetched_and_no_credential_leaves_its_host() {
    let other = Server::start(|_| Reply::ok("a wheel"));
    let target = other.at("/x.whl").to_string();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/moved.whl" => Reply::redirect(&target),
        _ => Reply::status(404),
    });
    let mut world = World::new();
    let index = server.at("/simple").to_string().replace("://", "://me:hush@");
    world.set("PIP_INDEX_URL", &index);
    let file = server.at("/moved.whl");
    assert_eq!(world.client().pypi_file(&file).expect("fetched"), "a wheel");
    assert!(server.seen()[0].header("authorization").is_some());
    assert_eq!(other.seen()[0].header("authorization"), None);
    let mut secret = server.at("/gone.whl");
    secret.set_query(Some("token=hush"));
    let gone = world.client().pypi_file(&secret).expect_err("gone");
    assert_eq!(gone.code, "file-missing");
    let offline = world.offline().pypi_file(&secret).expect_err("offline");
    assert_eq!(offline.code, "offline-missing");
    assert!(!format!("{gone:?}{offline:?}").contains("hush"));
}

#[test]
fn a_file_without_a_digest_has_the_time_of_a_download_and_comes_whole() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/part.whl" => Reply::ok("a wh").with_status(206).header("content-range", "bytes 0-3/7"),
        _ => Reply::ok("a wheel"),
    });
    let world = World::with("pypi", &server.url());
    assert_eq!(world.client().pypi_file(&server.at("/x.whl")).expect("fetched"), "a wheel");
    let seen = &server.seen()[0];
    assert_eq!((seen.header("accept-encoding"), seen.header("range")), (Some("identity"), None));
    world.client().pypi_file(&server.at("/part.whl")).expect_err("a part of it");
    let limit = |request: crate::io::http::Request<'_>| request.limit();
    let (file, page) = (server.at("/x.whl"), server.at("/a/"));
    assert_eq!(limit(crate::io::whole::request_of(file, None)), DOWNLOAD_TIMEOUT);
    assert_eq!(limit(crate::io::http::Request::new(page, None, 1)), METADATA_TIMEOUT);
}

#[test]
fn a_source_archive_has_no_metadata_without_a_build() {
    let server = Server::start(|_| Reply::ok(r#"<a href="a-1.0.tar.gz">a</a>"#).html());
    assert_eq!(ask(&World::with("pypi", &server.url())).expect_err("a source").code, "needs-build");
}

/// A source archive with one file beside its PKG-INFO.
fn source_archive(info: &str) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    for (path, text) in [("a-1.0/setup.py", "exit(1)"), ("a-1.0/PKG-INFO", info)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, text.as_bytes()).expect("written");
    }
    archive.into_inner().expect("written").finish().expect("written")
}

#[test]
fn a_source_archive_is_believed_where_it_says_so_itself() {
    let head = METADATA.replace("2.1", "2.2");
    let dynamic = head.replace("Requires-Dist: b>=1", "Dynamic: Requires-Dist");
    for (info, damaged, expected) in [
        (head.as_str(), false, None),
        (METADATA, false, Some("needs-build")),
        (dynamic.as_str(), false, Some("needs-build")),
        (head.as_str(), true, Some("hash-mismatch")),
    ] {
        let bytes = source_archive(info);
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let digest = crate::hex::hex(digest.as_ref());
        let server = Server::start(move |seen| match seen.path.as_str() {
            "/a/" => Reply::ok(format!(r#"<a href="/a-1.0.tar.gz#sha256={digest}">a</a>"#)).html(),
            "/a-1.0.tar.gz" if damaged => Reply::ok("something else"),
            "/a-1.0.tar.gz" => Reply::ok(bytes.clone()),
            _ => Reply::status(404),
        });
        let world = World::with("pypi", &server.url());
        match expected {
            Some(code) => assert_eq!(ask(&world).expect_err("refused").code, code),
            None => {
                check(&ask(&world).expect("metadata"));
                // The second time from the disk.
                check(&ask(&world).expect("metadata"));
                assert_eq!(server.paths(), ["/a/", "/a-1.0.tar.gz"]);
            }
        }
    }
}

#[test]
fn an_unknown_project_says_which_settings_were_not_followed() {
    let server = Server::start(|_| Reply::status(404));
    let mut world = World::with("pypi", &server.url());
    world.set("PIP_TRUSTED_HOST", "1");
    let error = world.client().pypi().project(&name()).expect_err("unknown");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Failed, "unknown-package"));
    assert!(error.hint.expect("advice").contains("PIP_TRUSTED_HOST"));
}

/// Two indexes as a person configures them, the first one asked first.
fn two(first: &Server, main: &Server) -> World {
    let mut world = World::new();
    world.set("PIP_INDEX_URL", main.url().as_str());
    world.set("PIP_EXTRA_INDEX_URL", first.url().as_str());
    world
}

#[test]
fn a_project_comes_from_the_first_index_that_has_it() {
    let listing = |version: &str| {
        let link = format!(r#"<a href="/a-{version}-py3-none-any.whl">a</a>"#);
        Reply::ok(link).html()
    };
    let first = Server::start(move |seen| match seen.path.as_str() {
        "/a/" => listing("1.0"),
        _ => Reply::status(404),
    });
    // A stranger's higher version under the same name.
    let main = Server::start(move |seen| match seen.path.as_str() {
        "/a/" => listing("99.0"),
        "/b/" => Reply::ok(r#"<a href="/b-2.0-py3-none-any.whl">b</a>"#).html(),
        _ => Reply::status(404),
    });
    let mut world = two(&first, &main);
    let client = world.client();
    let project = client.pypi().project(&name()).expect("a page");
    assert_eq!(project.files_at(0)[0].name, "a-1.0-py3-none-any.whl");
    let other = client.pypi().project(&"b".parse().expect("a name")).expect("a page");
    assert_eq!(other.files_at(0)[0].name, "b-2.0-py3-none-any.whl");
    assert_eq!(
        (first.paths(), main.paths()),
        (vec!["/a/".into(), "/b/".into()], vec!["/b/".into()])
    );
    // What was kept with both configured does not stand for the main one alone.
    world.set("PIP_EXTRA_INDEX_URL", "");
    let alone = world.client().pypi().project(&name()).expect("a page");
    assert_eq!(alone.files_at(0)[0].name, "a-99.0-py3-none-any.whl");
}

#[test]
fn an_index_that_fails_is_not_passed_over() {
    for status in [401, 403, 500] {
        let first = Server::start(move |_| Reply::status(status));
        let main = Server::start(|_| Reply::ok(r#"<a href="/a-9-py3-none-any.whl">a</a>"#).html());
        let error = two(&first, &main).client().pypi().project(&name()).expect_err("refused");
        assert_ne!(error.code, "unknown-package");
        assert!(main.paths().is_empty(), "{status}");
    }
}
