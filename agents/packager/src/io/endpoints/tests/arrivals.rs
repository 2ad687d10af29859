//! Where a credential arrives, and where it does not: whole requests against servers on the loopback.

use std::os::unix::fs::PermissionsExt;

use crate::ecosystem::Ecosystem;
use crate::io::testing::{Reply, Server, World};

const EXPRESS: &str = r#"{"name":"express","versions":{}}"#;

/// What each request to a server had for authorization, in order.
fn authorizations(server: &Server) -> Vec<Option<String>> {
    server.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect()
}

/// `//127.0.0.1:PORT/`, as npmrc names a place.
fn place(server: &Server) -> String {
    server.url().as_str().trim_start_matches("http:").to_owned()
}

fn npm_world() -> World {
    let mut world = World::new();
    world.set("PATH", "/nowhere");
    world
}

#[test]
fn a_token_arrives_at_its_registry_and_not_where_that_redirects_to() {
    let other = Server::start(|_| Reply::ok(EXPRESS).json());
    let target = other.at("/express").to_string();
    let server = Server::start(move |_| Reply::redirect(&target));
    let mut world = npm_world();
    world.request.environment.references.insert("NPM_TOKEN".to_owned(), "hush".to_owned());
    let text = format!("registry={}\n{}:_authToken=${{NPM_TOKEN}}\n", server.url(), place(&server));
    world.write("home/.npmrc", &text);
    world.client().npm().packument("express").expect("from the other one");
    assert_eq!(authorizations(&server), [Some("Bearer hush".to_owned())]);
    assert_eq!(authorizations(&other), [None]);
}

#[test]
fn a_project_that_names_another_registry_gets_no_credential_of_the_person() {
    let server = Server::start(|_| Reply::ok(EXPRESS).json());
    let evil = Server::start(|_| Reply::ok(EXPRESS).json());
    let mut world = npm_world();
    world.request.environment.references.insert("NPM_TOKEN".to_owned(), "hush".to_owned());
    world.set("SECRET", "hush");
    let own = format!("{}:_authToken=${{NPM_TOKEN}}\n_auth=aHVzaDpodXNo\n", place(&server));
    world.write("home/.npmrc", &format!("registry={}\n{own}", server.url()));
    let theirs = format!(
        "registry={}\n{}:_authToken=${{NPM_TOKEN}}\n{}:_auth=${{SECRET}}\n",
        evil.url(),
        place(&evil),
        place(&evil)
    );
    world.write("project/.npmrc", &theirs);
    world.client().npm().packument("express").expect("from the project's registry");
    assert_eq!((authorizations(&evil), server.paths().len()), (vec![None], 0));
}

