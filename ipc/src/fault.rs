//! Named points at which a test ends this very process, as `kill -9` at this instruction would.
//!
//! Without the feature `faults`, which only tests turn on (as a development dependency), a point is nothing: no code, no
//! variable is read, and no program can be ended from outside by it. With it a process that was started with
//! `BOLIDE_FAULT=NAME:SKIP:TOKEN` kills itself when it comes to the point `NAME` after passing it `SKIP` times, if it can
//! remove the file `TOKEN`: so of several processes and lives that inherit the variable one dies, once. With
//! `BOLIDE_FAULT_HOLD=NAME:FILE` each thread that comes to the point `NAME` waits there as long as `FILE` is there, as it
//! would for a disk that does not answer; `FILE.held` says that one waits.
//!
//! Not here: which points there are. Each stands where it is, named after the part and the moment; the table of them is
//! `runtime/tests/kills`.

/// The end of this process, where a test asked for it here.
#[inline(always)]
pub fn point(name: &'static str) {
    #[cfg(all(feature = "faults", not(loom)))]
    armed::reached(name);
    #[cfg(not(all(feature = "faults", not(loom))))]
    let _ = name;
}

#[cfg(all(feature = "faults", not(loom)))]
mod armed {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    /// What the process was started with.
    const VARIABLE: &str = "BOLIDE_FAULT";

    struct Armed {
        name: String,
        /// How often it may still be passed.
        skip: AtomicU64,
        token: PathBuf,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    /// The point at which threads wait, and the file as long as which is there.
    const HOLD_VARIABLE: &str = "BOLIDE_FAULT_HOLD";

    static HELD: OnceLock<Option<(String, PathBuf)>> = OnceLock::new();

    fn hold(name: &str) {
        let Some((held, file)) = HELD.get_or_init(hold_from_environment) else { return };
        if held != name || !file.exists() {
            return;
        }
        // A test that cannot see it waits in vain and fails.
        let _ = std::fs::write(file.with_added_extension("held"), []);
        while file.exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn hold_from_environment() -> Option<(String, PathBuf)> {
        let text = std::env::var(HOLD_VARIABLE).ok()?;
        let (name, file) = text.split_once(':')?;
        Some((name.to_owned(), PathBuf::from(file)))
    }

    pub(super) fn reached(name: &str) {
        hold(name);
        let Some(armed) = ARMED.get_or_init(from_environment) else { return };
        if armed.name != name {
            return;
        }
        let passed = |left: u64| left.checked_sub(1);
        if armed.skip.fetch_update(Ordering::Relaxed, Ordering::Relaxed, passed).is_ok() {
            return;
        }
        if std::fs::remove_file(&armed.token).is_ok() {
            // One that cannot kill itself goes on, and its test fails for want of a death.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }

    fn from_environment() -> Option<Armed> {
        let text = std::env::var(VARIABLE).ok()?;
        let (name, rest) = text.split_once(':')?;
        let (skip, token) = rest.split_once(':')?;
        let skip = AtomicU64::new(skip.parse().ok()?);
        Some(Armed { name: name.to_owned(), skip, token: PathBuf::from(token) })
    }
}
