//! Questions for judges: versions of each family from small alphabets, so that they meet, and some that are ill formed.

use agents_versions::Family;

/// A sequence of numbers that is the same for the same seed (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// What is produced, or nothing.
    fn maybe(&mut self, percent: usize, make: impl FnOnce(&mut Self) -> String) -> String {
        if self.below(100) < percent { make(self) } else { String::new() }
    }
}

const NUMBERS: [&str; 14] =
    ["0", "0", "1", "1", "1", "2", "2", "3", "9", "10", "11", "20", "100", "2024"];
const RARE_NUMBERS: [&str; 8] = [
    "00",
    "01",
    "010",
    "2147483648",
    "9007199254740993",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
];

fn number(random: &mut Random) -> String {
    match random.one_in(40) {
        true => random.pick(&RARE_NUMBERS).to_owned(),
        false => random.pick(&NUMBERS).to_owned(),
    }
}

/// `least` to `most` numbers with dots between.
fn dotted(random: &mut Random, least: usize, most: usize) -> String {
    let count = least + random.below(most - least + 1);
    let numbers: Vec<String> = (0..count).map(|_| number(random)).collect();
    numbers.join(".")
}

/// A version of the family; one in thirty has a character too many, too few or changed.
pub(crate) fn version(family: Family, random: &mut Random) -> String {
    let text = match family {
        Family::Npm | Family::Cargo => semver(random),
        Family::Pypi => pypi(random),
        Family::Debian => debian(random),
        Family::Rpm => rpm(random),
        Family::Maven => maven(random),
        Family::Gem => gem(random),
        Family::Composer => composer(random),
        Family::Alpine => alpine(random),
        Family::Nuget => nuget(random),
    };
    let is_robust = matches!(family, Family::Debian | Family::Rpm);
    if is_robust || !random.one_in(30) { text } else { damaged(&text, random) }
}

fn damaged(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = random.below(bytes.len() + 1);
    let other = random.pick(&[".", "-", "+", "_", "a", "1", "!", "*", "v", "dev", "x"]);
    match random.below(3) {
        0 if at < bytes.len() => {
            bytes.remove(at);
        }
        1 if at < bytes.len() => bytes[at] = other.as_bytes()[0],
        _ => {
            bytes.splice(at..at, other.bytes());
        }
    }
    match bytes.is_empty() {
        true => "1".to_owned(),
        false => String::from_utf8(bytes).unwrap(),
    }
}

/// A second version: another one, or the first a little changed.
pub(crate) fn neighbour(family: Family, text: &str, random: &mut Random) -> String {
    if random.one_in(3) {
        return version(family, random);
    }
    let is_robust = matches!(family, Family::Debian | Family::Rpm);
    if random.one_in(8) && !is_robust {
        return damaged(text, random);
    }
    // One number becomes another one.
    let starts: Vec<usize> = (0..text.len())
        .filter(|at| {
            let is_digit = |at: usize| text.as_bytes()[at].is_ascii_digit();
            is_digit(*at) && (*at == 0 || !is_digit(at - 1))
        })
        .collect();
    if starts.is_empty() {
        return version(family, random);
    }
    let start = starts[random.below(starts.len())];
    let end =
        text[start..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |len| start + len);
    format!("{}{}{}", &text[..start], number(random), &text[end..])
}

fn identifiers(random: &mut Random) -> String {
    const WORDS: [&str; 12] =
        ["alpha", "beta", "rc", "a", "b", "0", "1", "2", "10", "x-y", "1a", "-"];
    let count = 1 + random.below(3);
    let words: Vec<&str> = (0..count).map(|_| random.pick(&WORDS)).collect();
    words.join(".")
}

fn semver(random: &mut Random) -> String {
    let prefix = if random.one_in(30) { random.pick(&["v", "=", "v ", " "]) } else { "" };
    let pre = random.maybe(45, |random| format!("-{}", identifiers(random)));
    let build = random.maybe(8, |random| format!("+{}", identifiers(random)));
    format!("{prefix}{}{pre}{build}", dotted(random, 3, 3))
}

