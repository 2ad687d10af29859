//! The line about files from networks in `status` and `top`. They have no slots, so they are not among what runs and waits for some.

/// Why files wait, in the order in which the daemon counts them.
const REASONS: [&str; 3] = [
    "others are fetched",
    "others are, and it is too hot for more",
    "others are, and nobody knows how hot it is",
];

/// `under_way` files are being fetched, and so many wait for each reason; nothing where there are none.
pub(super) fn line_of(under_way: u32, waiting: [u32; REASONS.len()]) -> String {
    let waits = waiting.iter().zip(REASONS).filter(|(count, _)| **count > 0);
    let waits: Vec<String> =
        waits.map(|(count, reason)| format!("{count} wait ({reason})")).collect();
    match (under_way, waits.is_empty()) {
        (0, true) => String::new(),
        (_, true) => format!("files {under_way} under way\n"),
        (_, false) => format!("files {under_way} under way, {}\n", waits.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::line_of;

    #[test]
    fn files_that_wait_are_told_with_their_reasons_and_none_are_not() {
        assert_eq!(line_of(0, [0; 3]), "");
        assert_eq!(line_of(2, [0; 3]), "files 2 under way\n");
        let said = "files 16 under way, 3 wait (others are fetched)\n";
        assert_eq!(line_of(16, [3, 0, 0]), said);
        let said = "files 4 under way, 1 wait (others are, and it is too hot for more), \
                    2 wait (others are, and nobody knows how hot it is)\n";
        assert_eq!(line_of(4, [0, 1, 2]), said);
    }
}
