//! Progress for people: one line on stderr that is redrawn, only where stderr is a terminal.

use std::io::IsTerminal;

use agents_packager::api::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// The line, or nothing where nobody would see it.
pub(super) struct Line {
    bar: Option<ProgressBar>,
}

impl Line {
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix:>8} {wide_msg} {pos}/{len}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        Self { bar }
    }

    /// Shows one intermediate answer; what cannot be read is not shown.
    pub(super) fn show(&self, payload: &[u8]) {
        let Some(bar) = &self.bar else { return };
        let Ok(progress) = ciborium::from_reader::<Progress, _>(payload) else { return };
        bar.set_prefix(super::output::harmless(&progress.step));
        bar.set_message(super::output::harmless(&progress.message));
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
