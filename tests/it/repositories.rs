//! Packages of repositories of git that a project names: the commit is locked and built as a directory is, whatever becomes of the branch
//! or the tag; and what a repository, its server and a strike can do.

mod bounds;
mod reasons;

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;

use super::kiln::{Clay, by_pip, frozen, installed, listed, site_packages};
use super::server::GitServer;
use super::world::{Outcome, World, wait_until};

const BUILD: [&str; 3] = ["install", "--build", "clay"];
const ADDRESS: &str = "git+https://git.invalid/clay.git";

/// A repository with `clay` 1.0 on its branch `main`, at the place that the person's git has for `https://git.invalid/clay.git`.
pub(crate) struct Origin<'w> {
    world: &'w World,
    place: PathBuf,
}

impl<'w> Origin<'w> {
    pub(crate) fn of(world: &'w World, clay: &Clay) -> Self {
        let place = world.place("srv/clay.git");
        clay.lay(&place);
        let servers = format!("file://{}/", world.place("srv").display());
        configure(world, &servers);
        let origin = Self { world, place };
        origin.git(&["init", "--quiet", "--initial-branch=main"]);
        origin.commit("first");
        origin
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let who = ["-c", "user.name=n", "-c", "user.email=n@mail.invalid"];
        let mut git = self.world.command("git");
        git.args(who).args(arguments).current_dir(&self.place);
        Outcome::of(&mut git).succeeds().stdout.trim().to_owned()
    }

    /// Commits all that lies there; which commit it is.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn edit(&self, code: &str) -> String {
        std::fs::write(self.place.join("clay/more.py"), code).unwrap();
        self.commit("more")
    }

    /// Makes `main` a commit of a tree of these bytes, which git itself would not make.
    fn forge(&self, entries: &[(&str, &str, &str)]) {
        let mut bytes = Vec::new();
        for (mode, name, object) in entries {
            bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            let digits = object.as_bytes().chunks(2);
            let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16);
            bytes.extend(digits.map(|two| byte(two).unwrap()));
        }
        std::fs::write(self.world.place("tree"), bytes).unwrap();
        let tree = self.world.place("tree").display().to_string();
        let tree = self.git(&["hash-object", "-t", "tree", "--literally", "-w", &tree]);
        let commit = self.git(&["commit-tree", "-m", "forged", &tree]);
        self.git(&["update-ref", "refs/heads/main", &commit]);
    }
}

/// Has the person's git look for `https://git.invalid/` elsewhere.
fn configure(world: &World, elsewhere: &str) {
    let text = format!("[url \"{elsewhere}\"]\n    insteadOf = https://git.invalid/\n");
    std::fs::write(world.place("home/.gitconfig"), text).unwrap();
}

fn asks_for(world: &World, rest: &str) {
    world.file("requirements.txt", &format!("clay @ {ADDRESS}{rest}\n"));
}

/// What `clay.more.A` is in the environment.
fn more(world: &World) -> String {
    let more = "import clay.more; print(clay.more.A)";
    world.run(".venv/bin/python", &["-c", more]).succeeds().stdout.trim().to_owned()
}

/// Where what is fetched is kept, and where it lies before.
fn cached(world: &World, what: &str) -> usize {
    let entries = std::fs::read_dir(world.place("home/cache/bolide").join(what));
    entries.map_or(0, Iterator::count)
}

