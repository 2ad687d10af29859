//! What commands write: results on stdout, everything else on stderr.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

use agents_packager::spec::steers;

use super::exit::Failure;

/// Writes text to stdout. A reader that has gone away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to stdout"),
    }
}

/// Writes one JSON object, indented, to stdout.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("the answer has no JSON form")?;
    text.push('\n');
    print(&text)
}

/// Tells something beside the answer.
pub(crate) fn note(text: &str) {
    let _ = io::stderr().write_all(format!("{}\n", harmless(text)).as_bytes());
}

/// Says why a command failed.
pub(crate) fn complain(failure: &Failure) {
    // Nothing is left to be told where stderr is closed.
    let mut text = format!("error: {:#}\n", failure.error);
    if let Some(hint) = &failure.hint {
        text += &format!("hint: {hint}\n");
    }
    let _ = io::stderr().write_all(harmless(&text).as_bytes());
}

/// The text without what would steer a terminal: names and messages may come from a registry.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) && character != '\n' {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// One line of an answer: whatever is in its fields, it stays one.
pub(crate) fn one_line(text: &str) -> String {
    harmless(text).replace('\n', "\\n")
}

/// Rows as columns of equal width, two spaces between them.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let one_line = |row: &Vec<String>| row.iter().map(|cell| one_line(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(one_line).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{harmless, table};

    #[test]
    fn nothing_from_a_registry_steers_the_terminal() {
        assert_eq!(harmless("evil\u{1b}[2Jname\n"), "evil\\u{1b}[2Jname\n");
        assert_eq!(harmless("a\u{202e}b\u{2066}c\u{2028}d"), "a\\u{202e}b\\u{2066}c\\u{2028}d");
        assert_eq!(table(&[vec!["a\n- b".to_owned()]]), "a\\n- b\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(table(&[row(["a", "b"]), row(["long", "ü"])]), "a     b\nlong  ü\n");
        assert_eq!(table(&[]), "");
    }
}
