//! Options that people write, and those that nobody can mean.

use super::{Choice, Mode, Moment, OptionFile, Options};
use crate::ecosystem::Ecosystem;

fn refused(options: &Options, flag: &str) {
    let error = options.check().expect_err("it cannot be meant");
    assert!(error.message.contains(flag), "{error:?}");
}

#[test]
fn moments_are_read_as_registries_write_them() {
    let check = |text: &str, expected: Option<&str>| {
        let moment = Moment::parse(text).map(|moment| moment.to_string());
        assert_eq!(moment.as_deref(), expected, "{text}");
    };
    check("1970-01-01T00:00:00Z", Some("1970-01-01T00:00:00Z"));
    check("2024-02-29T23:59:60.999999+00:00", Some("2024-03-01T00:00:00Z"));
    check("2026-11-21 01:30:00+05:30", Some("2026-11-20T20:00:00Z"));
    check("2026-11-21T01:30:00.1-0130", Some("2026-11-21T03:00:00Z"));
    check("2016-02-05T06:30:00.123", Some("2016-02-05T06:30:00Z"));
    check("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00Z"));
    for wrong in
        ["", "2026", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-02-01T24:00:00Z"]
    {
        check(wrong, None);
    }
    for wrong in
        ["2026-02-01T00:00:00.Z", "2026-02-01T00:00:00+1", "2026-02-01Tä0:00:00Z", "+26-1-1"]
    {
        check(wrong, None);
    }
}

#[test]
fn a_day_counts_as_a_whole_and_a_moment_as_itself() {
    let end = |text: &str| Moment::end_of(text).expect("a date").to_string();
    assert_eq!(end("2026-12-31"), "2027-01-01T00:00:00Z");
    assert_eq!(end("2026-12-31T00:00:00Z"), "2026-12-31T00:00:00Z");
    assert!(Moment::end_of("2026-12-32").is_none());
    let day = Moment::from_unix(86_400 * 10);
    assert_eq!(day.before(86_400).to_string(), "1970-01-10T00:00:00Z");
    assert!(day.before(u64::MAX) < day);
}

#[test]
fn what_cannot_be_meant_names_its_flag() {
    let of = |change: &dyn Fn(&mut Options)| {
        let mut options = Options::default();
        change(&mut options);
        options
    };
    for version in ["three", "3", "3.12.1.2", "3.13rc1", "1!3.12", ""] {
        let options = of(&|options| options.python_version = Some(version.to_owned()));
        refused(&options, "--python-version");
    }
    refused(&of(&|options| options.python_platform = Some("li nux".into())), "--python-platform");
    refused(&of(&|options| options.exclude_newer = Some("soon".into())), "--exclude-newer");
    refused(&of(&|options| options.only_binary = vec!["a b".into()]), "--only-binary");
    refused(&of(&|options| options.no_binary = vec![String::from("x"); 5_000]), "--no-binary");
    refused(&of(&|options| options.allow_new = vec!["npm:leaf@1".into()]), "--allow-new");
    let file = |text: &str| vec![OptionFile { name: "c.txt".into(), text: text.into() }];
    refused(&of(&|options| options.constraints = file("--pre\n")), "--constraint");
    refused(&of(&|options| options.overrides = file(&"#".repeat(2 << 20))), "--override");
    let many = vec![OptionFile::default(); 1_000];
    refused(&of(&|options| options.constraints.clone_from(&many)), "--constraint");
}

#[test]
fn names_are_those_of_pip() {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let options =
        Options { only_binary: texts(&[":all:", "a,B_c", ":none:", "d"]), ..Default::default() };
    let names = options.check().expect("names").only_binary;
    assert!(!names.all);
    assert_eq!(names.names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["d"]);
    let options = Options { no_binary: texts(&["x", ":all:"]), ..Default::default() };
    let names = options.check().expect("names").no_binary;
    assert!(names.has(&"anything".parse().expect("a name")));
}

#[test]
fn an_option_is_refused_by_name_where_it_is_not_honoured() {
    let options = Options {
        python_version: Some("3.12".into()),
        resolution: Some(Mode::Lowest),
        ..Default::default()
    };
    let choices = options.check().expect("options");
    let error = choices.check_honoured(Ecosystem::Npm, &[]).expect_err("refused");
    assert!(error.message.contains("--resolution") && error.message.contains("npm"), "{error:?}");
    // What is about Python does not concern npm.
    choices.check_honoured(Ecosystem::Npm, &[Choice::Resolution]).expect("honoured");
    let error = choices.check_honoured(Ecosystem::Pypi, &[Choice::Resolution]).expect_err("left");
    assert!(error.message.contains("--python-version"), "{error:?}");
    choices.check_in_place(&[Ecosystem::Npm, Ecosystem::Pypi].into()).expect("Python is there");
    let error = choices.check_in_place(&[Ecosystem::Npm].into()).expect_err("no Python");
    assert!(error.message.contains("--python-version"), "{error:?}");
    let usual = Options { resolution: Some(Mode::Highest), frozen: true, ..Default::default() };
    assert!(usual.check().expect("options").given().is_empty());
}

#[test]
fn only_what_is_named_by_itself_is_built_and_only_here() {
    let of = |change: &dyn Fn(&mut Options)| {
        let mut options = Options { build: vec!["a,B_c".into(), "d".into()], ..Options::default() };
        change(&mut options);
        options
    };
    let choices = of(&|_| {}).check().expect("options");
    let names: Vec<String> = choices.build.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b-c", "d"]);
    assert_eq!(choices.given(), [Choice::Build]);
    choices.check_in_place(&[Ecosystem::Npm].into()).expect_err("no Python");
    refused(&of(&|options| options.build = vec![":all:".into()]), "--build");
    refused(&of(&|options| options.build = vec!["a b".into()]), "--build");
    refused(&of(&|options| options.only_binary = vec![":all:".into()]), "--build");
    refused(&of(&|options| options.only_binary = vec!["b.c".into()]), "--build");
    refused(&of(&|options| options.python_version = Some("3.12".into())), "--build");
    refused(&of(&|options| options.python_platform = Some("linux".into())), "--build");
    of(&|options| options.only_binary = vec!["other".into()]).check().expect("two packages");
}
