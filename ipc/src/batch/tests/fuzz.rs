//! Fuzz targets: lines that name loans, returns that say anything.

use super::*;
use crate::batch::account::place_of;
use crate::fuzz::{Chance, fuzz};
use crate::limits::LOAN_LINE_BYTES;

const BYTES: usize = 4 * PAGE;

fn line(chance: &mut Chance) -> Vec<u8> {
    let generation = 1 + chance.below(3) as u64;
    let number = generation * LOANS_MAX as u64 + chance.below(3) as u64;
    let line = LoanLine {
        number,
        offset: *chance.pick(&[0, 8, 64, PAGE as u64, BYTES as u64 - 8]),
        length: *chance.pick(&[1, 7, 8, 64, PAGE as u64, BYTES as u64]),
        pool: 7,
    };
    let mut bytes = line.encode().to_vec();
    if chance.once_in(2) {
        chance.mutate(&mut bytes);
    }
    bytes
}

#[test]
fn borrower_takes_what_lies_in_the_pool_or_nothing() {
    let pool = Pool::create(7, BYTES).unwrap();
    fuzz(3_000, |chance| {
        let mut borrower = Borrower::open(copy(pool.as_fd()), BYTES).unwrap();
        let mut held = Vec::new();
        for _ in 0..20 {
            let line = line(chance);
            if let Ok(lent) = borrower.take(&line) {
                let said = LoanLine::decode(&line).unwrap();
                assert_eq!(lent.length() as u64, said.length);
                assert!(said.offset + said.length <= BYTES as u64 && said.length > 0);
                let mut bytes = Vec::new();
                lent.copy_to(&mut bytes);
                assert_eq!(bytes.len(), lent.length());
                let again = borrower.take(&line);
                assert!(matches!(again, Err(TakeError::Stale { .. })), "a loan comes once");
                held.push((said.number, lent));
            } else if line.len() >= LOAN_LINE_BYTES {
                let _ = LoanLine::decode(&line);
            }
            if chance.once_in(3) && !held.is_empty() {
                let (number, lent) = held.swap_remove(chance.below(held.len()));
                drop(lent);
                let word = &borrower.memory().words()[place_of(number)];
                assert!(word.load(Ordering::Relaxed) >= number);
            }
        }
    });
}

/// Whatever the returns say, no byte is in two loans, and a loan is free only by its own number.
#[test]
fn lender_frees_a_loan_only_by_its_own_number() {
    fuzz(1_000, |chance| {
        let mut pool = Pool::create(7, BYTES).unwrap();
        let borrower = Borrower::open(copy(pool.as_fd()), BYTES).unwrap();
        pool.attach(READER, copy(borrower.returns_fd()), None).unwrap();
        // Number, range.
        let mut out: Vec<(u64, std::ops::Range<u64>)> = Vec::new();
        for _ in 0..40 {
            let number = out.last().map_or(LOANS_MAX as u64, |(number, _)| *number);
            let place = if chance.once_in(2) { place_of(number) } else { chance.below(LOANS_MAX) };
            let value = chance.number(number);
            borrower.memory().words()[place].store(value, Ordering::Release);
            borrower.memory().header().returned.0.store(chance.next(), Ordering::Release);
            let returned = |number: u64| {
                borrower.memory().words()[place_of(number)].load(Ordering::Relaxed) == number
            };
            out.retain(|(number, _)| !returned(*number));
            pool.collect();
            assert_eq!(pool.out(), out.len());
            let length = 1 + chance.below(PAGE);
            let Ok(mut loan) = pool.loan(length, WhenFull::Reject) else { continue };
            loan.fill(1);
            let (number, start) = (loan.number(), loan.offset() as u64);
            let range = start..start + length as u64;
            for (_, other) in &out {
                assert!(range.end <= other.start || other.end <= range.start, "overlap");
            }
            pool.lend(loan, &[READER], |_| Ok(())).unwrap();
            out.push((number, range));
        }
    });
}
