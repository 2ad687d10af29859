//! Laws that hold for all versions: keys are in the order that each family's rules give when they are followed step by
//! step, on texts instead of keys; memberships follow from comparisons; no text makes a reader panic.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;

use agents_versions::{Family, Range, Version};
use proptest::prelude::*;

fn read(family: Family, text: &str) -> Version {
    Version::parse(family, text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn order(family: Family, left: &str, right: &str) -> Ordering {
    read(family, left).cmp(&read(family, right))
}

/// Digits by their value, whatever their length.
fn by_value(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then(left.cmp(right))
}

fn run(text: &str, is: fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|character| !is(character)).unwrap_or(text.len()))
}

/// Debian policy, 5.6.12: the parts without digits, then the numbers, from left to right.
fn debian_part(mut left: &str, mut right: &str) -> Ordering {
    fn weight(character: Option<char>) -> (u8, u32) {
        match character {
            Some('~') => (0, 0),
            None => (1, 0),
            Some(letter) if letter.is_ascii_alphabetic() => (2, letter as u32),
            Some(other) => (3, other as u32),
        }
    }
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = run(left, |character| !character.is_ascii_digit());
        let (right_text, right_rest) = run(right, |character| !character.is_ascii_digit());
        let longest = left_text.len().max(right_text.len());
        for at in 0..longest {
            let order = weight(left_text.chars().nth(at)).cmp(&weight(right_text.chars().nth(at)));
            if order.is_ne() {
                return order;
            }
        }
        let (left_number, left_rest) = run(left_rest, |character| character.is_ascii_digit());
        let (right_number, right_rest) = run(right_rest, |character| character.is_ascii_digit());
        let order = by_value(left_number, right_number);
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn debian(left: &str, right: &str) -> Ordering {
    fn cut(text: &str) -> (&str, &str, &str) {
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        (epoch, upstream, revision)
    }
    let (left, right) = (cut(left), cut(right));
    by_value(left.0, right.0)
        .then_with(|| debian_part(left.1, right.1))
        .then_with(|| debian_part(left.2, right.2))
}

/// rpm-version(7): runs of digits and letters, one pair after the other.
fn rpm_part(mut left: &str, mut right: &str) -> Ordering {
    let is_run =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '~' | '^');
    loop {
        left = left.trim_start_matches(|character| !is_run(character));
        right = right.trim_start_matches(|character| !is_run(character));
        for (mark, other) in [('~', Ordering::Greater), ('^', Ordering::Less)] {
            match (left.strip_prefix(mark), right.strip_prefix(mark)) {
                (Some(more), Some(rest)) => {
                    return rpm_part(more, rest);
                }
                // A tilde is below everything, a caret above the end and below the rest.
                (Some(_), None) if mark == '~' || !right.is_empty() => return Ordering::Less,
                (None, Some(_)) if mark == '~' || !left.is_empty() => return Ordering::Greater,
                (Some(_), None) => return other.reverse(),
                (None, Some(_)) => return other,
                (None, None) => {}
            }
        }
        match (left.chars().next(), right.chars().next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(own), Some(other)) if own.is_ascii_digit() != other.is_ascii_digit() => {
                return own.is_ascii_digit().cmp(&other.is_ascii_digit());
            }
            (Some(own), Some(_)) => {
                let is: fn(char) -> bool = match own.is_ascii_digit() {
                    true => |character| character.is_ascii_digit(),
                    false => |character| character.is_ascii_alphabetic(),
                };
                let ((one, left_rest), (two, right_rest)) = (run(left, is), run(right, is));
                let order = if own.is_ascii_digit() { by_value(one, two) } else { one.cmp(two) };
                if order.is_ne() {
                    return order;
                }
                (left, right) = (left_rest, right_rest);
            }
        }
    }
}

