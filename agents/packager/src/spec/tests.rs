//! Specs that people write, and text that nobody should have written.

use proptest::prelude::*;

use super::*;
use crate::error::Kind;

#[track_caller]
fn check(text: &str, expected: &str) {
    match Spec::parse(text) {
        Ok(spec) => {
            let extras = spec.extras.join(",");
            let shown =
                format!("{} {} [{extras}] {:?}", spec.ecosystem, spec.name, spec.requirement);
            assert_eq!(shown, expected, "{text}");
            assert_eq!(Spec::parse(&spec.to_string()).expect("its own text"), spec, "{text}");
        }
        Err(error) => {
            assert_eq!(error.kind, Kind::Usage, "{text}");
            assert!(error.message.contains(expected), "{text}: {}", error.message);
        }
    }
}

#[test]
fn short_specs_are_read() {
    check("npm:express", "npm express [] \"\"");
    check("npm:express@^4", "npm express [] \"^4\"");
    check("npm:express@latest", "npm express [] \"latest\"");
    check("npm:express@>=4 <5 || 3", "npm express [] \">=4 <5 || 3\"");
    check("npm:@scope/name@^1", "npm @scope/name [] \"^1\"");
    check("npm:@scope/name", "npm @scope/name [] \"\"");
    check("npm:a@npm:b@^2", "npm a [] \"npm:b@^2\"");
    check("NPM:express", "npm express [] \"\"");
    check("pypi:requests", "pypi requests [] \"\"");
    check("pypi:Foo.Bar__baz", "pypi foo-bar-baz [] \"\"");
    check(
        "pypi:requests[socks,Use_Chardet]>=2.31,<3",
        "pypi requests [socks,use-chardet] \">=2.31,<3\"",
    );
    check("pypi:requests==2.31.0", "pypi requests [] \"==2.31.0\"");
    check("pypi:requests ~= 2.31", "pypi requests [] \"~= 2.31\"");
    check("cargo:serde@1", "cargo serde [] \"1\"");
    check("cargo:serde[rc,derive,rc]@=1.0.2", "cargo serde [derive,rc] \"=1.0.2\"");
    check("cargo:tokio[full]", "cargo tokio [full] \"\"");
}

#[test]
fn purls_are_read_and_name_one_version() {
    check("pkg:npm/express@4.19.2", "npm express [] \"=4.19.2\"");
    check("pkg:npm/%40scope/name@1.0.0-rc.1", "npm @scope/name [] \"=1.0.0-rc.1\"");
    check("pkg:npm/@scope/name@1.0.0", "npm @scope/name [] \"=1.0.0\"");
    check("pkg:npm/@scope/name", "npm @scope/name [] \"\"");
    check("pkg:NPM/express", "npm express [] \"\"");
    check("pkg://pypi/Django_x@1.11.1?extras=a,b", "pypi django-x [a,b] \"==1.11.1\"");
    check("pkg:pypi/x@1%2Blocal", "pypi x [] \"==1+local\"");
    check("pkg:pypi/x@1%212.0", "pypi x [] \"==1!2.0\"");
    check("pkg:cargo/serde@1.0.2?features=derive%2Crc", "cargo serde [derive,rc] \"=1.0.2\"");
    check("pkg:npm/express@^4", "not one version");
    check("pkg:npm/express@4.0.0#lib", "a part of a package");
    check("pkg:npm/express@4.0.0?arch=x", "qualifier `arch`");
    check("pkg:npm/expr%zzess", "hexadecimal");
    check("pkg:npm/a%ffb", "UTF-8");
    check("pkg:npm/a%00b", "control");
    check("pkg:npm", "a type and a name");
    check("pkg:pypi/a/b", "no namespace");
    check("pkg:npm/..", "begins with");
}

#[test]
fn what_cannot_be_asked_for_is_refused_with_a_reason() {
    check("express", "does not name an ecosystem");
    check("", "empty");
    check("npm:", "empty");
    check("npm:../x", "begins with");
    check("npm:.x", "begins with");
    check("npm:node_modules", "reserved");
    check("npm:a b", "characters");
    check("npm:@scope", "scope needs a name");
    check("npm:a/b", "characters");
    check("npm:a@github:x/y", "git repository");
    check("npm:a@file:../b", "path on this machine");
    check("npm:a@https://example.invalid/a.tgz?token=x", "a query or a fragment");
    check("npm:a@https://me:x@example.invalid/a.tgz", "password");
    check("npm:a@npm:b@https://example.invalid/a.tgz", "no registry");
    check("npm:a@~/b.tgz", "home directory");
    check("npm:a\u{1b}[31m", "control characters");
    check("pypi:-x", "punctuation");
    check("pypi:requests@2", "address");
    check("pypi:requests>=x", "version specifier");
    check("pypi:requests; python_version<'3'", "markers");
    check("pypi:requests[socks", "not closed");
    check("cargo:1x", "begin with a letter");
    check("cargo:serde@foo", "version requirement");
    check("cargo:serde=1", "only letters");
    check("zig:x", "not an ecosystem");
    check("deb:x", "less than two characters");
    check("deb:nginx@!!", "not a version or a relation");
    for known in ["apk", "maven", "nuget", "gem", "composer"] {
        check(&format!("{known}:x"), "cannot be installed by this version");
    }
    check("pkg:maven/org.apache/x@1", "cannot be installed by this version");
}

