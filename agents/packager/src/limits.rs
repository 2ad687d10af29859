//! Every bound of the Packager, with its unit and its reason.
//!
//! Whatever a registry, an archive, a manifest or a peer sends is written by an attacker until proven
//! otherwise; nothing here may be exceeded silently: the operation fails and names the bound.

/// Bytes of one manifest or lock file that a plan reads or writes: ten times the largest lock files seen.
pub const PROJECT_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of the canonical form of one plan; a plan of 10,000 packages needs about 10 MiB.
pub const PLAN_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Plans that wait to be written: more come from callers that are faster than the disk, and then wait for it.
pub const PLANS_UNWRITTEN_MAX: usize = 16;
/// Bytes of these together: some plans of thousands of packages each.
pub const PLANS_UNWRITTEN_BYTES_MAX: usize = 16 << 20;
/// Bytes that stay with the process for writing the next plan: one of some two thousand packages.
pub const PLAN_SPARE_BYTES_MAX: usize = 4 << 20;
/// Milliseconds that a plan may be applied after it was made: long enough for a person to approve it, short
/// enough that the registry it was made from still looks the same.
pub const PLAN_LIFETIME_MS: u64 = 24 * 60 * 60 * 1000;
/// Changes in one transaction: a workspace of some hundred members with a manifest each.
pub const CHANGES_MAX: usize = 4096;
/// Bytes of a path inside a project; the kernel's own `PATH_MAX`.
pub const PATH_BYTES_MAX: usize = 4096;
/// Directories inside each other that a tree walk follows. Every level costs an open descriptor, and the usual
/// limit of a process is 1,024 of them.
pub const TREE_DEPTH_MAX: usize = 400;
/// Entries in one environment that a fingerprint describes; ten times the largest `node_modules` seen.
pub const TREE_ENTRIES_MAX: usize = 4_000_000;
/// Bytes of the fingerprints of what a rollback leaves to be deleted, above which nobody waits for that: some 2,000 files, which take
/// some tens of milliseconds.
pub const LEFT_RECORD_BYTES_MIN: u64 = 256 * 1024;
/// Entries of an installed tree from which on several threads look for changes in it: below, starting them costs more.
pub const COMPARE_PIECES_ENTRIES_MIN: usize = 1_000;
/// Bytes of one fingerprint file; 100 bytes for each of [`TREE_ENTRIES_MAX`] entries and their paths.
pub const FINGERPRINT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Bytes of one journal record: an intent with [`CHANGES_MAX`] items of two long paths each.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one journal: one intent, its marks and its end.
pub const JOURNAL_BYTES_MAX: u64 = 2 * JOURNAL_RECORD_BYTES_MAX as u64;
/// Journals of unfinished transactions that one recovery looks at; each is left behind by a crash of its own.
pub const JOURNALS_MAX: usize = 10_000;
/// How often a journal is begun anew where somebody took its beginning for one that was left behind.
pub const JOURNAL_BEGINNINGS_MAX: u32 = 32;
/// Transactions in one answer to a question about history.
pub const HISTORY_ENTRIES_MAX: u32 = 10_000;
/// Bytes of one such answer as JSON, after which there is no further entry in it: with the largest one it still fits into one
/// message of the bus.
pub const HISTORY_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the names of packages that are kept with a transaction; some 30,000 of them.
pub const SUMMARY_PACKAGES_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of the summary that is kept with a transaction.
pub const SUMMARY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Paths named in a refusal because of a person's changes; more would hide the message itself.
pub const DRIFT_PATHS_SHOWN_MAX: usize = 20;
/// Findings of a verification that are named for one environment; the others are counted. A directory that is gone or was
/// added is one of them, so more than this means that somebody unpacked something into a directory of ours.
pub const VERIFY_FINDINGS_MAX: usize = 100_000;
/// Bytes of differences in one answer: half of what a message on the bus may have.
pub const VERIFY_ANSWER_BYTES_MAX: usize = 8 << 20;
/// What a difference takes in an answer beside its path: names of fields, and small values.
pub const PATH_DIFFERENCE_BYTES: usize = 64;
/// Findings of a verification that are shown as text; a person does not read more, and JSON has all of them.
pub const VERIFY_FINDINGS_SHOWN_MAX: usize = 50;
/// Paths that one verification names; more are better said by a directory above them.
pub const VERIFY_PATHS_MAX: usize = 1_000;
/// Times that a file is read that changes while it is read; then it is told of as it is.
pub const INSPECT_READS_MAX: usize = 3;
/// Files that are one piece of work where an environment is read: some milliseconds, so that several hands share even a small
/// one evenly, and thousands of times what handing a piece over costs.
pub const INSPECT_FILES_AT_ONCE: usize = 128;
/// Milliseconds between two tries to take the lock of a project: short for a person, nothing for a CPU.
pub const LOCK_RETRY_MS: u64 = 20;
/// The same after the first try, and then twice as long each time: what an answer did not wait for takes some milliseconds.
pub const LOCK_RETRY_MS_MIN: u64 = 1;
/// Milliseconds that the recovery of all projects waits for one that is locked: a lock is also held for an
/// instant by a child process that is just being started, a command that works holds it for longer.
pub const RECOVERY_WAIT_MS: u64 = 500;
/// Milliseconds that SQLite waits for another process that writes: many times its longest write.
pub const DATABASE_BUSY_MS: u64 = 10_000;
/// Milliseconds between two tries of what SQLite does not wait for itself.
pub const DATABASE_BUSY_PAUSE_MS: u64 = 5;
/// Pages of the database's log before it is worked into the database, for which whoever fills it waits for the disk: 16 MiB,
/// ten plans of thousand packages.
pub const DATABASE_LOG_PAGES_MAX: u32 = 4_096;
/// Descriptors of the database's log, one for each transaction of this process that has not ended; others may end some of them. Who
/// finds no room for one opens the log later.
pub const DATABASE_LOGS_MAX: usize = 64;

