//! Every bound of the registry clients, with its unit and its reason.
//!
//! A registry is a stranger: each of these is what a hostile or broken one can cost us at most. Exceeding one
//! fails the operation and names the bound.

use std::time::Duration;

/// How often a thread that waits for a registry asks whether its answer is still wanted.
pub const CANCELLATION_INTERVAL: Duration = Duration::from_millis(20);
/// Further Python indexes that are asked before the main one; each may cost a question for every package.
pub const INDEXES_MAX: usize = 8;
/// Pages and directories that list files of Python packages beside the indexes; each is read for every package.
pub const LINKS_MAX: usize = 32;
/// Files that one of them may list; the largest known pages have about 60,000.
pub const LINKED_FILES_MAX: usize = 200_000;
/// Files of this machine whose digest a process remembers, by their status: some 200 bytes each.
pub const LOCAL_DIGESTS_MAX: usize = 20_000;
/// Redirects followed for one request; browsers take 20, registries need one or two.
pub const REDIRECTS_MAX: usize = 8;
/// Tries of one request, the first included: rides out a restarting mirror, ends in seconds when it is down.
pub const ATTEMPTS_MAX: u32 = 4;
/// The first pause between two tries; doubles each time.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// The longest pause that a registry may ask for with `Retry-After`; a longer one is an answer, not a pause.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(15);
/// How long a server that did not answer is asked last, where there is another: a mirror that is restarted is back by then.
pub const AILING_FOR: Duration = Duration::from_secs(60);
/// Servers of which that is known; beyond it everything is forgotten.
pub const AILING_MAX: usize = 256;
/// Mirrors of one registry, or of artefacts: people have one or two.
pub const MIRRORS_MAX: usize = 8;
/// Bytes of a file that broke off from which it is worth being kept for the next request: one chunk.
pub const PARTIAL_BYTES_MIN: u64 = WRITE_CHUNK_BYTES as u64;
/// Bytes of a file that may be in memory while it is fetched: what breaks off below this is not worth being kept either. Nearly all
/// packages of npm are below.
pub const DOWNLOAD_IN_MEMORY_BYTES_MAX: u64 = PARTIAL_BYTES_MIN;
/// Bytes of all such files of the process, with those that wait to be unpacked: two of the greatest for each file that may be under way.
pub const DOWNLOADS_IN_MEMORY_BYTES_MAX: u64 = 32 << 20;
/// Files that broke off and are kept: those of a few requests that were killed.
pub const PARTIALS_MAX: usize = 64;
/// Bytes of them: two of the biggest wheels.
pub const PARTIALS_BYTES_MAX: u64 = 4 << 30;
/// How long one is kept: who wants the file comes back within days.
pub const PARTIAL_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Bytes of what is noted of one: the server's tag.
pub const PARTIAL_TAG_BYTES_MAX: u64 = 1_024;
/// Time to get a connection with TLS; covers a slow proxy on a bad line.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest silence while an answer is awaited or read. Shorter in tests of this crate, which wait for it.
pub const READ_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 30 });
/// The longest time for one metadata answer as a whole, so that a trickle of bytes ends too.
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 4 } else { 120 });
/// The longest time for one try at one artefact: 2 GiB at 1.2 MB/s.
pub const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(1800);
/// Broken connections that one download survives, each resumed where it stopped.
pub const DOWNLOAD_RESUMES_MAX: u32 = 6;

/// How long a process that ends waits for answers to be written down: a busy disk takes less.
pub const UNWRITTEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Metadata requests under way that somebody waits for. More only wait in the server's queue.
pub const DEMANDED_REQUESTS_MAX: usize = 16;
/// Metadata requests under way that were only announced.
pub const ANNOUNCED_REQUESTS_MAX: usize = 48;
/// Announcements accepted and not yet answered; further ones are dropped, they are only hints.
pub const ANNOUNCEMENTS_MAX: usize = 1024;
/// Announcements that wait until others have been answered: more than a scout follows.
pub const BACKLOG_MAX: usize = 16_384;
/// How often a request that nobody waits for looks whether it is still wanted.
pub const ABANDONED_INTERVAL: Duration = Duration::from_millis(50);
/// Connections for files that are kept for the next ones: as many files as one caller may have under way.
pub const IDLE_CONNECTIONS_MAX: usize = 16;
/// Files under way at once, of all callers: as many as a host lets be, which is so many of whomever and as many first ones of others.
pub const FILES_AT_ONCE_MAX: usize = 2 * IDLE_CONNECTIONS_MAX;
/// Connections for questions that are kept for the next ones, where a host speaks HTTP/1.1: one for each that may be under way.
pub const IDLE_QUESTIONS_MAX: usize = DEMANDED_REQUESTS_MAX + ANNOUNCED_REQUESTS_MAX;
/// Requests of one call to `download`; a tree of 10,000 packages is beyond what npm manages.
pub const DOWNLOAD_REQUESTS_MAX: usize = 20_000;
/// Files of one call that may be elsewhere than where they were guessed to be: a registry has a few of its own there, or none. With more
/// of them it is asked about all that is left, which costs less than another question in vain for each.
pub const GUESSES_MISSED_MAX: usize = 32;
/// Of these, such as cost more than a word of the server's: nobody answered until all tries were over, or other bytes came. With one more
/// what is asked there waits for minutes, or is fetched for nothing.
pub const GUESSES_MISSED_DEARLY_MAX: usize = 2;
/// Threads that move bytes, for questions and for files.
pub const RUNTIME_THREADS: usize = 2;
/// Threads that parse answers; more than cores only adds memory.
pub const BLOCKING_THREADS_MAX: usize = 8;
/// Threads that hash and write, of which each file under way may hold one while it waits for its turn, and eight for looking up names.
pub const FILE_THREADS_MAX: usize = FILES_AT_ONCE_MAX + 8;
/// Pools of connections kept, one per set of CA files and proxies; a machine has one or two.
pub const TRANSPORTS_MAX: usize = 16;

