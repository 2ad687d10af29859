//! The patterns of `workspaces`: which directories of a project they name.
//!
//! Globs as npm reads them: `*` and `?` within one part of a path, `**` for any number of parts, `{a,b}` for alternatives;
//! a pattern that begins with `!` takes away what earlier ones named. Sets (`[ab]`) are refused by name.

use super::invalid;
use crate::error::Error;
use crate::limits::{WORKSPACE_ALTERNATIVES_ALL_MAX, WORKSPACE_ALTERNATIVES_MAX};

/// The patterns of one manifest.
pub struct Patterns {
    /// Whether it adds, and the parts of each of its alternatives.
    list: Vec<(bool, Vec<Vec<String>>)>,
}

impl Patterns {
    /// Reads them. `file` is for messages.
    pub fn new(file: &str, texts: &[String]) -> Result<Self, Error> {
        let mut list = Vec::new();
        let mut alternatives_count = 0;
        for text in texts {
            let negations = text.bytes().take_while(|byte| *byte == b'!').count();
            let pattern = &text[negations..];
            let refuse = |why: &str| {
                let shown = agents_versions::shorten(text);
                Err(invalid(file, format!("the pattern `{shown}` of `workspaces` {why}")))
            };
            if pattern.contains(['[', ']', '(', ')', '\\']) {
                return refuse("has more than `*`, `?`, `**`, `{a,b}` and `!`");
            }
            let Some(alternatives) = alternatives(pattern) else {
                return refuse("has braces that do not close, or too many of them");
            };
            alternatives_count += alternatives.len();
            if alternatives_count > WORKSPACE_ALTERNATIVES_ALL_MAX {
                let why = format!(
                    "`workspaces` stands for more than {WORKSPACE_ALTERNATIVES_ALL_MAX} patterns, those in braces counted"
                );
                return Err(invalid(file, why));
            }
            let parts = alternatives.iter().map(|one| parts(one)).collect::<Option<_>>();
            let Some(parts) = parts else { return refuse("leads out of the project") };
            list.push((negations % 2 == 0, parts));
        }
        Ok(Self { list })
    }

    /// Whether a directory, relative to the project, is named.
    pub fn name(&self, directory: &str) -> bool {
        let path: Vec<&str> = directory.split('/').collect();
        let mut named = false;
        for (adds, alternatives) in &self.list {
            if named != *adds && alternatives.iter().any(|pattern| matches_path(pattern, &path)) {
                named = *adds;
            }
        }
        named
    }
}

/// The texts that braces stand for; `None` where they do not close or stand for too many.
fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let mut open = vec![pattern.to_owned()];
    let mut done = Vec::new();
    while let Some(text) = open.pop() {
        if open.len() + done.len() >= WORKSPACE_ALTERNATIVES_MAX {
            return None;
        }
        // The innermost pair first: it holds no other.
        let Some(end) = text.find('}') else {
            if text.contains('{') {
                return None;
            }
            done.push(text);
            continue;
        };
        let start = text[..end].rfind('{')?;
        for one in text[start + 1..end].split(',') {
            open.push(format!("{}{one}{}", &text[..start], &text[end + 1..]));
        }
    }
    Some(done)
}

/// The parts of a path, without those that say nothing; `None` where it leads out.
fn parts(pattern: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part.to_owned()),
        }
    }
    Some(parts)
}

/// Whether a path matches, without backtracking over more than the last `**`.
fn matches_path(pattern: &[String], path: &[&str]) -> bool {
    greedy(
        pattern.len(),
        path.len(),
        |at| pattern[at] == "**",
        |at, index| matches_part(&pattern[at], path[index]),
    )
}

fn matches_part(pattern: &str, part: &str) -> bool {
    let (pattern, part): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), part.chars().collect());
    greedy(
        pattern.len(),
        part.len(),
        |at| pattern[at] == '*',
        |at, index| pattern[at] == '?' || pattern[at] == part[index],
    )
}

