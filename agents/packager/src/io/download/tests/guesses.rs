//! Files that are asked for where they are by custom, and are elsewhere.

use super::*;
use crate::io::testing::NoTime;

/// What it tells of files that were missed, and what came of all.
fn missed(case: &Case, requests: &[DownloadRequest]) -> (Vec<(usize, String)>, Result<usize>) {
    let mut missed = Vec::new();
    let order = Order::default();
    // Nobody waits before a server is asked again.
    let client = case.world.client_in(NoTime::at(SystemTime::now()));
    let came = client.download(requests, Durability::Buffered, &order, &mut |told| {
        if let Told::Missed { index, error } = told {
            missed.push((index, error.code.clone()));
        }
    });
    missed.sort();
    (missed, came.map(|downloaded| downloaded.len()))
}

/// One that has what begins with `there`, sends on from `gone` to where nobody is, and has other bytes below `other`.
fn server() -> Server {
    Server::start(|seen| match &seen.path {
        path if path.starts_with("/there") => Reply::ok("good"),
        path if path.starts_with("/gone") => Reply::redirect("http://127.0.0.1:1/x"),
        path if path.starts_with("/other") => Reply::ok("evil"),
        _ => Reply::status(404),
    })
}

#[test]
fn what_is_not_where_it_was_guessed_to_be_is_told_and_ends_nothing() {
    let (server, case) = (server(), Case::new());
    let paths = ["/there/0", "/nowhere", "/gone", "/there/3", "/other", "/there/5"];
    let requests: Vec<DownloadRequest> = paths
        .iter()
        .enumerate()
        .map(|(index, path)| case.guess(&server.at(path), &format!("f{index}"), b"good"))
        .collect();
    let (told, came) = missed(&case, &requests);
    let expected = [(1, "registry-error"), (2, "registry-unreachable"), (4, "hash-mismatch")];
    assert_eq!(told, expected.map(|(index, code)| (index, code.to_owned())));
    assert_eq!(came, Ok(3));
    let mut files = case.files();
    files.sort();
    assert_eq!(files, ["f0", "f3", "f5"], "nothing is left of the others");
}

#[test]
fn what_is_no_guess_ends_all_and_so_do_more_guesses_than_may_be_missed() {
    let (server, case) = (server(), Case::new());
    let sure = case.request(&server.at("/nowhere"), "sure", b"good");
    let (told, came) = missed(&case, &[sure]);
    assert_eq!((told.len(), came.expect_err("a failure").code.as_str()), (0, "registry-error"));
    let guesses = |count: usize| -> Vec<DownloadRequest> {
        let guess = |index| case.guess(&server.at("/nowhere"), &format!("f{index}"), b"good");
        (0..count).map(guess).collect()
    };
    let (told, came) = missed(&case, &guesses(GUESSES_MISSED_MAX));
    assert_eq!((told.len(), came), (GUESSES_MISSED_MAX, Ok(0)));
    let (told, came) = missed(&case, &guesses(GUESSES_MISSED_MAX + 10));
    assert_eq!(told.len(), GUESSES_MISSED_MAX + 1);
    assert_eq!(came.expect_err("a failure").code, "registry-error");
    assert!(case.files().is_empty(), "{:?}", case.files());
}

#[test]
fn of_those_that_cost_time_or_bytes_few_are_missed() {
    let (server, case) = (server(), Case::new());
    for (path, code) in [("/gone", "registry-unreachable"), ("/other", "hash-mismatch")] {
        let count = GUESSES_MISSED_DEARLY_MAX + 5;
        let guess = |index| case.guess(&server.at(path), &format!("f{index}"), b"good");
        let requests: Vec<DownloadRequest> = (0..count).map(guess).collect();
        let (told, came) = missed(&case, &requests);
        assert_eq!(told.len(), GUESSES_MISSED_DEARLY_MAX + 1);
        assert_eq!(came.expect_err("a failure").code, code);
        assert!(case.files().is_empty(), "{:?}", case.files());
    }
}

#[test]
fn who_is_overloaded_is_not_asked_for_more() {
    let error = |kind, code| Error::new(kind, code, "x");
    let status = error(Kind::Network, "registry-error");
    assert!(may_be_elsewhere(&status) && !may_be_elsewhere(&status.clone().retryable()));
    assert!(may_be_elsewhere(&error(Kind::Network, "registry-unreachable").retryable()));
    assert!(!may_be_elsewhere(&error(Kind::Failed, "disk-full")));
}
