//! What an answer before the device had it leaves for others: what counts as damage and what as an edit, what is told, and what
//! becomes of it where something that is needed to take it back is gone.

use std::sync::Mutex;

use rustix::io::Errno;

use super::super::directory::broken;
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

/// There is no room for copies, and perhaps nothing can be moved to another place.
struct NoCopies {
    moves: bool,
}

impl Hook for NoCopies {
    fn reach(&self, name: &'static str) -> Verdict {
        match name {
            "keep" => Verdict::Fail(Errno::NOSPC),
            "rename" if !self.moves => Verdict::Fail(Errno::XDEV),
            _ => Verdict::Proceed,
        }
    }

    fn order(&self) -> Option<Order> {
        Some(KEPT)
    }
}

#[test]
fn a_foreign_tree_for_whose_copy_there_is_no_room_is_moved_or_stays_where_it_is() {
    for moves in [true, false] {
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
        if !moves {
            // Where it goes before anything is looked at.
            let staging = world.project.join(".bolide/staging");
            fs::create_dir_all(&staging).unwrap();
            fs::rename(slot.parent().unwrap(), staging.join(&id)).unwrap();
        }
        let transactions =
            world.open_on(Disk { hook: Some(Arc::new(NoCopies { moves })) }).unwrap();
        let mut session = world.lock(&transactions).unwrap();
        assert_eq!(session.recovered()[0].outcome, Outcome::Undone);
        let told = session.take_notes().join("\n");
        assert_eq!(world.read("node_modules/mine.js"), "mine");
        let kept = world.state.join("kept").join(&id).join("node_modules/a/index.js");
        let left = world.project.join(".bolide/staging").join(&id);
        let left = left.join(slot.file_name().unwrap());
        assert_eq!((kept.exists(), left.exists()), (moves, !moves), "{told}");
        assert_eq!(told.contains(&left.display().to_string()), !moves, "{told}");
    }
}

#[test]
fn what_somebody_put_in_the_place_of_a_file_is_no_damage_whatever_it_holds() {
    for text in ["", "\0\0\0\0", "mine"] {
        for replaces in [false, true] {
            let (world, _) = answered("2.0.0");
            let path = world.project.join("node_modules/a/index.js");
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            if replaces {
                let fresh = path.with_extension("new");
                fs::write(&fresh, text).unwrap();
                fs::File::options().write(true).open(&fresh).unwrap().set_modified(time).unwrap();
                fs::rename(fresh, &path).unwrap();
            } else {
                fs::write(&path, text).unwrap();
            }
            let world = restart(world);
            assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
            assert_eq!(world.read("node_modules/a/index.js"), text);
            world.assert_clean();
        }
    }
}

