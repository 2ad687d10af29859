//! Configurations as people have them.

mod arrivals;
mod links;

use super::learn::Learner;
use super::*;
use crate::io::secret::Credential;
use crate::io::testing::World;

fn url(text: &str) -> Url {
    Url::parse(text).expect("an address")
}

/// What each ecosystem finds in `world`.
struct Found {
    world: World,
    learner: Learner,
}

impl Found {
    fn new(world: World) -> Self {
        let learner = Learner::new(&world.directory.path().join("state"));
        Self { world, learner }
    }

    fn finder(&self) -> Finder<'_> {
        Finder {
            cancellation: agents_contract::Cancellation::NEVER,
            environment: &self.world.request.environment,
            overrides: &self.world.request.overrides,
            learner: &self.learner,
        }
    }

    fn npm(&self) -> NpmEndpoint {
        npm(&self.finder()).expect("an endpoint")
    }

    fn pypi(&self) -> PypiEndpoint {
        pypi(&self.finder()).expect("an endpoint")
    }

    fn cargo(&self) -> CargoEndpoint {
        cargo(&self.finder()).expect("an endpoint")
    }
}

fn credential_of(endpoint: &NpmEndpoint, place: &str) -> Option<Credential> {
    endpoint.credentials.for_url(&url(place)).map(|(_, credential)| credential.clone())
}

#[test]
fn the_project_is_stronger_than_the_user_and_a_variable_than_both() {
    let mut world = World::new();
    world.write("home/.npmrc", "registry=https://user.example.invalid\n");
    assert_eq!(Found::new(world).npm().default, url("https://user.example.invalid/"));
    world = World::new();
    world.write("home/.npmrc", "registry=https://user.example.invalid\n");
    world.write(
        "project/.npmrc",
        "; a comment\nregistry = https://project.example.invalid/npm # why\n",
    );
    let mut found = Found::new(world);
    assert_eq!(found.npm().default, url("https://project.example.invalid/npm/"));
    found.world.set("NPM_CONFIG_REGISTRY", "https://variable.example.invalid/");
    assert_eq!(found.npm().default, url("https://variable.example.invalid/"));
    found.world.request.overrides.add("npm=https://override.example.invalid").expect("valid");
    assert_eq!(found.npm().default, url("https://override.example.invalid/"));
}

#[test]
fn only_a_requirements_file_that_is_not_there_says_nothing() {
    let world = World::new();
    let project = world.directory.path().join("turns");
    let mut found = Found::new(world);
    found.world.request.environment.project.clone_from(&project);
    let nothing = requirements::read(&found.finder()).expect("nothing there");
    assert!(nothing.index.is_none() && nothing.others.is_empty());
    // Even root cannot look into this one.
    std::os::unix::fs::symlink("turns", &project).expect("a link");
    let told = requirements::read(&found.finder()).expect_err("an error");
    assert!(told.message.contains("turns/requirements.txt"), "{told}");
}

#[test]
fn tokens_of_npm_in_all_forms_go_to_their_places() {
    let mut world = World::new();
    world.request.environment.references.insert("NPM_TOKEN".to_owned(), "from-variable".to_owned());
    world.set("PATH", "/nowhere");
    world.write(
        "home/.npmrc",
        "registry=https://r.example.invalid/npm/\n\
         //r.example.invalid/npm/:_authToken=${NPM_TOKEN}\n\
         //s.example.invalid:8443/:_auth=bWU6aHVzaA==\n\
         //t.example.invalid/:username=me\n//t.example.invalid/:_password=aHVzaA==\n\
         //u.example.invalid/:_authToken=${UNSET}\n",
    );
    let npm = Found::new(world).npm();
    let basic = Some(Credential::basic("me", "hush"));
    assert_eq!(
        credential_of(&npm, "https://r.example.invalid/npm/a"),
        Some(Credential::bearer("from-variable"))
    );
    assert_eq!(credential_of(&npm, "https://r.example.invalid/other"), None);
    assert_eq!(credential_of(&npm, "https://s.example.invalid:8443/a"), basic);
    assert_eq!(credential_of(&npm, "https://s.example.invalid/a"), None);
    assert_eq!(credential_of(&npm, "https://t.example.invalid/a"), basic);
    assert_eq!(credential_of(&npm, "https://u.example.invalid/a"), None);
}