#[test]
fn a_branch_a_tag_and_a_commit_are_built_when_asked_and_installed_as_pip_does() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    origin.git(&["tag", "-a", "v1", "-m", "v1"]);
    let commit = origin.git(&["rev-parse", "HEAD"]);
    let whole = format!("@{commit}");
    for revision in ["", "@main", "@v1", &whole, "@refs/tags/v1"] {
        asks_for(&world, revision);
        if revision.is_empty() {
            world.bolide(&["install"]).fails(3, &["`pkg:pypi/clay@1.0`", "`--build clay`"]);
        }
        let plan = world.bolide(&["plan", "--install", "--build", "clay"]).succeeds();
        let source = format!("{ADDRESS}{revision}#commit={commit}");
        if revision.is_empty() {
            let built = format!("built from {source} (sha256:");
            assert!(plan.stdout.contains(&built), "{built}: {plan:#?}");
        }
        world.bolide(&BUILD).succeeds();
        assert!(world.read("bolide.lock").contains(&format!("source = \"{source}\"")));
        assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
        assert_eq!(world.run(".venv/bin/clay", &[]).succeeds().stdout, "1.0\n");
        if !revision.starts_with("@refs") {
            let pip = by_pip(&world, &[&format!("{ADDRESS}{revision}")]);
            let own = world.project().join(".venv");
            assert_eq!(installed(&own), installed(&pip), "{revision}");
            assert_eq!(frozen(&world, &own), frozen(&world, &pip));
        }
        std::fs::remove_dir_all(world.project().join(".venv")).unwrap();
    }
    // A beginning of a commit's name is enough where it is one.
    asks_for(&world, &format!("@{}", &commit[..10]));
    world.bolide(&BUILD).succeeds();
    assert!(world.read("bolide.lock").contains(&format!("#commit={commit}")));
    world.bolide(&["verify"]).succeeds();
    assert_eq!(cached(&world, "incoming"), 0);
    world.bolide(&["cache", "collect", "--all"]).succeeds();
    assert_eq!(cached(&world, "repositories"), 0);
    std::fs::remove_dir_all(world.project().join(".venv")).unwrap();
    world.bolide(&["install", "--frozen", "--build", "clay"]).succeeds();
    world.bolide(&["remove", "pypi:clay", "--yes"]).succeeds();
    assert!(listed(&world).is_empty());
}

#[test]
fn the_locked_commit_is_followed_until_an_update_asks_again() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    origin.git(&["tag", "v1"]);
    let first = origin.edit("A = 1\n");
    asks_for(&world, "@main");
    world.bolide(&BUILD).succeeds();
    let locked = world.read("bolide.lock");
    let second = origin.edit("A = 2\n");
    for command in [&["install", "--json"][..], &["install", "--frozen", "--offline", "--json"]] {
        let again = world.bolide(command).succeeds().json();
        assert!(again["transaction"].is_null(), "{again}");
    }
    // What else is wanted does not move it.
    world.bolide(&["add", "pypi:wall", "--yes"]).succeeds();
    assert!(world.read("bolide.lock").contains(&first));
    world.bolide(&["remove", "pypi:wall", "--yes"]).succeeds();
    assert_eq!((world.read("bolide.lock"), more(&world)), (locked.clone(), "1".to_owned()));
    world.bolide(&["update", "pypi:clay", "--yes"]).fails(3, &["`--build clay`"]);
    world.bolide(&["update", "--build", "clay", "--yes"]).succeeds();
    assert!(world.read("bolide.lock").contains(&second));
    assert_eq!(more(&world), "2");
    world.bolide(&["install", "--frozen", "--offline"]).succeeds();
    world.bolide(&["rollback"]).succeeds();
    assert_eq!((world.read("bolide.lock"), more(&world)), (locked, "1".to_owned()));
    // What was fetched once is found again offline; what was not is missed by name.
    world.bolide(&["update", "--build", "clay", "--yes", "--offline"]).fails(7, &["offline"]);
    asks_for(&world, &format!("@{second}"));
    world.bolide(&["install", "--offline", "--build", "clay"]).succeeds();
    assert_eq!(more(&world), "2");
    asks_for(&world, "@v1");
    world.bolide(&["install", "--offline"]).fails(7, &["`v1` of `https://git.invalid/clay.git`"]);
}

#[test]
fn a_tag_that_was_moved_is_told_and_never_followed_by_itself() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let first = origin.edit("A = 1\n");
    origin.git(&["tag", "v1"]);
    let uv = |more: &str| {
        let project = "[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"clay\"]\n";
        let source = format!("git = \"https://git.invalid/clay.git\", {more}");
        world.file(
            "pyproject.toml",
            &format!("{project}[tool.uv.sources]\nclay = {{ {source} }}\n"),
        );
    };
    uv("tag = \"v1\"");
    world.bolide(&BUILD).succeeds();
    let second = origin.edit("A = 2\n");
    origin.git(&["tag", "--force", "v1"]);
    world.bolide(&["install"]).succeeds();
    world.bolide(&["add", "pypi:wall", "--yes"]).succeeds();
    assert!(world.read("bolide.lock").contains(&first));
    let told = world.bolide(&["update", "--build", "clay", "--yes"]).succeeds();
    let words = ["was moved", &first, &second];
    let said = format!("{}{}", told.stdout, told.stderr);
    assert!(words.iter().all(|word| said.contains(word)), "{told:#?}");
    assert_eq!(more(&world), "2");
    let said: serde_json::Value = serde_json::from_str(
        &std::fs::read_to_string(
            site_packages(&world.project().join(".venv"))
                .join("clay-1.0.dist-info/direct_url.json"),
        )
        .unwrap(),
    )
    .unwrap();
    let info = &said["vcs_info"];
    assert_eq!(
        (info["requested_revision"].as_str(), info["commit_id"].as_str()),
        (Some("v1"), Some(second.as_str()))
    );
    uv("branch = \"v1\"");
    world.bolide(&BUILD).fails(1, &["no branch, tag or commit `refs/heads/v1`"]);
    uv("branch = \"main\", rev = \"v1\"");
    world.bolide(&BUILD).fails(1, &["more than one of"]);
}

