//! Requirements files that name others (`-r`, `-c`), followed as pip and uv do.
//!
//! Only files of the project are read: a file that came with the project must not make us read others.

use std::collections::BTreeSet;

use super::super::address::Names;
use super::options::lines_of;
use super::{Included, Logical, Requirements, Wanted, included, read_lines};
use crate::error::{Error, Kind};
use crate::limits::{REQUIREMENTS_DEPTH_MAX, REQUIREMENTS_FILES_MAX};
use agents_versions::shorten;

/// What a requirements file asks for, with what it includes.
#[derive(Clone, Debug, Default)]
pub struct Everything {
    /// What the file itself says.
    pub own: Requirements,
    /// The requirements of included files.
    pub included: Vec<Wanted>,
    /// What holds for packages that are needed anyway.
    pub constraints: Vec<Wanted>,
    /// The options of included files, as written, with file and line.
    pub options: Vec<(String, usize, String)>,
    /// The included files, in the order in which they were read.
    pub files: Vec<String>,
}

/// Gives the text of a file of the project by its path in it; `None` where there is none.
pub(super) type Open<'a> = &'a mut dyn FnMut(&str) -> Result<Option<String>, Error>;

/// Reads `file` and what it includes. What a file of constraints includes constrains too, as for uv.
///
/// # Errors
/// Those of [`super::read`]; `manifest-include` for a file that is not there, is outside of the project, or includes itself.
pub fn read_all(
    file: &str,
    text: &str,
    names: Names<'_>,
    open: Open<'_>,
) -> Result<Everything, Error> {
    let mut everything = Everything::default();
    let above = vec![file.to_owned()];
    let mut reader = Reader { everything: &mut everything, names, open, above };
    let own = reader.read(file, text, false)?;
    everything.own = own;
    Ok(everything)
}

struct Reader<'a, 'o> {
    everything: &'a mut Everything,
    names: Names<'o>,
    open: Open<'o>,
    /// The files that are being read, the outermost first.
    above: Vec<String>,
}

impl Reader<'_, '_> {
    fn read(&mut self, file: &str, text: &str, constrains: bool) -> Result<Requirements, Error> {
        read_lines(file, text, self.names, &mut |logical, included| {
            self.include(file, logical, &included, constrains || included.constrains)
        })
    }

    fn include(
        &mut self,
        file: &str,
        logical: &Logical,
        included: &Included<'_>,
        constrains: bool,
    ) -> Result<(), Error> {
        let refused = |why: &str| {
            let (line, body) = (logical.line, shorten(&logical.body));
            let message = format!("`{file}` line {line}: `{body}` {why}");
            Err(Error::new(Kind::Failed, "manifest-include", message)
                .hint("only files of the project are included; correct the line"))
        };
        let Some(path) = inside(file, included.path) else {
            return refused("does not name a file of the project");
        };
        if self.above.contains(&path) {
            return refused("includes a file that includes this one");
        }
        if self.above.len() >= REQUIREMENTS_DEPTH_MAX
            || self.everything.files.len() >= REQUIREMENTS_FILES_MAX
        {
            return refused("is one file too many");
        }
        let Some(text) = (self.open)(&path)? else {
            return refused("names a file that is not there");
        };
        self.everything.files.push(path.clone());
        self.above.push(path.clone());
        let read = self.read(&path, &text, constrains)?;
        self.above.pop();
        let options = read.options.into_iter().map(|(line, option)| (path.clone(), line, option));
        self.everything.options.extend(options);
        match constrains {
            true => self.everything.constraints.extend(read.wanted),
            false => self.everything.included.extend(read.wanted),
        }
        Ok(())
    }
}