#[test]
fn the_machine_wide_settings_of_npm_are_where_its_prefix_is() {
    let mut world = World::new();
    world.set("PATH", "/nowhere");
    let at = |path: &str| world.directory.path().join(path).to_str().expect("text").to_owned();
    let (prefix, other, theirs) = (at("prefix"), at("other"), at("theirs/npmrc"));
    world.write("prefix/etc/npmrc", "registry=https://prefix.example.invalid/\n");
    world.write("other/npmrc", "registry=https://other.example.invalid/\n");
    world.write("theirs/npmrc", "registry=https://evil.example.invalid/\n//x/:_authToken=x\n");
    world.write("home/.npmrc", &format!("prefix={prefix}\n"));
    world.write("project/.npmrc", &format!("globalconfig={theirs}\n"));
    let mut found = Found::new(world);
    assert_eq!(found.npm().default, url("https://prefix.example.invalid/"));
    found.world.set("npm_config_globalconfig", &format!("{other}/npmrc"));
    assert_eq!(found.npm().default, url("https://other.example.invalid/"));
}

#[test]
fn a_project_cannot_read_variables_nor_redirect_a_credential() {
    let mut world = World::new();
    world.set("SECRET", "hush");
    world.set("PATH", "/nowhere");
    world.write(
        "home/.npmrc",
        "registry=https://r.example.invalid/\n_authToken=legacy\n//r.example.invalid/:_authToken=token\n",
    );
    world.write(
        "project/.npmrc",
        "registry=http://r.example.invalid/\n//evil.example.invalid/:_authToken=${SECRET}\n\
         cafile=/evil.pem\nproxy=http://evil.example.invalid/\nhttps-proxy=http://evil.example.invalid/\n",
    );
    let npm = Found::new(world).npm();
    assert_eq!(npm.default, url("http://r.example.invalid/"));
    assert_eq!(credential_of(&npm, "http://r.example.invalid/a"), None);
    assert_eq!(
        credential_of(&npm, "https://r.example.invalid/a"),
        Some(Credential::bearer("token"))
    );
    assert_eq!(credential_of(&npm, "https://evil.example.invalid/a"), None);
    assert_eq!(npm.transport, TransportSettings::default());
}

#[test]
fn an_old_token_belongs_to_the_persons_registry() {
    let mut world = World::new();
    world.set("PATH", "/nowhere");
    world.write("home/.npmrc", "registry=https://r.example.invalid/\n_authToken=legacy\n");
    world.write("project/.npmrc", "registry=https://evil.example.invalid/\n");
    let npm = Found::new(world).npm();
    assert_eq!(credential_of(&npm, "https://evil.example.invalid/a"), None);
    assert_eq!(
        credential_of(&npm, "https://r.example.invalid/a"),
        Some(Credential::bearer("legacy"))
    );
}

#[test]
fn a_registry_that_the_person_runs_without_encryption_gets_its_token() {
    let mut world = World::new();
    world.set("PATH", "/nowhere");
    world.write(
        "home/.npmrc",
        "registry=http://r.example.invalid:4873/\n//r.example.invalid:4873/:_authToken=token\n",
    );
    let npm = Found::new(world).npm();
    assert_eq!(
        credential_of(&npm, "http://r.example.invalid:4873/a"),
        Some(Credential::bearer("token"))
    );
}

#[test]
fn without_npm_and_configuration_the_error_says_what_to_do() {
    let mut world = World::new();
    world.set("PATH", "/nowhere");
    let found = Found::new(world);
    let error = npm(&found.finder()).expect_err("nothing known");
    assert_eq!(error.code, "registry-unknown");
    assert!(error.hint.expect("advice").contains("--registry npm="));
    let error = pypi(&found.finder()).expect_err("nothing known");
    assert_eq!(error.code, "registry-unknown");
}

