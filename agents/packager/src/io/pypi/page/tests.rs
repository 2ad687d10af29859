//! Pages as indexes really serve them.

use std::str::FromStr;

use super::*;
use crate::metadata::pypi::FileKind;
use proptest::prelude::*;

fn name() -> PackageName {
    PackageName::from_str("a-b").expect("a name")
}

fn address() -> Url {
    Url::parse("https://i.example.invalid/simple/a-b/").expect("an address")
}

/// The files of a page by their names.
fn files(text: &str, media_type: &str) -> Vec<Arc<File>> {
    let project = parse(text.as_bytes(), media_type, &name(), &address()).expect("a page");
    let mut files: Vec<Arc<File>> = project.files().collect();
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files
}

#[test]
fn a_written_digest_is_understood_or_refused() {
    let (one, other) = ("0a".repeat(32), "0b".repeat(32));
    let read = |fragment: &str| written_hashes(fragment).map(|hashes| hashes.sha256);
    let upper = one.to_ascii_uppercase();
    for fragment in [
        format!("sha256={one}"),
        format!("egg=a&sha256={upper}&subdirectory=x"),
        format!("sha256={one}&sha256={upper}"),
    ] {
        assert_eq!(read(&fragment), Ok(Some(one.clone())), "{fragment}");
    }
    assert_eq!(read("egg=a"), Ok(None));
    assert_eq!(read(""), Ok(None));
    for (fragment, why) in [
        ("md5=00".to_owned(), "`md5`"),
        (format!("sha256={one}&md5=00"), "`md5`"),
        (format!("sha384={one}"), "`sha384`"),
        ("sha256=0a0b".to_owned(), "that is none"),
        (format!("sha512={one}"), "that is none"),
        (format!("sha256=g{}", &one[1..]), "that is none"),
        (format!("sha256={one}&sha256={other}"), "two different"),
        (format!("sha256:{one}"), "no digest"),
    ] {
        let refused = read(&fragment).expect_err(&fragment);
        assert!(refused.contains(why), "{fragment}: {refused}");
    }
}

fn html(text: &str) -> Vec<Arc<File>> {
    files(text, "text/html")
}

fn json(text: &str) -> Vec<Arc<File>> {
    files(text, JSON)
}

#[test]
fn complete_addresses_are_taken_as_they_stand_and_others_are_put_right() {
    for (written, expected) in [
        ("https://f.example.invalid/x/a.whl", Some("https://f.example.invalid/x/a.whl")),
        ("https://f.example.invalid/a.whl?b=1", Some("https://f.example.invalid/a.whl?b=1")),
        ("https://f.example.invalid/x/../a.whl", Some("https://f.example.invalid/a.whl")),
        ("https://me:hush@f.example.invalid/a.whl", Some("https://f.example.invalid/a.whl")),
        ("https:///f.example.invalid/a.whl", Some("https://f.example.invalid/a.whl")),
        ("https://f.example.invalid/a b.whl", Some("https://f.example.invalid/a%20b.whl")),
        ("../a.whl", Some("https://i.example.invalid/simple/a.whl")),
        ("file:///a.whl", None),
    ] {
        let mut hashes = Hashes::default();
        let link = format!("{written}#sha256={DIGEST}&md5=x");
        let found = address_of(&link, &address(), &mut hashes);
        assert_eq!(found.as_deref(), expected, "{written}");
        assert_eq!(hashes.sha256.is_some(), expected.is_some(), "{written}");
    }
}