const _: () = assert!(JOURNAL_BYTES_MAX > JOURNAL_RECORD_BYTES_MAX as u64);
const _: () = assert!(SUMMARY_PACKAGES_BYTES_MAX < SUMMARY_BYTES_MAX);
const _: () = assert!(TREE_DEPTH_MAX < 1024 / 2);
/// Answers to `pkg.info` that are kept for whoever asks the same again.
pub const RECENT_ANSWERS_MAX: usize = 1_024;
/// Bytes of one of them with its question: many times what is usual, so that all together stay within 16 MiB.
pub const RECENT_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long such an answer stands for what would be found anew. The metadata behind it counts as fresh for much longer; a
/// change in a configuration file should be seen soon.
pub const RECENT_FRESH_FOR: std::time::Duration = std::time::Duration::from_secs(2);
/// Lines of the explanation of a conflict: a longer proof is not read by anybody, and is cut in the middle.
pub const EXPLANATION_LINES_MAX: usize = 60;
/// Repairs offered with a conflict: enough to choose from on one screen.
pub const REPAIRS_MAX: usize = 3;
/// Resolutions tried while looking for repairs; each may cost as much as the one that failed.
pub const REPAIR_ATTEMPTS_MAX: usize = 16;
/// Conflicts after which a package is decided before others: deciding the culprit early ends most long searches.
pub const CONFLICTS_UNTIL_EARLY: u32 = 5;
/// Versions of one package that are tried before an attempt is given up, to decide that package earlier in the next.
pub const VERSIONS_UNTIL_EARLY: usize = 5;
/// Attempts at one resolution that are given up; the next goes on to its end. Each costs about what the last one did, and what
/// was fetched is kept.
pub const ATTEMPTS_MAX: usize = 32;
/// Versions of one package whose metadata is announced at once while a solver walks down its list.
pub const PREFETCH_VERSIONS_MAX: usize = 32;
/// Packages that are walked through ahead of a solver in one resolution: several times the largest honest answer. Beyond
/// it nothing is lost but the head start.
pub const AHEAD_PACKAGES_MAX: usize = 8_192;
/// Different wants of one package that are kept while walking ahead; a package that more disagree about is the solver's.
pub const AHEAD_WANTS_MAX: usize = 64;
/// Looks at a version while walking ahead of one resolution: the largest honest ones take about a million; at some tens of
/// nanoseconds each, this many are a second.
pub const AHEAD_LOOKS_MAX: u64 = 20_000_000;
/// Bytes of answers that walking ahead of one resolution keeps; what arrives beyond is the solver's.
pub const AHEAD_BYTES_MAX: usize = 64 << 20;
/// Seconds that an interpreter may take to describe itself; a cold start from a slow disk takes about two.
pub const INTERPRETER_SECONDS_MAX: u64 = 20;

/// How long an interpreter's description of itself is believed where nothing that is known to change it did.
pub const INTERPRETER_REMEMBERED_FOR: std::time::Duration =
    std::time::Duration::from_secs(24 * 3600);

/// Descriptions that are kept on the disk: those of some interpreters in some surroundings, 3 KiB each.
pub const INTERPRETERS_REMEMBERED_MAX: usize = 64;

/// Bytes of a version manager's shim that are looked at; pyenv's has about 400.
pub const PYENV_SHIM_BYTES_MAX: u64 = 4 << 10;

/// Bytes of a file that names a version; more is no such file.
pub const PYENV_VERSION_BYTES_MAX: u64 = 4 << 10;

/// Bytes of an interpreter's description of itself; a real one has about 2 KiB.
pub const INTERPRETER_ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a `pyvenv.cfg`; a real one has about 200.
pub const PYVENV_BYTES_MAX: u64 = 1 << 16;
/// Bytes of the path that an environment says that it was made for; the kernel takes no longer ones.
pub const ENVIRONMENT_PATH_BYTES_MAX: usize = 4096;

/// Compatibility tags of one interpreter; a current CPython on a current glibc has about 1,000.
pub const TAGS_MAX: usize = 20_000;