#[test]
fn the_index_of_python_comes_from_variables_and_files() {
    let mut world = World::new();
    world.set("XDG_CONFIG_DIRS", "/nowhere");
    world.write(
        "home/.config/pip/pip.conf",
        "[global]\nindex-url = https://global.example.invalid/simple\ncert = ~/ca.pem\n\
         extra-index-url =\n    https://a.example.invalid/\n    https://b.example.invalid/\n\
         [install]\nindex_url: https://install.example.invalid/simple/\n",
    );
    let mut found = Found::new(world);
    let pypi = found.pypi();
    assert_eq!(pypi.index, url("https://install.example.invalid/simple/"));
    assert_eq!(pypi.transport.authorities, [found.world.request.environment.home.join("ca.pem")]);
    let first = ["https://a.example.invalid/", "https://b.example.invalid/"].map(url);
    assert_eq!(pypi.first, first);
    assert!(pypi.not_followed.is_empty());
    found.world.set("UV_INDEX_URL", "https://uv.example.invalid/simple");
    assert_eq!(found.pypi().index, url("https://uv.example.invalid/simple/"));
    found.world.set("UV_DEFAULT_INDEX", "mine=https://default.example.invalid/simple?a=b");
    assert_eq!(found.pypi().index.host_str(), Some("default.example.invalid"));
    found.world.set("PIP_INDEX_URL", "https://me:p%40ss@pip.example.invalid/simple");
    let pypi = found.pypi();
    assert_eq!(pypi.index, url("https://pip.example.invalid/simple/"));
    let credential = pypi.credentials.for_url(&url("https://pip.example.invalid/files/x.whl"));
    assert_eq!(
        credential.map(|(_, credential)| credential.clone()),
        Some(Credential::basic("me", "p@ss"))
    );
    assert!(!format!("{pypi:?}").contains("p@ss"));
}

#[test]
fn indexes_of_uv_are_asked_in_their_order_and_some_packages_come_from_one_alone() {
    let mut world = World::new();
    world.set("XDG_CONFIG_DIRS", "/nowhere");
    world.set("PIP_INDEX_URL", "https://main.example.invalid/simple");
    world.set("UV_INDEX_MINE_PASSWORD", "hush");
    let project = "[project]\nname = 'p'\n[tool.uv.sources]\nTorch = { index = 'gpu' }\nb = [{ index = 'mine' }]\n\
         [[tool.uv.index]]\nname = 'gpu'\nurl = 'https://gpu.example.invalid/whl'\nexplicit = true\n\
         [[tool.uv.index]]\nname = 'mine'\nurl = 'https://first.example.invalid/simple'\n";
    world.write("project/pyproject.toml", project);
    world.write(
        "home/.config/uv/uv.toml",
        "extra-index-url = ['https://third.example.invalid/']\n[[index]]\nname = 'mine'\n\
         url = 'https://second.example.invalid/'\n[[index]]\nurl = 'https://flat.example.invalid/'\n\
         format = 'flat'\n",
    );
    let found = Found::new(world);
    let pypi = found.pypi();
    assert_eq!(pypi.index, url("https://main.example.invalid/simple/"));
    let first = ["first.example.invalid/simple", "second.example.invalid", "third.example.invalid"];
    assert_eq!(pypi.first, first.map(|place| url(&format!("https://{place}/"))));
    let pin =
        |name: &str| pypi.pins[&name.parse::<pep508_rs::PackageName>().expect("a name")].as_str();
    assert_eq!(pin("torch"), "https://gpu.example.invalid/whl/");
    assert_eq!(pin("b"), "https://first.example.invalid/simple/");
    assert!(pypi.not_followed.is_empty(), "{:?}", pypi.not_followed);
    assert_eq!(pypi.links, [url("https://flat.example.invalid/")]);
    // The person's own index of that name gets the login, the project's does not.
    let has_login = |place: &str| pypi.credentials.for_url(&url(place)).is_some();
    assert!(has_login("https://second.example.invalid/a/"));
    assert!(!has_login("https://first.example.invalid/simple/a/"));
    found.world.write("project/pyproject.toml", &project.replace("'gpu'\nurl", "'cpu'\nurl"));
    let error = super::pypi(&found.finder()).expect_err("unknown");
    assert_eq!(error.code, "index-unknown");
    // Who names an index for one command means that one alone, and without a project nobody asked for sources.
    found.world.write("project/pyproject.toml", &project.replace("[project]\nname = 'p'\n", ""));
    assert!(found.pypi().pins.is_empty());
}