/// `Gem::Version`: numbers and words one by one, missing ones are zero, words are below numbers.
fn gem(left: &str, right: &str) -> Ordering {
    fn canonical(text: &str) -> Vec<String> {
        let text = text.replace('-', ".pre.");
        let mut all: Vec<String> = Vec::new();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let is: fn(char) -> bool = match first {
                first if first.is_ascii_digit() => |character| character.is_ascii_digit(),
                first if first.is_ascii_alphabetic() => |character| character.is_ascii_alphabetic(),
                _ => {
                    rest = &rest[1..];
                    continue;
                }
            };
            let (segment, after) = run(rest, is);
            all.push(segment.to_owned());
            rest = after;
        }
        let is_word = |segment: &String| segment.starts_with(|c: char| c.is_ascii_alphabetic());
        let words = all.iter().position(is_word).unwrap_or(all.len());
        let words = all.split_off(words);
        let mut kept = Vec::new();
        for mut part in [all, words] {
            while part.last().is_some_and(|last| last.bytes().all(|digit| digit == b'0')) {
                part.pop();
            }
            kept.extend(part);
        }
        kept
    }
    let (left, right) = (canonical(left), canonical(right));
    for at in 0..left.len().max(right.len()) {
        let own = left.get(at).map_or("0", |segment| segment);
        let other = right.get(at).map_or("0", |segment| segment);
        let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let order = match (is_number(own), is_number(other)) {
            (true, true) => by_value(own, other),
            (false, false) => own.cmp(other),
            (own, other) => own.cmp(&other),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// A text of versions of each family that are well formed.
fn wellformed(family: Family) -> BoxedStrategy<String> {
    const NUMBER: &str = "(0|[1-9][0-9]{0,2}|[1-9][0-9]{17,24})";
    const ID: &str = "(0|[1-9][0-9]{0,2}|[a-c-]{1,2}|alpha|beta|rc)";
    let small = "(0|[1-9][0-9]{0,4})";
    let text = match family {
        Family::Npm => format!("{small}\\.{small}\\.{small}(-{ID}(\\.{ID}){{0,2}})?(\\+{ID})?"),
        Family::Cargo => {
            format!(
                "{small}\\.{small}\\.{small}(-{ID}(\\.{ID}){{0,2}})?(\\+{ID}(\\.0{{0,2}}{ID})?)?"
            )
        }
        Family::Pypi => format!(
            "([12]!)?{NUMBER}(\\.{NUMBER}){{0,3}}((a|b|rc){NUMBER})?(\\.post{NUMBER})?(\\.dev{NUMBER})?(\\+[a-c0-9]{{1,2}}(\\.[a-c0-9]{{1,2}})?)?"
        ),
        Family::Debian => "([0-9]{1,2}:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-c.+~]{1,4})?".to_owned(),
        Family::Rpm => "([0-9]{1,2}:)?[0-9][0-9a-c._+~^]{0,7}(-[0-9a-c._~^]{1,4})?".to_owned(),
        Family::Alpine => format!(
            "{NUMBER}(\\.0{{0,2}}{NUMBER}){{0,3}}[a-c]?(_(alpha|beta|pre|rc|cvs|svn|git|hg|p){NUMBER}?){{0,2}}(~[0-9a-f]{{1,3}})?(-r{NUMBER})?"
        ),
        Family::Maven => {
            "[0-9]{1,2}([.-]?([0-9]{1,2}|[a-c]|alpha|rc|sp|ga|SNAPSHOT|foo)){0,5}".to_owned()
        }
        Family::Nuget => format!("{small}(\\.{small}){{0,3}}(-{ID}(\\.{ID}){{0,2}})?(\\+{ID})?"),
        Family::Gem => {
            format!("{NUMBER}(\\.({NUMBER}|0|[a-c]{{1,2}}|a1|rc2)){{0,5}}(-[a-c0-9]{{1,3}})?")
        }
        Family::Composer => {
            format!("v?{small}(\\.{NUMBER}){{0,3}}(-(alpha|beta|RC|p|stable)[0-9]{{0,2}})?(-dev)?")
        }
    };
    proptest::string::string_regex(&text).unwrap().boxed()
}

fn any_family() -> impl Strategy<Value = Family> {
    proptest::sample::select(Family::ALL.to_vec())
}

fn three() -> impl Strategy<Value = (Family, String, String, String)> {
    any_family().prop_flat_map(|family| {
        (Just(family), wellformed(family), wellformed(family), wellformed(family))
    })
}

fn hash(version: &Version) -> u64 {
    let mut hasher = DefaultHasher::new();
    version.hash(&mut hasher);
    hasher.finish()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        // A failure prints its input; what is found becomes a test of its own.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn orders_are_total((family, a, b, c) in three()) {
        let (a, b, c) = (read(family, &a), read(family, &b), read(family, &c));
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert!(!(a <= b && b <= c) || a <= c);
        prop_assert_eq!(a == b, a.key() == b.key());
        prop_assert!(a != b || hash(&a) == hash(&b));
        prop_assert_eq!(&a, &a.clone());
    }

    #[test]
    fn debian_is_as_policy_says(a in wellformed(Family::Debian), b in wellformed(Family::Debian)) {
        prop_assert_eq!(order(Family::Debian, &a, &b), debian(&a, &b), "{} {}", a, b);
    }

    #[test]
    fn rpm_is_as_its_manual_says(
        a in "[0-9][0-9a-c._+~^]{0,7}",
        b in "[0-9][0-9a-c._+~^]{0,7}",
    ) {
        prop_assert_eq!(order(Family::Rpm, &a, &b), rpm_part(&a, &b), "{} {}", a, b);
    }

    #[test]
    fn gem_is_segment_by_segment(a in wellformed(Family::Gem), b in wellformed(Family::Gem)) {
        prop_assert_eq!(order(Family::Gem, &a, &b), gem(&a, &b), "{} {}", a, b);
    }

    #[test]
    fn cargo_is_the_crate(a in wellformed(Family::Cargo), b in wellformed(Family::Cargo)) {
        let crates = semver::Version::parse(&a).unwrap().cmp(&semver::Version::parse(&b).unwrap());
        prop_assert_eq!(order(Family::Cargo, &a, &b), crates, "{} {}", a, b);
    }

    #[test]
    fn npm_keys_are_in_the_order_of_its_versions(
        a in wellformed(Family::Npm),
        b in wellformed(Family::Npm),
    ) {
        let read = |text: &str| agents_versions::npm::Version::parse(text).unwrap();
        prop_assert_eq!(order(Family::Npm, &a, &b), read(&a).cmp(&read(&b)), "{} {}", a, b);
    }

    #[test]
    fn pypi_is_the_crate_where_numbers_are_small(
        a in "([12]!)?[0-9]{1,2}(\\.[0-9]{1,2}){0,3}(\\.?(a|b|rc)-?[0-9]{1,2})?(\\.post[0-9]?|-[0-9])?(\\.?dev[0-9]?)?(\\+[a-c0-9]{1,2})?",
        b in "([12]!)?[0-9]{1,2}(\\.[0-9]{1,2}){0,3}(\\.?(a|b|rc)-?[0-9]{1,2})?(\\.post[0-9]?|-[0-9])?(\\.?dev[0-9]?)?(\\+[a-c0-9]{1,2})?",
    ) {
        let read = |text: &str| pep440_rs::Version::from_str(text).unwrap();
        prop_assert_eq!(order(Family::Pypi, &a, &b), read(&a).cmp(&read(&b)), "{} {}", a, b);
    }

    #[test]
    fn memberships_follow_from_comparisons((family, a, b, _) in three()) {
        let (version, bound) = (read(family, &a), read(family, &b));
        let is_in = |range: &str| Range::parse(family, range).unwrap().contains(&version);
        let (least, below) = (format!(">={b}"), format!("<{b}"));
        match family {
            Family::Gem => {
                prop_assert_eq!(is_in(&least), version >= bound);
                prop_assert_eq!(is_in(&below), version < bound);
                prop_assert_eq!(is_in(&format!("!= {b}")), version != bound);
                let is_near = is_in(&format!("~> {b}"));
                prop_assert!(!is_near || version >= bound);
            }
            Family::Alpine => {
                prop_assert_eq!(is_in(&least), version >= bound);
                prop_assert_eq!(is_in(&below), version < bound);
                let (is_same, begins) = (is_in(&format!("={b}")), is_in(&format!("~{b}")));
                prop_assert!(!is_same || begins);
            }
            Family::Debian => {
                prop_assert_eq!(is_in(&least), version >= bound);
                prop_assert_eq!(is_in(&format!("<<{b}")), version < bound);
                prop_assert_eq!(is_in(&format!("<< {b} | >> {b}")), version != bound);
            }
            Family::Maven => {
                prop_assert_eq!(is_in(&format!("[{b},)")), version >= bound);
                prop_assert_eq!(is_in(&format!("(,{b})")), version < bound);
                prop_assert_eq!(is_in(&format!("[{b}]")), version == bound);
                prop_assert!(is_in(&b));
            }
            Family::Nuget => {
                prop_assert_eq!(is_in(&b), version >= bound);
                prop_assert_eq!(is_in(&format!("(,{b})")), version < bound);
                prop_assert_eq!(is_in(&format!("[{b}]")), version == bound);
            }
            // A missing release stands for all of them.
            Family::Rpm => {
                let is_above = is_in(&format!("> {b}"));
                prop_assert!(!is_above || version > bound || b.contains('-'));
            }
            // Pre-releases and local parts make these more than comparisons.
            Family::Npm | Family::Pypi | Family::Cargo | Family::Composer => {
                let public = b.split('+').next().unwrap();
                let is_above = is_in(&format!(">{public}"));
                prop_assert!(!is_above || version > read(family, public));
            }
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(
        family in any_family(),
        text in "[ 0-9a-zA-Z.+~^:*=<>!,|()@#_\\[\\]-]{0,24}|\\PC{0,24}|[\\x00-\\x7f]{0,16}",
    ) {
        let version = Version::parse(family, &text);
        let range = Range::parse(family, &text);
        if let (Ok(version), Ok(range)) = (version, range) {
            let _ = range.contains(&version);
        }
    }
}

#[test]
fn numbers_of_any_length_are_exact_where_the_family_is() {
    let nines = "9".repeat(400_000);
    let ten = format!("1{}", "0".repeat(400_000));
    for family in
        [Family::Pypi, Family::Debian, Family::Rpm, Family::Alpine, Family::Maven, Family::Gem]
    {
        assert_eq!(order(family, &nines, &ten), Ordering::Less, "{family}");
        assert_eq!(order(family, &format!("00{nines}"), &nines), Ordering::Equal, "{family}");
        assert_eq!(order(family, &format!("1.{ten}"), &format!("1.{nines}")), Ordering::Greater);
    }
    for family in [Family::Npm, Family::Cargo, Family::Nuget, Family::Composer] {
        assert!(Version::parse(family, &format!("{nines}.0.0")).is_err(), "{family}");
    }
}

#[test]
fn hostile_texts_end_quickly_and_are_refused_in_words() {
    let long = "1.".repeat(500_000) + "1";
    let dashes = "-".repeat(1_000_000);
    let letters = "a.".repeat(300_000);
    let spaces = format!("1{}1", " ".repeat(7_000));
    for family in Family::ALL {
        for text in [&*long, &dashes, &letters, &spaces, "", " ", "\0", "1\0", "1\n2", "\u{202e}1"]
        {
            let version = Version::parse(family, text);
            if let Err(error) = version {
                assert!(error.to_string().len() < 500, "{family}: {error}");
                assert!(!error.to_string().contains(char::is_control), "{family}: {error}");
            }
            let _ = Range::parse(family, text);
        }
        let over = "1".repeat(agents_versions::limits::VERSION_BYTES_MAX + 1);
        assert!(Version::parse(family, &over).is_err(), "{family}");
        let over = "1 ".repeat(agents_versions::limits::RANGE_BYTES_MAX);
        assert!(Range::parse(family, &over).is_err(), "{family}");
    }
}

#[test]
fn a_version_of_another_family_is_in_no_range() {
    let range = Range::parse(Family::Debian, ">= 1").unwrap();
    assert!(range.contains(&read(Family::Debian, "2")));
    assert!(!range.contains(&read(Family::Maven, "2")));
}
