//! Whether packages of source archives can be built on this machine: something is run as they are, in their sandbox.

use agents_packager::build::run::Sandbox;
use hw::root::Root;
use serde_json::{Value, json};

use super::plain;

/// Of a recorded machine nothing is known.
pub(super) fn report(root: &Root) -> Value {
    if !root.is_machine() {
        return Value::Null;
    }
    let tried = Sandbox::own().probe();
    json!({"sandbox": tried.is_ok(), "why": tried.err()})
}

pub(super) fn line(report: &Value) -> Option<String> {
    let text = match report["sandbox"].as_bool()? {
        true => "can be made where `--build` names a package: no network, no file but their own"
            .to_owned(),
        false => format!("cannot be made: {}", plain(&report["why"])),
    };
    Some(format!("builds     {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_words() {
        let can = line(&json!({"sandbox": true, "why": null})).unwrap();
        assert!(can.contains("--build"), "{can}");
        let cannot = line(&json!({"sandbox": false, "why": "no name spaces"})).unwrap();
        assert!(cannot.ends_with("cannot be made: no name spaces"), "{cannot}");
        assert_eq!(line(&Value::Null), None);
    }
}
