//! The tables, and how an older database becomes a newer one.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Error, Kind, Result};
use crate::limits::{DATABASE_BUSY_MS, DATABASE_BUSY_PAUSE_MS, DATABASE_LOG_PAGES_MAX};

/// Each step is applied once, in this order; the database's `user_version` counts them. Never change one that
/// was released: add another.
const MIGRATIONS: &[&str] = &[
    TRANSACTIONS,
    WATCHES,
    UNWATCHED,
    PLANS_BY_END,
    HOLDS,
    SYSTEM,
    PACKAGES,
    BESIDE,
    UNTOLD,
    PIECES,
];

const TRANSACTIONS: &str = "
    CREATE TABLE projects (
        key TEXT PRIMARY KEY,
        path TEXT NOT NULL,
        owns_workshop INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE transactions (
        id TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL UNIQUE,
        project TEXT NOT NULL REFERENCES projects (key),
        operation TEXT NOT NULL,
        digest TEXT,
        actor TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('preparing', 'committed', 'aborted', 'rolled-back')),
        started_at_ms INTEGER NOT NULL,
        finished_at_ms INTEGER,
        undone_by TEXT,
        error TEXT,
        summary TEXT NOT NULL,
        directories TEXT NOT NULL
    ) STRICT;
    CREATE INDEX transactions_of_project ON transactions (project, sequence);
    CREATE TABLE steps (
        transaction_id TEXT NOT NULL REFERENCES transactions (id),
        position INTEGER NOT NULL,
        live TEXT NOT NULL,
        item TEXT NOT NULL,
        PRIMARY KEY (transaction_id, position)
    ) STRICT;
    CREATE INDEX steps_at ON steps (live);
    CREATE TABLE environments (
        project TEXT NOT NULL REFERENCES projects (key),
        place TEXT NOT NULL,
        ecosystem TEXT NOT NULL,
        generation INTEGER NOT NULL,
        fingerprint TEXT,
        transaction_id TEXT NOT NULL,
        PRIMARY KEY (project, place)
    ) STRICT;
    CREATE TABLE generations (
        project TEXT NOT NULL,
        place TEXT NOT NULL,
        number INTEGER NOT NULL,
        transaction_id TEXT NOT NULL,
        fingerprint TEXT,
        created_at_ms INTEGER NOT NULL,
        PRIMARY KEY (project, place, number)
    ) STRICT;
    CREATE TABLE plans (
        digest TEXT PRIMARY KEY,
        body TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        expires_at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE approvals (
        number INTEGER PRIMARY KEY,
        digest TEXT NOT NULL,
        who TEXT NOT NULL,
        how TEXT NOT NULL,
        granted_at_ms INTEGER NOT NULL,
        withdrawn_at_ms INTEGER
    ) STRICT;
    CREATE INDEX approvals_of ON approvals (digest);
";

const WATCHES: &str = "
    CREATE TABLE watches (
        path TEXT PRIMARY KEY,
        policy TEXT NOT NULL,
        setting TEXT NOT NULL,
        added_at_ms INTEGER NOT NULL,
        seen TEXT,
        outcome TEXT,
        digest TEXT,
        message TEXT,
        at_ms INTEGER
    ) STRICT;
";

/// What of a watched project was read beside its root, as JSON.
const BESIDE: &str = "ALTER TABLE watches ADD COLUMN beside TEXT;";

const UNWATCHED: &str = "ALTER TABLE watches ADD COLUMN unwatched TEXT;";

/// Looking for those that expired long ago would else read every plan.
const PLANS_BY_END: &str = "CREATE INDEX plans_by_end ON plans (expires_at_ms);";

const HOLDS: &str = "
    CREATE TABLE holds (
        transaction_id TEXT NOT NULL REFERENCES transactions (id),
        ecosystem TEXT NOT NULL,
        name TEXT NOT NULL,
        versions TEXT NOT NULL,
        PRIMARY KEY (transaction_id, ecosystem, name)
    ) STRICT;
";

/// What a transaction changed of the system.
const SYSTEM: &str = "ALTER TABLE transactions ADD COLUMN system TEXT;";

/// What a transaction added and took away. The last column, so that whoever does not ask for it does not read it: it is the longest.
const PACKAGES: &str = "
    ALTER TABLE transactions ADD COLUMN packages TEXT;
    CREATE INDEX transactions_undone_by ON transactions (undone_by) WHERE undone_by IS NOT NULL;
    CREATE INDEX generations_of ON generations (transaction_id);
";

/// What the next answer in a project has to tell. A program that does not know it does not know either that a committed transaction
/// of another start may have to be taken back, and must not touch its journals.
const UNTOLD: &str = "
    CREATE TABLE untold (
        project TEXT NOT NULL,
        message TEXT NOT NULL,
        PRIMARY KEY (project, message)
    ) STRICT;
";

/// Plans have a digest of pieces, which a program that does not know it takes for damaged: it cannot tell what is installed.
const PIECES: &str = "";

/// Opens the database and brings it to this version.
pub(super) fn open(path: &Path) -> rusqlite::Result<Result<Connection>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    // SQLite refuses any link in the path with that flag, so the directory's own links are resolved first.
    let real = match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    };
    let mut connection = Connection::open_with_flags(&real, flags)?;
    // The file is there now, and its log, which gets the same mode, is not yet written to by us.
    if let Err(error) = make_files_private(&real) {
        return Ok(Err(error));
    }
    connection.busy_timeout(Duration::from_millis(DATABASE_BUSY_MS))?;
    use_write_ahead_log(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    // Settings of watched projects may hold tokens: what is deleted is overwritten.
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "wal_autocheckpoint", DATABASE_LOG_PAGES_MAX)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Else a statement that was kept is planned anew for each value that is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    if version(&connection)? != MIGRATIONS.len() {
        let behaviour = rusqlite::TransactionBehavior::Immediate;
        let transaction = connection.transaction_with_behavior(behaviour)?;
        let done = version(&transaction)?;
        let Some(missing) = MIGRATIONS.get(done..) else {
            let message = format!(
                "the database `{}` is of version {done}; this program knows up to {}",
                path.display(),
                MIGRATIONS.len()
            );
            return Ok(Err(Error::new(Kind::Failed, "state-newer", message)
                .hint("use the newer program that wrote it, or another --state-dir")));
        };
        for migration in missing {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
        transaction.commit()?;
    }
    Ok(Ok(connection))
}

/// Lets nobody else read the database and its log. By name, since closing a descriptor of its own would give up the locks that
/// SQLite has on the file; the directory is ours alone, so the names stay what they are.
fn make_files_private(database: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for end in ["", "-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        let path = Path::new(&name);
        let Ok(about) = path.symlink_metadata() else { continue };
        if !about.is_file() || about.permissions().mode() & 0o077 == 0 {
            continue;
        }
        match std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)) {
            // The log goes with the last process that closes the database.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done.map_err(|error| Error::io("make private", path, &error))?,
        }
    }
    Ok(())
}

/// Switches the journal mode. While another process makes the same first switch, SQLite answers "busy" at once, without
/// the busy timeout: a handler could deadlock there.
fn use_write_ahead_log(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + Duration::from_millis(DATABASE_BUSY_MS);
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(DATABASE_BUSY_PAUSE_MS));
            }
            done => return done,
        }
    }
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version =
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}
