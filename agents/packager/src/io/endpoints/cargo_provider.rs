//! cargo's credential providers that are programs: the protocol of lines of JSON, and the one that prints a token.
//!
//! Run only where the person's own configuration names them, outside the project, with what cargo itself would give
//! them. What they answer is a secret; what they say otherwise is not repeated.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::Finder;
use super::learn::find_program;
use crate::io::limits::{LEARN_OUTPUT_BYTES_MAX, LEARN_TIMEOUT};
use crate::io::secret::Credential;
use crate::process;

/// The provider that reads cargo's own files and variables.
pub(super) const FROM_FILES: &str = "cargo:token";
/// The provider that runs a command and takes the line that it prints.
const FROM_STDOUT: &str = "cargo:token-from-stdout";

/// The registry for which a token is wanted.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) index: &'a Url,
}

/// Asks a provider; `None` where it has no token for this registry, a reason where it could not be asked.
pub(super) fn ask(
    finder: &Finder<'_>,
    words: &[String],
    registry: &Wanted<'_>,
) -> Result<Option<Credential>, &'static str> {
    let (provider, arguments) = words.split_first().ok_or("it has no name")?;
    if provider == FROM_STDOUT {
        let (command, arguments) = arguments.split_first().ok_or("it names no command")?;
        let output = run(finder, command, arguments, registry, &[])?;
        let line = output.lines().next().unwrap_or_default().trim();
        return Ok((!line.is_empty()).then(|| Credential::raw(line)));
    }
    if provider.starts_with("cargo:") {
        return Err("it is part of cargo and cannot be asked without it");
    }
    let request = json!({
        "v": 1,
        "registry": {"index-url": format!("sparse+{}", registry.index), "name": registry.name},
        "kind": "get",
        "operation": "read",
        "args": arguments,
    });
    let plugin = ["--cargo-plugin".to_owned()];
    let output = run(finder, provider, &plugin, registry, format!("{request}\n").as_bytes())?;
    answer(&output)
}

/// The second line: the first says which versions of the protocol the provider speaks.
fn answer(output: &str) -> Result<Option<Credential>, &'static str> {
    #[derive(Deserialize)]
    struct Hello {
        v: Vec<u32>,
    }
    #[derive(Deserialize)]
    enum Answer {
        Ok {
            token: Option<String>,
        },
        #[serde(rename_all = "kebab-case")]
        Err {
            kind: String,
        },
    }
    let mut lines = output.lines();
    let hello: Option<Hello> = lines.next().and_then(|line| serde_json::from_str(line).ok());
    if !hello.is_some_and(|hello| hello.v.contains(&1)) {
        return Err("it does not speak the protocol of providers, version 1");
    }
    match lines.next().and_then(|line| serde_json::from_str(line).ok()) {
        Some(Answer::Ok { token }) => Ok(token.as_deref().map(Credential::raw)),
        Some(Answer::Err { kind }) if kind == "not-found" || kind == "url-not-supported" => {
            Ok(None)
        }
        Some(Answer::Err { .. }) => Err("it failed"),
        None => Err("its answer cannot be read"),
    }
}

fn run(
    finder: &Finder<'_>,
    program: &str,
    arguments: &[String],
    registry: &Wanted<'_>,
    input: &[u8],
) -> Result<String, &'static str> {
    let environment = finder.environment;
    let path = if program.contains('/') {
        Some(PathBuf::from(program)).filter(|path| path.is_absolute())
    } else {
        find_program(environment, program)
    };
    let path = path.ok_or("there is no such program")?;
    if path.starts_with(&environment.project) && environment.project != Path::new("/") {
        return Err("it is inside the project");
    }
    let index = format!("sparse+{}", registry.index);
    let arguments = arguments.iter().map(|argument| argument.replace("{index_url}", &index));
    let mut command = Command::new(path);
    command.args(arguments).current_dir("/").env_clear().envs(&environment.variables);
    command.env("CARGO_REGISTRY_INDEX_URL", &index).env("CARGO_REGISTRY_NAME_OPT", registry.name);
    let answer = process::run_with_input(
        &mut command,
        input,
        LEARN_TIMEOUT,
        LEARN_OUTPUT_BYTES_MAX,
        finder.cancellation,
    );
    let output = answer.ok().flatten().ok_or("it cannot be run, or does not end")?;
    // The protocol says what failed in its answer; a command that only prints says it so.
    if input.is_empty() && !output.status.success() {
        return Err("it failed");
    }
    String::from_utf8(output.stdout).map_err(|_| "its answer cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_the_protocol_are_understood() {
        let hello = "{\"v\":[1]}\n";
        let of = |line: &str| answer(&format!("{hello}{line}\n"));
        let token = r#"{"Ok":{"kind":"get","token":"hush","cache":"session","operation_independent":true}}"#;
        assert_eq!(of(token), Ok(Some(Credential::raw("hush"))));
        assert_eq!(of(r#"{"Err":{"kind":"not-found"}}"#), Ok(None));
        assert_eq!(of(r#"{"Err":{"kind":"url-not-supported"}}"#), Ok(None));
        assert!(of(r#"{"Err":{"kind":"other","message":"hush"}}"#).is_err());
        assert!(of("{}").is_err() && of("").is_err() && answer("").is_err());
        assert!(answer(&format!("{{\"v\":[2]}}\n{token}")).is_err());
    }
}
