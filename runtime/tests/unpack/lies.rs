//! A process that says what no archive holds: nothing of it is believed, and it gets no second archive.

use super::*;

/// One frame that says that there is a file.
fn file(path: &[u8], size: u64) -> Vec<u8> {
    let mut frame = vec![b'F', 0];
    frame.extend_from_slice(&size.to_le_bytes());
    frame.extend_from_slice(&(path.len() as u16).to_le_bytes());
    frame.extend_from_slice(path);
    frame
}

fn piece(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_le_bytes()[..], content].concat()
}

const NPM: ArchiveKind<'_> = ArchiveKind::Npm;
const CRATE: ArchiveKind<'_> = ArchiveKind::Crate { folder: "demo-1.0.0" };

/// Says these bytes in answer to a request; what came of it.
fn say(
    unpacker: &Unpacker,
    bytes: &[u8],
    as_if: (ArchiveKind<'_>, Contents<'_>),
) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut taken = Vec::new();
    unpacker.attempt(&format!("say:{hexadecimal}"), 1_000, as_if, |entry, content| {
        let mut bytes = Vec::new();
        if as_if.1 != Contents::Names {
            content.read_to_end(&mut bytes).map_err(Refusal::from_read)?;
        }
        taken.push((entry.path, bytes));
        Ok(())
    })?;
    Ok(taken)
}

#[track_caller]
fn check(frames: &[Vec<u8>], as_if: (ArchiveKind<'_>, Contents<'_>), expected: &str) {
    let unpacker = helped();
    let _session = unpacker.session();
    let refused = say(&unpacker, &frames.concat(), as_if).unwrap_err().to_string();
    assert!(refused.contains(expected), "{refused}");
    assert!(unpacker.idle().is_empty(), "it must not have another archive");
}

#[test]
fn what_is_said_as_it_should_be_is_taken() {
    let unpacker = helped();
    let _session = unpacker.session();
    let frames = [file(b"a/b", 3), piece(b"xy"), piece(b"z"), file(b"c", 0)].concat();
    let taken = say(&unpacker, &frames, (NPM, Contents::All)).unwrap();
    assert_eq!(taken, [("a/b".to_owned(), b"xyz".to_vec()), ("c".to_owned(), Vec::new())]);
    assert_eq!(unpacker.idle().len(), 1);
}

#[test]
fn names_are_checked_again() {
    let all = (NPM, Contents::All);
    for (name, expected) in [
        (&b"../x"[..], "component `..`"),
        (b"/etc/passwd", "is absolute"),
        (b"a/../../x", "component `..`"),
        (b"a\\b", "a backslash"),
        (b"a\x1bb", "a control character"),
        (b"", "is empty"),
    ] {
        check(&[file(name, 0)], all, expected);
    }
    check(&[file(&[0xff], 0)], all, "no text");
    check(&[file(b"a", 0), file(b"a/b", 0)], all, "as a file and as a directory");
    check(&[file(b"a", 0), file(b"a", 0)], (CRATE, Contents::All), "twice");
    check(&[file(b"x", 0)], (NPM, Contents::Only("y")), "nobody asked for");
    check(&[file(b"y", 0), file(b"y", 0)], (NPM, Contents::Only("y")), "nobody asked for");
    let mut long = file(b"", 0);
    long[10..12].copy_from_slice(&5_000_u16.to_le_bytes());
    check(&[long], all, "more than anybody reads");
}

#[test]
fn sizes_are_checked_again() {
    let all = (NPM, Contents::All);
    check(&[file(b"a", u64::MAX)], all, "bytes in one file");
    check(&[file(b"a", 100 << 20)], all, "unpacked bytes per packed byte");
    check(&[file(b"a", 3), piece(b"four")], all, "more of a file than its size");
    let names = (NPM, Contents::Names);
    let many: Vec<_> = (0..3).map(|at| file(format!("{at}").as_bytes(), 30 << 20)).collect();
    check(&many, names, "unpacked bytes per packed byte");
}

#[test]
fn frames_out_of_order_are_the_end() {
    let all = (NPM, Contents::All);
    check(&[vec![b'B'; 9]], all, "out of order");
    check(&[vec![b'S', 7]], all, "out of order");
    check(&[vec![b'?']], all, "no answer");
    check(&[vec![b'R', 9, 0, 0]], all, "without a reason");
    check(&[vec![b'D', 255]], all, "warns without end");
    check(&[file(b"a", 3), vec![0; 4], vec![b'D', 0]], all, "out of order");
    check(&[vec![b'D', 0]], (ArchiveKind::Wheel, Contents::All), "no `.dist-info`");
}

#[test]
fn what_is_left_over_of_an_answer_is_not_the_beginning_of_the_next() {
    let unpacker = helped();
    let _session = unpacker.session();
    // A whole answer, and more files behind it.
    let frames = [vec![b'D', 0], file(b"left-over", 0)].concat();
    assert!(say(&unpacker, &frames, (NPM, Contents::All)).unwrap().is_empty());
    let honest = forge::tarball(&[forge::file("package/a", b"content")]);
    let read = contents(&unpacker, &honest, NPM).unwrap();
    assert_eq!((read.len(), read[0].0.path.as_str()), (1, "a"));
    assert_eq!(unpacker.counts(), (2, 1));
}

#[test]
fn words_cannot_steer_a_terminal() {
    let unpacker = helped();
    let mut refusal = vec![b'R', 0, 7, 0];
    refusal.extend_from_slice(b"\x1b[2Joh\n");
    let said = say(&unpacker, &refusal, (NPM, Contents::All)).unwrap_err().to_string();
    assert_eq!(said, "\u{fffd}[2Joh\u{fffd}");
}