#[test]
fn a_clone_builds_the_commit_that_was_locked_and_no_other() {
    let author = World::quick();
    let origin = Origin::of(&author, &Clay::default());
    let first = origin.edit("A = 1\n");
    asks_for(&author, "");
    author.bolide(&BUILD).succeeds();
    origin.edit("A = 2\n");
    let clone = World::quick();
    std::fs::copy(author.place("home/.gitconfig"), clone.place("home/.gitconfig")).unwrap();
    asks_for(&clone, "");
    clone.file("bolide.lock", &author.read("bolide.lock"));
    clone.bolide(&["install", "--frozen"]).fails(3, &["`--build clay`"]);
    let offline = ["install", "--frozen", "--offline", "--build", "clay"];
    clone.bolide(&offline).fails(7, &[&first, "https://git.invalid/clay.git", "offline"]);
    clone.bolide(&["install", "--frozen", "--build", "clay"]).succeeds();
    assert_eq!((clone.read("bolide.lock"), more(&clone)), (author.read("bolide.lock"), "1".into()));
    // A lock that names other files, another commit, or no commit at all.
    let forged = World::quick();
    std::fs::copy(author.place("home/.gitconfig"), forged.place("home/.gitconfig")).unwrap();
    asks_for(&forged, "");
    let lock = author.read("bolide.lock");
    let digest = lock.split("sha256:").nth(1).unwrap()[..64].to_owned();
    let frozen = ["install", "--frozen", "--build", "clay"];
    for (from, to, code, word) in [
        (digest.as_str(), "0".repeat(64), 6, "not the files that are locked"),
        (&first, "0".repeat(40), 7, "git cannot read"),
        (&first, "HEAD".to_owned(), 6, "its source is not known"),
        ("git.invalid/clay.git#", "git.invalid/mud.git#".to_owned(), 6, "has no commit"),
    ] {
        forged.file("bolide.lock", &lock.replace(from, &to));
        let refused = forged.bolide(&frozen);
        assert!(refused.code != 0, "{refused:#?}");
        assert!(refused.stderr.contains(word) || code == 7, "{word}: {refused:#?}");
        assert!(!forged.project().join(".venv").exists());
    }
}

#[test]
fn a_project_in_a_subdirectory_and_one_by_ssh_are_built() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    Clay::default().lay(&origin.place.join("libs/clay"));
    std::fs::remove_file(origin.place.join("pyproject.toml")).unwrap();
    origin.commit("moved");
    asks_for(&world, "");
    world.bolide(&BUILD).fails(1, &["is no Python project", "#subdirectory=DIR"]);
    asks_for(&world, "#subdirectory=gone");
    world.bolide(&BUILD).fails(1, &["has no directory `gone`"]);
    let place = "#subdirectory=libs/clay";
    asks_for(&world, place);
    world.bolide(&BUILD).succeeds();
    let pip = by_pip(&world, &[&format!("clay @ {ADDRESS}{place}")]);
    let own = world.project().join(".venv");
    assert_eq!(installed(&own), installed(&pip));
    assert_eq!(frozen(&world, &own), frozen(&world, &pip));
    let text = std::fs::read_to_string(world.place("home/.gitconfig")).unwrap();
    let by_ssh = text.replace("https://git.invalid/", "ssh://git@git.invalid/");
    std::fs::write(world.place("home/.gitconfig"), by_ssh).unwrap();
    let line = format!("clay @ git+ssh://git@git.invalid/clay.git{place}\n");
    world.file("requirements.txt", &line);
    world.bolide(&["install"]).succeeds();
    let lock = world.read("bolide.lock");
    assert!(lock.contains("git+ssh://git@git.invalid/clay.git#subdirectory="), "{lock}");
}