fn pypi(random: &mut Random) -> String {
    const PRE: [&str; 14] = [
        "a", "b", "rc", "c", "alpha", "beta", "pre", "preview", "A", "RC", ".a", "-b", "_rc",
        ".pre",
    ];
    const POST: [&str; 8] = [".post", "-", "post", "-r", ".rev", "_post", ".Post", "-post-"];
    let prefix = if random.one_in(30) { random.pick(&["v", "V", " "]) } else { "" };
    let epoch = random.maybe(6, |random| format!("{}!", number(random)));
    let release = dotted(random, 1, 4);
    let separated = |random: &mut Random| {
        format!(
            "{}{}",
            if random.one_in(8) { random.pick(&[".", "-", "_"]) } else { "" },
            number(random)
        )
    };
    let pre = random.maybe(35, |random| {
        let word = random.pick(&PRE).to_owned();
        word + &random.maybe(85, separated)
    });
    let post = random.maybe(20, |random| {
        let word = random.pick(&POST).to_owned();
        word + &random.maybe(90, number)
    });
    let dev = random.maybe(20, |random| {
        let word = random.pick(&[".dev", "dev", "-dev", "_dev", ".DEV"]).to_owned();
        word + &random.maybe(90, number)
    });
    let local = random.maybe(12, |random| {
        let parts = ["1", "2", "ubuntu", "ABC", "01", "a1", "deb.3", "x_2", "x-10"];
        format!("+{}", random.pick(&parts))
    });
    format!("{prefix}{epoch}{release}{pre}{post}{dev}{local}")
}

fn debian(random: &mut Random) -> String {
    const PARTS: [&str; 16] = [
        "~", "+", ".", "~rc", "a", "b", "+b", "~~", "dfsg", "z", ".", "Z", "+deb", "~bpo", "-",
        "+git",
    ];
    let mut tail = |most: usize, with_hyphens: bool| {
        let count = random.below(most);
        let mut text = String::new();
        for _ in 0..count {
            let part = random.pick(&PARTS);
            text += if part == "-" && !with_hyphens { "+" } else { part };
            text += &random.maybe(70, number);
        }
        text
    };
    let (upstream, revision) = (tail(4, true), tail(3, false));
    let epoch =
        random.maybe(15, |random| format!("{}:", random.pick(&["0", "1", "2", "01", "10"])));
    let release = dotted(random, 1, 4);
    let revision = random.maybe(60, |random| format!("-{}{revision}", number(random)));
    format!("{epoch}{release}{upstream}{revision}").replace("--", "-")
}

fn rpm(random: &mut Random) -> String {
    const PARTS: [&str; 14] =
        ["~", "^", ".", "rc", "a", "b", "~rc", "^git", "_", "+", "A", "..", "~~", ".el"];
    let mut tail = |most: usize| {
        let mut text = String::new();
        for _ in 0..random.below(most) {
            text += random.pick(&PARTS);
            text += &random.maybe(70, number);
        }
        text
    };
    let (version, release) = (tail(4), tail(3));
    let epoch =
        random.maybe(15, |random| format!("{}:", random.pick(&["0", "1", "2", "01", "10"])));
    let numbers = dotted(random, 1, 3);
    let release = random.maybe(60, |random| format!("-{}{release}", number(random)));
    format!("{epoch}{numbers}{version}{release}")
}

fn maven(random: &mut Random) -> String {
    const WORDS: [&str; 24] = [
        "alpha",
        "a",
        "beta",
        "b",
        "milestone",
        "m",
        "rc",
        "cr",
        "RC",
        "snapshot",
        "SNAPSHOT",
        "ga",
        "final",
        "Final",
        "RELEASE",
        "sp",
        "SP",
        "x",
        "foo",
        "jre",
        "android",
        "Alpha",
        "v",
        "dev",
    ];
    let mut text = dotted(random, 1, 4);
    for _ in 0..random.below(4) {
        text += random.pick(&["-", "-", ".", ""]);
        text += random.pick(&WORDS);
        text += random.pick(&["-", ".", "", ""]);
        text += &random.maybe(70, number);
    }
    text
}

/// Whether Maven's comparison may go round in circles with it: a qualifier with a dot on either side, or before a hyphen
/// and behind a dot; a list that opens directly in a list; a word at the beginning.
pub(crate) fn is_circular(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.first().is_some_and(u8::is_ascii_alphabetic) {
        return true;
    }
    let is_word = |at: usize| bytes[at].is_ascii_alphabetic();
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(at) {
            at += 1;
            continue;
        }
        let end = (at..bytes.len()).find(|at| !is_word(*at)).unwrap_or(bytes.len());
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let after = bytes.get(end);
        if matches!(after, Some(b'.')) || (before == Some(b'.') && after == Some(&b'-')) {
            return true;
        }
        at = end;
    }
    let lower = text.to_lowercase();
    ["--", "-0", "-ga-", "-final-", "-release-", "..", ".-"].iter().any(|part| lower.contains(part))
        || ["ga", "final", "release"].iter().any(|word| lower.contains(word))
}

/// Whether a number in it may not fit into 64 bits with a sign.
pub(crate) fn has_long_number(text: &str) -> bool {
    text.split(|character: char| !character.is_ascii_digit()).any(|digits| digits.len() > 18)
}

