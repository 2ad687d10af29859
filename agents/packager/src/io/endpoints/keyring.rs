//! Passwords from the `keyring` program, as pip and uv ask it where a person tells them to: `keyring get PLACE USER`.

use std::process::Command;

use url::Url;

use super::Finder;
use super::learn::find_program;
use crate::io::limits::{LEARN_OUTPUT_BYTES_MAX, LEARN_TIMEOUT};
use crate::io::secret::Credential;
use crate::process;

/// The credential of an index whose address names a user and no password; asked for by the address, then by the host.
pub(super) fn ask(finder: &Finder<'_>, index: &Url) -> Option<Credential> {
    let user = percent_encoding::percent_decode_str(index.username()).decode_utf8().ok()?;
    if user.is_empty() || index.password().is_some() {
        return None;
    }
    let mut place = index.clone();
    // Fails only for addresses without a host.
    place.set_username("").ok()?;
    let host = match place.port() {
        Some(port) => format!("{}:{port}", place.host_str()?),
        None => place.host_str()?.to_owned(),
    };
    let program = find_program(finder.environment, "keyring")?;
    [place.as_str(), &host].into_iter().find_map(|place| {
        let mut command = Command::new(&program);
        command.args(["get", place, &user]).current_dir("/");
        command.env_clear().envs(&finder.environment.variables);
        let (limit, bytes_max) = (LEARN_TIMEOUT, LEARN_OUTPUT_BYTES_MAX);
        let answer = process::run(&mut command, limit, bytes_max, finder.cancellation);
        let output = answer.ok().flatten().filter(|output| output.status.success())?;
        let password = String::from_utf8(output.stdout).ok()?;
        let password = password.trim_end_matches(['\r', '\n']);
        (!password.is_empty()).then(|| Credential::basic(&user, password))
    })
}
