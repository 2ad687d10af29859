//! Environments that were tampered with, told of and mended.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::*;
use crate::api::{
    HistoryAnswer, HistoryRequest, RollbackAnswer, RollbackRequest, VerifyAnswer, VerifyRequest,
};
use crate::transaction::Difference;

impl World {
    fn furnished() -> Self {
        let world = Self::new();
        world.write("requirements.txt", "base\ngood\n");
        assert!(world.installs(Options::default()));
        world
    }

    fn verify(&self, repair: bool, force: bool) -> VerifyAnswer {
        self.verify_at(&[], repair, force).expect("an answer")
    }

    fn verify_at(
        &self,
        paths: &[&str],
        repair: bool,
        force: bool,
    ) -> Result<VerifyAnswer, ToolError> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let setting = self.setting(Options::default());
        self.ask("pkg.verify", &VerifyRequest { paths, repair, force, setting })
    }

    /// The directory of packages, relative to the project.
    fn site(&self) -> String {
        let library = fs::read_dir(self.project().join(".venv/lib")).expect("an environment");
        let python = library.flatten().next().expect("one python").file_name();
        format!(".venv/lib/{}/site-packages", python.to_string_lossy())
    }

    fn hash(&self) -> String {
        let is_cache = |path: &[u8]| path.ends_with(b"__pycache__");
        crate::transaction::tree_hash_without(&self.project().join(".venv"), &is_cache)
            .expect("a hash")
    }
}

fn found(answer: &VerifyAnswer) -> Vec<(&str, Difference)> {
    let all = answer.environments.iter().flat_map(|environment| &environment.differences);
    all.map(|it| (it.path.as_str(), it.difference)).collect()
}

#[test]
fn what_was_installed_is_as_it_was_and_caches_do_not_count() {
    let world = World::furnished();
    let site = world.site();
    fs::create_dir(world.project().join(&site).join("base/__pycache__")).expect("made");
    fs::write(world.project().join(&site).join("base/x.pyc"), "x").expect("written");
    let answer = world.verify(false, false);
    assert!(answer.clean && found(&answer).is_empty(), "{answer:?}");
    assert_eq!(answer.environments.len(), 1);
    assert!(answer.environments[0].looked_at > 10);
    let none = world.verify(true, false);
    assert!(none.clean && none.transaction.is_none(), "{none:?}");
}

#[test]
fn what_is_missing_or_has_other_permissions_is_brought_back_and_that_can_be_undone() {
    let world = World::furnished();
    let (before, site) = (world.hash(), world.site());
    let at = |path: &str| world.project().join(path);
    fs::remove_dir_all(at(&site).join("base")).expect("removed");
    fs::remove_file(at(".venv/pyvenv.cfg")).expect("removed");
    fs::remove_file(at(".venv/bin/python")).expect("removed");
    let activate = at(".venv/bin/activate");
    fs::set_permissions(&activate, fs::Permissions::from_mode(0o600)).expect("ours");
    let broken = world.hash();
    let answer = world.verify(false, false);
    let base = format!("{site}/base");
    assert!(!answer.clean);
    let expected = [
        (".venv/bin/activate", Difference::Mode),
        (".venv/bin/python", Difference::Missing),
        (base.as_str(), Difference::Missing),
        (".venv/pyvenv.cfg", Difference::Missing),
    ];
    assert_eq!(found(&answer), expected, "{answer:?}");
    let entries: Vec<u64> =
        answer.environments[0].differences.iter().map(|it| it.entries).collect();
    assert_eq!(entries, [1, 1, 2, 1], "a directory stands for what was in it");
    assert_eq!(world.hash(), broken, "a look changes nothing");
    let mended = world.verify(true, false);
    assert!(mended.clean && mended.kept.is_none(), "{mended:?}");
    assert_eq!(world.hash(), before);
    assert!(world.verify(false, false).clean);
    let request = HistoryRequest::default();
    let history: HistoryAnswer = world.ask("pkg.history", &request).expect("a history");
    assert_eq!(history.transactions[0].operation, "repair");
    assert!(history.transactions[0].summary.contains("4 differences in .venv"), "{history:?}");
    assert!(!world.installs(Options::default()), "the plan that stands is still the same");
    let request = RollbackRequest { transaction: mended.transaction, force: false };
    let _: RollbackAnswer = world.ask("pkg.rollback", &request).expect("undone");
    assert_eq!(world.hash(), broken);
    assert_eq!(found(&world.verify(false, false)), expected);
}

