//! The client against a server.

use super::*;
use crate::io::testing::{Reply, Server, World};

const SERDE: &str = concat!(
    r#"{"name":"serde","vers":"1.0.0","deps":[],"cksum":"#,
    r#""e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","features":{}}"#
);

#[test]
fn a_crate_is_read_and_its_file_is_found() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/se/rd/serde" => Reply::ok(SERDE).header("etag", "\"x\""),
        "/config.json" => {
            Reply::ok(r#"{"dl":"https://d.example.invalid/{crate}/{sha256-checksum}"}"#)
        }
        _ => Reply::status(404),
    });
    let world = World::with("cargo", &server.url());
    let client = world.client();
    let found = client.cargo().krate("serde").expect("a crate");
    let error = client.cargo().krate("Serde").expect_err("another spelling");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Failed, "unknown-package"));
    assert_eq!(error.hint.as_deref(), Some("did you mean `serde`?"));
    assert_eq!(found.name(), "serde");
    let version = semver::Version::new(1, 0, 0);
    let url = client.cargo_artifact_url("serde", &version).expect("an address");
    assert!(url.starts_with("https://d.example.invalid/serde/e3b0c442"), "{url}");
    assert_eq!(world.offline().cargo_artifact_url("serde", &version).expect("known"), url);
    let offline = world.offline().cargo().krate("serde").expect("known");
    assert_eq!(offline.archive(), found.archive());
    let file = world.offline().cargo_registry(None).index_file("serde").expect("known");
    assert_eq!((file.name.as_str(), &*file.raw), ("serde", SERDE.as_bytes()));
    assert_eq!(file.revision.as_deref(), Some("etag: \"x\""));
    assert_eq!(server.paths().len(), 2);
}

#[test]
fn an_index_file_that_is_gone_or_damaged_is_asked_for_anew() {
    let server = Server::start(|_| Reply::ok(SERDE));
    let world = World::with("cargo", &server.url());
    let client = world.client();
    client.cargo().krate("serde").expect("a crate");
    for path in world.packs() {
        std::fs::write(path, b"").expect("a pack");
    }
    assert_eq!(
        client.cargo_registry(None).index_file("serde").expect("asked for").raw,
        SERDE.as_bytes()
    );
    world.damage(SERDE.as_bytes(), SERDE.len() - 1);
    assert_eq!(
        client.cargo_registry(None).index_file("serde").expect("asked for").raw,
        SERDE.as_bytes()
    );
    assert_eq!(server.paths().len(), 3);
}

#[test]
fn who_looks_for_an_original_has_the_disk_rest_afterwards() {
    let server = Server::start(|_| Reply::ok(SERDE));
    let client = World::with("cargo", &server.url()).client();
    let will_rest = || &client.session().shared.disk.will_rest;
    let registry = client.cargo_registry(None);
    registry.index_file("serde").expect("asked for");
    assert!(will_rest().load(std::sync::atomic::Ordering::Relaxed));
    // As after a rest: the value is still in memory.
    will_rest().store(false, std::sync::atomic::Ordering::Relaxed);
    registry.index_file("serde").expect("known");
    assert!(will_rest().load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(server.paths().len(), 1);
}

#[test]
fn a_damaged_archive_is_made_again_from_the_file() {
    let server = Server::start(|_| Reply::ok(SERDE));
    let world = World::with("cargo", &server.url());
    let before = world.client().cargo().krate("serde").expect("a crate");
    let archive = before.archive();
    world.damage(archive, archive.len() / 2);
    let after = world.offline().cargo().krate("serde").expect("known");
    assert_eq!(after.archive(), archive);
    let has_archive = |path: std::path::PathBuf| {
        let whole = std::fs::read(path).expect("a pack");
        whole.windows(archive.len()).any(|part| part == archive)
    };
    assert!(world.packs().into_iter().any(has_archive), "it is kept again");
    assert_eq!(server.paths().len(), 1);
}

#[test]
fn hyphens_and_underscores_are_the_usual_mistake() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/se/rd/serde_json" => Reply::ok(SERDE),
        _ => Reply::status(404),
    });
    let client = World::with("cargo", &server.url()).client();
    let error = client.cargo().krate("serde-json").expect_err("unknown");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Failed, "unknown-package"));
    assert_eq!(error.hint.as_deref(), Some("did you mean `serde_json`?"));
    assert!(
        client
            .cargo()
            .krate("nothing")
            .expect_err("unknown")
            .hint
            .expect("advice")
            .contains("spelling")
    );
}

/// A world in which the registry `work` stands for the public one, with a token.
fn private(server: &Server) -> World {
    let world = World::new();
    let config = format!(
        "[source.crates-io]\nreplace-with = \"work\"\n[registries.work]\nindex = \"sparse+{}\"\n",
        server.url()
    );
    world.write("home/.cargo/config.toml", &config);
    world.write("home/.cargo/credentials.toml", "[registries.work]\ntoken = \"hush\"\n");
    world
}

#[test]
fn a_private_registry_gets_its_token() {
    let server = Server::start(|seen| match (seen.header("authorization"), seen.path.as_str()) {
        (None, _) => Reply::status(401),
        (Some("hush"), "/config.json") => Reply::ok(r#"{"dl":"x","auth-required":true}"#),
        (Some("hush"), _) => Reply::ok(SERDE),
        _ => Reply::status(403),
    });
    private(&server).client().cargo().krate("serde").expect("a crate");
}

#[test]
fn a_public_registry_does_not_get_it() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/config.json" => Reply::ok(r#"{"dl":"x"}"#),
        _ => Reply::ok(SERDE),
    });
    private(&server).client().cargo().krate("serde").expect("a crate");
    assert!(server.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn a_huge_or_senseless_configuration_is_refused() {
    for body in [
        format!(r#"{{"dl":"{}"}}"#, "x".repeat(100_000)),
        "[]".to_owned(),
        r#"{"dl":"ftp://x"}"#.to_owned(),
    ] {
        let server = Server::start(move |_| Reply::ok(body.clone()));
        let client = World::with("cargo", &server.url()).client();
        let error = client
            .cargo_artifact_url("serde", &semver::Version::new(1, 0, 0))
            .expect_err("refused");
        assert_eq!(error.code, "registry-nonsense");
    }
}
