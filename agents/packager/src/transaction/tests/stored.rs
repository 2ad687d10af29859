//! What an answer before the device had it leaves for others: what counts as damage and what as an edit, what is told, and what
//! becomes of it where something that is needed to take it back is gone.

use std::sync::Mutex;

use rustix::io::Errno;

use super::super::disk::{Hook, Verdict};
use super::super::order::Order;
use super::later::{answer, answered, assert_taken_back, restart, tear, world};
use super::power::{Cut, KEPT, Knife, every_file, told};
use super::*;

/// The journal cannot be removed.
struct Keeping;

impl Hook for Keeping {
    fn reach(&self, name: &'static str) -> Verdict {
        if name == "unlink" { Verdict::Fail(Errno::IO) } else { Verdict::Proceed }
    }

    fn order(&self) -> Option<Order> {
        Some(KEPT)
    }
}

#[test]
fn what_the_device_is_known_to_have_is_never_taken_back_although_its_journal_comes_back() {
    let (world, _) = answered("2.0.0");
    let transactions = world.open_on(Disk { hook: Some(Arc::new(Keeping)) }).unwrap();
    assert!(world.lock(&transactions).is_err());
    drop(transactions);
    tear(&world.project.join("node_modules/a/index.js"), b"");
    world.write("package.json", "{}");
    let expected = world.visible();
    let world = restart(world);
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
    assert_eq!(world.visible(), expected);
    world.assert_clean();
}

#[test]
fn a_later_edit_of_a_person_is_no_damage() {
    use std::os::unix::fs::PermissionsExt as _;
    for version in ["1.0.0", "2.0.0"] {
        let (world, _) = answered(version);
        world.write("node_modules/a/index.js", "mine");
        world.write("package.json", "{ }");
        fs::remove_file(world.project.join("node_modules/a/package.json")).unwrap();
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(world.project.join("node_modules/a"), mode).unwrap();
        let expected = world.visible();
        let world = restart(world);
        assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
        assert_eq!(world.visible(), expected);
        world.assert_clean();
    }
}

#[test]
fn a_file_as_it_was_left_with_other_content_is_damage() {
    for text in ["", "\0\0\0\0", "zero\0\0\0\0"] {
        let (world, _) = answered("2.0.0");
        let expected = world.read("node_modules/a/index.js").len();
        assert!(expected > text.len());
        tear(&world.project.join("node_modules/a/index.js"), text.as_bytes());
        let world = restart(world);
        let is_torn = !text.starts_with("zero");
        let found = if is_torn { Outcome::Undone } else { Outcome::Finished };
        assert_eq!(world.session().recovered()[0].outcome, found, "{text:?}");
        assert_eq!(world.read("node_modules/a/index.js").contains("1.0.0"), is_torn);
    }
}

#[test]
fn a_plan_that_somebody_agreed_to_once_is_enough() {
    let world = world();
    let transactions = world.open_on(Knife::new(Cut::Never, KEPT).disk()).unwrap();
    let digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let approval = Approval {
        digest: digest.to_owned(),
        who: "somebody".to_owned(),
        how: "by a test".to_owned(),
        granted_at_ms: 1,
    };
    transactions.inner.database.approve(&approval, true).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    let purpose = Purpose { digest: Some(digest.to_owned()), ..purpose("add") };
    let mut open = session.begin(purpose).unwrap();
    let change = open.stage_file(path("new.txt"), b"new", Expected::Absent).unwrap();
    assert!(!open.commit(&[change], answer()).unwrap().is_stored);
    assert_eq!(transactions.withdraw_approvals(digest).unwrap(), 1);
    drop((session, transactions));
    let world = restart(world);
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
    assert!(world.has("new.txt"));
}

/// The device refuses what was answered, and has no room for anything from then on but in its notes.
#[derive(Default)]
struct Full(Mutex<bool>);

impl Hook for Full {
    fn reach(&self, name: &'static str) -> Verdict {
        let mut is_full = self.0.lock().unwrap();
        *is_full |= name == "syncfs";
        if *is_full && name != "note" { Verdict::Fail(Errno::NOSPC) } else { Verdict::Proceed }
    }

