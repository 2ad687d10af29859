//! The line about changes in watched projects that wait, in `status` and `top`. Not what came of each: that is `watch list`.

/// Why they wait, in the order in which the daemon counts them.
const REASONS: [&str; 3] =
    ["it is too hot", "nobody knows how hot it is", "others that have waited, too, are applied"];

/// So many wait for each reason; nothing where none does.
pub(super) fn line_of(waiting: [u32; REASONS.len()]) -> String {
    let waits = waiting.iter().zip(REASONS).filter(|(count, _)| **count > 0);
    let waits: Vec<String> =
        waits.map(|(count, reason)| format!("{count} wait ({reason})")).collect();
    match waits.is_empty() {
        true => String::new(),
        false => format!("watched changes {}\n", waits.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::line_of;

    #[test]
    fn changes_that_wait_are_told_with_their_reasons_and_none_are_not() {
        assert_eq!(line_of([0; 3]), "");
        assert_eq!(line_of([0, 3, 0]), "watched changes 3 wait (nobody knows how hot it is)\n");
        let said = "watched changes 1 wait (it is too hot), \
                    2 wait (others that have waited, too, are applied)\n";
        assert_eq!(line_of([1, 0, 2]), said);
    }
}
