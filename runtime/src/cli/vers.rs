//! `bolide vers`: filters over versions and ranges. One question a line, one answer a line, in the order of the questions
//! (`sort`: in that of the versions). Nothing is fetched, no daemon is asked, and no line can end the filter (`sort` holds 256 MiB at most).

use std::io::{self, BufRead, BufReader, BufWriter, Read, StdinLock, Write};

use agents_versions::{Family, Key, ParseError, Range, Version};
use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use crate::limits::{VERS_LINE_BYTES_MAX, VERS_SORT_BYTES_MAX};

/// `bolide vers`
#[derive(Debug, Subcommand)]
pub(super) enum Vers {
    /// For each line `A B`: `<`, `=` or `>`
    Compare(Arguments),
    /// For each line of a version, a tab and a range: `true` or `false`
    Satisfies(Arguments),
    /// The versions, one a line, in ascending order; equal ones stay as they come, what is none comes last
    Sort(Arguments),
}

/// What each of them takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Whose versions they are
    #[arg(long, value_name = "E", value_parser = PossibleValuesParser::new(Family::ALL.map(Family::as_str)))]
    ecosystem: String,
}

impl Arguments {
    fn family(&self) -> Result<Family, Failure> {
        let unknown = || anyhow::anyhow!("there is no ecosystem `{}`", self.ecosystem);
        Family::named(&self.ecosystem).ok_or_else(|| Failure::wrong_use(unknown()))
    }
}

/// Why a line has no answer.
#[derive(Debug, thiserror::Error)]
enum Invalid {
    #[error("longer than {VERS_LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("not UTF-8")]
    NotText,
    #[error("expected two versions")]
    NotTwo,
    #[error("expected a version, a tab and a range")]
    NoTab,
    #[error(transparent)]
    Parse(#[from] ParseError),
}

impl Vers {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut input = BufReader::new(io::stdin().lock());
        let mut output = BufWriter::new(io::stdout().lock());
        let done = match &self {
            Self::Compare(arguments) => {
                let family = arguments.family()?;
                each_line(&mut input, &mut output, |line| compare(family, line))
            }
            Self::Satisfies(arguments) => {
                let family = arguments.family()?;
                each_line(&mut input, &mut output, |line| satisfies(family, line))
            }
            Self::Sort(arguments) => sort(arguments.family()?, &mut input, &mut output),
        };
        match done.and_then(|()| output.flush()) {
            // A reader that has gone away (`| head`) is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
            result => result.context("cannot go on").map(|()| Exit::Done).map_err(Failure::from),
        }
    }
}

type Input<'a> = BufReader<StdinLock<'a>>;

/// Answers line by line; memory is bounded by one line.
fn each_line(
    input: &mut Input<'_>,
    output: &mut impl Write,
    answer: impl Fn(&str) -> Result<&'static str, Invalid>,
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        // Whoever waits for answers before the next question gets them.
        if input.buffer().is_empty() {
            output.flush()?;
        }
        let Some(text) = next_line(input, &mut line)? else { return Ok(()) };
        match text.and_then(&answer) {
            Ok(answer) => writeln!(output, "{answer}")?,
            Err(invalid) => writeln!(output, "invalid: {invalid}")?,
        }
    }
}

/// The next line without its end; nothing where there is none left. A line that is too long is passed over.
fn next_line<'a>(
    input: &mut impl BufRead,
    line: &'a mut Vec<u8>,
) -> io::Result<Option<Result<&'a str, Invalid>>> {
    line.clear();
    // One byte more than allowed, and the line's end.
    let limit = VERS_LINE_BYTES_MAX as u64 + 1;
    if input.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > VERS_LINE_BYTES_MAX {
        skip_line(input)?;
        return Ok(Some(Err(Invalid::TooLong)));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(std::str::from_utf8(line).map_err(|_| Invalid::NotText)))
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let len = end.map_or(buffer.len(), |at| at + 1);
        let is_over = end.is_some() || buffer.is_empty();
        input.consume(len);
        if is_over {
            return Ok(());
        }
    }
}

