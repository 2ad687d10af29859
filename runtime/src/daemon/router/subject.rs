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

/// Whether a subscription to `pattern` covers `subject`. Subjects whose first word begins with `_` are the bus's own (groups):
/// no wildcard stands for that word.
pub(crate) fn covers(pattern: &str, subject: &str) -> bool {
    let is_own = subject.starts_with('_') && pattern.starts_with(['*', '>']);
    !is_own && matches(pattern, subject)
}

/// Whether `pattern` matches `subject`. `>` stands for one word or more.
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
    use proptest::prelude::*;

    use super::*;

    /// All subjects of up to four words out of three, of which one is reserved.
    fn every_subject() -> Vec<Vec<&'static str>> {
        let mut all: Vec<Vec<&str>> = vec![Vec::new()];
        let mut last = all.clone();
        for _ in 0..4 {
            last = last
                .iter()
                .flat_map(|words| {
                    ["a", "bb", "_c"].map(|word| [words.as_slice(), &[word]].concat())
                })
                .collect();
            all.extend(last.iter().cloned());
        }
        all.split_off(1)
    }

    /// What a pattern means, said once more and slowly: the words that can stand where each of its words stands, written out
    /// for every number of words that a subject can have.
    fn means(pattern: &[&str], subject: &[&str]) -> bool {
        let written_out = match pattern.split_last() {
            Some((&">", before)) => {
                let rest = subject.len().saturating_sub(before.len()).max(1);
                [before, &vec!["*"; rest]].concat()
            }
            _ => pattern.to_vec(),
        };
        written_out.len() == subject.len()
            && written_out
                .iter()
                .zip(subject)
                .all(|(wanted, word)| *wanted == "*" || wanted == word)
    }

    proptest! {
        #[test]
        fn patterns_match_what_a_slow_reading_of_them_says(
            words in prop::collection::vec(prop::sample::select(vec!["a", "bb", "_c", "*"]), 0..5),
            rest in any::<bool>(),
        ) {
            let mut words = words;
            if rest || words.is_empty() {
                words.push(">");
            }
            let pattern = words.join(".");
            prop_assert_eq!(check_pattern(&pattern), Ok(()));
            for subject in every_subject() {
                let text = subject.join(".");
                let expected = means(&words, &subject);
                prop_assert_eq!(matches(&pattern, &text), expected, "{} {}", pattern, text);
                let reserved = subject[0] == "_c" && words[0] != "_c";
                prop_assert_eq!(covers(&pattern, &text), expected && !reserved);
            }
        }

        #[test]
        fn no_text_is_too_odd_to_be_checked(pattern in "[a*>._ -]{0,12}", subject in "[a*>._ -]{0,12}") {
            let (good, plain) = (check_pattern(&pattern).is_ok(), check_subject(&subject).is_ok());
            let matched = matches(&pattern, &subject);
            if good && plain {
                let (words, parts): (Vec<_>, Vec<_>) =
                    (pattern.split('.').collect(), subject.split('.').collect());
                prop_assert_eq!(matched, means(&words, &parts));
            }
        }
    }

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