#[test]
fn each_scope_gets_its_own_credential() {
    let work = Server::start(|_| Reply::ok(r#"{"name":"@work/tool","versions":{}}"#).json());
    let server = Server::start(|_| Reply::ok(EXPRESS).json());
    let world = npm_world();
    world.write(
        "home/.npmrc",
        &format!(
            "registry={}\n@work:registry={}\n{}:username=me\n{}:_password=aHVzaA==\n",
            server.url(),
            work.url(),
            place(&work),
            place(&work)
        ),
    );
    let client = world.client();
    client.npm().packument("@work/tool").expect("there");
    client.npm().packument("express").expect("here");
    assert_eq!(authorizations(&work), [Some("Basic bWU6aHVzaA==".to_owned())]);
    assert_eq!(authorizations(&server), [None]);
}

#[test]
fn the_password_of_an_index_does_not_travel_to_the_host_of_its_files() {
    let files = Server::start(|_| Reply::ok("Metadata-Version: 2.1\nName: a\nVersion: 1\n\n"));
    let wheel = files.at("/a-1-py3-none-any.whl").to_string();
    let index = Server::start(move |_| {
        let link =
            format!("<a href=\"{wheel}\" data-core-metadata=\"true\">a-1-py3-none-any.whl</a>");
        Reply::ok(link).html()
    });
    let mut world = World::new();
    let address = index.at("/simple").to_string().replace("http://", "http://me:hush@");
    world.set("PIP_INDEX_URL", &address);
    let client = world.client();
    let project = client.pypi().project(&"a".parse().expect("a name")).expect("a project");
    client.pypi().core_metadata(&project, &project.files_at(0)[0]).expect("metadata");
    assert_eq!(authorizations(&index), [Some("Basic bWU6aHVzaA==".to_owned())]);
    assert_eq!(authorizations(&files), [None]);
    let error = world.offline().pypi().project(&"b".parse().expect("a name")).expect_err("absent");
    assert!(!format!("{error:?} {:?}", client.registry(Ecosystem::Pypi)).contains("hush"));
}

#[test]
fn a_keyring_is_asked_where_the_person_says_so_and_only_for_the_persons_index() {
    let index = Server::start(|_| Reply::ok("<a href=\"a-1-py3-none-any.whl\">a</a>").html());
    let mut world = World::new();
    world.set("XDG_CONFIG_DIRS", "/nowhere");
    let script = format!("[ \"$1 $2 $3\" = 'get {} me' ] && echo hush", index.at("/simple/"));
    program(&world, "bin/keyring", &script);
    let path = format!("{}:/usr/bin:/bin", world.directory.path().join("bin").display());
    world.set("PATH", &path);
    let address = index.at("/simple").to_string().replace("http://", "http://me@");
    world.set("PIP_INDEX_URL", &address);
    let name = "a".parse().expect("a name");
    world.client().pypi().project(&name).expect("without");
    world.set("PIP_KEYRING_PROVIDER", "subprocess");
    world.client().pypi().project(&name).expect("with the password");
    world.set("PIP_INDEX_URL", "");
    world.write("project/uv.toml", &format!("index-url = \"{address}\"\n"));
    let client = world.client();
    client.pypi().project(&name).expect("as the project says");
    let seen = authorizations(&index);
    assert_eq!(seen[0], Some("Basic bWU6".to_owned()));
    assert_eq!(seen[1], Some("Basic bWU6aHVzaA==".to_owned()));
    // The same question with the same credential was answered from the cache.
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_project_that_names_an_index_gets_no_login_that_is_for_all_hosts() {
    let index = Server::start(|_| Reply::ok("<a href=\"a-1-py3-none-any.whl\">a</a>").html());
    let mut world = World::new();
    world.set("XDG_CONFIG_DIRS", "/nowhere");
    world.write("home/.netrc", "default login me password hush\n");
    world.write("project/uv.toml", &format!("index-url = '{}'\n", index.at("/simple")));
    let name = "a".parse().expect("a name");
    world.client().pypi().project(&name).expect("without");
    world.set("PIP_INDEX_URL", index.at("/simple").as_str());
    world.client().pypi().project(&name).expect("with the person's login");
    assert_eq!(authorizations(&index), [None, Some("Basic bWU6aHVzaA==".to_owned())]);
}

#[test]
fn a_login_for_a_host_does_not_go_to_the_port_that_a_project_names() {
    let index = Server::start(|_| Reply::ok("<a href=\"a-1-py3-none-any.whl\">a</a>").html());
    let mut world = World::new();
    world.set("XDG_CONFIG_DIRS", "/nowhere");
    world.write("home/.netrc", "machine 127.0.0.1 login me password hush\n");
    let address = index.at("/simple");
    world.write("project/pyproject.toml", &format!("[tool.uv]\nindex-url = '{address}'\n"));
    let name = "a".parse().expect("a name");
    world.client().pypi().project(&name).expect("without");
    world.set("PIP_INDEX_URL", address.as_str());
    world.client().pypi().project(&name).expect("with the person's login");
    assert_eq!(authorizations(&index), [None, Some("Basic bWU6aHVzaA==".to_owned())]);
}

#[test]
fn an_index_by_name_has_the_credential_of_its_name() {
    let index = Server::start(|_| Reply::ok("<a href=\"a-1-py3-none-any.whl\">a</a>").html());
    let mut world = World::new();
    world.set("XDG_CONFIG_DIRS", "/nowhere");
    world.set("UV_INDEX_MY_OWN_USERNAME", "me");
    world.set("UV_INDEX_MY_OWN_PASSWORD", "hush");
    let file =
        format!("[[index]]\nname = 'my-own'\nurl = '{}'\ndefault = true\n", index.at("/simple"));
    world.write("home/.config/uv/uv.toml", &file);
    let name = "a".parse().expect("a name");
    world.client().pypi().project(&name).expect("with the password");
    world.write("project/uv.toml", &file);
    world.client().pypi().project(&name).expect("without, since the project says so");
    assert_eq!(authorizations(&index), [Some("Basic bWU6aHVzaA==".to_owned()), None]);
}

/// A world whose crates come from a registry that wants a token for everything, and where it is.
fn private_registry() -> (World, Server) {
    let digest = "00".repeat(32);
    let line = format!(
        r#"{{"name":"serde","vers":"1.0.0","deps":[],"cksum":"{digest}","features":{{}}}}"#
    );
    let server =
        Server::start(move |seen| match (seen.path.as_str(), seen.header("authorization")) {
            ("/index/config.json", Some("hush")) => {
                Reply::ok(r#"{"dl":"http://127.0.0.1:1/dl","auth-required":true}"#).json()
            }
            ("/index/se/rd/serde", Some("hush")) => Reply::ok(line.clone()),
            _ => Reply::status(401),
        });
    let mut world = World::new();
    world.set("PATH", "/usr/bin:/bin");
    world.set("CARGO_HOME", world.directory.path().join("home/.cargo").to_str().expect("text"));
    let source = "[source.crates-io]\nreplace-with = 'mine'\n";
    let index = format!("[registries.mine]\nindex = 'sparse+{}'\n", server.at("/index/"));
    world.write("home/.cargo/config.toml", &format!("{source}{index}"));
    (world, server)
}

fn program(world: &World, name: &str, script: &str) -> String {
    world.write(name, &format!("#!/bin/sh\n{script}\n"));
    let path = world.directory.path().join(name);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    path.to_str().expect("text").to_owned()
}

fn append(world: &World, path: &str, text: &str) {
    let path = world.directory.path().join(path);
    let before = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, format!("{before}{text}")).expect("written");
}

#[test]
fn a_command_that_prints_a_token_is_asked_for_the_registry_that_names_it() {
    let (world, _server) = private_registry();
    world.client().cargo().krate("serde").expect_err("no token");
    let command =
        program(&world, "token", "[ \"$1\" = \"$CARGO_REGISTRY_INDEX_URL\" ] && echo hush");
    append(
        &world,
        "home/.cargo/config.toml",
        &format!(
            "credential-provider = ['cargo:token-from-stdout', '{command}', '{{index_url}}']\n"
        ),
    );
    world.client().cargo().krate("serde").expect("with the token");
}

#[test]
fn a_provider_that_speaks_the_protocol_is_asked() {
    let (world, _server) = private_registry();
    let script = "read request\ncase \"$request\" in\n*'\"kind\":\"get\"'*'\"operation\":\"read\"'*) ;;\n*) exit 1;;\nesac\n\
        echo '{\"v\":[1]}'\necho '{\"Ok\":{\"kind\":\"get\",\"token\":\"hush\",\"cache\":\"never\",\"operation_independent\":true}}'";
    let command = program(&world, "provider", script);
    append(
        &world,
        "home/.cargo/config.toml",
        &format!(
            "[credential-alias]\nmine = ['{command}', 'x']\n[registry]\nglobal-credential-providers = ['cargo:token', 'mine']\n"
        ),
    );
    world.client().cargo().krate("serde").expect("with the token");
}

#[test]
fn a_project_names_no_provider_and_a_missing_one_is_told() {
    let (world, _server) = private_registry();
    let log = world.directory.path().join("log");
    let command = program(&world, "planted", &format!("echo run > {}\necho hush", log.display()));
    world.write(
        "project/.cargo/config.toml",
        &format!(
            "[registries.mine]\ncredential-provider = ['cargo:token-from-stdout', '{command}']\n"
        ),
    );
    world.client().cargo().krate("serde").expect_err("no token");
    assert!(!log.exists());
    append(&world, "home/.cargo/config.toml", "credential-provider = 'cargo:libsecret'\n");
    let told = world.client().not_followed(Ecosystem::Cargo).expect("an endpoint");
    assert!(told[0].contains("cargo:libsecret"), "{told:?}");
}

#[test]
fn a_proxy_gets_its_own_password_and_the_hosts_without_one_are_reached_directly() {
    let proxy = Server::start(|_| Reply::ok(EXPRESS).json());
    let direct = Server::start(|_| Reply::ok(EXPRESS).json());
    let mut world = npm_world();
    let address = proxy.url().as_str().replace("http://", "http://me:hush@");
    world.set("HTTP_PROXY", &address);
    world.write("home/.npmrc", "registry=http://registry.example.invalid/\n");
    world.client().npm().packument("express").expect("through the proxy");
    let seen = proxy.seen();
    assert_eq!(seen[0].path, "http://registry.example.invalid/express");
    assert_eq!(seen[0].header("proxy-authorization"), Some("Basic bWU6aHVzaA=="));
    world.write("home/.npmrc", &format!("registry={}\n", direct.url()));
    world.set("NO_PROXY", "127.0.0.1");
    world.client().npm().packument("express").expect("directly");
    assert_eq!((proxy.seen().len(), direct.seen().len()), (1, 1));
    assert_eq!(direct.seen()[0].header("proxy-authorization"), None);
    world.set("REQUEST_METHOD", "GET");
    world.set("NO_PROXY", "");
    world.request.max_age = std::time::Duration::ZERO;
    world.client().npm().packument("express").expect("what a stranger's header says is no proxy");
    assert_eq!((proxy.seen().len(), direct.seen().len()), (1, 2));
}

#[test]
fn what_would_weaken_the_check_of_servers_is_told_and_not_followed() {
    let mut world = npm_world();
    world.write("home/.npmrc", "registry=https://r.example.invalid/\nstrict-ssl=false\n");
    world.set("NODE_TLS_REJECT_UNAUTHORIZED", "0");
    let told = world.client().not_followed(Ecosystem::Npm).expect("an endpoint").join("\n");
    assert!(told.contains("strict-ssl") && told.contains("NODE_TLS_REJECT_UNAUTHORIZED"), "{told}");
    world.write("home/.npmrc", "registry=https://r.example.invalid/\nstrict-ssl=true\n");
    world.set("NODE_TLS_REJECT_UNAUTHORIZED", "1");
    assert!(world.client().not_followed(Ecosystem::Npm).expect("an endpoint").is_empty());
}