/// Threads that have unpacked what arrives, each what is there when it looks: so many times a large archive may be at work before others
/// wait for it. They only wait.
pub const UNPACK_ARCHIVES_MAX: usize = 8;
/// Bytes of archives that were unpacked since the disk was last told to write, after which it is told so while the rest comes: some 10 MiB of
/// files, which take it longer than what is lost by asking.
pub const EARLY_SYNC_BYTES: u64 = 2 << 20;
/// Bytes that one archive may unpack to. The largest honest wheels (machine learning with its libraries) unpack to about
/// 4 GiB.
pub const ARCHIVE_UNPACKED_BYTES_MAX: u64 = 16 << 30;
/// Bytes of one unpacked file. The largest honest one is a shared library of about 2 GiB.
pub const ARCHIVE_FILE_BYTES_MAX: u64 = 8 << 30;
/// Entries of one archive. The largest honest packages have about 100,000 files.
pub const ARCHIVE_ENTRIES_MAX: usize = 500_000;
/// Unpacked bytes per packed byte, once more than [`ARCHIVE_RATIO_FREE_BYTES`] came out. Deflate can reach 1,032;
/// honest packages stay below 100.
pub const ARCHIVE_RATIO_MAX: u64 = 250;
/// Unpacked bytes below which no ratio is judged: a small archive may well hold one long run of zeros.
pub const ARCHIVE_RATIO_FREE_BYTES: u64 = 64 << 20;
/// Bytes of a path inside an archive; with the place of the environment in front it must stay below `PATH_MAX`, 4,096.
pub const ARCHIVE_PATH_BYTES_MAX: usize = 2_048;
/// Bytes of one component of a path: what Linux file systems can name.
pub const ARCHIVE_COMPONENT_BYTES_MAX: usize = 255;
/// Components of a path. Bundled dependencies of npm packages nest the deepest, to about 40.
pub const ARCHIVE_DEPTH_MAX: usize = 128;
/// Bytes of one extension header of a tar archive; it holds a path and a few numbers.
pub const TAR_EXTENSION_BYTES_MAX: u64 = 64 << 10;
/// Bytes of the directory of a zip archive: [`ARCHIVE_ENTRIES_MAX`] entries with names of ordinary length.
pub const ZIP_DIRECTORY_BYTES_MAX: u64 = 128 << 20;
/// Bytes of a description inside a package that is read as a whole (`package.json`, `METADATA`, `WHEEL`, `entry_points.txt`).
pub const PACKAGE_DESCRIPTION_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a `RECORD`: about 150 per file.
pub const RECORD_BYTES_MAX: u64 = 128 << 20;
/// Bytes of one entry of the store's index: what [`ARCHIVE_ENTRIES_MAX`] files with ordinary names need.
pub const STORE_INDEX_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a file that are moved through memory in one piece; larger files are copied by the kernel or in pieces.
pub const COPY_WHOLE_BYTES_MAX: u64 = 256 << 10;
/// Files that are one piece of copying: enough to make handing out pieces free, few enough that the last worker is not
/// left alone with a large share, and that a smaller number of slots takes effect within milliseconds.
pub const COPY_BATCH_FILES_MAX: usize = 64;
/// Packages that are fetched or linked from which a change counts as heavy, so that a hot machine puts it off: about what
/// keeps all cores busy for seconds.
pub const HEAVY_PACKAGES_MIN: usize = 64;
/// Names that are tried for the directory of one request's downloads: processes that died may have left so many with the same number
/// since the last start.
pub const INCOMING_TRIES_MAX: usize = 1_000;
/// Names of one directory that are read at once while everything in it is removed.
pub const INCOMING_NAMES_AT_ONCE_MAX: usize = 1_024;
/// Paths that are remembered because they could not be deleted: a disk that fails refuses them all, and each is tried before every
/// request. The next start sweeps the others.
pub const LEFTOVERS_MAX: usize = 128;
/// For how long a request waits for them to be tried again: one is begun at most after this, and the others are left for later.
pub const LEFTOVERS_TIME: std::time::Duration = std::time::Duration::from_millis(50);
/// Bytes that the store may take unless the configuration says otherwise: several large projects of each ecosystem, a tenth of a small disk.
pub const STORE_BYTES_MAX_DEFAULT: u64 = 20 << 30;
/// Bytes of packages that stand ready, unless the configuration says otherwise: what two or three large projects have.
pub const PREPARED_BYTES_MAX_DEFAULT: u64 = 1 << 30;
/// Files of packages that stand ready, and of those that are wanted: each takes about 300 bytes of memory, and it all must stay small
/// beside the rest.
pub const PREPARED_FILES_MAX: usize = 150_000;
/// One package may take so many hundredths of what all may, so that none throws out all others.
pub const PREPARED_TREE_PERCENT: u64 = 10;
/// Packages that wait to be made ready: those of a few very large projects.
pub const PREPARED_WANTED_MAX: usize = 10_000;
/// How many of the same package stand ready: as often as most trees have it.
pub const PREPARED_ALIKE_MAX: usize = 2;
/// Bytes of the disk that are left free when packages are made ready.
pub const PREPARED_BYTES_FREE_MIN: u64 = 1 << 30;
/// Bytes of a security label, or of an access list, of a directory; the longest attribute that Linux has.
pub const LABEL_BYTES_MAX: usize = 64 << 10;
/// Files that were staged from which on writing them begins before they are described: their inodes are many blocks then.
pub const EARLY_WRITE_FILES_MIN: usize = 200;
/// Files of artefacts whose lists a process that stays remembers: about 120 bytes each.
pub const REMEMBERED_FILES_MAX: usize = 100_000;
/// Plans that are kept in memory: the one that is carried out next, and what it replaces, for two callers at once.
pub const PLANS_KEPT_MAX: usize = 4;
/// Packages of a plan from which on its answer is written on a thread of its own while it is hashed.
pub const SHOWN_BESIDE_MIN: usize = 400;
/// Packages that they have in all, about a kilobyte each.
pub const PLANS_KEPT_PACKAGES_MAX: usize = 5_000;
/// Bytes of files that they write.
pub const PLANS_KEPT_BYTES_MAX: usize = 8 << 20;
/// Plans of which it is known what they are about: two hundred bytes each.
pub const PLANS_KNOWN_MAX: usize = 4_096;
/// Of a store that is too large, so many hundredths of what it may take are left, so that the next package does not make it too large again.
pub const STORE_COLLECTED_PERCENT: u64 = 90;
/// How often the time of the last use is noted: what was used within the hour is all the same to a collection.
pub const STORE_USE_NOTED_AFTER: std::time::Duration = std::time::Duration::from_secs(3_600);
/// How often a process that has just begun looks at the size of the store: it costs about a second of a full one, and many
/// commands live no longer.
pub const STORE_LOOKED_AT_AFTER: std::time::Duration = std::time::Duration::from_secs(3_600);
/// How long nobody must have changed a file whose digest is found right, for that to be remembered: longer than the kernel lets a
/// changed page wait (30 s, looked at every 5 s), after which a store through a mapping changes the time of the file again.
/// Nothing in tests of this crate, which would wait for it.
pub const STORE_WITNESS_QUIET: std::time::Duration =
    std::time::Duration::from_secs(if cfg!(test) { 0 } else { 45 });
