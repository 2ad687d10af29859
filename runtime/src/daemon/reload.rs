//! The configuration read again while the daemon runs: the keys that can change then are taken over, all of them or none.
//!
//! Whatever does not make sense is refused with its reason, and what held before holds on.

use tracing::{info, warn};

use super::governor::{GovernorThread, Rules};
use crate::config::{Config, Flags, KEYS, Settings};
use crate::paths::process_environment;

/// What holds, and where to look.
pub(super) struct Reloading {
    settings: Settings,
    flags: Flags,
}

impl Reloading {
    /// These settings hold.
    pub(super) fn new(settings: Settings, flags: Flags) -> Self {
        Self { settings, flags }
    }

    /// Reads everything again, and tells the governor.
    pub(super) fn again(&mut self, governor: &GovernorThread) {
        let settings = match Config::load(&self.flags, &process_environment) {
            Ok(config) => config.settings,
            Err(error) => {
                return warn!("the configuration is refused, the one before holds on: {error}");
            }
        };
        let Changed { live, later } = changed(&self.settings, &settings);
        if !later.is_empty() {
            warn!(keys = later.join(" "), "these keys have changed and are read at the start only");
        }
        let Settings { bands, thresholds, pinning, .. } = settings;
        self.settings = Settings { bands, thresholds, pinning, ..self.settings.clone() };
        governor.set_rules(Rules::of(&self.settings));
        info!(changed = live.join(" "), "the configuration was read again");
    }
}

/// Names of keys that have other values than before.
#[derive(Debug, PartialEq, Eq)]
struct Changed {
    /// Those that are taken over.
    live: Vec<&'static str>,
    /// Those that take a restart.
    later: Vec<&'static str>,
}

fn changed(before: &Settings, after: &Settings) -> Changed {
    let differ = KEYS.iter().filter(|key| (key.show)(before) != (key.show)(after));
    let (live, later) = differ.map(|key| key.name).partition(|name| is_live(name));
    Changed { live, later }
}

/// Whether a key can change while the daemon runs.
fn is_live(key: &str) -> bool {
    key == "pinning" || key.starts_with("thermal.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_take_a_restart_are_told_apart() {
        let home = |name: &str| (name == "HOME").then(|| "/nonexistent".into());
        let load = |values| Config::load(&Flags { config: None, values }, &home).unwrap().settings;
        let before = load(Vec::new());
        assert_eq!(changed(&before, &before), Changed { live: Vec::new(), later: Vec::new() });
        let after = load(vec![
            ("pinning", "off".to_owned()),
            ("thermal.heavy", "80/70".to_owned()),
            ("drain_seconds", "7".to_owned()),
        ]);
        let expected =
            Changed { live: vec!["pinning", "thermal.heavy"], later: vec!["drain_seconds"] };
        assert_eq!(changed(&before, &after), expected);
    }
}
