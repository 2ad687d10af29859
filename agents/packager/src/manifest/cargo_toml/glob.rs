//! The patterns of `workspace.members`: `*`, `?`, `[a-z]` inside one part of a path, and `**` for any parts.

/// Whether a directory, relative to the workspace's root, is named by a pattern.
pub fn matches(pattern: &str, directory: &str) -> bool {
    let split = |text: &str| -> Vec<String> {
        text.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect()
    };
    let (pattern, path) = (split(pattern), split(directory));
    // Dynamic programming over the parts: no pattern makes this more than a product.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for part in &pattern {
        let mut next = vec![false; path.len() + 1];
        if part == "**" {
            let mut any = false;
            for (at, slot) in next.iter_mut().enumerate() {
                any |= reached[at];
                *slot = any;
            }
        } else {
            for at in 0..path.len() {
                next[at + 1] = reached[at] && part_matches(part, &path[at]);
            }
        }
        reached = next;
    }
    reached[path.len()]
}

enum Token {
    One(char),
    Any,
    Many,
    Set(bool, Vec<(char, char)>),
}

fn part_matches(pattern: &str, text: &str) -> bool {
    let tokens = tokens(pattern);
    let text: Vec<char> = text.chars().collect();
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in &tokens {
        let mut next = vec![false; text.len() + 1];
        match token {
            Token::Many => {
                let mut any = false;
                for (at, slot) in next.iter_mut().enumerate() {
                    any |= reached[at];
                    *slot = any;
                }
            }
            one => {
                for at in 0..text.len() {
                    next[at + 1] = reached[at] && one.takes(text[at]);
                }
            }
        }
        reached = next;
    }
    reached[text.len()]
}

impl Token {
    fn takes(&self, character: char) -> bool {
        match self {
            Token::One(one) => *one == character,
            Token::Any => true,
            Token::Many => false,
            Token::Set(negated, ranges) => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *negated
            }
        }
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '*' => tokens.push(Token::Many),
            '?' => tokens.push(Token::Any),
            '[' => match set(&chars[at + 1..]) {
                Some((token, len)) => {
                    tokens.push(token);
                    at += len;
                }
                None => tokens.push(Token::One('[')),
            },
            one => tokens.push(Token::One(one)),
        }
        at += 1;
    }
    tokens
}

/// A set after its `[`, and how many characters it takes with its `]`.
fn set(chars: &[char]) -> Option<(Token, usize)> {
    let negated = matches!(chars.first(), Some('!' | '^'));
    let start = usize::from(negated);
    // A `]` that comes first is one of the set.
    let close = start + 1 + chars.get(start + 1..)?.iter().position(|&one| one == ']')?;
    let mut ranges = Vec::new();
    let mut at = start;
    while at < close {
        if at + 2 < close && chars[at + 1] == '-' {
            ranges.push((chars[at], chars[at + 2]));
            at += 3;
        } else {
            ranges.push((chars[at], chars[at]));
            at += 1;
        }
    }
    Some((Token::Set(negated, ranges), close + 1))
}