fn gem(random: &mut Random) -> String {
    const WORDS: [&str; 10] = ["a", "b", "rc", "pre", "beta", "alpha", "A", "rc1", "b2", "dev"];
    let mut text = dotted(random, 1, 4);
    for _ in 0..random.below(4) {
        text += random.pick(&[".", ".", "-"]);
        text += &if random.one_in(2) { number(random) } else { random.pick(&WORDS).to_owned() };
    }
    text
}

fn alpine(random: &mut Random) -> String {
    const SUFFIXES: [&str; 11] =
        ["_alpha", "_beta", "_pre", "_rc", "_cvs", "_svn", "_git", "_hg", "_p", "_x", "_"];
    let numbers = dotted(random, 1, 4);
    let letter = random.maybe(15, |random| random.pick(&["a", "b", "z"]).to_owned());
    let mut text = numbers + &letter;
    for _ in 0..random.below(3) {
        let known = if random.one_in(20) { SUFFIXES.len() } else { SUFFIXES.len() - 2 };
        text += random.pick(&SUFFIXES[..known]);
        text += &random.maybe(60, number);
    }
    text += &random.maybe(8, |random| format!("~{}", random.pick(&["0", "ab", "abc", "1f", "A0"])));
    text += &random.maybe(40, |random| format!("-r{}", number(random)));
    text
}

fn nuget(random: &mut Random) -> String {
    let pre = random.maybe(45, |random| format!("-{}", identifiers(random)));
    let build = random.maybe(8, |random| format!("+{}", identifiers(random)));
    format!("{}{pre}{build}", dotted(random, 1, 4))
}

fn composer(random: &mut Random) -> String {
    if random.one_in(12) {
        return random
            .pick(&[
                "dev-main",
                "dev-master",
                "master",
                "1.x-dev",
                "2.1.x-dev",
                "1.0-dev",
                "dev-feature/a",
                "DEV-x",
                "2.x",
                "v1.x-dev",
                "10.x-dev",
                "1-dev",
                "1.*-dev",
                "trunk",
                "foo-dev",
            ])
            .to_owned();
    }
    if random.one_in(15) {
        return random
            .pick(&[
                "2010.01.02",
                "2010-01-02",
                "20100102",
                "20100102-203040",
                "2010-01-02.5",
                "20100102.1",
                "201903.0",
                "201903.0-p2",
                "2010-01-02-10-20-30.5",
                "20100102203040-10",
                "100000.01.01",
            ])
            .to_owned();
    }
    const STABILITIES: [&str; 16] = [
        "-alpha", "-beta", "-RC", "a", "b", "-rc", ".beta", "_alpha", "-patch", "-pl", "-p",
        "-stable", "RC", "-dev", "-Beta", "beta",
    ];
    let prefix = if random.one_in(10) { random.pick(&["v", "V"]) } else { "" };
    let numbers = dotted(random, 1, 4);
    let stability = random.maybe(45, |random| {
        let word = random.pick(&STABILITIES).to_owned();
        let separator = random.pick(&["", "", ".", "-"]);
        word + &random.maybe(70, |random| format!("{separator}{}", dotted(random, 1, 2)))
    });
    let dev = random.maybe(6, |random| random.pick(&["-dev", "dev", ".dev"]).to_owned());
    let build = random.maybe(4, |_| "+build.5".to_owned());
    let flag =
        random.maybe(3, |random| format!("@{}", random.pick(&["dev", "stable", "RC", "beta"])));
    format!("{prefix}{numbers}{stability}{dev}{build}{flag}")
}

/// A version to be a bound: mostly near the one that is asked for.
fn bound(family: Family, near: &str, random: &mut Random) -> String {
    match random.below(4) {
        0 => version(family, random),
        1 => near.to_owned(),
        _ => neighbour(family, near, random),
    }
}

/// A range of the family.
pub(crate) fn range(family: Family, near: &str, random: &mut Random) -> String {
    match family {
        Family::Npm | Family::Cargo => npm_range(family, near, random),
        Family::Pypi => pypi_range(near, random),
        Family::Debian => {
            let sign = random.pick(&["<<", "<=", "=", ">=", ">>", "<", ">"]);
            format!("{sign} {}", bound(family, near, random))
        }
        Family::Rpm => {
            let sign = random.pick(&["<", "<=", "=", ">=", ">"]);
            format!("{sign} {}", bound(family, near, random))
        }
        Family::Maven => maven_range(family, near, random),
        Family::Gem => {
            let count = 1 + random.below(2);
            let signs = ["~>", "~>", ">=", "<=", "<", ">", "=", "!=", ""];
            let all: Vec<String> = (0..count)
                .map(|_| format!("{} {}", random.pick(&signs), bound(family, near, random)))
                .collect();
            all.join(random.pick(&[",", ", "]))
        }
        Family::Composer => composer_range(near, random),
        Family::Alpine => {
            let sign = random.pick(&["<", "<=", "=", ">=", ">", "~", "=~", "<~", ">~", ">=~"]);
            let body = if random.one_in(2) {
                partial(near, &["0"], random)
            } else {
                bound(family, near, random)
            };
            format!("{sign}{body}")
        }
        Family::Nuget => maven_range(family, near, random),
    }
}