    fn order(&self) -> Option<Order> {
        Some(KEPT)
    }
}

#[test]
fn a_refusal_is_known_to_the_next_process_although_the_journal_has_no_room_for_it() {
    let world = world();
    install(&mut world.session(), "1.0.0", false).unwrap();
    let transactions = world.open_on(Disk { hook: Some(Arc::<Full>::default()) }).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    install_as(&mut session, "2.0.0", answer()).unwrap();
    assert!(session.confirm().is_err());
    drop((session, transactions));
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Undone);
    assert_taken_back(&world, "2.0.0", "refused twice");
}

#[test]
fn a_project_whose_slots_are_gone_is_not_stuck() {
    for version in ["1.0.0", "2.0.0"] {
        for removes_tree in [false, true] {
            let (world, _) = answered(version);
            tear(&world.project.join("node_modules/a/index.js"), b"");
            world.write("node_modules/mine.js", "mine");
            fs::remove_dir_all(world.project.join(".bolide")).unwrap();
            if removes_tree {
                fs::remove_dir_all(world.project.join("node_modules")).unwrap();
                fs::remove_dir_all(world.project.join("src")).unwrap();
                world.write("src", "no directory");
            }
            // Else the tree that was read is gone, and the rest is whole.
            every_file(&world.state.join("fingerprints"), &|path| {
                if path.to_string_lossy().ends_with(".1") {
                    fs::write(path, "").unwrap();
                }
            });
            let world = restart(world);
            let transactions = world.open();
            let mut session = world.lock(&transactions).unwrap();
            assert_eq!(session.recovered()[0].outcome, Outcome::Undone);
            let told = session.take_notes().join("\n");
            if version == "1.0.0" {
                // There was none before: it goes, and what a person wrote there is kept.
                assert!(!world.has("node_modules") && !world.has(".venv"));
                let kept = world.state.join("kept");
                assert_eq!(kept.exists() && walk_has(&kept, "mine.js"), !removes_tree);
            } else {
                assert!(told.contains("may not be whole"), "{told}");
                assert_eq!(world.has("node_modules/mine.js"), !removes_tree);
            }
            drop(session);
            assert!(world.session().recovered().is_empty(), "it has ended");
        }
    }
}

fn walk_has(place: &Path, name: &str) -> bool {
    let has = Mutex::new(false);
    every_file(place, &|path| *has.lock().unwrap() |= path.ends_with(name));
    has.into_inner().unwrap()
}

#[test]
fn an_old_file_that_did_not_reach_the_device_does_not_replace_the_new_one() {
    let (world, _) = answered("2.0.0");
    let (_, story, _) = told(&world);
    let item =
        story.intent.unwrap().items.into_iter().find(|it| it.live.as_str() == "package.json");
    let item = item.unwrap();
    every_file(&world.project.join(".bolide"), &|path| {
        if path.ends_with(&item.slot) && path.to_string_lossy().contains(&told(&world).0.id) {
            fs::write(path, "").unwrap();
        }
    });
    tear(&world.project.join("node_modules/a/index.js"), b"");
    let world = restart(world);
    let transactions = world.open();
    let mut session = world.lock(&transactions).unwrap();
    assert_eq!(session.recovered()[0].outcome, Outcome::Undone);
    assert!(world.read("package.json").contains("2.0.0"));
    assert!(world.read("node_modules/a/index.js").contains("1.0.0"));
    let told = session.take_notes().join("\n");
    assert!(told.contains("stays as it was installed"), "{told}");
}

#[test]
fn what_was_taken_back_is_told_once_by_whichever_process_answers_next() {
    let (world, _) = answered("2.0.0");
    tear(&world.project.join("node_modules/a/index.js"), b"");
    world.write("node_modules/mine.js", "mine");
    let world = restart(world);
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Undone);
    let kept = world.state.join("kept").display().to_string();
    let history = world.open().history(None, 1).unwrap();
    assert!(history[0].error.as_deref().unwrap_or_default().contains(&kept), "{history:?}");
    let told = world.session().take_notes();
    assert!(told.len() == 1 && told[0].contains(&kept), "{told:?}");
    assert!(world.session().take_notes().is_empty());
}