/// The device tells of an error once to each of these.
struct Errs(Mutex<Vec<&'static str>>);

impl Hook for Errs {
    fn reach(&self, name: &'static str) -> Verdict {
        let mut names = self.0.lock().unwrap();
        let count = names.len();
        names.retain(|it| *it != name);
        if names.len() < count { Verdict::Fail(Errno::IO) } else { Verdict::Proceed }
    }

    fn order(&self) -> Option<Order> {
        Some(KEPT)
    }
}

#[test]
fn an_error_of_something_else_takes_nothing_back_where_another_process_asks() {
    for (is_next_start, is_torn, is_of_file) in [
        (false, false, false),
        (false, true, false),
        (false, false, true),
        (true, false, false),
        (true, false, true),
    ] {
        let (world, _) = answered("2.0.0");
        if is_torn {
            tear(&world.project.join("node_modules/a/index.js"), b"");
        }
        let world = if is_next_start { restart(world) } else { world };
        let names = if is_of_file { vec!["syncfs", "fsync"] } else { vec!["syncfs"] };
        let hook = Arc::new(Errs(Mutex::new(names)));
        let transactions = world.open_on(Disk { hook: Some(hook) }).unwrap();
        let outcome = world.lock(&transactions).unwrap().recovered()[0].outcome;
        let is_back = is_torn || is_of_file;
        assert_eq!(outcome, if is_back { Outcome::Undone } else { Outcome::Finished });
        world.assert_clean();
    }
}

/// Everything fails from a call on, as often as it is said.
struct Fails {
    from: &'static str,
    what: fn(&str) -> bool,
    is_over: Mutex<bool>,
    has_begun: Mutex<bool>,
}

impl Fails {
    fn new(from: &'static str, what: fn(&str) -> bool) -> Arc<Self> {
        Arc::new(Self { from, what, is_over: Mutex::default(), has_begun: Mutex::default() })
    }
}

impl Hook for Fails {
    fn reach(&self, name: &'static str) -> Verdict {
        let mut has_begun = self.has_begun.lock().unwrap();
        let fails = *has_begun && (self.what)(name) || name == self.from && (self.what)(name);
        *has_begun |= name == self.from;
        if fails && !*self.is_over.lock().unwrap() {
            return Verdict::Fail(Errno::NOSPC);
        }
        Verdict::Proceed
    }

    fn order(&self) -> Option<Order> {
        Some(KEPT)
    }
}

#[test]
fn what_the_device_has_stands_where_that_cannot_be_written_down() {
    for is_next_start in [false, true] {
        let (world, _) = answered("2.0.0");
        let expected = world.visible();
        let world = if is_next_start { restart(world) } else { world };
        let hook = Fails::new("syncfs", |name| name == "append");
        let transactions = world.open_on(Disk { hook: Some(hook) }).unwrap();
        assert_eq!(world.lock(&transactions).unwrap().recovered()[0].outcome, Outcome::Finished);
        assert_eq!(world.visible(), expected);
        world.assert_clean();
    }
}

#[test]
fn a_start_that_found_all_of_it_asks_never_again() {
    let (world, _) = answered("2.0.0");
    let mut world = restart(world);
    let transactions = world.open_on(Disk { hook: Some(Arc::new(Keeping)) }).unwrap();
    assert!(world.lock(&transactions).is_err());
    drop(transactions);
    tear(&world.project.join("node_modules/a/index.js"), b"");
    world.start = Some("0a8d11f4-95b7-4c55-9d8e-7c2b0e0d6b22".to_owned());
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
    assert_eq!(world.read("node_modules/a/index.js"), "");
    world.assert_clean();
}

#[test]
fn who_alone_knows_that_something_is_to_be_taken_back_keeps_the_lock() {
    let world = world();
    install(&mut world.session(), "1.0.0", false).unwrap();
    let hook = Fails::new("syncfs", |_| true);
    let transactions = world.open_on(Disk { hook: Some(hook.clone()) }).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    install_as(&mut session, "2.0.0", answer()).unwrap();
    assert!(!session.has_to_stay());
    assert!(session.confirm().is_err() && session.has_to_stay());
    assert!(session.confirm().is_err() && session.has_to_stay());
    *hook.is_over.lock().unwrap() = true;
    assert_eq!(session.confirm().unwrap()[0].outcome, Outcome::Undone);
    assert!(!session.has_to_stay());
    drop(session);
    assert_taken_back(&world, "2.0.0", "after a while");
}

#[test]
fn a_record_that_cannot_be_read_now_decides_nothing() {
    let (world, _) = answered("2.0.0");
    let (which, ..) = told(&world);
    let expected = world.visible();
    let world = restart(world);
    let print = world.state.join("fingerprints").join(format!("{}.0", which.id));
    let aside = world.state.join("aside");
    fs::rename(&print, &aside).unwrap();
    fs::create_dir(&print).unwrap();
    let transactions = world.open();
    assert!(world.lock(&transactions).is_err());
    fs::remove_dir(&print).unwrap();
    fs::rename(&aside, &print).unwrap();
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
    assert_eq!(world.visible(), expected);
}

#[test]
fn of_what_no_record_tells_any_more_all_is_kept() {
    let (world, _) = answered("2.0.0");
    let (which, story, _) = told(&world);
    let items = story.intent.unwrap().items;
    let position = items.iter().position(|it| it.live.as_str() == "node_modules").unwrap();
    world.write("node_modules/mine.js", "mine");
    world.write("node_modules/a/mine.js", "");
    fs::remove_file(world.state.join("fingerprints").join(format!("{}.{position}", which.id)))
        .unwrap();
    let world = restart(world);
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Undone);
    let kept = world.state.join("kept").join(&which.id).join("node_modules");
    assert_eq!(fs::read_to_string(kept.join("mine.js")).unwrap(), "mine");
    assert!(kept.join("a/mine.js").exists());
    assert!(!world.has("node_modules/mine.js"));
    world.assert_clean();
}

