//! How files come out of the store of packages here: found by trying, as an installation does.

use agents_packager::store::{Mode, Store};
use hw::root::Root;
use serde_json::{Value, json};

use super::plain;
use crate::cli::Context;

/// Of a recorded machine nothing is known, and a store that was never used is not made for this.
pub(super) fn report(root: &Root, context: &Context) -> Value {
    let Ok(config) = context.load([]) else { return Value::Null };
    let path = config.settings.cache_dir.join("store");
    if !root.is_machine() || !path.is_dir() {
        return Value::Null;
    }
    let wanted = config.settings.store.mode;
    let found = Store::open(&path)
        .map(|store| store.with_mode(wanted))
        .and_then(|store| store.mode_at(&path.join("tmp")));
    match found {
        Ok(mode) => {
            json!({"path": path, "wanted": wanted.name(), "mode": mode.name(), "why": null})
        }
        Err(error) => {
            let why = error.to_string();
            json!({"path": path, "wanted": wanted.name(), "mode": null, "why": why})
        }
    }
}

pub(super) fn line(report: &Value) -> Option<String> {
    let meaning = |mode: &str| match mode {
        mode if mode == Mode::Reflink.name() => {
            "files share their blocks with it until one is written"
        }
        mode if mode == Mode::Link.name() => {
            "files are its own under a second name, and are verified before they are used again"
        }
        _ => "files are copied out of it",
    };
    let path = plain(&report["path"]);
    let text = match (report["mode"].as_str(), report["why"].as_str()) {
        (Some(mode), _) => {
            format!("{mode} within the file system of {path}: {}", meaning(mode))
        }
        (None, Some(why)) => format!("{path} cannot be used: {why}"),
        (None, None) => return None,
    };
    Some(format!("store      {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_words() {
        let said = |mode: Value, why: Value| line(&json!({"path": "/s", "mode": mode, "why": why}));
        for mode in Mode::ALL {
            let text = said(json!(mode.name()), Value::Null).unwrap();
            assert!(text.starts_with(&format!("store      {} within", mode.name())), "{text}");
        }
        assert!(said(Value::Null, json!("full")).unwrap().ends_with("cannot be used: full"));
        assert_eq!(line(&Value::Null), None);
    }
}