#[test]
fn what_a_project_says_of_indexes_is_never_passed_over() {
    let mut world = World::new();
    world.set("XDG_CONFIG_DIRS", "/nowhere");
    world.set("PIP_INDEX_URL", "https://main.example.invalid/simple");
    world.set("UV_NO_CONFIG", "1");
    let project = "[project]\nname = 'p'\n[tool.uv.sources]\na = { index = 'corp' }\n\
         [[tool.uv.index]]\nname = 'corp'\nurl = 'https://corp.example.invalid/simple'\nexplicit = true\n";
    world.write("project/pyproject.toml", project);
    let file = "extra-index-url = ['https://other.example.invalid/']\n";
    world.write("project/uv.toml", file);
    world.write("home/.config/uv/uv.toml", file);
    let found = Found::new(world);
    let name = |name: &str| name.parse::<pep508_rs::PackageName>().expect("a name");
    let pypi = found.pypi();
    assert_eq!(pypi.pins[&name("a")], url("https://corp.example.invalid/simple/"));
    assert!(pypi.first.is_empty(), "{:?}", pypi.first);
    let check = |wanted: &str| {
        found.world.client().check_pypi_indexes(&[(name(wanted), "corp".to_owned())])
    };
    check("a").expect("known");
    assert_eq!(check("b").expect_err("unknown").code, "index-unknown");
    // What of it cannot be understood is not as if it were not there.
    found.world.write("project/pyproject.toml", &format!("{project}[tool.uv.pip]\nindex-url = 1"));
    assert_eq!(super::pypi(&found.finder()).expect_err("damaged").code, "bad-configuration");
    let mut world = found.world;
    world.request.overrides.add("pypi=https://one.example.invalid").expect("valid");
    world.client().check_pypi_indexes(&[(name("b"), "corp".to_owned())]).expect("one alone");
}

#[test]
fn netrc_names_hosts() {
    let mut world = World::new();
    world.set("PIP_INDEX_URL", "https://index.example.invalid:8443/simple");
    world.write(
        "home/.netrc",
        "# mine\nmachine index.example.invalid\n  login me\n  password \"hush\"\n\
         macdef init\nmachine evil.example.invalid login x password y\n\n\
         machine files.example.invalid login you password you\ndefault login any password any\n",
    );
    let pypi = Found::new(world).pypi();
    let of = |place: &str| {
        pypi.credentials.for_url(&url(place)).map(|(_, credential)| credential.clone())
    };
    assert_eq!(
        of("https://index.example.invalid:8443/simple/a/"),
        Some(Credential::basic("me", "hush"))
    );
    assert_eq!(of("https://files.example.invalid/a"), Some(Credential::basic("you", "you")));
    assert_eq!(of("https://evil.example.invalid/a"), None);
    assert_eq!(of("https://other.example.invalid/a"), None);
}

#[test]
fn cargo_has_a_default_and_follows_replacements() {
    let default = Found::new(World::new()).cargo();
    assert!(tame_index::CRATES_IO_HTTP_INDEX.ends_with(default.index.as_str()));
    let world = World::new();
    world.write("home/.cargo/config.toml", "[source.crates-io]\nreplace-with = 'a'\n[source.a]\nreplace-with = 'b'\n[registries.b]\nindex = 'sparse+https://b.example.invalid/index/'\n");
    world.write(
        "home/.cargo/credentials.toml",
        "[registries.b]\ntoken = 'hush'\n[registry]\ntoken = 'publish'\n",
    );
    let cargo = Found::new(world).cargo();
    assert_eq!(cargo.index, url("https://b.example.invalid/index/"));
    assert_eq!(cargo.token, Some(Credential::raw("hush")));
}

#[test]
fn a_project_cannot_point_the_name_of_a_token_elsewhere() {
    let mut world = World::new();
    world.set("CARGO_REGISTRIES_B_TOKEN", "hush");
    world.write(
        "home/.cargo/config.toml",
        "[registries.b]\nindex = 'sparse+https://b.example.invalid/'\n",
    );
    world.write("project/.cargo/config.toml", "[source.crates-io]\nreplace-with = 'b'\n[registries.b]\nindex = 'sparse+https://evil.example.invalid/'\n[http]\ncainfo = '/evil.pem'\nproxy = 'http://evil.example.invalid'\n");
    let cargo = Found::new(world).cargo();
    assert_eq!(cargo.index, url("https://evil.example.invalid/"));
    assert_eq!(cargo.token, None);
    assert_eq!(cargo.transport, TransportSettings::default());
}