#[test]
fn what_no_fingerprint_describes_is_waited_for_but_what_is_made_anew() {
    for (name, is_stored) in [
        ("a/index.pyc", true),
        (".cache/x", true),
        ("a/.cache/x", false),
        (".package-lock.json", false),
    ] {
        let world = world();
        let transactions = world.open_on(Knife::new(Cut::Never, KEPT).disk()).unwrap();
        let mut session = world.lock(&transactions).unwrap();
        let open = session.begin(purpose("add")).unwrap();
        let file = open.staging().join("modules").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "{}").unwrap();
        let changes = [environment("node_modules", "modules", Ecosystem::Npm)];
        assert_eq!(open.commit(&changes, answer()).unwrap().is_stored, is_stored, "{name}");
    }
}

#[test]
fn what_npm_noted_of_a_tree_goes_where_it_is_not_whole() {
    for (text, is_whole) in [("{\"packages\":{}}", true), ("{\"packages", false), ("\0\0", false)] {
        let (world, _) = answered("2.0.0");
        world.write("node_modules/.package-lock.json", text);
        let world = restart(world);
        assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
        assert_eq!(world.has("node_modules/.package-lock.json"), is_whole);
    }
}

/// A world in which a person has replaced a tree that was answered, something else is torn, and the slot of the tree.
fn replaced() -> (World, PathBuf, String) {
    let (world, _) = answered("2.0.0");
    let (which, story, _) = told(&world);
    let item =
        story.intent.unwrap().items.into_iter().find(|it| it.live.as_str() == "node_modules");
    let slot = world.project.join(".bolide/generations").join(&which.id).join(item.unwrap().slot);
    fs::remove_dir_all(world.project.join("node_modules")).unwrap();
    world.write("node_modules/mine.js", "mine");
    tear(&world.project.join(".venv/lib/site.py"), b"");
    (restart(world), slot, which.id)
}

#[test]
fn of_an_old_tree_that_somebody_replaced_only_edits_are_kept() {
    for is_edited in [false, true] {
        let (world, slot, id) = replaced();
        if is_edited {
            fs::write(slot.join("a/index.js"), "an edit").unwrap();
            fs::create_dir(slot.join("empty")).unwrap();
        }
        assert_eq!(world.session().recovered()[0].outcome, Outcome::Undone);
        assert_eq!(world.read("node_modules/mine.js"), "mine");
        let kept = world.state.join("kept").join(id);
        assert_eq!(kept.exists(), is_edited);
        let mut found = Vec::new();
        if is_edited {
            let found = Mutex::new(&mut found);
            every_file(&kept, &|path| found.lock().unwrap().push(path.to_owned()));
        }
        let expected = kept.join("node_modules/a/index.js");
        assert_eq!(found, if is_edited { vec![expected] } else { Vec::new() });
        assert_eq!(kept.join("node_modules/empty").exists(), is_edited);
    }
}

/// There is no room for copies.
struct NoCopies;

impl Hook for NoCopies {
    fn reach(&self, name: &'static str) -> Verdict {
        if name == "keep" { Verdict::Fail(Errno::NOSPC) } else { Verdict::Proceed }
    }

    fn order(&self) -> Option<Order> {
        Some(KEPT)
    }
}

#[test]
fn a_foreign_tree_for_whose_copy_there_is_no_room_holds_up_nobody() {
    let (world, slot, id) = replaced();
    let print = world.state.join("fingerprints");
    // As if somebody else had installed it: nothing is known of what it was.
    let first = fs::read_dir(&print).unwrap().map(|it| it.unwrap().path());
    let is_first = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.ends_with(".0") && !name.starts_with(&id)
    };
    for path in first.filter(is_first) {
        fs::remove_file(path).unwrap();
    }
    assert!(slot.join("a/index.js").exists());
    let transactions = world.open_on(Disk { hook: Some(Arc::new(NoCopies)) }).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    assert_eq!(session.recovered()[0].outcome, Outcome::Undone);
    let told = session.take_notes().join("\n");
    assert!(told.contains("could not be kept"), "{told}");
    assert_eq!(world.read("node_modules/mine.js"), "mine");
}