fn compare(family: Family, line: &str) -> Result<&'static str, Invalid> {
    let mut versions = line.split_ascii_whitespace();
    let (Some(left), Some(right), None) = (versions.next(), versions.next(), versions.next())
    else {
        return Err(Invalid::NotTwo);
    };
    let (left, right) = (Version::parse(family, left)?, Version::parse(family, right)?);
    Ok(match left.cmp(&right) {
        std::cmp::Ordering::Less => "<",
        std::cmp::Ordering::Equal => "=",
        std::cmp::Ordering::Greater => ">",
    })
}

fn satisfies(family: Family, line: &str) -> Result<&'static str, Invalid> {
    let (version, range) = line.split_once('\t').ok_or(Invalid::NoTab)?;
    let version = Version::parse(family, version)?;
    Ok(if Range::parse(family, range)?.contains(&version) { "true" } else { "false" })
}

/// Reads all, then writes all; memory is bounded by [`VERS_SORT_BYTES_MAX`].
fn sort(family: Family, input: &mut Input<'_>, output: &mut impl Write) -> io::Result<()> {
    /// What one version takes beside its bytes and its key's: two boxes and their allocations.
    const OVERHEAD_BYTES: usize = 80;
    let mut sorted: Vec<(Key, Box<str>)> = Vec::new();
    let mut refused = Vec::new();
    let mut bytes = 0;
    let mut line = Vec::new();
    while let Some(text) = next_line(input, &mut line)? {
        let read = text.and_then(|text| Ok((Version::parse(family, text)?.into_key(), text)));
        match read {
            Ok((key, text)) => {
                bytes += key.as_bytes().len() + text.len() + OVERHEAD_BYTES;
                sorted.push((key, text.into()));
            }
            Err(invalid) => {
                let message = format!("invalid: {invalid}");
                bytes += message.len() + OVERHEAD_BYTES;
                refused.push(message);
            }
        }
        if bytes > VERS_SORT_BYTES_MAX {
            let message = format!("more than {VERS_SORT_BYTES_MAX} bytes to sort");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
    }
    sorted.sort_by(|(left, _), (right, _)| left.cmp(right));
    for (_, text) in &sorted {
        writeln!(output, "{text}")?;
    }
    for message in &refused {
        writeln!(output, "{message}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut input = bytes;
        let mut line = Vec::new();
        let mut read = Vec::new();
        while let Some(text) = next_line(&mut input, &mut line).expect("memory does not fail") {
            read.push(text.map_or_else(|invalid| format!("! {invalid}"), str::to_owned));
        }
        read
    }

    #[test]
    fn lines_end_as_they_like() {
        assert_eq!(lines(b"a b\r\n\nc d"), ["a b", "", "c d"]);
        assert_eq!(lines(b""), Vec::<String>::new());
        assert_eq!(lines(b"\xff\xfe 1\nb\n"), ["! not UTF-8", "b"]);
    }

    #[test]
    fn a_line_without_end_is_passed_over() {
        let mut text = vec![b'1'; VERS_LINE_BYTES_MAX * 2];
        text.extend_from_slice(b"\nnext\n");
        assert_eq!(
            lines(&text),
            [format!("! longer than {VERS_LINE_BYTES_MAX} bytes"), "next".into()]
        );
        let longest = vec![b'1'; VERS_LINE_BYTES_MAX];
        assert_eq!(lines(&longest)[0].len(), VERS_LINE_BYTES_MAX);
    }

    #[test]
    fn questions_get_their_answers() {
        let asked = |line| compare(Family::Debian, line).map_err(|invalid| invalid.to_string());
        assert_eq!(asked("1.0~rc1 1.0"), Ok("<"));
        assert_eq!(asked("1.0\t1.0-0"), Ok("="));
        assert_eq!(asked("2 1"), Ok(">"));
        assert_eq!(asked("1"), Err("expected two versions".to_owned()));
        assert_eq!(asked("1 2 3"), Err("expected two versions".to_owned()));
        assert!(asked("1_0 2").is_err_and(|why| why.starts_with("`1_0` is not a version")));
        let asked = |line| satisfies(Family::Npm, line).map_err(|invalid| invalid.to_string());
        assert_eq!(asked("1.2.3\t^1"), Ok("true"));
        assert_eq!(asked("1.3.0-a\t^1"), Ok("false"));
        assert_eq!(asked("1.2.3\t"), Ok("true"));
        assert_eq!(asked("1.2.3 ^1"), Err("expected a version, a tab and a range".to_owned()));
    }
}
