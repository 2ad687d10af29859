//! Files that come in parts, from servers that break off, stall, change their mind and ask for patience.

use std::os::unix::fs::DirBuilderExt as _;
use std::time::UNIX_EPOCH;

use super::*;
use crate::io::testing::{NoTime, Seen};

impl Case {
    fn in_no_time() -> (Self, Arc<NoTime>) {
        let mut case = Self::new();
        let time = NoTime::at(UNIX_EPOCH + Duration::from_secs(784_111_777));
        case.client = case.world.client_in(Arc::clone(&time));
        (case, time)
    }

    /// Another process in the same world.
    fn next_process(&mut self) {
        self.client = self.world.client_in(NoTime::at(SystemTime::now()));
    }

    fn partials(&self) -> Vec<PathBuf> {
        let directory = self.world.directory.path().join("cache/partial");
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    fn fetches(&self, request: &DownloadRequest, content: &[u8]) {
        self.download(std::slice::from_ref(request)).expect("in the end");
        assert_eq!(std::fs::read(&request.destination).expect("a file"), content);
        assert!(self.partials().is_empty(), "{:?}", self.partials());
    }
}

fn from(seen: &Seen) -> Option<usize> {
    seen.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// What a server that keeps to the rules answers.
fn honest(seen: &Seen, content: &[u8], etag: &str) -> Reply {
    let is_same = seen.header("if-range").is_none_or(|tag| tag == etag);
    match from(seen).filter(|from| is_same && *from < content.len()) {
        Some(from) => part(content, from).header("etag", etag),
        None => Reply::ok(content).header("etag", etag),
    }
}

fn part(content: &[u8], from: usize) -> Reply {
    let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
    Reply::ok(&content[from..]).with_status(206).header("content-range", &range)
}

type Answering = Box<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// The answers one after the other, the last one for ever.
fn one_by_one(answers: Vec<Answering>) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |seen| {
        let index = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        answers[index](seen)
    })
}

fn answer(reply: Reply) -> Answering {
    Box::new(move |_| reply.clone())
}

#[test]
fn what_broke_off_is_gone_on_with_by_the_next_process() {
    let (mut case, _) = Case::in_no_time();
    let broken = one_by_one(vec![
        answer(Reply::ok(content()).header("etag", "\"one\"").truncated(400_000)),
        answer(Reply::status(503)),
    ]);
    let error = case.fails(&case.request(&broken.url(), "f", &content()));
    assert_eq!((error.code.as_str(), error.retry), ("registry-error", true));
    assert_eq!(case.partials().len(), 2, "the part and its tag");
    case.next_process();
    let server = Server::start(|seen| honest(seen, &content(), "\"one\""));
    case.fetches(&case.request(&server.url(), "f", &content()), &content());
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("range"), Some("bytes=400000-"));
    assert_eq!(seen[0].header("if-range"), Some("\"one\""));
}

#[test]
fn a_file_that_another_server_calls_otherwise_comes_whole() {
    let (mut case, _) = Case::in_no_time();
    let broken = one_by_one(vec![
        answer(Reply::ok(vec![9; 700_000]).header("etag", "\"old\"").truncated(400_000)),
        answer(Reply::status(404)),
    ]);
    case.fails(&case.request(&broken.url(), "f", &content()));
    case.next_process();
    let server = Server::start(|seen| honest(seen, &content(), "\"new\""));
    case.fetches(&case.request(&server.url(), "f", &content()), &content());
    assert_eq!(server.paths().len(), 1);
}

#[test]
fn parts_that_do_not_fit_are_fetched_once_more_from_the_beginning_and_only_once() {
    // Neither names what it has, so that only the digest tells.
    for last in [content(), vec![7; 700_000]] {
        let (case, _) = Case::in_no_time();
        let is_right = last == content();
        let server = one_by_one(vec![
            answer(Reply::ok(vec![9; 700_000]).truncated(300_000)),
            answer(part(&content(), 300_000)),
            answer(Reply::ok(last)),
        ]);
        let request = case.request(&server.url(), "f", &content());
        if is_right {
            case.fetches(&request, &content());
        } else {
            assert_eq!(case.fails(&request).code, "hash-mismatch");
            assert!(case.partials().is_empty(), "nothing of it is gone on with");
        }
        assert_eq!(server.seen()[2].header("range"), None);
        assert_eq!(server.paths().len(), 3);
    }
}

#[test]
fn a_part_under_another_tag_is_not_believed() {
    let (case, _) = Case::in_no_time();
    let server = one_by_one(vec![
        answer(Reply::ok(vec![9; 700_000]).header("etag", "\"old\"").truncated(300_000)),
        answer(part(&content(), 300_000).header("etag", "\"new\"")),
        Box::new(|seen| honest(seen, &content(), "\"new\"")),
    ]);
    case.fetches(&case.request(&server.url(), "f", &content()), &content());
    assert_eq!(server.seen()[2].header("range"), None);
}

