//! Whose answers are whose: what one project is shown is not given to another that shows other credentials, or names other places.

use super::*;

/// `http://user:TOKEN@HOST/simple/`, or without both.
fn address(server: &Server, token: Option<&str>) -> String {
    let mut url = server.at("/simple/");
    if let Some(token) = token {
        url.set_username("user").expect("a host");
        url.set_password(Some(token)).expect("a host");
    }
    url.into()
}

fn header(token: &str) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("user:{token}"));
    format!("Basic {text}")
}

#[test]
fn what_a_further_index_says_to_one_is_not_told_to_another() {
    let (rich, poor) = (header("rich"), header("poor"));
    let seen_by = move |seen: &Seen| seen.header("authorization").map(str::to_owned);
    let first = Server::start(move |seen| match seen_by(seen) {
        Some(shown) if shown == rich => {
            Reply::ok(r#"<a href="/a-1.0-py3-none-any.whl">a</a>"#).html()
        }
        Some(shown) if shown == poor => {
            Reply::ok(r#"<a href="/a-0.5-py3-none-any.whl">a</a>"#).html()
        }
        _ => Reply::status(404),
    });
    let main = Server::start(|_| Reply::status(404));
    let mut world = World::new();
    world.set("PIP_INDEX_URL", main.url().as_str());
    let process = world.client();
    // In the memory of one process, and from the disk in a new one; also to who does not ask at all.
    for (token, expected) in
        [(Some("rich"), Some("a-1.0")), (Some("poor"), Some("a-0.5")), (None, None)]
    {
        world.set("PIP_EXTRA_INDEX_URL", &address(&first, token));
        for client in [process.with_request(world.request.clone()), world.client()] {
            let project = client.pypi().project(&name()).ok();
            let file = project.map(|project| project.files_at(0)[0].name.clone());
            let begins = file.as_deref().and_then(|file| file.strip_suffix("-py3-none-any.whl"));
            assert_eq!(begins, expected, "{token:?}");
        }
    }
    world.set("PIP_EXTRA_INDEX_URL", &address(&first, Some("another")));
    world.offline().pypi().project(&name()).expect_err("nothing is known to this one");
}

#[test]
fn a_file_is_asked_for_by_each_who_shows_something_else() {
    let (digest, own) = ("ab".repeat(32), header("rich"));
    let index = Server::start(move |seen| {
        let is_own = seen.header("authorization") == Some(&own);
        match seen.path.as_str() {
            "/simple/a/" => Reply::ok(format!(
                r#"<a href="/a-1.0-py3-none-any.whl#sha256={digest}" data-core-metadata="true">a</a>"#
            ))
            .html(),
            "/a-1.0-py3-none-any.whl.metadata" if is_own => Reply::ok(METADATA),
            _ => Reply::status(404),
        }
    });
    let mut world = World::new();
    world.set("PIP_INDEX_URL", &address(&index, Some("rich")));
    check(&ask(&world).expect("metadata"));
    for token in [Some("poor"), None] {
        world.set("PIP_INDEX_URL", &address(&index, token));
        ask(&world).expect_err("not shown to this one");
    }
}

#[test]
fn a_page_beside_the_index_does_not_say_what_a_file_of_the_index_needs() {
    let digest = "ab".repeat(32);
    let link = move |place: &str| {
        Reply::ok(format!(
            r#"<a href="{place}/a-1.0-py3-none-any.whl#sha256={digest}" data-core-metadata="true">a</a>"#
        ))
        .html()
    };
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/a/" => link("/good"),
        "/flat" => link("/evil"),
        "/good/a-1.0-py3-none-any.whl.metadata" => Reply::ok(METADATA),
        "/evil/a-1.0-py3-none-any.whl.metadata" => Reply::ok(METADATA.replace("b>=1", "evil")),
        _ => Reply::status(404),
    });
    let mut world = World::new();
    world.set("PIP_INDEX_URL", server.url().as_str());
    world.set("PIP_FIND_LINKS", server.at("/flat").as_str());
    let told = ask(&world).expect("the page's");
    assert_eq!(told.requires_dist[0].to_string(), "evil");
    world.set("PIP_FIND_LINKS", "");
    check(&ask(&world).expect("the index's"));
}
