//! The links of a tree: to the project's own packages, and to a package further up.

use std::collections::HashSet;
use std::path::Path;

use super::is_place;
use crate::error::{Error, Kind, Result};
use crate::resolution::Link;

/// Every place once, well formed, and inside of a package that is there.
pub(super) fn check(links: &[Link], places: &HashSet<&str>) -> Result<()> {
    let mut known = HashSet::new();
    for link in links {
        let inside = link
            .place
            .rsplit_once("/node_modules/")
            .is_none_or(|(parent, _)| places.contains(parent));
        let is_free = !places.contains(link.place.as_str()) && known.insert(link.place.as_str());
        let is_plain = !link.target.is_empty() && !link.target.contains(char::is_control);
        if !(is_place(&link.place) && inside && is_free && is_plain) {
            let (place, target) = (link.place.escape_debug(), link.target.escape_debug());
            let message = format!("the link `{place}` to `{target}` cannot be made");
            return Err(Error::new(Kind::Failed, "bad-place", message)
                .hint("the plan is damaged; make a new one"));
        }
    }
    Ok(())
}

/// Creates them below the staging directory, which will stand `levels` below the project.
pub(super) fn create(staging: &Path, links: &[Link], levels: usize) -> Result<()> {
    for link in links {
        let inside = link.place.strip_prefix("node_modules/").unwrap_or(&link.place);
        let at = staging.join(inside);
        if let Some(parent) = at.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|error| Error::io("create the directory", parent, &error))?;
        }
        std::os::unix::fs::symlink(text(link, levels), &at)
            .map_err(|error| Error::io("create the link", &at, &error))?;
    }
    Ok(())
}

/// What a link holds, relative to the directory that it stands in.
fn text(link: &Link, levels: usize) -> String {
    let up = levels + link.place.split('/').count() - 1;
    format!("{}{}", "../".repeat(up), link.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(place: &str, target: &str) -> Link {
        Link { place: place.to_owned(), target: target.to_owned(), bin: Default::default() }
    }

    #[test]
    fn links_lead_from_where_they_stand() {
        assert_eq!(text(&link("node_modules/a", "packages/a"), 0), "../packages/a");
        assert_eq!(text(&link("node_modules/@s/a", "../a"), 0), "../../../a");
        assert_eq!(text(&link("node_modules/a", "libs/a"), 2), "../../../libs/a");
    }

    #[test]
    fn what_would_leave_the_tree_is_refused() {
        let places = HashSet::from(["node_modules/b"]);
        check(&[link("node_modules/b/node_modules/a", "x")], &places).expect("a place");
        for (place, target) in [
            ("node_modules/../a", "x"),
            ("node_modules/b", "x"),
            ("node_modules/c/node_modules/a", "x"),
            ("node_modules/.bin", "x"),
            ("node_modules/a", ""),
            ("node_modules/a", "x\ny"),
        ] {
            check(&[link(place, target)], &places).expect_err(place);
        }
        check(&[link("node_modules/a", "x"), link("node_modules/a", "y")], &places)
            .expect_err("twice");
    }
}