/// Files of which that is remembered: those of many large projects, in some 100 MiB at most.
pub const STORE_WITNESSES_MAX: usize = 1_000_000;
/// How long a collection waits for whoever is in the store: longer than most directories take to be filled.
pub const STORE_COLLECTION_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// How long somebody waits for a collection before giving up: many times what one takes on a slow disk.
pub const STORE_ENTRY_PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);
/// After so long the wait is told in the log: an ordinary collection is over by then.
pub const STORE_ENTRY_TOLD_AFTER: std::time::Duration = std::time::Duration::from_secs(2);
/// Pieces of work aside that wait for the thread while it is at one: each is an address or two; writing one plan writes all.
pub const ASIDE_JOBS_MAX: usize = 64;
/// Bytes of the names that one transaction needs: 160 for each of [`LOCK_PACKAGES_MAX`] packages under both digests, and half as much again.
pub const STORE_LEASE_BYTES_MAX: u64 = 24 << 20;
/// Transactions that may use a store at once; beyond it nothing is collected.
pub const STORE_LEASES_MAX: usize = 1_000;
/// Files in the store that a collection counts: twenty full limits of small files. A larger store is only emptied by hand.
pub const STORE_FILES_MAX: usize = 8_000_000;
/// How often a transaction begins again because the store turned out to be damaged: what is damaged is fetched after the first
/// time, and a disk that damages it at once will not do better.
pub const STORE_REPAIRS_MAX: usize = 2;
/// Seconds to wait for cargo's own lock before giving up: a cold cargo fetch of a large project holds it for about a minute.
pub const CARGO_LOCK_WAIT_SECONDS_MAX: u64 = 120;
/// Bytes of an entry in cargo's copy of its index that are read to see whether it is right: what its registry may serve.
pub const CARGO_INDEX_ENTRY_BYTES_MAX: u64 = 96 << 20;
/// Bytes of a `.crate` in cargo's cache that are read to see whether it is right; registries take some ten megabytes.
pub const CRATE_BYTES_EXAMINED_MAX: u64 = 1 << 30;
/// Directories of crates that `cargo vendor` made: some ten times what the largest projects have.
pub const VENDORED_CRATES_MAX: usize = 20_000;
/// Manifests and lists of digests of a directory of crates together; a crate has some twenty KiB of them.
pub const VENDORED_BYTES_MAX: u64 = 1 << 30;
/// The list of digests of one vendored crate; a file has some hundred bytes in it.
pub const VENDORED_CHECKSUMS_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a first line (`#!...`) that the kernel reads, its end included.
pub const SHEBANG_BYTES_MAX: usize = 127;

const _: () = assert!(ARCHIVE_FILE_BYTES_MAX <= ARCHIVE_UNPACKED_BYTES_MAX);
const _: () = assert!(ARCHIVE_COMPONENT_BYTES_MAX <= ARCHIVE_PATH_BYTES_MAX);
const _: () = assert!(ARCHIVE_PATH_BYTES_MAX < 4_096);

/// Nodes that one npm resolution may make, those of peer stages included. The largest real trees place about 5,000
/// packages and need some 50,000 nodes.
pub const NPM_NODES_MAX: usize = 1_000_000;

/// Packages in one npm tree; five times the largest that are known.
pub const NPM_PACKAGES_MAX: usize = 50_000;

/// Levels of folders in one npm tree. Each level is a directory in a path, and paths end at 4,096 bytes.
pub const NPM_TREE_DEPTH_MAX: u32 = 64;