const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_page_in_html_gives_everything() {
    let files = html(&format!(
        r#"<!DOCTYPE html><html><body><h1>Links</h1>
        <a href="../../files/a_b-1.0-py3-none-any.whl#sha256={DIGEST}" data-requires-python="&gt;=3.8"
           data-core-metadata="sha256={DIGEST}" data-upload-time="2020-01-01T00:00:00Z">a_b</a><br>
        <A HREF='https://f.example.invalid/a%5Fb-1.1.tar.gz?x=1&amp;y=2#md5=abc' data-yanked="broken &amp; bad" data-dist-info-metadata="false">x</A>
        <a href=a_b-1.2-py3-none-any.whl data-yanked data-dist-info-metadata=true>x</a>
        <!-- <a href="a_b-9.0-py3-none-any.whl">no</a> -->
        <a href="other-1.0-py3-none-any.whl">x</a><a>x</a><a href="mailto:x">x</a>
        <a href="http://[broken/a_b-2.0.zip">x</a></body>"#
    ));
    assert_eq!(files.len(), 3);
    assert_eq!(files[0].url, "https://i.example.invalid/files/a_b-1.0-py3-none-any.whl");
    assert_eq!(files[0].hashes.sha256.as_deref(), Some(DIGEST));
    assert_eq!(files[0].requires_python, VersionSpecifiers::from_str(">=3.8").ok());
    assert_eq!(
        (files[0].core_metadata, files[0].core_metadata_hashes.sha256.as_deref()),
        (Some(true), Some(DIGEST))
    );
    assert_eq!(files[0].published.as_deref(), Some("2020-01-01T00:00:00Z"));
    assert_eq!(files[1].name, "a_b-1.1.tar.gz");
    assert_eq!(files[1].url, "https://f.example.invalid/a%5Fb-1.1.tar.gz?x=1&y=2");
    assert_eq!(files[1].kind, FileKind::Source);
    assert_eq!(files[1].yanked.as_deref(), Some("broken & bad"));
    assert_eq!(files[1].core_metadata, Some(false));
    assert!(files[1].hashes.is_empty());
    assert_eq!((files[2].yanked.as_deref(), files[2].core_metadata), (Some(""), Some(true)));
}

#[test]
fn a_base_changes_where_links_lead() {
    let files = html(
        r#"<base href="https://f.example.invalid/x/"><base href="/no/"><a href="a_b-1.0.zip">x</a>"#,
    );
    assert_eq!(files[0].url, "https://f.example.invalid/x/a_b-1.0.zip");
}

#[test]
fn a_page_in_json_gives_the_same_things() {
    let files = json(&format!(
        r#"{{"meta":{{"api-version":"1.1"}},"name":"A.B","files":[
        {{"filename":"a_b-1.0-py3-none-any.whl","url":"../../files/a.whl","hashes":{{"sha256":"{DIGEST}","md5":"x"}},
          "requires-python":">=3.8","size":7,"upload-time":"2020-01-01T00:00:00Z","yanked":false,"core-metadata":{{"sha256":"{DIGEST}"}}}},
        {{"filename":"a_b-1.1.tar.gz","url":"https://me:hush@f.example.invalid/b","yanked":"bad","dist-info-metadata":false,"gpg-sig":true}},
        {{"filename":"a_b-1.2.zip","url":"c","yanked":true,"requires-python":null,"hashes":[],"size":"7","core-metadata":true}},
        null, 7, {{}}, {{"filename":"a_b-1.3.zip","url":"file:///x"}}, {{"filename":["a_b-1.4.zip"],"url":"x"}}]}}"#
    ));
    assert_eq!(files.len(), 3);
    assert_eq!(files[0].url, "https://i.example.invalid/files/a.whl");
    assert_eq!(
        (files[0].size, files[0].yanked.clone(), files[0].core_metadata),
        (Some(7), None, Some(true))
    );
    assert_eq!(files[0].core_metadata_hashes.sha256.as_deref(), Some(DIGEST));
    assert_eq!(files[1].url, "https://f.example.invalid/b");
    assert_eq!((files[1].yanked.as_deref(), files[1].core_metadata), (Some("bad"), Some(false)));
    assert_eq!((files[2].yanked.as_deref(), files[2].core_metadata), (Some(""), Some(true)));
    assert_eq!((files[2].size, files[2].requires_python.clone()), (None, None));
}

#[test]
fn the_form_is_found_whatever_the_server_calls_it() {
    let page = br#" {"files":[{"filename":"a_b-1.0.zip","url":"x"}]}"#;
    for media_type in ["application/json", JSON, "", "text/plain", "application/octet-stream"] {
        let project = parse(page, media_type, &name(), &address()).expect("a page");
        assert_eq!(project.files_count(), 1, "{media_type}");
    }
    let page = br#"<a href="a_b-1.0.zip">x</a>"#;
    for media_type in ["text/html", "application/vnd.pypi.simple.v1+html", "", "text/plain"] {
        let project = parse(page, media_type, &name(), &address()).expect("a page");
        assert_eq!(project.files_count(), 1, "{media_type}");
    }
}