/// Of the size that a server announces so much is made room for at once: what no byte came for takes no memory, but it takes addresses.
pub const ANNOUNCED_BYTES_MAX: usize = 16 << 20;
/// An answer that is read by the thread that moved its bytes: it takes some ten microseconds, as long as waking another thread.
pub const READ_WHERE_IT_ARRIVES_BYTES_MAX: usize = 16 << 10;
/// What an answer leads to is announced by the thread that moved its bytes, over so many steps through what is in memory; one takes some
/// ten microseconds, and the others are left to a thread that has time.
pub const LEADS_WHERE_IT_ARRIVES_MAX: usize = 16;
/// A packument: the biggest known are about 60 MB in the full form.
pub const PACKUMENT_BYTES_MAX: usize = 160 << 20;
/// A page of a Python index: the biggest known are about 30 MB.
pub const PROJECT_BYTES_MAX: usize = 96 << 20;
/// The file of one crate in the index: the biggest known are about 6 MB.
pub const CRATE_BYTES_MAX: usize = 48 << 20;
/// `config.json` of a cargo index: a handful of lines.
pub const REGISTRY_CONFIG_BYTES_MAX: usize = 64 << 10;
/// A source archive that is read for what it says of itself; it passes through memory. Few are above 20 MB.
pub const SOURCE_IN_MEMORY_BYTES_MAX: usize = 128 << 20;
/// A METADATA file: headers plus a description; the biggest known are below 2 MB.
pub const CORE_METADATA_BYTES_MAX: usize = 8 << 20;
/// A file that passes through memory: a wheel that is read whole because its server cannot read ranges, and whatever is fetched to
/// learn its digest.
pub const FILE_IN_MEMORY_BYTES_MAX: usize = 256 << 20;
/// The first read of a wheel's end: holds the directory of nearly all wheels and often METADATA too.
pub const WHEEL_TAIL_BYTES: u64 = 48 << 10;
/// The directory of a wheel: 100,000 files with long names.
pub const WHEEL_DIRECTORY_BYTES_MAX: u64 = 16 << 20;
/// An artefact, unless the request says otherwise: the biggest wheels are just above 2 GB.
pub const ARTIFACT_BYTES_MAX: u64 = 4 << 30;
/// Bytes of the answer to a search; 20 results have some tens of KiB.
pub const SEARCH_BYTES_MAX: usize = 4 << 20;
/// Bytes gathered before they are hashed and written: one system call per 256 KiB.
pub const WRITE_CHUNK_BYTES: usize = 256 << 10;

/// Versions of one package that are kept; the most published package has below 20,000.
pub const VERSIONS_MAX: usize = 50_000;
/// Members of one version of a packument, whatever they are about; the most talkative have about 100.
pub const MEMBERS_MAX: usize = 10_000;
/// Files of one Python project that are kept; the most known have about 60,000.
pub const FILES_MAX: usize = 200_000;
/// Entries of one table (dependencies, features, tags) of one version.
pub const TABLE_ENTRIES_MAX: usize = 4_096;
/// Compatibility tags that one wheel's name expands to: 3 x 3 x 20 is the most seen.
pub const WHEEL_TAGS_MAX: usize = 512;
/// A package's name: npm allows 214 characters, PyPI and cargo less.
pub const NAME_BYTES_MAX: usize = 256;

/// apt's lists together, unpacked: Debian's own with all components and an architecture has about 60 MB, and machines that
/// follow several suites some hundred.
pub const DEBIAN_LISTS_BYTES_MAX: usize = 1 << 30;
/// Packages and provided names in apt's lists: Debian has about 65,000 and 20,000 for an architecture.
pub const DEBIAN_PARAGRAPHS_MAX: usize = 4_000_000;
/// One paragraph of a list: the largest known, those of Rust crates with what they provide, are about 60 KB.
pub const DEBIAN_STANZA_BYTES_MAX: usize = 1 << 20;
/// Versions of packages that are or provide one name; the most wanted virtual names have about 1,000.
pub const DEBIAN_VERSIONS_MAX: usize = 20_000;