/// Steps of one npm resolution (looks at one package's dependencies) for each package in the tree, beside a fixed
/// part. Real trees take between one and two; ends packages that push each other out of their places for ever.
pub const NPM_STEPS_PER_PACKAGE_MAX: usize = 32;

/// The fixed part of the above, for small trees.
pub const NPM_STEPS_FIXED_MAX: usize = 1_000;

/// Links of a chain of peers that have to be placed together; the longest real ones have about ten. Bounds the stack.
pub const NPM_PEER_DEPTH_MAX: usize = 64;

/// Nodes that one change of a dependency may bring under another override rule.
pub const NPM_OVERRIDE_STEPS_MAX: usize = 100_000;

/// Versions that are looked at while searching for some that agree on their peers; at some microseconds each, a second.
pub const NPM_AGREE_LOOKS_MAX: usize = 200_000;

/// Resolutions that one request may take because versions turned out not to be usable; each is a whole one.
pub const NPM_ATTEMPTS_MAX: usize = 32;

/// Repairs of a conflict that are tried; each is a whole resolution.
pub const NPM_REPAIRS_TRIED_MAX: usize = 4;

/// Bytes of one package name of npm: the registry's own rule.
pub const NPM_NAME_BYTES_MAX: usize = 214;
/// Right sides of npm dependencies that are kept understood: the trees of large projects have some thousands.
pub const NPM_WANTS_MAX: usize = 32_768;
/// The longest of those that is kept; longer ones are rare, or were made to take memory.
pub const NPM_WANT_BYTES_MAX: usize = 128;
/// The most alternatives (`||`) of those that are kept: each takes some 200 bytes.
pub const NPM_WANT_ALTERNATIVES_MAX: usize = 8;
/// Names of npm packages that are kept with what follows from them, at some 200 bytes each: more than large projects have.
pub const NPM_NAMES_MAX: usize = 32_768;
/// Versions of npm packages that one resolution leaves known for the next, with those that counted once: several large projects.
pub const NPM_KNOWN_PACKAGES_MAX: usize = 16_384;
/// Choices of a version that are left known for the next resolution, at some 100 bytes each.
pub const NPM_KNOWN_CHOICES_MAX: usize = 65_536;
/// What the versions may take that are left known for the next resolution, where nothing else has them any more.
pub const NPM_KNOWN_BYTES_MAX: usize = 24 << 20;
/// Entries for which a resolution makes room in each of its tables before it needs them: those of about the largest projects.
pub const NPM_ROOM_MAX: usize = 1 << 16;
/// Edges, and entries of the lists of edges and of nodes, for which a resolution leaves room to the next one: a node has some.
pub const NPM_ROOM_EDGES_MAX: usize = 4 * NPM_ROOM_MAX;
/// Choices that are kept with one packument: a package is wanted in few ways at a time.
pub const NPM_CHOICES_KEPT_MAX: usize = 32;
/// Bytes of versions and choices that are kept with a packument, however small it is: a few.
pub const NPM_NOTES_BYTES_FIXED: usize = 12 << 10;

/// Bytes of one project name of PyPI; the longest published is below 120.
pub const PYPI_NAME_BYTES_MAX: usize = 200;

/// Bytes of one crate name: crates.io's own rule.
pub const CRATE_NAME_BYTES_MAX: usize = 64;

/// Bytes of one package name of a distribution: what a file system can name.
pub const DEBIAN_NAME_BYTES_MAX: usize = 255;

/// Bytes of one spec that a caller writes; leaves room for a long list of extras and a long range.
pub const SPEC_BYTES_MAX: usize = 4 * 1024;

/// Bytes of one manifest (package.json, requirements.txt, pyproject.toml, Cargo.toml). People write kilobytes;
/// generated monsters stay below 1 MiB.
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Levels of nesting in a manifest; bounds the stack of its parsers.
pub const MANIFEST_DEPTH_MAX: usize = 64;

/// Requirements files that one includes, directly or not; people have a handful.
pub const REQUIREMENTS_FILES_MAX: usize = 64;
/// Packages that are asked for by address or path; each may be read as a whole while it is planned.
pub const NAMED_FILES_MAX: usize = 1_000;
/// Bytes of all npm archives that are fetched while one plan is made: each may lead to others that a stranger names, and honest ones have some
/// MB together.
pub const NAMED_BYTES_MAX: u64 = 4 << 30;
/// Requirements files that include each other in a row; bounds the stack.
pub const REQUIREMENTS_DEPTH_MAX: usize = 16;
/// Requirements that the dependency groups of one project come to; a person writes some tens.
pub const GROUP_REQUIREMENTS_MAX: usize = 10_000;

/// Packages that one request may name; a person names a few, a program some hundreds.
pub const SPECS_MAX: usize = 1024;
/// Names that one list of an option holds; what a large project pins by name stays below.
pub const OPTION_NAMES_MAX: usize = 4_096;
/// Files that one option names; people name one or two.
pub const OPTION_FILES_MAX: usize = 16;
/// Bytes of one of those files: requirements with a pin for each of some ten thousand packages.
pub const OPTION_FILE_BYTES_MAX: usize = 1 << 20;
/// Bytes of the name of a platform; the longest known has 30.
pub const PYTHON_PLATFORM_BYTES_MAX: usize = 100;