#[test]
fn what_is_no_page_is_refused_and_an_empty_page_is_not() {
    for (text, media_type) in [
        ("{}", JSON),
        ("[]", JSON),
        (r#"{"files":{}}"#, JSON),
        ("<html>", JSON),
        ("", "text/html"),
        ("plain words", "text/html"),
        (r#"<html><a href="/login">log in</a></html>"#, "text/html"),
    ] {
        assert!(parse(text.as_bytes(), media_type, &name(), &address()).is_err(), "{text}");
    }
    assert!(html("<html><body></body></html>").is_empty());
    assert!(html(r#"<html><a href="other-1.0-py3-none-any.whl">x</a>"#).is_empty());
    assert!(json(r#"{"files":[]}"#).is_empty());
}

#[test]
fn the_same_file_counts_once() {
    assert_eq!(html(r#"<a href="1/a_b-1.0.zip">x</a><a href="2/a_b-1.0.zip">x</a>"#).len(), 1);
}

#[test]
fn the_reduced_form_says_the_same() {
    let files = html(&format!(
        r#"<a href="a_b-1.0-py3-none-any.whl#sha256={DIGEST}" data-requires-python="!=3.9,&gt;=3.8" data-yanked=""
        data-core-metadata="sha256={DIGEST}" data-upload-time="2020-01-01T00:00:00Z">x</a><a href="a_b-1.1.tar.gz">x</a>"#
    ));
    let project = Project::new(name(), files);
    let again = parse(&reduced(&project), JSON, &name(), &address()).expect("our own form");
    assert_eq!(format!("{project:?}"), format!("{again:?}"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512), json in any::<bool>()) {
        let _ = parse(&bytes, if json { JSON } else { "text/html" }, &name(), &address());
    }

    #[test]
    fn no_link_makes_the_parser_panic(href in "[a-z0-9_.:/%#?&;= -]{0,60}", attribute in "[a-z-]{1,20}", value in "\\PC{0,30}") {
        let page = format!("<base href=\"{value}\"><a href=\"{href}\" {attribute}=\"{value}\" data-requires-python=\"{value}\">x</a>");
        let _ = parse(page.as_bytes(), "text/html", &name(), &address());
    }

    #[test]
    fn no_file_name_makes_the_parser_panic(file in "\\PC{0,60}|a_b-[a-z0-9.+!_-]{0,30}(\\.whl|\\.tar\\.gz)") {
        let _ = file_name::parse(&file, &name());
    }
}

mod fuzz {
    use super::{JSON, address, name, parse};
    use crate::fuzz::{changed, fuzz};

    const PAGES: [&str; 2] = [
        r#"{"meta":{"api-version":"1.1"},"name":"a-b","versions":["1.0"],"files":[{"filename":"a_b-1.0-py3-none-any.whl",
"url":"../a_b-1.0-py3-none-any.whl","hashes":{"sha256":"00"},"requires-python":">=3.8","yanked":"why","size":3,
"upload-time":"2020-01-02T03:04:05.678Z","core-metadata":{"sha256":"00"},"dist-info-metadata":true}]}"#,
        "<!DOCTYPE html><html><head><base href='https://h.example.invalid/x/'><meta name='pypi:repository-version' content='1.0'></head>\
<body><a href='a_b-1.0.tar.gz#sha256=00' data-requires-python='&gt;=3.8' data-yanked='' data-core-metadata='true'>a_b-1.0.tar.gz</a><!-- <a --><br/></body></html>",
    ];

    #[test]
    fn pages_are_read_or_refused() {
        fuzz(400, |chance| {
            let text = changed(chance, &PAGES);
            for kind in [JSON, "text/html"] {
                let _ = parse(text.as_bytes(), kind, &name(), &address());
            }
        });
    }
}