/// A configuration file of a package manager.
pub const CONFIGURATION_BYTES_MAX: u64 = 1 << 20;
/// Variables that an npmrc may name: one for each of many registries.
pub const REFERENCES_MAX: usize = 64;
/// A file of CA certificates: the public ones are about 220 KiB.
pub const CERTIFICATES_BYTES_MAX: u64 = 8 << 20;
/// Time for an installed client to tell its defaults; a cold Python start on a busy disk takes seconds.
pub const LEARN_TIMEOUT: Duration = Duration::from_secs(30);
/// What an installed client may print while telling.
pub const LEARN_OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// Places that are looked at to find npm's configuration, of which it is remembered how they were: two for each directory of `PATH`, and few more:
/// what is on the way to npm and to node.
pub const LOOKS_MAX: usize = 512;
/// Links of links on the way to a program, as many as Linux follows.
pub const LINKS_FOLLOWED_MAX: usize = 40;
/// How long a file has to have been left alone for its times to tell of the next change: the coarsest clock of a file system counts in two seconds.
pub const LOOKS_QUIET: Duration = Duration::from_secs(3);
/// Surroundings (project, variables, home) whose configuration is remembered.
pub const SURROUNDINGS_MAX: usize = 16;
/// Registries and remarks of a configuration that is remembered: more are found anew each time.
pub const SEEN_ENTRIES_MAX: usize = 64;
/// Bytes of one that is remembered, with the places that were looked at; it usually has a few thousand.
pub const SEEN_BYTES_MAX: usize = 64 << 10;
/// How long packages are resolved without a word: nobody takes this for standing still.
pub const RESOLVING_UNTOLD_MAX: Duration = Duration::from_millis(100);
/// Registries of crates in cargo's configuration: each may be asked, and nobody has more than a few.
pub const CARGO_REGISTRIES_MAX: usize = 64;
/// Steps of `replace-with` in cargo's configuration.
pub const SOURCE_REPLACEMENTS_MAX: usize = 8;

/// How long an index answer counts as fresh where nobody says otherwise: registries give no better rule.
pub const FRESH_FOR: Duration = Duration::from_secs(600);
/// How long "no such package" is believed.
pub const MISSING_FRESH_FOR: Duration = Duration::from_secs(60);
/// Metadata in memory: what several resolutions of some hundred packages look at. Packuments, projects and crates stay packed there, and
/// are weighed with what may be noted on them.
pub const MEMORY_BYTES_MAX: usize = 96 << 20;
/// Metadata on disk, in bytes.
pub const DISK_BYTES_MAX: u64 = 512 << 20;
/// Bytes of the indexes of it, of 88 for each answer and each confirmation: 190,000, which take some 40 MB in a process that knows them.
pub const DISK_INDEX_BYTES_MAX: u64 = 16 << 20;
/// Bytes of indexes that a process reads: those, and what several processes may append until somebody looks at the size.
pub const DISK_INDEX_BYTES_READ_MAX: u64 = 2 * DISK_INDEX_BYTES_MAX;
/// Lines of an index that are read at once: a third of a megabyte.
pub const INDEX_LINES_AT_ONCE: usize = 4_096;
/// A pack of answers is not appended to any more when it has one of so many parts of either: what is swept away is a pack.
pub const PACKS_PER_CACHE: u64 = 8;
/// Packs that there may be: one for each process that writes at the same time, and those that are full.
pub const PACKS_MAX: u32 = 64;
/// How often a process looks for answers that others have written, and how long it does not try again where nothing could be written.
pub const DISK_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// What writing a small answer takes where the disk keeps its writers waiting: otherwise some ten microseconds.
pub const DISK_STALL: Duration = Duration::from_millis(20);
/// How long after that no thread that moves bytes writes to it.
pub const DISK_STALLED_FOR: Duration = Duration::from_secs(10);
/// After so long without a question a process forgets what it knows of the disk, and lets go of its files.
pub const DISK_KNOWN_FOR: Duration = Duration::from_secs(300);
/// Entries written between two looks at the size of the cache on disk.
pub const DISK_WRITES_PER_SWEEP: u64 = 2_048;

const _: () = assert!(
    2 * FILES_AT_ONCE_MAX as u64 * DOWNLOAD_IN_MEMORY_BYTES_MAX <= DOWNLOADS_IN_MEMORY_BYTES_MAX
);
const _: () = assert!(READ_TIMEOUT.as_secs() < METADATA_TIMEOUT.as_secs());
// Places in a list are kept in 32 bits.
const _: () = assert!(DEBIAN_LISTS_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(ANNOUNCED_REQUESTS_MAX < ANNOUNCEMENTS_MAX);
const _: () = assert!(WHEEL_TAIL_BYTES < WHEEL_DIRECTORY_BYTES_MAX);
const _: () = assert!((WHEEL_DIRECTORY_BYTES_MAX as usize) < FILE_IN_MEMORY_BYTES_MAX);
