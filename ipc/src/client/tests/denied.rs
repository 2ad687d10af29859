//! What a kernel or a sandbox denies, denied for real: filters of system calls on the thread of one side.
//!
//! A filter holds for its thread alone, so each side of a link has what it would have in a process of its own. Not here: a
//! whole daemon under a filter, and the kernel's own rule about tracing (`runtime/tests/daemon/denied.rs`).

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::*;
use crate::class::{Class, SendingHalf};
use crate::lane::ReceiveError;
use crate::ring::Meta;

/// A system call, what it answers, and for which calls of it.
#[derive(Clone, Copy)]
struct Denial {
    call: libc::c_long,
    errno: i32,
    /// Only where this argument has this bit.
    where_bit: Option<(u8, u64)>,
}

const fn all(call: libc::c_long, errno: i32) -> Denial {
    Denial { call, errno, where_bit: None }
}

/// For this thread, and all that it starts, until it ends.
fn deny(denials: &[Denial]) {
    for Denial { call, errno, where_bit } in denials {
        let rule = |(argument, bit)| {
            let op = SeccompCmpOp::MaskedEq(bit);
            let condition =
                SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, bit).unwrap();
            SeccompRule::new(vec![condition]).unwrap()
        };
        let rules = BTreeMap::from([(*call, where_bit.map(rule).into_iter().collect())]);
        let (pass, fail) = (SeccompAction::Allow, SeccompAction::Errno(*errno as u32));
        let machine = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, pass, fail, machine).unwrap();
        seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
    }
}

/// One question and one answer over a link of class HIGH, or what it became; the terms at both ends.
fn asked_under(opener: &[Denial], acceptor: &[Denial]) -> (Terms, Terms) {
    let router = Router::start();
    std::thread::scope(|scope| {
        let mut two = connect(router.path(), "two", &[]);
        let accepted = scope.spawn(move || {
            deny(acceptor);
            // Ends with the link that carries something: one that its opener gives up ends before.
            loop {
                let Some(Event::LinkOffered(offer)) = two.next_event(later()).unwrap() else {
                    continue;
                };
                let mut link = two.accept(offer).unwrap();
                match link.receiver().raw().receive(Some(later())).map(|one| one.payload.to_vec()) {
                    Ok(question) => {
                        assert_eq!(question, b"question");
                        link.sender().raw().send(Meta::default(), b"answer", wait_for()).unwrap();
                        return (two, link);
                    }
                    Err(ReceiveError::Ended(Ended::Closed)) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        let opened = scope.spawn(|| {
            deny(opener);
            let mut one = connect(router.path(), "one", &[]);
            let mut link = one.open_link("two", LinkOptions { class: Class::High }).unwrap();
            link.sender().raw().send(Meta::default(), b"question", wait_for()).unwrap();
            let answer = link.receiver().raw().receive(Some(later())).unwrap();
            assert_eq!(answer.payload, b"answer");
            link.terms().clone()
        });
        let opened = opened.join().unwrap();
        let (_two, accepted) = accepted.join().unwrap();
        (opened, accepted.terms().clone())
    })
}

/// With `denial` on either side, and on both, the link is NORMAL, carries, and both ends are told `reason`.
#[track_caller]
fn check_normal(denial: Denial, reason: &str) {
    if let Err(error) = crate::class::high::available() {
        return println!("no rings here: {error}");
    }
    let one = [denial];
    for (opener, acceptor) in [(&one[..], &[][..]), (&[], &one), (&one, &one)] {
        let (opened, accepted) = asked_under(opener, acceptor);
        assert_eq!((opened.class, opened.wanted), (Class::Normal, Class::High), "{opened:?}");
        assert_eq!((accepted.class, accepted.wanted), (Class::Normal, Class::High));
        assert_eq!(opened.reason, accepted.reason);
        assert!(opened.reason.starts_with("high: "), "{}", opened.reason);
        assert!(opened.reason.contains(reason), "{}", opened.reason);
    }
}

#[test]
fn without_denial_it_is_high() {
    if crate::class::high::available().is_ok() {
        assert_eq!(asked_under(&[], &[]).0.class, Class::High);
    }
}

#[test]
fn a_side_that_may_not_make_rings_makes_the_link_normal() {
    let reason = "no ring of io_uring: Operation not permitted";
    check_normal(all(libc::SYS_io_uring_setup, libc::EPERM), reason);
    let reason = "no ring of io_uring: Function not implemented";
    check_normal(all(libc::SYS_io_uring_setup, libc::ENOSYS), reason);
}

#[test]
fn a_side_that_may_make_rings_but_not_use_them_makes_the_link_normal() {
    for call in [libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        check_normal(all(call, libc::EPERM), "no ring of io_uring: Operation not permitted");
    }
}

#[test]
fn a_side_that_may_not_fetch_the_peers_ring_makes_the_link_normal() {
    let reason = "this process may not trace the peer";
    check_normal(all(libc::SYS_pidfd_getfd, libc::EPERM), reason);
    let reason = "the peer's ring cannot be fetched: Function not implemented";
    check_normal(all(libc::SYS_pidfd_getfd, libc::ENOSYS), reason);
}

#[test]
fn a_ring_that_cannot_be_entered_is_no_ring() {
    if crate::uring::try_ring().is_err() {
        return;
    }
    for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter] {
        let tried = std::thread::spawn(move || {
            deny(&[all(call, libc::EPERM)]);
            crate::uring::try_ring().map_err(|error| crate::class::one_line(&error))
        });
        let error = tried.join().unwrap().unwrap_err();
        assert!(error.contains("Operation not permitted"), "{error}");
    }
}

#[test]
fn a_kernel_that_does_not_know_the_newest_seal_carries_links_all_the_same() {
    // MFD_NOEXEC_SEAL, Linux 6.3: an older kernel refuses the flag.
    let old = Denial {
        call: libc::SYS_memfd_create,
        errno: libc::EINVAL,
        where_bit: Some((1, libc::MFD_NOEXEC_SEAL.into())),
    };
    let is_denied = std::thread::spawn(move || {
        deny(&[old]);
        rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::NOEXEC_SEAL).is_err()
    });
    assert!(is_denied.join().unwrap());
    let wanted = asked_under(&[], &[]).0.class;
    for (opener, acceptor) in [(&[old][..], &[][..]), (&[], &[old]), (&[old], &[old])] {
        let (opened, accepted) = asked_under(opener, acceptor);
        assert_eq!((opened.class, accepted.class), (wanted, wanted));
    }
}

#[test]
fn without_memory_files_the_opener_is_told_so() {
    let router = Router::start();
    let _two = connect(router.path(), "two", &[]);
    let refused = std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            let mut one = connect(router.path(), "one", &[]);
            deny(&[all(libc::SYS_memfd_create, libc::EPERM)]);
            one.open("two").map(drop).map_err(|error| crate::class::one_line(&error))
        });
        opener.join().unwrap()
    });
    let error = refused.unwrap_err();
    assert!(error.contains("create") && error.contains("Operation not permitted"), "{error}");
}
