//! How a transaction waits for its rows: through a descriptor of the database's log that is older than the first of them.
//!
//! An error of the device is told once to each descriptor that was open when it happened. Whoever opens the file afterwards is not
//! told of one that somebody else was told of, and would take rows for written that are not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Database;
use crate::error::{Error, Result};
use crate::limits::DATABASE_LOGS_MAX;

/// The descriptors, by transaction. SQLite has no locks on that file, which closing one of them would give up.
#[derive(Default)]
pub(super) struct Logs(Mutex<BTreeMap<String, Arc<File>>>);

impl Logs {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<File>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Database {
    /// Opens the log for a transaction that is about to write lazily, where that has not. Without one it is opened later.
    pub(super) fn hold_log(&self, transaction: &str) {
        let mut logs = self.logs.all();
        if logs.contains_key(transaction) {
            return;
        }
        if let Ok(log) = File::open(self.log_path()) {
            logs.insert(transaction.to_owned(), Arc::new(log));
        }
        if logs.len() > DATABASE_LOGS_MAX {
            // The names of transactions are in the order of time.
            logs.pop_first();
        }
    }

    /// The transaction has ended.
    pub(in super::super) fn let_go_of_log(&self, transaction: &str) {
        self.logs.all().remove(transaction);
    }

    /// Waits until all that a transaction has written is on the device, and the name of the file that it is in.
    pub(in super::super) fn sync(&self, transaction: &str, with_name: bool) -> Result<()> {
        let path = self.log_path();
        let failed = |error: io::Error| Error::io("open", &path, &error);
        let unsynced = |error: io::Error| Error::sync_failed(&path, &error);
        let held = self.logs.all().get(transaction).cloned();
        if let Some(held) = &held {
            self.disk.sync(&**held).map_err(unsynced)?;
        }
        let is_same = held.as_ref().is_some_and(|held| is_at(held, &path));
        if !is_same {
            match File::open(&path) {
                Ok(log) => self.disk.sync(&log).map_err(unsynced)?,
                // The last process that closed the database has worked it in, and waited for that.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let is_replaced = held.is_some() && !is_same;
        if !with_name && !is_replaced {
            return Ok(());
        }
        let state = self.path.parent().unwrap_or(&self.path);
        let failed = |error: io::Error| Error::io("open", state, &error);
        let unsynced = |error: io::Error| Error::sync_failed(state, &error);
        let directory = File::open(state).map_err(failed)?;
        if is_replaced {
            // What the old one had is in the database itself, of which SQLite has locks: another descriptor would take them away.
            return self.disk.sync_file_system(&directory).map_err(unsynced);
        }
        // The log may have been made just now.
        self.disk.sync(&directory).map_err(unsynced)
    }

    fn log_path(&self) -> PathBuf {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        log.into()
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(own), Ok(named)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (own.dev(), own.ino()) == (named.dev(), named.ino())
}