/// Matches items against a pattern in which some places stand for any number of items. Going back to the last such place
/// is enough: an earlier one cannot do better.
fn greedy(
    pattern_count: usize,
    item_count: usize,
    is_any: impl Fn(usize) -> bool,
    matches: impl Fn(usize, usize) -> bool,
) -> bool {
    let (mut at, mut index) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while index < item_count {
        if at < pattern_count && is_any(at) {
            back = Some((at, index));
            at += 1;
        } else if at < pattern_count && matches(at, index) {
            at += 1;
            index += 1;
        } else if let Some((any, from)) = back {
            back = Some((any, from + 1));
            at = any + 1;
            index = from + 1;
        } else {
            return false;
        }
    }
    (at..pattern_count).all(is_any)
}

#[cfg(test)]
mod tests {
    use super::Patterns;
    use crate::limits::WORKSPACE_ALTERNATIVES_ALL_MAX;

    #[track_caller]
    fn check(patterns: &[&str], named: &[&str], others: &[&str]) {
        let texts: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        let patterns = Patterns::new("package.json", &texts).expect("patterns");
        for directory in named {
            assert!(patterns.name(directory), "{directory}");
        }
        for directory in others {
            assert!(!patterns.name(directory), "{directory}");
        }
    }

    #[test]
    fn patterns_name_directories_as_globs_do() {
        check(&["packages/*"], &["packages/a"], &["packages", "packages/a/b", "other/a"]);
        check(&["./packages/a/", "x"], &["packages/a", "x"], &["packages/b"]);
        check(&["packages/**"], &["packages", "packages/a", "packages/a/b"], &["other"]);
        check(&["**/lib"], &["lib", "a/lib", "a/b/lib"], &["a/lib/b"]);
        check(&["{apps,libs}/a?-*"], &["apps/ab-c", "libs/ax-"], &["apps/a-c", "bin/ab-c"]);
        check(&["{a,b{c,d}}"], &["a", "bc", "bd"], &["b", "c"]);
        check(&["a*b*c"], &["abc", "aXbbXc", "abcbc"], &["ab", "abcX"]);
    }

    #[test]
    fn later_patterns_take_away_and_give_back() {
        let patterns = ["packages/*", "!packages/old*", "packages/old-but-good"];
        check(
            &patterns,
            &["packages/a", "packages/old-but-good"],
            &["packages/old", "packages/old-2"],
        );
        check(&["!packages/*"], &[], &["packages/a"]);
        check(&["!!packages/*"], &["packages/a"], &[]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let long = "{a,b}".repeat(40);
        for text in ["packages/[ab]", "../other", "{a,b", "a}b", "a/../../b", "+(a|b)", &long] {
            let refused = Patterns::new("package.json", &[text.to_owned()]);
            assert_eq!(refused.err().expect(text).code, "manifest-invalid");
        }
    }

    #[test]
    fn braces_of_many_patterns_do_not_add_up_without_end() {
        let texts = |count: usize| vec!["{a,b}{c,d}{e,f}{g,h}{i,j}{k,l}{m,n}".to_owned(); count];
        let most = WORKSPACE_ALTERNATIVES_ALL_MAX / 128;
        assert!(Patterns::new("package.json", &texts(most)).is_ok());
        for count in [most + 1, 80_000] {
            let refused = Patterns::new("package.json", &texts(count)).err().expect("a refusal");
            assert_eq!(refused.code, "manifest-invalid");
            assert!(refused.message.contains("more than 4096 patterns"), "{refused}");
        }
        let plain = vec!["a".to_owned(); WORKSPACE_ALTERNATIVES_ALL_MAX + 1];
        assert!(Patterns::new("package.json", &plain).is_err());
    }

    #[test]
    fn hostile_patterns_take_bounded_time() {
        let pattern = format!("{}b", "*a".repeat(2_000));
        let patterns = Patterns::new("package.json", &[pattern]).expect("a pattern");
        assert!(!patterns.name(&"a".repeat(2_000)));
    }
}
