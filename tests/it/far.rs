//! A package of npm whose archive is not where registries have them by custom, and a project whose lock has it.

use super::packages::Npm;
use super::registry::Registry;
use super::world::World;

/// Where the archive is by custom.
pub(crate) const CUSTOM: &str = "/npm/far/-/far-1.0.0.tgz";
/// Where it is.
pub(crate) const ELSEWHERE: &str = "/files/far-1.0.0.tgz";

/// Publishes `far`, whose archive is elsewhere, and says so.
fn publish_far(registry: &Registry) {
    registry.npm(&[Npm { name: "far", version: "1.0.0", dependencies: &[] }]);
    let archive = registry.pages_under(CUSTOM).remove(0);
    registry.page(ELSEWHERE, "application/octet-stream", archive);
    registry.spoil("/npm/far", |page| {
        let text = String::from_utf8(page.body.clone()).unwrap();
        assert!(text.contains(CUSTOM));
        page.body = text.replace(CUSTOM, ELSEWHERE).into_bytes();
    });
    registry.spoil(CUSTOM, |page| (page.status, page.body) = (404, b"no".to_vec()));
}

/// A project with nothing but manifest and lock, and a machine that has fetched nothing yet.
pub(crate) fn locked() -> World {
    let world = World::quick();
    publish_far(&world.registry);
    world.bolide(&["add", "npm:far", "npm:tree@1", "--yes"]).succeeds();
    forget(&world);
    world
}

/// Takes away all that was installed and fetched.
pub(crate) fn forget(world: &World) {
    for place in ["project/node_modules", "project/.bolide", "home"] {
        std::fs::remove_dir_all(world.place(place)).unwrap();
    }
    std::fs::create_dir(world.place("home")).unwrap();
}

/// What stands of the three packages.
pub(crate) fn standing(world: &World) -> usize {
    let file = |name: &str| world.project().join("node_modules").join(name).join("index.js");
    ["far", "tree", "leaf"].into_iter().filter(|name| file(name).exists()).count()
}