/// Bytes of one `bolide.lock`: some 500 for each of [`LOCK_PACKAGES_MAX`] packages, and as much again.
pub const LOCK_BYTES_MAX: usize = 48 << 20;
/// Packages of one `bolide.lock`: as many as one npm tree may hold.
pub const LOCK_PACKAGES_MAX: usize = NPM_PACKAGES_MAX;
/// Packages that one of them uses; the largest known have some hundred.
pub const LOCK_DEPENDENCIES_MAX: usize = 10_000;
/// Lines about what manifests ask for; the largest workspaces have a thousand packages with some fifty dependencies each.
pub const LOCK_WANTS_MAX: usize = 200_000;
/// Bytes of one text in a lock: names and ranges stay far below, licences are the longest.
pub const LOCK_TEXT_BYTES_MAX: usize = 4 * 1024;

/// Results of a search from one source: one screen.
pub const SEARCH_RESULTS_MAX: usize = 20;
/// Bytes of the words of a search; people write a few words.
pub const SEARCH_BYTES_MAX: usize = 200;
/// Characters of a description in a result: one line.
pub const SEARCH_DESCRIPTION_CHARS_MAX: usize = 200;
/// Artefacts of the store that a search looks at: opening so many files takes about a second.
pub const STORE_NAMES_MAX: usize = 20_000;
/// Bytes of an entry of the store that hold its name and version.
pub const STORE_NAME_BYTES_MAX: u64 = 1_024;
/// Ways from a project to a package that are shown; with more nobody reads any.
pub const WHY_PATHS_MAX: usize = 100;

/// Seconds after which a resolution gives up: ordinary sets take under two, the hardest seen a minute.
pub const RESOLVE_SECONDS_MAX: u64 = 300;
/// Seconds to wait for another transaction on the same project.
pub const LOCK_WAIT_SECONDS: u64 = 60;
/// Tools and interpreters whose answers are remembered.
pub const TOOLS_REMEMBERED_MAX: usize = 64;
/// Bytes of a tool's `--version` that are looked at.
pub const TOOL_OUTPUT_BYTES_MAX: usize = 4096;
/// Texts that the braces in one pattern of npm's `workspaces` may stand for; people write two or three.
pub const WORKSPACE_ALTERNATIVES_MAX: usize = 256;
/// The same of all patterns together: every directory is compared with each of them, and large projects have some tens.
pub const WORKSPACE_ALTERNATIVES_ALL_MAX: usize = 4_096;
/// Directories of a workspace that are looked at, cargo's or npm's.
pub const WORKSPACE_DIRECTORIES_MAX: usize = 10_000;

/// Directories above a place in which its project is looked for: deeper than people nest them.
pub const ANCESTORS_MAX: usize = 64;
/// Bytes of the machine's lists of people and of groups; larger ones are of a directory service, which is not asked.
pub const ACCOUNTS_BYTES_MAX: u64 = 1 << 20;

/// How often a caller who approved any plan gets a new one because somebody else was quicker.
pub const REPLANS_MAX: usize = 8;

/// Projects that are watched: each costs the kernel a watch for every directory of its path.
pub const WATCHES_MAX: usize = 1_024;
/// How long nothing must happen in a watched project before its manifests are read: editors and checkouts write in bursts.
pub const WATCH_QUIET: std::time::Duration = std::time::Duration::from_millis(300);
/// The longest wait for that rest.
pub const WATCH_SETTLE_MAX: std::time::Duration = std::time::Duration::from_secs(3);
/// Answers to changes of one project within [`WATCH_ANSWERS_WINDOW`], and looks at one whose answer waits; a program that writes a manifest for ever gets no more.
pub const WATCH_ANSWERS_MAX: usize = 20;
/// See [`WATCH_ANSWERS_MAX`].
pub const WATCH_ANSWERS_WINDOW: std::time::Duration = std::time::Duration::from_secs(600);
/// Changes that are answered at once, each on a thread of its own: their work is admitted like everybody's.
pub const WATCH_ANSWERS_AT_ONCE_MAX: usize = 4;
/// Changes that are answered after they waited for a cooler machine, beside those: when it cools, all may begin in the same moment.
pub const WATCH_RESUMED_AT_ONCE_MAX: usize = 4;
/// How often one that waits for such a place looks by itself: it is told of everything but the clock of the day being set. Never in this
/// crate's tests, which hang where somebody is not told.
pub const WATCH_LOOK_INTERVAL: std::time::Duration =
    std::time::Duration::from_secs(if cfg!(test) { 3_600 } else { 5 });
/// Changes whose answers wait for a cooler machine, beside those: each is a thread that sleeps and a plan in memory. While there are so
/// many, with those that may come to wait, no other one begins.
pub const WATCH_DEFERRED_MAX: usize = 64;
/// The first pause before a change is tried again that could not be answered for a reason that may pass; doubled each time.
pub const WATCH_RETRY_MIN: std::time::Duration = std::time::Duration::from_secs(30);
/// The longest such pause.
pub const WATCH_RETRY_MAX: std::time::Duration = std::time::Duration::from_secs(3_600);
/// Times that everything is watched anew at once because paths changed meanwhile; then it is left for the next event.
pub const WATCH_REBUILDS_MAX: usize = 8;
/// Files and directories of one project beside its root that are watched with it: each directory costs a watch, and a workspace has
/// some tens of members.
pub const BESIDE_MAX: usize = 1_024;
/// Bytes of events taken from the kernel in one call: some hundred; a name has 255 bytes at most.
pub const WATCH_EVENT_BYTES: usize = 16 * 1024;