#[test]
fn a_server_that_has_no_such_part_is_asked_for_the_whole() {
    let (mut case, _) = Case::in_no_time();
    let broken = one_by_one(vec![
        answer(Reply::ok(vec![9; 900_000]).truncated(800_000)),
        answer(Reply::status(404)),
    ]);
    case.fails(&case.request(&broken.url(), "f", &content()));
    case.next_process();
    let server = Server::start(|seen| match from(seen) {
        Some(_) => Reply::status(416),
        None => Reply::ok(content()),
    });
    case.fetches(&case.request(&server.url(), "f", &content()), &content());
    assert_eq!(server.paths().len(), 2);
}

#[test]
fn a_larger_part_than_the_file_may_be_is_thrown_away() {
    let (mut case, _) = Case::in_no_time();
    let broken = one_by_one(vec![
        answer(Reply::ok(content()).truncated(500_000)),
        answer(Reply::status(404)),
    ]);
    case.fails(&case.request(&broken.url(), "f", &content()));
    case.next_process();
    let server = Server::start(|seen| honest(seen, &content(), "\"x\""));
    let mut request = case.request(&server.url(), "f", &content());
    request.bytes_max = Some(1_000);
    assert_eq!(case.fails(&request).code, "registry-nonsense");
    assert_eq!(server.seen()[0].header("range"), None);
    assert!(case.partials().is_empty());
}

#[test]
fn a_process_that_was_killed_leaves_a_part_or_the_whole() {
    for have in [0, 1, 350_000, 700_000] {
        let (case, _) = Case::in_no_time();
        let server = Server::start(|seen| honest(seen, &content(), "\"x\""));
        let request = case.request(&server.url(), "f", &content());
        // As the kernel leaves it: the bytes, no lock, no tag.
        let directory = case.world.directory.path().join("cache/partial");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).expect("space");
        let name = format!("sha512-{}.part", request.hashes.sha512.clone().expect("known"));
        std::fs::write(directory.join(name), &content()[..have]).expect("space");
        case.fetches(&request, &content());
        let asked = server.seen().first().map(|seen| from(seen).unwrap_or(0));
        assert_eq!(asked, (have < 700_000).then_some(have), "nothing that is there comes again");
    }
}

#[test]
fn two_at_once_do_not_disturb_each_other() {
    let (case, _) = Case::in_no_time();
    let other = case.world.client_in(NoTime::at(SystemTime::now()));
    let server = Server::start(|seen| honest(seen, &content(), "\"x\""));
    std::thread::scope(|scope| {
        for (index, client) in [&case.client, &other, &case.client, &other].into_iter().enumerate()
        {
            let request = case.request(&server.url(), &format!("f{index}"), &content());
            scope.spawn(move || {
                let order = Order::default();
                let done = client.download(&[request], Durability::Buffered, &order, &mut |_| {});
                assert_eq!(done.expect("the file")[0].bytes, 700_000);
            });
        }
    });
    assert!(case.partials().is_empty());
    assert_eq!(case.files().len(), 4);
}

#[test]
fn who_asks_for_patience_gets_it_within_reason() {
    let (case, time) = Case::in_no_time();
    let server = one_by_one(vec![
        answer(Reply::status(429).header("retry-after", "7")),
        answer(Reply::status(503).header("retry-after", "Sun, 06 Nov 1994 08:49:45 GMT")),
        answer(Reply::status(503).header("retry-after", "soon")),
        answer(Reply::ok(content())),
    ]);
    case.fetches(&case.request(&server.url(), "f", &content()), &content());
    let pauses = time.pauses();
    assert_eq!(pauses[..2], [Duration::from_secs(7), Duration::from_secs(8)]);
    assert!(pauses[2] >= Duration::from_millis(400) && pauses[2] <= Duration::from_millis(1200));
    let (case, time) = Case::in_no_time();
    let server = Server::start(|_| Reply::status(429).header("retry-after", "3600"));
    assert_eq!(case.fails(&case.request(&server.url(), "f", &content())).code, "registry-error");
    assert_eq!((server.paths().len(), time.pauses().len()), (1, 0));
}

#[test]
fn a_server_that_stays_broken_is_given_up_after_longer_and_longer_pauses() {
    let (case, time) = Case::in_no_time();
    let server = Server::start(|_| Reply::status(500));
    case.fails(&case.request(&server.url(), "f", &content()));
    let pauses = time.pauses();
    assert_eq!(pauses.len(), 3);
    for (index, pause) in pauses.into_iter().enumerate() {
        let usual = Duration::from_millis(200 << index);
        assert!(pause >= usual / 2 && pause <= usual * 3 / 2, "{index} {pause:?}");
    }
}

#[test]
fn a_server_that_drips_is_left_and_asked_for_the_rest() {
    let (case, _) = Case::in_no_time();
    let server = one_by_one(vec![
        // The first KiB comes after a minute.
        answer(Reply::ok(content()).slow(Duration::from_secs(60))),
        Box::new(|seen| honest(seen, &content(), "\"x\"")),
    ]);
    case.fetches(&case.request(&server.url(), "f", &content()), &content());
    assert_eq!(server.paths().len(), 2);
}
