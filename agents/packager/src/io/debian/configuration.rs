//! apt's configuration files, as far as one switch in them is asked for. Not a reader of everything that apt allows
//! (`#include`, `#clear`): what is not understood is passed over.

/// The last value that a text gives to an option such as `APT::Install-Recommends`.
pub(super) fn value(text: &str, option: &str) -> Option<String> {
    let mut scopes: Vec<String> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut found = None;
    let mut rest = text;
    while let Some((token, after)) = token(rest) {
        rest = after;
        match token {
            "{" => {
                scopes.push(words.first().cloned().unwrap_or_default());
                words.clear();
            }
            "}" => {
                scopes.pop();
                words.clear();
            }
            ";" => {
                if let [name, value] = words.as_slice() {
                    let whole: Vec<&str> =
                        scopes.iter().chain([name]).map(String::as_str).collect();
                    if whole.join("::").eq_ignore_ascii_case(option) {
                        found = Some(value.clone());
                    }
                }
                words.clear();
            }
            word => words.push(word.trim_matches('"').to_owned()),
        }
    }
    found
}

/// Whether a value means no; apt takes everything else for yes.
pub(super) fn is_no(value: &str) -> bool {
    ["0", "no", "false", "without", "off", "disable"]
        .iter()
        .any(|no| value.eq_ignore_ascii_case(no))
}

/// The next token and what is after it, without comments and spaces.
fn token(text: &str) -> Option<(&str, &str)> {
    let mut rest = text.trim_start();
    loop {
        let end = if rest.starts_with("//") || rest.starts_with('#') {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else {
            break;
        };
        rest = rest[end..].trim_start();
    }
    let first = rest.chars().next()?;
    let length = match first {
        '{' | '}' | ';' => 1,
        '"' => rest[1..].find('"').map_or(rest.len(), |at| at + 2),
        _ => rest
            .find(|one: char| one.is_whitespace() || "{};\"".contains(one))
            .unwrap_or(rest.len()),
    };
    Some(rest.split_at(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_found_flat_and_nested_and_the_last_one_counts() {
        let text = "// a comment\nAPT::Install-Recommends \"1\"; /* other */\n\
            APT { Get { Show \"a;b\"; }; Install-Recommends \"false\"; };\n# APT::Install-Recommends \"1\";";
        assert_eq!(value(text, "APT::Install-Recommends").as_deref(), Some("false"));
        assert_eq!(value(text, "APT::Get::Show").as_deref(), Some("a;b"));
        assert!(is_no("False") && !is_no("1"));
    }

    #[test]
    fn broken_texts_end() {
        for text in ["\"", "{", "}}}}", "/*", "a", "a {", "a \"b", ";;;"] {
            assert_eq!(value(text, "a"), None, "{text}");
        }
    }
}
