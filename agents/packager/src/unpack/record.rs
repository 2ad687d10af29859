//! `RECORD`, the list of a wheel's files with their digests: read from a wheel, written into an
//! environment.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;

use super::Refusal;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The path, relative to the directory that holds the `.dist-info`.
    pub path: String,
    /// The digest, where one is given.
    pub digest: Option<Digest>,
    /// The size in bytes, where it is given.
    pub size: Option<u64>,
}

/// A digest with an algorithm that the specification allows (SHA-256 or better).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The digest itself.
    pub bytes: Vec<u8>,
}

/// The algorithms that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The implementation.
    pub fn ring(self) -> &'static digest::Algorithm {
        match self {
            Algorithm::Sha256 => &digest::SHA256,
            Algorithm::Sha384 => &digest::SHA384,
            Algorithm::Sha512 => &digest::SHA512,
        }
    }
}

/// Reads the whole list. Paths are not checked here: in a wheel they must equal checked names, in
/// an environment the one who removes checks where they lead.
pub fn parse(text: &str) -> Result<Vec<Line>, Refusal> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (fields, after) = split_line(rest)?;
        rest = after;
        if fields.len() == 1 && fields[0].is_empty() {
            continue;
        }
        lines.push(line(fields)?);
    }
    Ok(lines)
}

fn line(fields: Vec<String>) -> Result<Line, Refusal> {
    let broken = || Refusal::malformed("its `RECORD` has a line that cannot be read");
    let [path, digest, size] = <[String; 3]>::try_from(fields).map_err(|_| broken())?;
    let digest = match digest.as_str() {
        "" => None,
        text => Some(parse_digest(text).ok_or_else(broken)?),
    };
    let size = match size.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| broken())?),
    };
    Ok(Line { path, digest, size })
}

fn parse_digest(text: &str) -> Option<Digest> {
    let (algorithm, encoded) = text.split_once('=')?;
    let algorithm = match algorithm {
        "sha256" => Algorithm::Sha256,
        "sha384" => Algorithm::Sha384,
        "sha512" => Algorithm::Sha512,
        _ => return None,
    };
    let bytes = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?;
    (bytes.len() == algorithm.ring().output_len()).then_some(Digest { algorithm, bytes })
}

/// Splits one line of comma-separated values off, with the quoting of Python's `csv`.
fn split_line(text: &str) -> Result<(Vec<String>, &str), Refusal> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        let next_is = |characters: &mut std::iter::Peekable<std::str::CharIndices<'_>>, wanted| {
            characters.next_if(|(_, next)| *next == wanted).is_some()
        };
        let field = fields.last_mut().expect("there is always a field that is being filled");
        match character {
            '"' if quoted && next_is(&mut characters, '"') => field.push('"'),
            '"' if quoted => quoted = false,
            _ if quoted => field.push(character),
            '"' if field.is_empty() => quoted = true,
            ',' => fields.push(String::new()),
            '\n' => return Ok((fields, &text[index + 1..])),
            '\r' if text[index + 1..].starts_with('\n') || index + 1 == text.len() => {}
            other => field.push(other),
        }
    }
    match quoted {
        true => Err(Refusal::malformed("its `RECORD` ends within quotes")),
        false => Ok((fields, "")),
    }
}

/// Appends one line for a file with a SHA-256 digest, or for one without (`RECORD` itself).
pub fn push_line(text: &mut String, path: &str, file: Option<(&[u8; 32], u64)>) {
    if path.contains([',', '"', '\r', '\n']) {
        text.push('"');
        text.push_str(&path.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(path);
    }
    match file {
        Some((digest, size)) => {
            text.push_str(",sha256=");
            URL_SAFE_NO_PAD.encode_string(digest, text);
            text.push_str(&format!(",{size}\n"));
        }
        None => text.push_str(",,\n"),
    }
}