#[test]
fn what_another_tool_locked_is_the_commit_that_is_chosen() {
    let own =
        "[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"clay\"]\n[tool.uv.sources]\n";
    let own =
        format!("{own}clay = {{ git = \"https://git.invalid/clay.git\", branch = \"main\" }}\n");
    for (rest, expected) in [("?branch=main", "1"), ("?branch=other", "2"), ("", "2")] {
        let world = World::quick();
        let origin = Origin::of(&world, &Clay::default());
        let first = origin.edit("A = 1\n");
        origin.edit("A = 2\n");
        let source = format!("https://git.invalid/clay.git{rest}#{first}");
        let uv_lock = format!(
            "version = 1\n[[package]]\nname = \"clay\"\nversion = \"1.0\"\nsource = {{ git = \"{source}\" }}\n"
        );
        world.file("pyproject.toml", &own);
        world.file("uv.lock", &uv_lock);
        world.bolide(&["install", "--build", "clay", "--take-over"]).succeeds();
        assert_eq!(more(&world), expected, "{rest}");
        // Without a lock what is installed stays.
        std::fs::remove_file(world.project().join("uv.lock")).unwrap();
        std::fs::remove_file(world.project().join("bolide.lock")).unwrap();
        world.bolide(&["install", "--build", "clay"]).succeeds();
        assert_eq!(more(&world), expected, "{rest}");
    }
}

#[test]
fn hostile_trees_are_refused_before_anything_is_written() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let blob = origin.git(&["hash-object", "-w", "pyproject.toml"]);
    let main = origin.git(&["rev-parse", "HEAD"]);
    asks_for(&world, "@main");
    let (file, tree) = ("100644", "40000");
    let nested = origin.git(&["rev-parse", "HEAD:clay"]);
    for (entries, word) in [
        (vec![(file, "..", blob.as_str())], "no path within a tree"),
        (vec![(tree, ".git", &nested)], "no path within a tree"),
        (vec![(tree, "..", &nested)], "no path within a tree"),
        (vec![("120000", "a", blob.as_str()), (tree, "a", &nested)], "stands there twice"),
        (vec![("160000", "sub", &main)], "is a submodule"),
    ] {
        origin.forge(&entries);
        world.bolide(&BUILD).fails(3, &[word, "https://git.invalid/clay.git"]);
    }
    origin.git(&["reset", "--quiet", "--hard", &main]);
    for target in ["/etc/passwd", "../../secret"] {
        symlink(target, origin.place.join("clay/link")).unwrap();
        origin.commit("link");
        world.bolide(&BUILD).fails(3, &["`clay/link` in", "a link that may lead out of it"]);
        std::fs::remove_file(origin.place.join("clay/link")).unwrap();
    }
    // Ten of ten of ten: more files than there is room for, in a few bytes.
    origin.forge(&[(file, "x", &blob)]);
    let mut inner = origin.git(&["rev-parse", "main^{tree}"]);
    for _ in 0..9 {
        let names: Vec<String> = (0..10).map(|at| format!("d{at}")).collect();
        let entries: Vec<_> =
            names.iter().map(|name| (tree, name.as_str(), inner.as_str())).collect();
        origin.forge(&entries);
        inner = origin.git(&["rev-parse", "main^{tree}"]);
    }
    world.bolide(&BUILD).fails(3, &["files"]);
    assert!(
        !world.project().join(".venv").exists() && !world.project().join("bolide.lock").exists()
    );
    assert_eq!(cached(&world, "incoming"), 0);
}

