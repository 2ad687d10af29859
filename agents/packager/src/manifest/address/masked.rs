//! Lines that people are shown, without what may be a secret in the addresses that stand in them.
//!
//! No reader of addresses: whoever wrote one that nobody can read may have a password in it, too.

use super::EDITABLE;

/// A line for messages: without what may be a secret in addresses.
pub(crate) fn masked(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for word in line.split_inclusive(char::is_whitespace) {
        masked_word(word, &mut out);
    }
    out
}

/// The same of one word, which is all that an address and what somebody put behind it can be.
fn masked_word(word: &str, out: &mut String) {
    let text = word.trim_end();
    let first = text.find("://").unwrap_or(text.len());
    let tail = text[first..].find(['?', '#']).map_or(text.len(), |at| first + at);
    let (mut pieces, last) = (text[..tail].split("://"), text.rfind('@'));
    let mut at = pieces.next().unwrap_or_default().len();
    out.push_str(&text[..at]);
    for piece in pieces {
        let (authority, path) = piece.split_at(piece.find('/').unwrap_or(piece.len()));
        at += "://".len() + piece.len();
        let is_cut = path.is_empty() && at == tail && tail < text.len();
        // Who has a mark of addresses in a password has written one that ends before it.
        if !authority.contains('@')
            && (is_cut || !is_host(authority))
            && let Some(last) = last.filter(|last| *last >= at - path.len())
        {
            return masked_word(&format!("://...@{}", &word[last + 1..]), out);
        }
        out.push_str("://");
        match authority.rsplit_once('@') {
            Some((_, host)) => out.push_str(&format!("...@{host}")),
            None if is_host(authority) => out.push_str(authority),
            None => out.push_str("..."),
        }
        out.push_str(path);
    }
    let inside = text[tail..].trim_end_matches(is_around);
    let (query, fragment) = match inside.split_once('#') {
        Some((query, fragment)) => (query, Some(fragment)),
        None => (inside, None),
    };
    if !query.is_empty() {
        out.push_str("?...");
    }
    if let Some(fragment) = fragment {
        let parts: Vec<&str> = fragment.split('&').map(masked_part).collect();
        out.push('#');
        out.push_str(&parts.join("&"));
    }
    out.push_str(&word[tail + inside.len()..]);
}

/// Whether what stands before a path may be a host, with nothing but a number behind it.
fn is_host(authority: &str) -> bool {
    let behind = authority.rsplit_once(']').map_or(authority, |(_, behind)| behind);
    let port = behind.split_once(':').map_or("", |(_, port)| port);
    port.trim_end_matches(is_around).bytes().all(|byte| byte.is_ascii_digit())
}

/// What stands around an address rather than in it.
fn is_around(c: char) -> bool {
    matches!(c, '\'' | '"' | '`' | ':' | ',')
}

/// A part of a fragment where it is one that is known and has nothing but names in it; somebody may have taken every other for the place of
/// a secret, or of one more address.
fn masked_part(part: &str) -> &str {
    const KNOWN: [&str; 9] =
        ["commit", "egg", "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "subdirectory"];
    let is_name = |c: char| c.is_alphanumeric() || "-._[],/".contains(c);
    match part.split_once('=') {
        Some((key, value)) if KNOWN.contains(&key) && value.chars().all(is_name) => part,
        _ if part.is_empty() || part == EDITABLE => part,
        _ => "...",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_lines_are_not_shown() {
        let line = "a @ https://me:hush@h/x.whl?token=hush#sha256=0 and git+ssh://hush@h:22/y?hush";
        assert_eq!(
            masked(line),
            "a @ https://...@h/x.whl?...#sha256=0 and git+ssh://...@h:22/y?..."
        );
        assert_eq!(masked("a==1 # @://"), "a==1 # @://");
        let line = "a @ git+https://h/x@v1#egg=a&token=hush, 'https://h/y?hush#t=hush' # b=c";
        let expected = "a @ git+https://h/x@v1#egg=a&..., 'https://h/y?...#...' # b=c";
        assert_eq!(masked(line), expected);
        for (line, expected) in [
            ("a @ https://h/x#egg=a,https://me:hush@h2/y", "a @ https://h/x#..."),
            ("a @ https://h/x#y;https://me:hush@h2/y ; b", "a @ https://h/x#... ; b"),
            ("'https://h/x#egg=a#https://me:hush@h2/y': no", "'https://h/x#...': no"),
            ("`https://h/x#hush`", "`https://h/x#...`"),
            ("https://h/x#aHVzaA==&egg=a[b,c]&", "https://h/x#...&egg=a[b,c]&"),
            ("https://h/x#subdirectory=a/b'hush", "https://h/x#..."),
            ("https://h/x?a'https://me:hush@h", "https://h/x?..."),
            (
                "https://h/x,https://me:hush@h2/y\thttps://hush@h",
                "https://h/x,https://...@h2/y\thttps://...@h",
            ),
            ("a://h,https://me:hush@h2/y", "a://h,https://...@h2/y"),
            ("file:///x,https://me:hush@h", "file:///x,https://...@h"),
            ("-e https://h/x#editable", "-e https://h/x#editable"),
            ("https://me:hush#1@h/x", "https://...@h/x"),
            ("https://me:hush?1@h/x?hush#egg=a", "https://...@h/x?...#egg=a"),
            ("'https://me:hu/sh@h/x': no", "'https://...@h/x': no"),
            ("https://me:12#hush@h/x", "https://...@h/x"),
            ("https://hush#hush@h:22/x", "https://...@h:22/x"),
            ("https://me:hush/x", "https://.../x"),
            (
                "https://h/x,https://me:hu/sh@h,https://h2:1/y",
                "https://h/x,https://...@h,https://h2:1/y",
            ),
            ("https://h:8443/x@v1#egg=a", "https://h:8443/x@v1#egg=a"),
            (
                "'https://[::1]:8443/x@v1', https://[::1]:",
                "'https://[::1]:8443/x@v1', https://[::1]:",
            ),
            ("'https://h:22': no", "'https://h:22': no"),
            ("b#egg=a ?x=y", "b#egg=a ?x=y"),
        ] {
            assert_eq!(masked(line), expected);
        }
        // As long as a manifest may be; once more for each address in it would take hours.
        assert!(masked(&"a://b:c/@".repeat(200_000)).len() < 2_000_000);
        let many = masked(&"a://#?'&".repeat(200_000));
        assert!(many.starts_with("a://#...&...&") && many.len() < 2_000_000);
    }
}
