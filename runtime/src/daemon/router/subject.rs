//! Subjects of topics and the patterns that match them: dot-separated words, `*` for one, a final
//! `>` for the rest.

use crate::limits::{SUBJECT_BYTES_MAX, SUBJECT_WORDS_MAX};

/// Why a subject or pattern is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubjectError {
    /// Longer than `SUBJECT_BYTES_MAX` bytes or `SUBJECT_WORDS_MAX` words.
    #[error("a subject has at most {SUBJECT_BYTES_MAX} bytes and {SUBJECT_WORDS_MAX} words")]
    TooLong,
    /// An empty word: leading, trailing or doubled dot, or nothing at all.
    #[error("a subject has no empty words")]
    EmptyWord,
    /// A character that no word may hold.
    #[error("a word holds only letters, digits, `_`, `-` and, in patterns, `*` or a final `>`")]
    Character,
}

/// Whether `subject` is a proper subject, without wildcards.
pub(crate) fn check_subject(subject: &str) -> Result<(), SubjectError> {
    check(subject, |_, _| false)
}

/// Whether `pattern` is a proper pattern.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), SubjectError> {
    check(pattern, |word, last| word == "*" || (word == ">" && last))
}

/// Whether `pattern` covers `subject`. `>` stands for one word or more.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, words.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(word)) if wanted == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

fn check(text: &str, wildcard: impl Fn(&str, bool) -> bool) -> Result<(), SubjectError> {
    if text.len() > SUBJECT_BYTES_MAX || text.split('.').count() > SUBJECT_WORDS_MAX {
        return Err(SubjectError::TooLong);
    }
    let mut words = text.split('.').peekable();
    while let Some(word) = words.next() {
        if word.is_empty() {
            return Err(SubjectError::EmptyWord);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !wildcard(word, words.peek().is_none()) && !word.bytes().all(plain) {
            return Err(SubjectError::Character);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_match(pattern: &str, subject: &str, expected: bool) {
        check_pattern(pattern).unwrap();
        check_subject(subject).unwrap();
        assert_eq!(matches(pattern, subject), expected, "{pattern} against {subject}");
    }

    #[test]
    fn a_star_is_exactly_one_word() {
        check_match("event.*.up", "event.agent.up", true);
        check_match("event.*", "event.agent.up", false);
        check_match("*", "event", true);
        check_match("*.x", "x", false);
    }

    #[test]
    fn a_final_angle_is_one_word_or_more() {
        check_match("event.>", "event.agent", true);
        check_match("event.>", "event.agent.up.now", true);
        check_match("event.>", "event", false);
        check_match(">", "a.b.c", true);
    }

    #[test]
    fn a_plain_pattern_matches_itself_only() {
        check_match("a.b", "a.b", true);
        check_match("a.b", "a.bb", false);
        check_match("a.b", "a", false);
        check_match("a", "a.b", false);
    }

    #[test]
    fn improper_subjects_are_refused() {
        assert_eq!(check_subject(""), Err(SubjectError::EmptyWord));
        assert_eq!(check_subject("a..b"), Err(SubjectError::EmptyWord));
        assert_eq!(check_subject("a.*"), Err(SubjectError::Character));
        assert_eq!(check_subject("a b"), Err(SubjectError::Character));
        assert_eq!(check_subject(&"a".repeat(300)), Err(SubjectError::TooLong));
        assert_eq!(check_subject(&["a"; 17].join(".")), Err(SubjectError::TooLong));
        assert_eq!(check_pattern("a.>.b"), Err(SubjectError::Character));
        assert_eq!(check_pattern("a.b*"), Err(SubjectError::Character));
    }
}