#[test]
fn archives_are_named_by_address_and_path() {
    for (text, requirement) in [
        ("npm:@s/a@https://example.invalid/a.tgz", "https://example.invalid/a.tgz"),
        ("npm:a@http://example.invalid/x", "http://example.invalid/x"),
        ("npm:a@file:../a b.tgz", "file:../a b.tgz"),
        ("npm:a@./a.tgz", "file:./a.tgz"),
        ("npm:a@a.tgz", "file:a.tgz"),
    ] {
        let spec = Spec::parse(text).expect(text);
        assert_eq!(spec.requirement, requirement);
        assert_eq!(Spec::parse(&spec.to_string()), Ok(spec), "{text}");
    }
}

#[test]
fn a_bare_name_is_told_how_to_be_written() {
    let error = Spec::parse("express").expect_err("bare");
    assert!(error.hint.expect("hint").contains("`npm:express`"));
}

#[test]
fn purls_are_written_as_the_specification_says() {
    assert_eq!(purl(Ecosystem::Npm, "@scope/name", "1.0.0"), "pkg:npm/%40scope/name@1.0.0");
    assert_eq!(purl(Ecosystem::Npm, "a", "1.0.0-rc.1+b"), "pkg:npm/a@1.0.0-rc.1%2Bb");
    assert_eq!(purl(Ecosystem::Pypi, "x", "1!2.0+l"), "pkg:pypi/x@1%212.0%2Bl");
    assert_eq!(purl(Ecosystem::Cargo, "serde_json", "1.0.0"), "pkg:cargo/serde_json@1.0.0");
}

#[test]
fn packages_of_distributions_are_named_in_their_own_words() {
    let check = |text: &str, expected: &str| {
        assert_eq!(Spec::parse(text).expect(text).to_string(), expected);
    };
    check("rpm:web", "rpm:web");
    check("rpm:web=1:2.0-1.fc40", "rpm:web@=1:2.0-1.fc40");
    check("rpm:glibc.i686@2.38", "rpm:glibc.i686@=2.38");
    check("pkg:rpm/fedora/web@2.0-1?epoch=1&arch=noarch", "rpm:web@=1:2.0-1");
    check("pacman:r8168-lts", "pacman:r8168-lts");
    check("pkg:alpm/arch/web@1:2.0-1?arch=x86_64", "pacman:web@=1:2.0-1");
    assert_eq!(purl(Ecosystem::Rpm, "web", "1:2.0-1"), "pkg:rpm/web@2.0-1?epoch=1");
    assert_eq!(purl(Ecosystem::Pacman, "gtk+", "1:2-1"), "pkg:alpm/arch/gtk%2B@1:2-1");
    for text in
        ["rpm:-y", "rpm:*", "rpm:a/b", "rpm:web>=1", "rpm:web=-1", "rpm:web=1:", "pacman:a b"]
    {
        assert!(Spec::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,60}|(npm|pypi|cargo|pkg):[-@a-z%0-9\\[\\]<>=~^./?#&,! ]{0,40}") {
        if let Ok(spec) = Spec::parse(&text) {
            prop_assert_eq!(Spec::parse(&spec.to_string()).expect("its own text"), spec);
        }
    }

    #[test]
    fn a_written_purl_reads_back(name in "(@[a-z]{1,5}/)?[a-z][a-z0-9-]{0,8}", major in 0u32..99, pre in "(-[a-z]{1,4})?") {
        let version = format!("{major}.0.1{pre}");
        let spec = Spec::parse(&purl(Ecosystem::Npm, &name, &version)).expect("a purl");
        prop_assert_eq!(spec.name, name);
        prop_assert_eq!(spec.requirement, format!("={version}"));
    }
}

#[test]
fn packages_of_debian_are_named_short_and_as_purls() {
    for (text, name, requirement) in [
        ("deb:nginx", "nginx", ""),
        ("deb:libc6:i386@>=2.36-9", "libc6:i386", ">=2.36-9"),
        ("pkg:deb/debian/nginx@1.22.1-9?arch=amd64", "nginx", "=1.22.1-9"),
        ("pkg:deb/g%2B%2B", "g++", ""),
    ] {
        let spec = Spec::parse(text).expect(text);
        assert_eq!((spec.name.as_str(), spec.requirement.as_str()), (name, requirement));
        assert_eq!(Spec::parse(&spec.to_string()), Ok(spec), "{text}");
    }
    assert_eq!(
        super::purl(Ecosystem::Debian, "g++:i386", "4:12.2"),
        "pkg:deb/debian/g%2B%2B@4:12.2?arch=i386"
    );
}

#[test]
fn what_a_purl_leaves_as_it_is_needs_no_encoding() {
    for character in '\0'..='\u{ff}' {
        let text = format!("a{character}");
        let mut put = String::new();
        super::put_kept(&mut put, &text);
        let law = percent_encoding::utf8_percent_encode(&text, super::KEPT).to_string();
        assert_eq!(put, law, "{character:?}");
    }
}