#[test]
fn cargo_registries_beside_the_default_one_are_each_told_once() {
    let mut world = World::new();
    world.write("home/.cargo/config.toml", "[registries.one]\nindex = 'sparse+https://one.example.invalid/'\ntoken = 'hush'\n[registries.crates-io]\nprotocol = 'sparse'\n");
    world.write("project/.cargo/config.toml", "[registries.uno]\nindex = 'sparse+https://one.example.invalid'\n[registries.two]\nindex = 'sparse+https://two.example.invalid/'\n");
    world.set("CARGO_REGISTRIES_THE_THIRD_INDEX", "sparse+https://three.example.invalid/");
    world.set("CARGO_REGISTRIES_THE_THIRD_TOKEN", "hush-three");
    world.set("CARGO_REGISTRIES_TWO_TOKEN", "hush-two");
    let found = Found::new(world);
    let list = cargo_config::others::list(&found.finder()).expect("a list");
    let names: Vec<&str> = list.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["one", "the_third", "two"]);
    let of = |name: &str| cargo_other(&found.finder(), name).expect("an endpoint");
    assert_eq!(of("one").token, Some(Credential::raw("hush")));
    assert_eq!(of("the-third").token, Some(Credential::raw("hush-three")));
    let two = of("two");
    assert_eq!((two.index, two.token), (url("https://two.example.invalid/"), None));
    assert!(two.not_followed[0].contains("CARGO_REGISTRIES_TWO_INDEX"), "{:?}", two.not_followed);
    assert!(!format!("{:?}", two.not_followed).contains("hush"));
    let error = cargo_other(&found.finder(), "four").expect_err("nobody defines it");
    assert_eq!(error.code, "bad-configuration");
}

#[test]
fn what_stands_for_a_registry_is_asked_instead_of_it() {
    let world = World::new();
    world.write("home/.cargo/config.toml", "[registries.one]\nindex = 'sparse+https://one.example.invalid/'\n[source.it]\nregistry = 'sparse+https://one.example.invalid/'\nreplace-with = 'two'\n[registries.two]\nindex = 'sparse+https://two.example.invalid/'\ntoken = 'hush'\n");
    let found = Found::new(world);
    let one = cargo_other(&found.finder(), "one").expect("an endpoint");
    assert_eq!(one.index, url("https://two.example.invalid/"));
    assert_eq!(one.token, Some(Credential::raw("hush")));
}

#[test]
fn an_address_of_a_cargo_registry_is_shown_as_what_it_is() {
    let index = |text: &str| {
        let world = World::new();
        let config =
            format!("[registries.one]\nindex = {}\n", crate::resolve::cargo::lock::quoted(text));
        world.write("project/.cargo/config.toml", &config);
        let found = Found::new(world);
        let listed = cargo_config::others::list(&found.finder()).map(|list| list[0].index.clone());
        let of_name = cargo_config::others::index_of(&found.finder(), "one");
        assert_eq!(listed.as_ref().ok(), of_name.as_ref().ok());
        listed.map_err(|error| error.code)
    };
    let fine = |text: &str| index(text).expect("an address");
    assert_eq!(fine(" sparse+https://r.invalid/i "), "sparse+https://r.invalid/i");
    assert_eq!(fine("https://r.invalid/i.git"), "registry+https://r.invalid/i.git");
    assert_eq!(fine("ssh://git@r.invalid/i.git"), "registry+ssh://git@r.invalid/i.git");
    for text in [
        "sparse+https://r.invalid/\n- pkg:cargo/other@1.0.0",
        "sparse+https://r.invalid/\u{202e}x/",
        "sparse+https://r.invalid/?token=hush",
        "sparse+https://r.invalid/#x",
        "somewhere",
    ] {
        assert_eq!(index(text).expect_err("refused"), "bad-registry", "{text}");
    }
}

#[test]
fn cargo_sources_that_are_no_sparse_registry_are_refused() {
    for config in [
        "[source.crates-io]\nreplace-with = 'v'\n[source.v]\ndirectory = 'vendor'\n",
        "[source.crates-io]\nreplace-with = 'v'\n[source.v]\nregistry = 'https://git.example.invalid/index'\n",
        "[source.crates-io]\nreplace-with = 'v'\n",
        "[source.crates-io]\nreplace-with = 'v'\n[source.v]\nreplace-with = 'crates-io'\n",
        "[source.crates-io\n",
    ] {
        let world = World::new();
        world.write("home/.cargo/config.toml", config);
        let found = Found::new(world);
        let error = cargo(&found.finder()).expect_err("refused");
        assert!(
            ["unsupported-registry", "bad-configuration"].contains(&error.code.as_str()),
            "{config}"
        );
    }
}