/// Gives every line of options of `file` and of what it includes, each file once. A file that is not there or not of the project is
/// passed over.
pub(super) fn follow(
    file: &str,
    text: &str,
    open: Open<'_>,
    take: &mut dyn FnMut(&Logical),
) -> Result<(), Error> {
    let mut seen = BTreeSet::from([file.to_owned()]);
    let mut left = vec![(file.to_owned(), lines_of(file, text)?)];
    while let Some((file, lines)) = left.pop() {
        let mut included_files = Vec::new();
        for logical in lines {
            let Some(included) = included(&logical.body) else {
                take(&logical);
                continue;
            };
            let Some(path) = inside(&file, included.path) else { continue };
            if seen.len() > REQUIREMENTS_FILES_MAX || !seen.insert(path.clone()) {
                continue;
            }
            if let Some(text) = open(&path)? {
                included_files.push((path.clone(), lines_of(&path, &text)?));
            }
        }
        // The first is the next.
        left.extend(included_files.into_iter().rev());
    }
    Ok(())
}

/// A path that is written in `file`, from the root of the project; `None` where it leads out of it.
fn inside(file: &str, written: &str) -> Option<String> {
    if written.is_empty() || written.starts_with('/') || written.contains([':', '\\', '\0']) {
        return None;
    }
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::manifest::address::unknown;

    fn read(files: &[(&str, &str)]) -> Result<Everything, Error> {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        let first = files["requirements.txt"];
        read_all("requirements.txt", first, &unknown, &mut |path| {
            Ok(files.get(path).map(|text| (*text).to_owned()))
        })
    }

    fn names(wanted: &[Wanted]) -> String {
        let texts: Vec<_> = wanted.iter().map(|one| one.requirement.to_string()).collect();
        texts.join(" ")
    }

    #[test]
    fn includes_are_followed_from_where_they_stand() {
        let read = read(&[
            ("requirements.txt", "-r deps/base.txt\na\n-c deps/limits.txt\n-rmore.txt\n"),
            ("deps/base.txt", "b\n--requirement=../other.txt\n--pre\n"),
            ("deps/limits.txt", "c<2\n-r held.txt\n"),
            ("deps/held.txt", "h==1\n"),
            ("other.txt", "\u{feff}o\n"),
            ("more.txt", "m # that\n"),
        ]);
        let read = read.expect("read");
        assert_eq!(names(&read.own.wanted), "a");
        assert_eq!(names(&read.included), "o b m");
        assert_eq!(names(&read.constraints), "h==1 c<2");
        assert_eq!(read.options, [("deps/base.txt".to_owned(), 3, "--pre".to_owned())]);
        let files = ["deps/base.txt", "other.txt", "deps/limits.txt", "deps/held.txt", "more.txt"];
        assert_eq!(read.files, files);
    }

    #[test]
    fn what_leads_out_of_the_project_is_missing_or_goes_round_is_refused() {
        for (text, why) in [
            ("-r ../other.txt", "does not name a file of the project"),
            ("-r a/../../other.txt", "does not name a file of the project"),
            ("-r /etc/passwd", "does not name a file of the project"),
            ("-r https://example.invalid/r.txt", "does not name a file of the project"),
            ("-c", "does not name a file of the project"),
            ("-r gone.txt", "is not there"),
            ("-r ./requirements.txt", "includes this one"),
            ("-r round.txt", "includes this one"),
        ] {
            let files = [("requirements.txt", text), ("round.txt", "-c requirements.txt")];
            let error = read(&files).expect_err(text);
            assert_eq!(error.code, "manifest-include", "{text}");
            assert!(error.message.contains(why), "{text}: {}", error.message);
        }
    }

    #[test]
    fn files_that_multiply_are_refused() {
        // Each names the next twice: as many reads as two to the power of their number.
        let names: Vec<String> = (0..30).map(|number| format!("{number}.txt")).collect();
        let error = read_all("requirements.txt", "-r 0.txt", &unknown, &mut |path| {
            let number = names.iter().position(|name| name == path).expect("known") + 1;
            Ok(Some(format!("-r {number}.txt\n-r {number}.txt\n")))
        });
        assert_eq!(error.expect_err("too many").code, "manifest-include");
    }
}