/// The first parts of a version, with a star where one is left out.
fn partial(near: &str, stars: &[&str], random: &mut Random) -> String {
    let release = near.split(['-', '+']).next().unwrap_or(near);
    let parts: Vec<&str> = release.split('.').collect();
    let kept = 1 + random.below(parts.len());
    let mut text = parts[..kept].join(".");
    if random.one_in(2) {
        text += ".";
        text += random.pick(stars);
    }
    text
}

fn npm_range(family: Family, near: &str, random: &mut Random) -> String {
    let one = |random: &mut Random| {
        let body = match random.below(3) {
            0 => partial(near, &["x", "*", "X", "x.x"], random),
            _ => bound(family, near, random),
        };
        let signs = ["^", "~", ">=", "<=", "<", ">", "=", "", "", "~>", ">= ", "^ ", "< "];
        format!("{}{body}", random.pick(&signs))
    };
    match random.below(8) {
        0 => format!("{} - {}", partial(near, &["x"], random), bound(family, near, random)),
        1 => format!("{} || {}", one(random), one(random)),
        2 => format!("{}||{} {}", one(random), one(random), one(random)),
        3 | 4 => format!("{} {}", one(random), one(random)),
        5 if random.one_in(4) => {
            random.pick(&["", "*", "x", "latest", "||", ">*", "<*"]).to_owned()
        }
        _ => one(random),
    }
}

fn pypi_range(near: &str, random: &mut Random) -> String {
    let count = 1 + random.below(2);
    let all: Vec<String> = (0..count)
        .map(|_| {
            let body = bound(Family::Pypi, near, random);
            match random.below(6) {
                0 => format!("{}{}.*", random.pick(&["==", "!="]), partial(&body, &["0"], random)),
                1 => format!("~={body}"),
                _ => {
                    let signs = [">=", "<=", "<", ">", "==", "!=", ">= ", "== ", "==="];
                    format!("{}{body}", random.pick(&signs))
                }
            }
        })
        .collect();
    all.join(random.pick(&[",", ", "]))
}

fn maven_range(family: Family, near: &str, random: &mut Random) -> String {
    let one = |random: &mut Random| {
        let bound = |random: &mut Random| match random.one_in(6) {
            true => String::new(),
            false => bound(family, near, random),
        };
        if random.one_in(5) {
            return format!("[{}]", bound(random));
        }
        let (open, close) = (random.pick(&["[", "("]), random.pick(&["]", ")"]));
        format!("{open}{},{}{close}", bound(random), bound(random))
    };
    match random.below(6) {
        0 => bound(family, near, random),
        1 => format!("{},{}", one(random), one(random)),
        _ => one(random),
    }
}

fn composer_range(near: &str, random: &mut Random) -> String {
    let one = |random: &mut Random| {
        let body = match random.below(3) {
            0 => partial(near, &["x", "*", "X", "x-dev", "*.*"], random),
            _ => bound(Family::Composer, near, random),
        };
        let signs =
            ["^", "^", "~", "~", ">=", "<=", "<", ">", "=", "!=", "", "", "==", "<>", ">= ", "~>"];
        let flag = random.maybe(6, |random| {
            format!("@{}", random.pick(&["dev", "stable", "RC", "beta", "alpha"]))
        });
        format!("{}{body}{flag}", random.pick(&signs))
    };
    match random.below(9) {
        0 => {
            format!("{} - {}", partial(near, &["0"], random), bound(Family::Composer, near, random))
        }
        1 => format!("{} || {}", one(random), one(random)),
        2 => format!("{}|{},{}", one(random), one(random), one(random)),
        3 => format!("{} {}", one(random), one(random)),
        4 => format!("{}, {}", one(random), one(random)),
        5 if random.one_in(3) => random
            .pick(&[
                "*",
                "dev-main",
                "dev-master#abc",
                "dev-main as 1.0",
                "",
                "@dev",
                "*.*",
                "v*",
                "x",
                ">=1.0@dev",
            ])
            .to_owned(),
        _ => one(random),
    }
}