#[test]
fn no_attribute_no_hook_and_no_filter_of_anybody_changes_what_is_built() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let attributes = "*.py filter=evil eol=crlf text ident\ntold.json export-ignore\n\
                      clay/more.py export-subst\n";
    std::fs::write(origin.place.join(".gitattributes"), attributes).unwrap();
    std::fs::write(
        origin.place.join(".gitmodules"),
        "[submodule \"x\"]\npath = x\nurl = ext::sh\n",
    )
    .unwrap();
    origin.edit("A = '$Format:%H$ $Id$'\n");
    let replaced = origin.git(&["rev-parse", "HEAD"]);
    let other = origin.edit("A = 'replaced'\n");
    origin.git(&["replace", &replaced, &other]);
    let marker = world.place("marker");
    let hooks = world.place("hooks");
    std::fs::create_dir(&hooks).unwrap();
    let text = std::fs::read_to_string(world.place("home/.gitconfig")).unwrap();
    let evil = format!(
        "{text}[filter \"evil\"]\n smudge = touch {0}\n clean = cat\n[core]\n hooksPath = {1}\n fsmonitor = touch {0}\n\
         [protocol \"ext\"]\n allow = always\n[fetch]\n recurseSubmodules = true\n",
        marker.display(),
        hooks.display()
    );
    std::fs::write(world.place("home/.gitconfig"), evil).unwrap();
    for hook in ["post-checkout", "reference-transaction", "post-index-change"] {
        let path = hooks.join(hook);
        std::fs::write(&path, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    asks_for(&world, &format!("@{replaced}"));
    world.bolide(&BUILD).succeeds();
    assert_eq!(more(&world), "$Format:%H$ $Id$");
    assert!(!marker.exists());
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    for (rest, code, words) in [
        ("@v9", 1, &["no branch, tag or commit `v9`", "correct what the manifest names"][..]),
        ("@0123456", 1, &["no branch, tag or commit `0123456`"]),
        (&format!("@{}", "0".repeat(40)), 1, &["no branch, tag or commit"]),
        ("@--upload-pack=x", 1, &["no branch, tag or commit"]),
        ("#egg=clay&sha256=00", 1, &["which is not known"]),
    ] {
        asks_for(&world, rest);
        world.bolide(&BUILD).fails(code, words);
    }
    for (line, word) in [
        (
            "clay @ git+https://git.invalid/gone.git",
            "git cannot read `https://git.invalid/gone.git`",
        ),
        ("clay @ git+http://git.invalid/clay.git", "not supported"),
        ("git+https://git.invalid/clay.git", "which package"),
        ("mud @ git+https://git.invalid/clay.git", "it is about `clay`"),
        ("-e git+https://git.invalid/clay.git#egg=clay", "only those can be editable"),
    ] {
        world.file("requirements.txt", &format!("{line}\n"));
        let refused = world.bolide(&["install", "--build", "clay", "--build", "mud"]);
        assert!(refused.code != 0 && refused.stderr.contains(word), "{word}: {refused:#?}");
    }
    // Without git nothing is guessed.
    asks_for(&world, "");
    let says = "import sys; print(sys.executable)";
    let python = world.run("python3", &["-c", says]).succeeds().stdout;
    let mut alone = world.command(super::world::bolide_program());
    alone.args(BUILD).args(["--python", python.trim()]).env("PATH", world.place("bin"));
    let alone = Outcome::of(&mut alone);
    alone.fails(1, &["`git` is needed", "install git"]);
    drop(origin);
    assert!(!world.project().join(".venv").exists());
}

#[test]
fn logins_are_gits_own_matter_and_nobody_shows_them() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    origin.git(&["config", "http.receivepack", "false"]);
    let server = GitServer::start(&world, "me", "hush-1");
    configure(&world, &format!("{}/", server.base()));
    let commit = origin.git(&["rev-parse", "HEAD"]);
    origin.edit("A = 1\n");
    asks_for(&world, &format!("@{commit}"));
    let says_nothing = |outcome: &Outcome| {
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(!said.contains("hush"), "{said}");
    };
    let refused = world.bolide(&BUILD);
    refused.fails(7, &["git cannot read `https://git.invalid/clay.git`", "git ls-remote"]);
    says_nothing(&refused);
    let text = std::fs::read_to_string(world.place("home/.gitconfig")).unwrap();
    let helper = |word: &str| {
        let says = format!("!f() {{ echo username=me; echo password={word}; }}; f");
        let text = format!("{text}[credential]\n helper = \"{says}\"\n");
        std::fs::write(world.place("home/.gitconfig"), text).unwrap();
    };
    helper("hush-2");
    let refused = world.bolide(&BUILD);
    refused.fails(7, &["git cannot read"]);
    says_nothing(&refused);
    helper("hush-1");
    // This server speaks the old protocol and gives no commit by its name, so all of its branches are fetched.
    let done = world.bolide(&BUILD).succeeds();
    says_nothing(&done);
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
    assert!(world.read("bolide.lock").contains(&commit));
    // A password in the person's own configuration, and one in the manifest.
    let inside = server.base().replace("http://", "http://me:hush-1@");
    configure(&world, &format!("{inside}/"));
    asks_for(&world, "@main");
    says_nothing(&world.bolide(&["update", "--build", "clay", "--yes"]).succeeds());
    assert_eq!(more(&world), "1");
    configure(&world, &format!("{inside}/gone/"));
    let refused = world.bolide(&["update", "--build", "clay", "--yes"]);
    refused.fails(7, &["git cannot read"]);
    says_nothing(&refused);
    world.file("requirements.txt", "clay @ git+https://me:hush@git.invalid/clay.git\n");
    let refused = world.bolide(&BUILD);
    refused.fails(1, &["a login"]);
    says_nothing(&refused);
    let kept = Outcome::of(world.command("grep").args(["-r", "hush-"]).args([
        world.place("home/state"),
        world.place("home/cache"),
        world.project(),
    ]));
    assert_eq!(kept.stdout, "", "a secret is kept");
}