/// Processes that read archives at once: as many as there are ever pieces of work at once.
pub const UNPACK_HELPERS_MAX: usize = 16;
/// Bytes of one request to such a process: two paths and some numbers.
pub const UNPACK_REQUEST_BYTES_MAX: usize = 2 * ARCHIVE_PATH_BYTES_MAX + 64;
/// Bytes of its answers that either side holds at once: large enough that the calls cost nothing beside the copying.
pub const UNPACK_BUFFER_BYTES: usize = 256 << 10;
/// Bytes of its answers that wait in the kernel: what an ordinary user's pipe may have.
pub const UNPACK_PIPE_BYTES: usize = 1 << 20;
/// Bytes of one text in its answers: a name that is shown, and a sentence.
pub const UNPACK_TEXT_BYTES_MAX: usize = 4 * 1024;
/// Warnings in one answer: more are read by nobody.
pub const UNPACK_WARNINGS_MAX: usize = 64;
/// How long it may neither say nor compute anything while it has work: many times what a slow disk takes for a block.
pub const UNPACK_SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// Seconds of processor time for one archive, whatever its size.
pub const UNPACK_PROCESSOR_SECONDS: u64 = 30;
/// Seconds more for each MiB of it: at [`ARCHIVE_RATIO_MAX`] that is 250 MiB to inflate and to hash, which slow cores do in two.
pub const UNPACK_PROCESSOR_SECONDS_PER_MIB: u64 = 4;
/// Bytes of memory of its own: a directory of [`ZIP_DIRECTORY_BYTES_MAX`], what is made of it, and a `RECORD` of
/// [`RECORD_BYTES_MAX`] stay below. Honest archives need some ten MiB.
pub const UNPACK_MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Bytes of addresses: the same, and the program itself.
pub const UNPACK_ADDRESS_BYTES_MAX: u64 = 2 << 30;
/// Bytes that it may write into files, which is what it says when it panics.
pub const UNPACK_LAST_WORDS_BYTES_MAX: u64 = 4 * 1024;
/// Descriptors that it may have: its three, one archive, and what locking itself in takes.
pub const UNPACK_DESCRIPTORS_MAX: u64 = 16;
/// Bytes at the beginning of a file by which its format is recognised: a tar header.
pub const UNPACK_MAGIC_BYTES: usize = 512;
/// Directories that processes which died had begun to unpack into, looked at in one go: each is a whole archive's removal.
pub const UNPACK_ABANDONED_MAX: usize = 64;

const _: () = assert!(WATCH_DEFERRED_MAX > WATCH_ANSWERS_AT_ONCE_MAX);
const _: () = assert!(UNPACK_PIPE_BYTES >= UNPACK_BUFFER_BYTES);
const _: () = assert!(UNPACK_ADDRESS_BYTES_MAX > UNPACK_MEMORY_BYTES_MAX);

/// Bytes of a distribution's release file: real ones have under one KiB.
pub const SYSTEM_RELEASE_BYTES_MAX: u64 = 64 << 10;
/// Packages of the system in one change: their archives' paths are arguments of one program, which the kernel bounds at 2 MiB.
pub const SYSTEM_STEPS_MAX: usize = 4_096;
/// Bytes of a process's arguments that are looked at for the configuration that we name first.
pub const SYSTEM_ARGUMENTS_BYTES_MAX: u64 = 64 << 10;
/// How long another program that changes packages is waited for: an unattended upgrade takes some minutes.
pub const SYSTEM_LOCK_WAIT_SECONDS: u64 = 300;
/// The same after a crash: what the dead left running is to end first, and an agent that starts has others to serve.
pub const SYSTEM_RECOVERY_WAIT_SECONDS: u64 = 30;
/// How often what others left in the middle of a system's part is ended before one's own begins: once, and again for each that dies
/// or is being ended in that moment.
pub const SYSTEM_ROUNDS_MAX: usize = 8;
/// How long the distribution's tool may look something up: reading its lists anew takes seconds on a slow disk.
pub const SYSTEM_QUESTION_SECONDS_MAX: u64 = 120;
/// How long it may fetch archives.
pub const SYSTEM_FETCH_SECONDS_MAX: u64 = 3_600;
/// How long it may change the system: scripts of packages rebuild kernels' images for many minutes.
pub const SYSTEM_CHANGE_SECONDS_MAX: u64 = 3_600;
/// How long it may take to end after it was asked to.
pub const SYSTEM_END_SECONDS_MAX: u64 = 30;
/// Bytes of what it says: all packages of a large system are some MiB.
pub const SYSTEM_ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Bytes of what it writes while it changes the system; a script that never stops writing is ended.
pub const SYSTEM_LOG_BYTES_MAX: u64 = 64 << 20;
/// Characters of that in an error.
pub const SYSTEM_WORDS_SHOWN_MAX: usize = 1_500;
/// Files that a tool put beside others and that are told of: a person looks at some, not at thousands.
pub const SYSTEM_NOTES_MAX: usize = 50;
/// Bytes of one archive: the largest packages of distributions have about one GiB.
pub const SYSTEM_FILE_BYTES_MAX: u64 = 8 << 30;
/// Faults of a system that a verification names; the others are counted. A sound system has none, one with this many is lost.
pub const SYSTEM_FAULTS_MAX: usize = 1_000;
/// How long an archive stays that no transaction needs: from when it is fetched until its transaction is written down.
pub const SYSTEM_FILE_UNUSED_FOR: std::time::Duration =
    std::time::Duration::from_secs(2 * SYSTEM_FETCH_SECONDS_MAX);

