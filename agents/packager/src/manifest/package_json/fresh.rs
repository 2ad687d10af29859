//! A package.json that is not there yet: what the editor makes of an empty object, written at once. The editor reads all of a text for
//! each package that it adds.

use crate::resolve::npm::sort_key;

/// The text with these dependencies; `None` where that is the editor's business: a text that is not spelled as it is, or a name that is there twice.
pub(super) fn text(wanted: &[(&str, &str)]) -> Option<String> {
    let is_plain = |text: &str| {
        text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
    };
    if wanted.is_empty() || !wanted.iter().all(|(name, want)| is_plain(name) && is_plain(want)) {
        return None;
    }
    let mut sorted: Vec<_> = wanted.iter().map(|one| (sort_key(one.0), one)).collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    if sorted.windows(2).any(|two| two[0].0 == two[1].0) {
        return None;
    }
    let mut text = "{\n  \"dependencies\": {".to_owned();
    for (at, (_, (name, want))) in sorted.into_iter().enumerate() {
        for piece in [if at == 0 { "\n    \"" } else { ",\n    \"" }, name, "\": \"", want, "\""] {
            text.push_str(piece);
        }
    }
    text.push_str("\n  }\n}\n");
    Some(text)
}
