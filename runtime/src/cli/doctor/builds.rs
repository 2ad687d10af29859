//! Whether packages of source archives can be built on this machine: something is run as they are, in their sandbox.

use std::fs;

use agents_contract::Cancellation;
use agents_packager::build::run::Sandbox;
use agents_packager::build::{Ended, Order, Report};
use hw::root::Root;
use serde_json::{Value, json};

use super::plain;

/// What is run: a program that every machine has, and that does nothing.
const SHELL: &str = "/bin/sh";

/// Of a recorded machine nothing is known.
pub(super) fn report(root: &Root) -> Value {
    if !root.is_machine() {
        return Value::Null;
    }
    let why = match try_sandbox() {
        Ok(Report { ended: Ended::Exit(0), .. }) => None,
        Ok(Report { ended: Ended::Unable(why), .. }) => Some(why),
        Ok(report) => report.failure(),
        Err(why) => Some(why),
    };
    json!({"sandbox": why.is_none(), "why": why})
}

fn try_sandbox() -> Result<Report, String> {
    let place = tempfile::tempdir().map_err(|error| format!("no directory for it: {error}"))?;
    let work = fs::canonicalize(place.path()).map_err(|error| format!("no directory: {error}"))?;
    let order = Order {
        program: SHELL.into(),
        arguments: vec!["-c".to_owned(), ":".to_owned()],
        directory: work.clone(),
        work,
        readable: Vec::new(),
        variables: Vec::new(),
    };
    Sandbox::own().run(order, Cancellation::NEVER).map_err(|error| error.to_string())
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
