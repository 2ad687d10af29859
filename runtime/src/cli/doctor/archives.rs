//! What holds the process that reads archives on this machine: one is started, and says it.

use agents_packager::unpack::unpacker::{Program, Unpacker};
use hw::root::Root;
use serde_json::{Value, json};

use super::plain;

/// `landlock` is the version of its interface, 0 where the kernel has none. Of a recorded machine nothing is known.
pub(super) fn report(root: &Root) -> Value {
    if !root.is_machine() {
        return Value::Null;
    }
    match Unpacker::with(Program::own()).probe() {
        Ok(isolation) => json!({"landlock": isolation.landlock, "seccomp": true, "why": null}),
        Err(refusal) => json!({"landlock": null, "seccomp": null, "why": refusal.to_string()}),
    }
}

pub(super) fn line(report: &Value) -> Option<String> {
    let text = match (report["landlock"].as_u64(), report["why"].as_str()) {
        (Some(0), _) => {
            "read by a process under a filter of system calls alone: no landlock (since 5.13)"
                .into()
        }
        (Some(version), _) => {
            format!(
                "read by a process under Landlock (interface {version}) and a filter of system calls"
            )
        }
        (None, Some(_)) => format!("cannot be read: {}", plain(&report["why"])),
        (None, None) => return None,
    };
    Some(format!("archives   {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_words() {
        fn said(landlock: Option<u64>, why: Option<&str>) -> String {
            line(&json!({"landlock": landlock, "why": why})).unwrap()
        }
        assert!(said(Some(7), None).contains("interface 7"));
        assert!(said(Some(0), None).contains("no landlock"));
        assert!(
            said(None, Some("the kernel says no")).ends_with("cannot be read: the kernel says no")
        );
        assert_eq!(line(&Value::Null), None);
    }
}
