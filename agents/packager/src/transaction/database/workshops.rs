//! The `.bolide` of each project: whose it is, and when it may go.

use rusqlite::OptionalExtension as _;

use super::Database;
use crate::error::Result;

impl Database {
    /// Whether `.bolide` was made by us and nothing in it is needed any more.
    pub(crate) fn may_dismantle(&self, project: &str) -> Result<bool> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT coalesce((SELECT owns_workshop FROM projects WHERE key = ?1), 0)
                 AND NOT EXISTS (SELECT 1 FROM transactions WHERE project = ?1
                                 AND state = 'committed' AND operation <> 'rollback')",
            )?;
            query.query_row([project], |row| row.get(0))
        })
    }

    /// The place of a project when it was last used, where that is known.
    pub(crate) fn place_of(&self, project: &str) -> Result<Option<String>> {
        self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT path FROM projects WHERE key = ?1")?;
            query.query_row([project], |row| row.get(0)).optional()
        })
    }

    /// Tells that `.bolide` is ours, where nothing but the name of a journal does.
    pub(crate) fn own_workshop(&self, project: &str, path: &str) -> Result<()> {
        self.write(|connection| {
            connection.execute(
                "INSERT INTO projects (key, path, owns_workshop) VALUES (?1, ?2, 1)
                 ON CONFLICT (key) DO UPDATE SET path = excluded.path, owns_workshop = 1",
                [project, path],
            )?;
            Ok(())
        })
    }

    /// Tells that `.bolide` is gone.
    pub(crate) fn dismantled(&self, project: &str) -> Result<()> {
        self.write(|connection| {
            connection
                .execute("UPDATE projects SET owns_workshop = 0 WHERE key = ?1", [project])?;
            Ok(())
        })
    }
}
