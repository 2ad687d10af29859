//! The commands of Python packages: which ones `entry_points.txt` declares, and the small programs
//! that start them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::limits;
use crate::unpack::{Refusal, names, printable};

/// What a command calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    module: String,
    attribute: String,
}

/// The commands that `ensurepip` leaves for pip instead of those in its wheel.
pub(super) fn pip_commands(version: (u32, u32, u32)) -> BTreeMap<String, Target> {
    let target =
        Target { module: "pip._internal.cli.main".to_owned(), attribute: "main".to_owned() };
    let names =
        ["pip".to_owned(), format!("pip{}", version.0), format!("pip{}.{}", version.0, version.1)];
    names.into_iter().map(|name| (name, target.clone())).collect()
}

/// Reads the sections `console_scripts` and `gui_scripts`.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Target>, Refusal> {
    let mut commands = BTreeMap::new();
    let mut wanted = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            wanted = matches!(section.trim(), "console_scripts" | "gui_scripts");
            continue;
        }
        if !wanted {
            continue;
        }
        let broken = || {
            Refusal::Layout(format!("its command `{}` cannot be read", printable(line.as_bytes())))
        };
        let (name, value) = line.split_once('=').ok_or_else(broken)?;
        let name = check_name(name.trim())?;
        let target = parse_target(value).ok_or_else(broken)?;
        if let Some(previous) = commands.insert(name.to_owned(), target.clone())
            && previous != target
        {
            return Err(Refusal::Layout(format!("it declares the command `{name}` twice")));
        }
    }
    Ok(commands)
}

/// A command is one file in `bin`.
fn check_name(name: &str) -> Result<&str, Refusal> {
    names::check(name)?;
    match name.contains('/') {
        true => Err(Refusal::name(name, "is a path, not the name of a command")),
        false => Ok(name),
    }
}

/// `module.sub:attribute.sub`, with extras behind it that mean nothing any more. Both become code,
/// so that nothing but identifiers may pass.
fn parse_target(value: &str) -> Option<Target> {
    let value = value.split_once('[').map_or(value, |(value, _)| value);
    let (module, attribute) = value.split_once(':')?;
    let (module, attribute) = (module.trim(), attribute.trim());
    let identifier = |text: &str| {
        let mut characters = text.chars();
        characters.next().is_some_and(|first| first == '_' || first.is_alphabetic())
            && characters.all(|rest| rest == '_' || rest.is_alphanumeric())
    };
    let dotted = |text: &str| text.split('.').all(identifier);
    (dotted(module) && dotted(attribute))
        .then(|| Target { module: module.to_owned(), attribute: attribute.to_owned() })
}

/// The program that starts a command.
pub(super) fn program(python: &Path, target: &Target) -> Vec<u8> {
    let Target { module, attribute } = target;
    let import = attribute.split('.').next().unwrap_or(attribute);
    let mut program = first_line(python);
    program.extend_from_slice(format!(
        "# -*- coding: utf-8 -*-\nimport re\nimport sys\nfrom {module} import {import}\nif __name__ == '__main__':\n    \
         sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])\n    sys.exit({attribute}())\n"
    ).as_bytes());
    program
}

/// A script of a wheel with its first line naming the environment's interpreter, if it asked for
/// that.
pub(super) fn rewrite(python: &Path, script: &[u8]) -> Vec<u8> {
    let rest =
        script.iter().position(|byte| *byte == b'\n').map_or(&[][..], |end| &script[end + 1..]);
    [first_line(python).as_slice(), rest].concat()
}

/// `#!` and the interpreter. Where the kernel could not read that (blanks, or too long), a shell
/// starts it: the lines are a command for the shell and a text without effect for Python, the trick
/// that pip uses.
fn first_line(python: &Path) -> Vec<u8> {
    let path = python.to_string_lossy();
    let length = "#!".len() + path.len() + 1;
    match length <= limits::SHEBANG_BYTES_MAX && !path.contains(char::is_whitespace) {
        true => format!("#!{path}\n").into_bytes(),
        false => format!("#!/bin/sh\n'''exec' \"{path}\" \"$0\" \"$@\"\n' '''\n").into_bytes(),
    }
}
