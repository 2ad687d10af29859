//! The header and the pkg-config file say what the library is. With `BOLIDE_WRITE_HEADER=1` the test writes the header.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]

use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config, Language};

const TOP: &str = "\
/* The bus for C: one connection to the router, links with requests and answers, topics.
 * Generated from ipc/c/src; a test fails where it is not current. The bytes on the bus are in ipc/PROTOCOL.md.
 *
 * Results. Functions return BOLIDE_OK or another BOLIDE_* code; the text of the last failure of a handle is what its
 * *_error function gives. No function ends the program: an error in the library is BOLIDE_PANICKED.
 *
 * Ownership. Handles are the library's memory; whoever got one closes it once, in any order. Closing NULL does nothing;
 * using or closing a handle that was closed is undefined. Arguments are the caller's, and read during the call only;
 * NULL, wrong lengths and text that is not UTF-8 are BOLIDE_ARGUMENT. What the library gives out is its own and valid as
 * long as the function says. A received payload lies where the bus put it; nothing is copied for C.
 *
 * Threads. Any thread may call, one at a time per handle: a second one gets BOLIDE_BUSY. Calls that sleep or that speak
 * with the router also use the client, so two threads that both wait have a client each. Sending, polling (a timeout of
 * 0) and the *_error functions of different handles are independent. A text or message must be read before another
 * thread uses the same handle. After fork() the child uses no handle of its parent.
 *
 * Needs 64-bit little-endian Linux. */";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The names of types in C.
const NAMES: [(&str, &str); 10] = [
    ("Client", "bolide_client"),
    ("Link", "bolide_link"),
    ("Publisher", "bolide_publisher"),
    ("Subscriber", "bolide_subscriber"),
    ("Manifest", "bolide_manifest"),
    ("Limits", "bolide_limits"),
    ("Request", "bolide_request"),
    ("Message", "bolide_message"),
    ("Agent", "bolide_agent"),
    ("Event", "bolide_event"),
];

fn header() -> String {
    let mut config = Config {
        language: Language::C,
        header: Some(TOP.to_owned()),
        include_guard: Some("BOLIDE_H".to_owned()),
        cpp_compat: true,
        documentation: true,
        no_includes: true,
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        usize_is_size_t: true,
        line_length: 100,
        tab_width: 4,
        ..Config::default()
    };
    let names = NAMES.into_iter().chain([("Progress", "bolide_progress")]);
    config.export.rename = names.map(|(from, to)| (from.to_owned(), to.to_owned())).collect();
    let mut written = Vec::new();
    let builder = Builder::new().with_config(config).with_crate(root());
    builder.generate().unwrap().write(&mut written);
    without_helpers(&String::from_utf8(written).unwrap())
}

/// Types of the border are for Rust's eyes; C sees the pointers that they are.
fn without_helpers(header: &str) -> String {
    let mut plain = header.to_owned();
    let helpers: Vec<(String, String)> = header
        .lines()
        .filter_map(|line| {
            let (pointer, name) =
                line.strip_prefix("typedef ")?.strip_suffix(';')?.rsplit_once(' ')?;
            // The asterisks stand at the name.
            let stars = name.len() - name.trim_start_matches('*').len();
            let (stars, name) = name.split_at(stars);
            let ours = name.starts_with("Place_")
                || ["Text", "Bytes", "Words", "Descriptors"].contains(&name);
            ours.then(|| (name.to_owned(), format!("{pointer} {stars}")))
        })
        .collect();
    for (name, pointer) in helpers {
        let typedef = format!("typedef {pointer}{name};\n\n");
        let end = plain.find(&typedef).unwrap();
        let start = plain[..end].rfind("/**").unwrap();
        plain.replace_range(start..end + typedef.len(), "");
        for before in ["    ", "(", " "] {
            plain = plain.replace(&format!("{before}{name} "), &format!("{before}{pointer}"));
        }
    }
    plain
}

#[test]
fn header_is_current() {
    let (path, current) = (root().join("include/bolide.h"), header());
    if std::env::var_os("BOLIDE_WRITE_HEADER").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == current,
        "{} is not current: run `BOLIDE_WRITE_HEADER=1 cargo test -p ipc-c --test header`",
        path.display()
    );
}

#[test]
fn every_exported_function_is_declared() {
    let header = header();
    let mut count = 0;
    for file in ["codes.rs", "client.rs", "link.rs", "topic.rs"] {
        let source = std::fs::read_to_string(root().join("src").join(file)).unwrap();
        for line in source.lines().filter_map(|line| line.strip_prefix("pub extern \"C\" fn ")) {
            let name = line.split('(').next().unwrap();
            assert!(header.contains(&format!("{name}(")), "`{name}` is not in the header");
            count += 1;
        }
    }
    assert!(count > 40, "only {count} functions were found");
}

#[test]
fn pkg_config_file_has_the_version_of_the_library() {
    let file = std::fs::read_to_string(root().join("bolide.pc")).unwrap();
    let version = concat!("Version: ", env!("CARGO_PKG_VERSION"));
    assert!(file.lines().any(|line| line == version), "no `{version}` in bolide.pc");
}