/// Starts of the machine of which the store still knows seals; files that were sealed before them are compared by digest at every use.
pub const SEAL_STARTS_KEPT_MAX: usize = 8;

/// How long one step of a build may take from its start to its end: large programs in C++ take half of it, and who asks the daemon waits
/// an hour for all.
pub const BUILD_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30 * 60);
/// Processor seconds of each process of a build: one translation unit of the worst kind takes some minutes.
pub const BUILD_PROCESSOR_SECONDS_MAX: u64 = 60 * 60;
/// Bytes of memory of each process of a build: linkers of large programs take about half.
pub const BUILD_MEMORY_BYTES_MAX: u64 = 8 << 30;
/// Addresses for each byte of memory: files that are mapped, and what runtimes reserve and never touch.
pub const BUILD_ADDRESSES_PER_BYTE: u64 = 8;
/// Bytes of one file that a build writes; that of an object with everything in it is a quarter.
pub const BUILD_FILE_BYTES_MAX: u64 = 4 << 30;
/// Bytes of everything that lies in a build's directory at once, its source included.
pub const BUILD_DISK_BYTES_MAX: u64 = 16 << 30;
/// Directories inside one another there: twice what an archive may have.
pub const BUILD_DEPTH_MAX: usize = 2 * ARCHIVE_DEPTH_MAX;
/// Files and directories in it.
pub const BUILD_FILES_MAX: u64 = 500_000;
/// Processes of a build at once: some for each of many cores.
pub const BUILD_PROCESSES_MAX: usize = 1_024;
/// Descriptors of each of its processes, as many as ordinary sessions have.
pub const BUILD_DESCRIPTORS_MAX: u64 = 1_024;
/// Bytes that a build may print; compilers with all warnings print some MiB.
pub const BUILD_OUTPUT_BYTES_MAX: u64 = 64 << 20;
/// Bytes of why a worker could not lock itself in: a sentence.
pub const BUILD_TROUBLE_BYTES_MAX: u64 = 4 << 10;
/// Bytes of the end of what it printed, which are kept for a message.
pub const BUILD_TAIL_BYTES: usize = 8 << 10;
/// Characters of one of their lines that a message shows.
pub const BUILD_TAIL_LINE_CHARS_MAX: usize = 200;
/// Lines of them that a message shows.
pub const BUILD_TAIL_LINES_MAX: usize = 12;
/// Reads of what was printed and not read before its end: a pipe of the largest size that an ordinary user may have, and more.
pub const BUILD_DRAIN_READS_MAX: usize = 128;
/// How often files and processes are counted, at most.
pub const BUILD_LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(250);
/// How long a helper may take beyond its build, to end everything and to say so.
pub const BUILD_HELPER_LATE_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// Bytes of a helper's report: the tail, escaped, and some words.
pub const BUILD_REPORT_BYTES_MAX: u64 = 256 << 10;
/// Bytes of what a hook answers: a list of requirements, or a file's name.
pub const BUILD_ANSWER_BYTES_MAX: u64 = 256 << 10;
/// Bytes of the `pyproject.toml` of a source archive.
pub const BUILD_PROJECT_BYTES_MAX: u64 = 1 << 20;
/// Requirements of a build, and places of a backend: nobody writes more than some ten.
pub const BUILD_REQUIREMENTS_MAX: usize = 256;
/// Files and directories of a tree of source that a project names: large ones have some ten thousand.
pub const SOURCE_TREE_FILES_MAX: usize = 100_000;
/// Bytes of all files of such a tree, which is read and copied when it is planned.
pub const SOURCE_TREE_BYTES_MAX: u64 = 2 << 30;
/// Directories inside one another in it.
pub const SOURCE_TREE_DEPTH_MAX: usize = ARCHIVE_DEPTH_MAX;
/// Builds for one plan. A resolver that walks down the versions of a package must not build all of them.
pub const BUILDS_IN_A_PLAN_MAX: usize = 32;
/// Builds that are remembered, 1 KiB each.
pub const BUILDS_REMEMBERED_MAX: usize = 4_096;

const _: () = assert!(BUILD_FILE_BYTES_MAX <= BUILD_DISK_BYTES_MAX);
const _: () = assert!(BUILD_REPORT_BYTES_MAX as usize > 6 * BUILD_TAIL_BYTES);
const _: () = assert!(SOURCE_TREE_BYTES_MAX < BUILD_DISK_BYTES_MAX);
const _: () = assert!((SOURCE_TREE_FILES_MAX as u64) < BUILD_FILES_MAX);