#[test]
fn what_a_person_changed_stays_unless_it_is_forced_and_is_then_kept() {
    let world = World::furnished();
    let (before, site) = (world.hash(), world.site());
    let module = world.project().join(&site).join("base/__init__.py");
    let mine = world.project().join(&site).join("mine");
    fs::write(&module, "VERSION = 'mine'\n").expect("written");
    fs::create_dir(&mine).expect("made");
    fs::write(mine.join("note"), "mine").expect("written");
    fs::remove_file(world.project().join(&site).join("good/__init__.py")).expect("removed");
    let answer = world.verify(true, false);
    assert!(!answer.clean && answer.transaction.is_some(), "{answer:?}");
    let repaired: Vec<bool> =
        answer.environments[0].differences.iter().map(|it| it.repaired).collect();
    assert_eq!(repaired, [false, true, false], "{answer:?}");
    assert_eq!(fs::read_to_string(&module).expect("there"), "VERSION = 'mine'\n");
    assert_eq!(fs::read_to_string(mine.join("note")).expect("there"), "mine");
    assert!(world.has_module("good/__init__.py"));
    let again = world.verify(false, false);
    assert_eq!(found(&again).len(), 2, "what was left is a difference still: {again:?}");
    let forced = world.verify(true, true);
    assert!(forced.clean, "{forced:?}");
    assert_eq!(world.hash(), before);
    let kept = forced.kept.expect("a place");
    let kept = Path::new(&kept).join(&site);
    assert_eq!(
        fs::read_to_string(kept.join("base/__init__.py")).expect("kept"),
        "VERSION = 'mine'\n"
    );
    assert_eq!(fs::read_to_string(kept.join("mine/note")).expect("kept"), "mine");
}

#[test]
fn other_things_under_the_names_of_files_are_told_of_and_not_followed() {
    let world = World::furnished();
    let (before, site) = (world.hash(), world.site());
    let secret = world.directory.path().join("secret");
    fs::create_dir(&secret).expect("made");
    fs::write(secret.join("__init__.py"), "VERSION = '2.0'\n").expect("written");
    let at = |path: &str| world.project().join(&site).join(path);
    // The same bytes behind a link are not the file.
    fs::remove_dir_all(at("base")).expect("removed");
    symlink(&secret, at("base")).expect("made");
    fs::remove_file(at("good/__init__.py")).expect("removed");
    fs::create_dir(at("good/__init__.py")).expect("made");
    fs::write(at("good/__init__.py/x"), "x").expect("written");
    let _socket = std::os::unix::net::UnixListener::bind(at("good/socket")).expect("bound");
    fs::remove_file(world.project().join(".venv/lib64")).expect("removed");
    symlink("/", world.project().join(".venv/lib64")).expect("made");
    let answer = world.verify(false, false);
    let kinds: Vec<Difference> = found(&answer).into_iter().map(|it| it.1).collect();
    use Difference::{Additional, Kind, Target};
    assert_eq!(kinds, [Kind, Kind, Additional, Target], "{answer:?}");
    let forced = world.verify(true, true);
    assert!(forced.clean, "{forced:?}");
    assert_eq!(world.hash(), before);
    assert_eq!(fs::read_dir(&secret).expect("there").count(), 1, "nothing was written behind it");
}

#[test]
fn paths_narrow_what_is_looked_at_and_mended() {
    let world = World::furnished();
    let site = world.site();
    let at = |path: &str| world.project().join(&site).join(path);
    fs::remove_file(at("base/__init__.py")).expect("removed");
    fs::remove_file(at("good/__init__.py")).expect("removed");
    let base = format!("{site}/base/");
    let answer = world.verify_at(&[&base], false, false).expect("an answer");
    assert_eq!(found(&answer).len(), 1, "{answer:?}");
    let mended = world.verify_at(&[&base], true, false).expect("an answer");
    assert!(mended.clean, "{mended:?}");
    assert!(at("base/__init__.py").exists() && !at("good/__init__.py").exists());
    let left = world.verify(false, false);
    assert_eq!(found(&left).len(), 1, "{left:?}");
    for (path, code) in
        [("x", "unknown-path"), (".venv/nothing", "unknown-path"), (".venv/../x", "bad-path")]
    {
        let error = world.verify_at(&[path], false, false).expect_err(path);
        assert_eq!((error.exit_code, error.code.as_str()), (2, code), "{error:?}");
    }
}

#[test]
fn an_environment_that_is_gone_is_made_anew() {
    let world = World::furnished();
    let before = world.hash();
    fs::remove_dir_all(world.project().join(".venv")).expect("removed");
    let answer = world.verify(false, false);
    assert_eq!(found(&answer), [(".venv", Difference::Missing)]);
    assert!(answer.environments[0].differences[0].entries > 10);
    assert!(world.verify(true, false).clean);
    assert_eq!(world.hash(), before);
}