/// A way to a server that never answers; it says its number and becomes what sleeps.
fn silent_ssh(world: &World) -> PathBuf {
    let (script, told) = (world.place("ssh"), world.place("told"));
    let text =
        format!("#!/bin/sh\necho $$ > {0}.new\nmv {0}.new {0}\nexec sleep 600\n", told.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    script
}

fn runs(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let state = state.rsplit_once(')').map(|(_, rest)| rest.trim().starts_with('Z'));
    state == Some(false)
}

#[test]
fn a_strike_in_the_middle_of_a_fetch_leaves_nothing_behind() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let line = "clay @ git+ssh://git@git.invalid/clay.git\n";
    world.file("requirements.txt", line);
    let ssh = silent_ssh(&world);
    for by_daemon in [false, true] {
        let daemon = by_daemon.then(|| world.daemon());
        let _ = std::fs::remove_file(world.place("told"));
        let mut bolide = world.command(super::world::bolide_program());
        bolide.args(BUILD).env("GIT_SSH_COMMAND", &ssh).stdin(Stdio::null());
        let mut bolide = bolide.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("git asks", || world.place("told").exists());
        let pid = std::fs::read_to_string(world.place("told")).unwrap();
        assert!(runs(&pid));
        match daemon {
            // Dropped, it is killed.
            Some(daemon) => drop(daemon),
            None => bolide.kill().unwrap(),
        }
        wait_until("what git started has ended", || !runs(&pid));
        let _ = bolide.kill();
        bolide.wait().unwrap();
    }
    let text = std::fs::read_to_string(world.place("home/.gitconfig")).unwrap();
    let by_ssh = text.replace("https://git.invalid/", "ssh://git@git.invalid/");
    std::fs::write(world.place("home/.gitconfig"), by_ssh).unwrap();
    world.bolide(&BUILD).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
    assert_eq!((cached(&world, "incoming"), cached(&world, "repositories")), (0, 1));
    drop(origin);
}

#[test]
fn a_kept_repository_that_lost_something_is_fetched_again() {
    let world = World::quick();
    let _origin = Origin::of(&world, &Clay::default());
    asks_for(&world, "");
    world.bolide(&BUILD).succeeds();
    let kept = std::fs::read_dir(world.place("home/cache/bolide/repositories")).unwrap();
    let kept = kept.map(|entry| entry.unwrap().path()).next().unwrap();
    let pack = std::fs::read_dir(kept.join("objects/pack")).unwrap();
    for entry in pack.map(|entry| entry.unwrap().path()) {
        std::fs::remove_file(&entry).unwrap();
    }
    std::fs::remove_dir_all(world.place("home/cache/bolide/builds")).unwrap();
    std::fs::remove_dir_all(world.project().join(".venv")).unwrap();
    let offline = ["install", "--frozen", "--build", "clay", "--offline"];
    world.bolide(&offline).fails(1, &["cannot be read"]);
    world.bolide(&["install", "--frozen", "--build", "clay"]).succeeds();
    std::fs::remove_dir_all(world.project().join(".venv")).unwrap();
    world.bolide(&offline).succeeds();
    assert_eq!(cached(&world, "repositories"), 1);
}

#[test]
fn several_at_once_ask_for_the_same_commit() {
    let world = World::quick();
    let _origin = Origin::of(&world, &Clay::default());
    let places: Vec<PathBuf> = (0..3).map(|at| world.place(&format!("project-{at}"))).collect();
    let started: Vec<_> = places
        .iter()
        .map(|place| {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("requirements.txt"), format!("clay @ {ADDRESS}\n")).unwrap();
            let mut bolide = world.command(super::world::bolide_program());
            bolide.args(BUILD).current_dir(place).stdin(Stdio::null());
            bolide.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in started {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert!(places.iter().all(|place| place.join(".venv/bin/clay").exists()));
    assert_eq!(cached(&world, "repositories"), 1);
}
