//! Log lines: to stderr, for people, as JSON, or from a hosted agent to the daemon that logs them
//! on.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Settings};

/// Starts logging for this process. A second call changes nothing.
pub(crate) fn start(settings: &Settings) {
    // The filter was checked when the settings were read; a default keeps a mistake visible.
    let filter: Targets =
        settings.log.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = !plain && std::io::stderr().is_terminal();
    // A stderr that nobody reads any more (the daemon was killed) must not turn into panics here.
    let layer =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let layer = match settings.log_format {
        LogFormat::Text => layer.with_ansi(colours).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Hosted => layer.with_ansi(false).without_time().with_target(false).boxed(),
    };
    // The only failure is that a subscriber is already set, which is what the second call means.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// A hosted agent's line, taken apart: its level where it has one, and its text.
pub(crate) fn hosted_line(line: &str) -> (Level, &str) {
    let trimmed = line.trim();
    let (word, rest) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
    let level = match word {
        "ERROR" => Level::ERROR,
        "WARN" => Level::WARN,
        "INFO" => Level::INFO,
        "DEBUG" => Level::DEBUG,
        "TRACE" => Level::TRACE,
        // Not from the logger: a panic's message, a library's complaint.
        _ => return (Level::WARN, trimmed),
    };
    (level, rest.trim_start())
}

/// What libraries say through `log` below a warning is not in the program at all: a solver that tells of every step is
/// slowed down many times by being told not to.
const _: () = assert!(matches!(log::STATIC_MAX_LEVEL, log::LevelFilter::Warn));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_a_hosted_line_is_kept_and_foreign_lines_are_warnings() {
        assert_eq!(hosted_line(" INFO ready tools=3\n"), (Level::INFO, "ready tools=3"));
        assert_eq!(hosted_line("ERROR no"), (Level::ERROR, "no"));
        assert_eq!(hosted_line("thread panicked"), (Level::WARN, "thread panicked"));
        assert_eq!(hosted_line(""), (Level::WARN, ""));
    }
}
