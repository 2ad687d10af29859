//! Archives of npm that are not where registries have them by custom: a lock names no addresses, so they are looked for there first.

use std::process::Stdio;

use super::far::{CUSTOM, ELSEWHERE, locked, standing};
use super::world::{bolide_program, wait_until};

#[test]
fn only_what_is_elsewhere_is_asked_about_and_the_others_go_on() {
    let world = locked();
    let asked = |path: &str| world.registry.asked(path);
    let before = ["/npm/far", "/npm/tree", "/npm/leaf"].map(asked);
    let archives = [CUSTOM, "/npm/tree/-/tree-1.0.0.tgz", "/npm/leaf/-/leaf-1.1.0.tgz"];
    let archives_before = archives.map(asked);
    world.registry.fall_silent("/npm/tree/-/");
    let mut install = world.command(bolide_program());
    install.arg("install").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut install = install.spawn().unwrap();
    wait_until("one archive is missed while another one does not come", || {
        world.registry.unanswered() > 0 && asked(CUSTOM) > archives_before[0]
    });
    world.registry.speak();
    wait_until("the command ends", || install.try_wait().unwrap().is_some());
    assert!(install.wait().unwrap().success());
    assert_eq!(standing(&world), 3);
    let since =
        |now: [usize; 3], before: [usize; 3]| [0, 1, 2].map(|index| now[index] - before[index]);
    let documents = since(["/npm/far", "/npm/tree", "/npm/leaf"].map(asked), before);
    assert_eq!(documents, [1, 0, 0], "who is where it is by custom is not asked about");
    assert_eq!(since(archives.map(asked), archives_before), [1, 1, 1], "each is fetched once");
}

#[test]
fn one_that_is_sent_on_to_where_nobody_is_comes_from_where_the_registry_has_it() {
    let world = locked();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = format!("http://{closed}/far.tgz");
    world.registry.spoil(CUSTOM, |page| (page.status, page.body) = (302, target.into_bytes()));
    let documents = ["/npm/tree", "/npm/leaf"].map(|path| world.registry.asked(path));
    world.bolide(&["install"]).succeeds();
    assert_eq!(standing(&world), 3);
    let now = ["/npm/tree", "/npm/leaf"].map(|path| world.registry.asked(path));
    assert_eq!(now, documents, "the others were not asked about");
}

#[test]
fn one_that_is_nowhere_is_told_and_changes_nothing() {
    let world = locked();
    let tree = world.tree();
    world.registry.spoil(ELSEWHERE, |page| (page.status, page.body) = (404, b"no".to_vec()));
    world.bolide(&["install"]).fails(7, &["far-1.0.0.tgz", "hint"]);
    assert_eq!((world.tree(), standing(&world)), (tree, 0));
    world.registry.spoil(CUSTOM, |page| (page.status, page.body) = (200, b"other bytes".to_vec()));
    world.bolide(&["install"]).fails(6, &["far-1.0.0.tgz", "hash"]);
}
