//! What is said while packages are resolved.

use std::sync::Mutex;

use super::*;
use crate::api::Progress;

/// Keeps what it is told.
#[derive(Default)]
struct Listener(Mutex<Vec<String>>);

impl Conversation for Listener {
    fn progress(&self, payload: &[u8]) {
        let said: Progress = ciborium::from_reader(payload).expect("a word");
        self.0.lock().expect("whole").push(said.message);
    }

    fn cancellation(&self) -> &Cancellation {
        Cancellation::NEVER
    }

    fn publish(&self, _: &str, _: &[u8]) {}
}

impl World {
    /// What is said while npm's packages are resolved, and whether that succeeds.
    fn words_of_npm(&self, manifest: &str) -> (Vec<String>, bool) {
        self.write("package.json", manifest);
        let mut setting = self.setting(Options::default());
        let registry = self.index.at("/npm/").to_string();
        setting.variables.insert("npm_config_registry".to_owned(), registry);
        let request = PlanRequest { install: true, setting, ..PlanRequest::default() };
        let listener = Listener::default();
        let planned = self.ask_over::<PlanAnswer>(&listener, "pkg.plan", &request);
        (listener.0.into_inner().expect("whole"), planned.is_ok())
    }
}

#[test]
fn that_npm_resolves_is_told_once_where_a_program_or_a_registry_may_be_asked() {
    let world = World::new();
    let once = || vec!["resolving npm packages".to_owned()];
    // Nothing is wanted of the registry, but where it is was not looked for in these surroundings yet.
    assert_eq!(world.words_of_npm("{}"), (once(), true));
    let missing = "{\"dependencies\":{\"missing\":\"^1\"}}";
    assert_eq!(world.words_of_npm(missing), (once(), false));
}