#[test]
fn a_note_that_cannot_be_read_condemns_no_journal_that_is_whole() {
    let (world, _) = answered("2.0.0");
    let (_, _, path) = told(&world);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&path, "user.bolide.intent", b"nothing", flags).unwrap();
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
    world.assert_clean();
}

/// While it lives the device cannot read this file.
struct Unreadable;

impl Unreadable {
    fn new(path: PathBuf) -> Self {
        broken::IS_UNREADABLE.set(Some(path));
        Self
    }
}

impl Drop for Unreadable {
    fn drop(&mut self) {
        broken::IS_UNREADABLE.set(None);
    }
}

#[test]
fn what_the_device_cannot_read_is_taken_back_and_moved_aside_and_holds_up_nobody() {
    for is_print in [false, true] {
        let (world, _) = answered("2.0.0");
        let (which, story, _) = told(&world);
        world.write("node_modules/mine.js", "mine");
        let items = story.intent.unwrap().items;
        let position = items.iter().position(|it| it.live.as_str() == "node_modules").unwrap();
        let print = world.state.join("fingerprints").join(format!("{}.{position}", which.id));
        let live = world.project.join("node_modules/a/index.js");
        let broken = Unreadable::new(if is_print { print } else { live });
        let world = restart(world);
        let transactions = world.open();
        assert_eq!(world.lock(&transactions).unwrap().recovered()[0].outcome, Outcome::Undone);
        drop(broken);
        assert!(world.read("node_modules/a/index.js").contains("1.0.0"));
        assert!(!world.has("node_modules/mine.js"));
        let kept = world.state.join("kept").join(&which.id).join("node_modules");
        assert_eq!(fs::read_to_string(kept.join("mine.js")).unwrap(), "mine");
        assert!(world.session().recovered().is_empty());
        world.assert_clean();
    }
}

#[test]
fn what_the_device_cannot_read_of_a_tree_that_is_looked_through_is_no_reason_to_stop() {
    // In the slot, where it has gone when it is looked through.
    let (world, _) = answered("2.0.0");
    let (which, story, _) = told(&world);
    let items = story.intent.unwrap().items;
    let item = items.iter().find(|it| it.live.as_str() == "node_modules").unwrap();
    tear(&world.project.join(".venv/lib/site.py"), b"");
    world.write("node_modules/a/index.js", "an edit");
    let staging = world.project.join(".bolide/staging").join(&which.id);
    let broken = Unreadable::new(staging.join(&item.slot).join("a/index.js"));
    let world = restart(world);
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Undone);
    drop(broken);
    let kept = world.state.join("kept").join(&which.id).join("node_modules/a/index.js");
    assert_eq!(fs::read_to_string(kept).unwrap(), "an edit");
    world.assert_clean();
}

#[test]
fn an_old_file_that_the_device_cannot_read_does_not_replace_the_new_one() {
    let (world, _) = answered("2.0.0");
    let (which, story, _) = told(&world);
    let items = story.intent.unwrap().items;
    let item = items.iter().find(|it| it.live.as_str() == "package.json").unwrap();
    let staging = world.project.join(".bolide/staging").join(&which.id);
    let broken = Unreadable::new(staging.join(&item.slot));
    tear(&world.project.join("node_modules/a/index.js"), b"");
    let world = restart(world);
    let transactions = world.open();
    let mut session = world.lock(&transactions).unwrap();
    assert_eq!(session.recovered()[0].outcome, Outcome::Undone);
    drop(broken);
    assert!(world.read("package.json").contains("2.0.0"));
    let kept = world.state.join("kept").join(&which.id).join("package.json");
    assert!(fs::read_to_string(kept).unwrap().contains("1.0.0"));
    let told = session.take_notes().join("\n");
    assert!(told.contains("stays as it was installed"), "{told}");
    drop(session);
    world.assert_clean();
}