#[test]
fn overrides_are_checked() {
    let mut overrides = Overrides::default();
    for text in
        ["npm", "npm=", "npm=ftp://x/", "npm=https://", "apt=https://r.example.invalid/", "=x"]
    {
        assert!(overrides.add(text).is_err(), "{text}");
    }
    overrides.add("cargo=sparse+https://r.example.invalid/index").expect("valid");
    assert_eq!(overrides.get(Ecosystem::Cargo), Some(&url("https://r.example.invalid/index/")));
}

#[test]
fn mirrors_belong_to_the_registry_that_they_were_named_with() {
    let mut overrides = Overrides::default();
    for text in ["npm=https://m.example.invalid/a", "npm=https://n.example.invalid/"] {
        overrides.add_mirror(text).expect("valid");
    }
    overrides.add_mirror("bolide=http://b.example.invalid:8002").expect("valid");
    let mirrors = [url("https://m.example.invalid/a/"), url("https://n.example.invalid/")];
    assert_eq!(overrides.mirrors(Ecosystem::Npm), mirrors);
    assert_eq!(overrides.artifacts(), [url("http://b.example.invalid:8002/")]);
    assert_eq!(overrides.get(Ecosystem::Npm), None, "the configured one stays");
    // Another registry has mirrors of its own, and it was named first.
    overrides.add("npm=https://r.example.invalid/").expect("valid");
    assert!(overrides.mirrors(Ecosystem::Npm).is_empty());
    overrides.add("npm=https://s.example.invalid/").expect("valid");
    assert_eq!(overrides.get(Ecosystem::Npm), Some(&url("https://r.example.invalid/")));
    assert_eq!(overrides.mirrors(Ecosystem::Npm), [url("https://s.example.invalid/")]);
    for wrong in ["npm", "deb=https://r.example.invalid/", "pypi=ftp://r.example.invalid/", "=x"] {
        assert!(overrides.add_mirror(wrong).is_err(), "{wrong}");
    }
    let more = (0..MIRRORS_MAX).map(|_| overrides.add("npm=https://s.example.invalid/"));
    assert!(more.collect::<Vec<_>>().iter().any(Result::is_err), "bounded");
    let error = overrides.add_mirror("hush").expect_err("no form");
    assert!(!error.message.contains("hush"), "it may be a secret");
}

#[test]
fn a_pipe_or_a_huge_file_in_the_project_does_not_harm() {
    let mut world = World::new();
    world.set("PATH", "/nowhere");
    world.write("home/.npmrc", "registry=https://r.example.invalid/\n");
    let pipe = world.request.environment.project.join(".npmrc");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600))
        .expect("a pipe");
    let found = Found::new(world);
    assert_eq!(found.npm().default, url("https://r.example.invalid/"));
    std::fs::remove_file(&pipe).expect("removed");
    std::fs::write(&pipe, vec![b'\n'; 2 << 20]).expect("a huge file");
    assert!(npm(&found.finder()).is_err());
}

#[test]
fn nothing_found_prints_a_secret() {
    let mut world = World::new();
    world.set("PATH", "/nowhere");
    world.set("https_proxy", "http://me:hush@proxy.example.invalid:3128");
    world.write(
        "home/.npmrc",
        "registry=https://me:hush@r.example.invalid/\n//s.example.invalid/:_authToken=hush\n",
    );
    world.write("home/.cargo/config.toml", "[source.crates-io]\nreplace-with = 'b'\n[registries.b]\nindex = 'sparse+https://b.example.invalid/'\ntoken = 'hush'\n");
    let found = Found::new(world);
    let text = format!("{:?} {:?} {:?}", found.npm(), found.cargo(), found.world.request);
    assert!(!text.contains("hush"), "{text}");
}

proptest::proptest! {
    #[test]
    fn no_configuration_makes_a_parser_panic(text in "\\PC{0,200}|([a-z:/@=\\[\\] \"'$\\{\\}\n#;\\\\]{0,80})") {
        let mut world = World::new();
        world.set("PATH", "/nowhere");
        world.set("XDG_CONFIG_DIRS", "/nowhere");
        for file in ["home/.npmrc", "project/.npmrc", "home/.netrc", "home/.pip/pip.conf", "home/.cargo/config.toml"] {
            world.write(file, &text);
        }
        let found = Found::new(world);
        let _ = (npm(&found.finder()), pypi(&found.finder()), cargo(&found.finder()));
    }
}
