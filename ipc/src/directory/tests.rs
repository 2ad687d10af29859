//! The directory: back and forth, read while it is written, from a hostile router, and by name.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicU64 as Counter};

use proptest::prelude::*;

use super::format::{GENERATION_AT, HEADER_WORDS, PLACES, Place, TABLES_AT, TOTALS_AT, VERSION};
use super::reader::{places, read};
use super::*;
use crate::limits::{DIRECTORY_AGENTS_MAX, DIRECTORY_BYTES, DIRECTORY_LANES_MAX, WORD_BYTES_MAX};
use crate::sync::{AtomicU64, Ordering};

mod fuzz;

const ROUTER: RouterEntry = RouterEntry { instance: 7, pid: 42, started_ns: 5 };

fn writer() -> Writer {
    Writer::create(ROUTER).unwrap()
}

fn open(writer: &Writer) -> Reader {
    Reader::open(writer.as_fd().try_clone_to_owned().unwrap()).unwrap()
}

/// A picture all of whose numbers follow from one.
fn picture(number: u32) -> Picture {
    let wide = u64::from(number);
    let mut latency = Histogram::default();
    latency.record(wide);
    let agent = |id| AgentEntry {
        id: AgentId(id),
        pid: number,
        uid: number,
        state: AgentState::Up,
        name: format!("agent-{number}"),
        links: number,
        topics: number,
        subscriptions: number,
        sent: wide,
        received: wide,
        bytes_lent: wide,
    };
    let topic = TopicEntry {
        lane: LaneId(1),
        writer: AgentId(number),
        lossless: number.is_multiple_of(2),
        subject: format!("event.{number}"),
        readers: number,
        announced: number,
        messages: wide,
        bytes_lent: wide,
        rejected: wide,
        waits: wide,
    };
    let lane = |id| LaneEntry {
        lane: LaneId(id),
        class: 0,
        topic: id.is_multiple_of(2),
        from: AgentId(number),
        to: AgentId(number),
        messages: wide,
        bytes_lent: wide,
        rejected: wide,
        waits: wide,
        received: wide,
        lost: wide,
        depth: number,
        slots: number,
        timed: wide,
        p50_ns: wide,
        p99_ns: wide,
        p999_ns: wide,
    };
    let class = ClassEntry {
        class: 0,
        lanes: number,
        depth: wide,
        messages: wide,
        rejected: wide,
        lost: wide,
        bytes_lent: wide,
        waits: wide,
        latency,
    };
    Picture {
        router: ROUTER,
        refreshed_ns: wide,
        agents: (1..5).map(agent).collect(),
        topics: vec![topic],
        lanes: (1..20).map(lane).collect(),
        classes: vec![class],
        ..Picture::default()
    }
}

/// The number of a picture of one refresh.
fn number_of(agent: &AgentEntry) -> u32 {
    agent.pid
}

#[test]
fn the_written_protocol_has_the_versions_that_are_spoken() {
    let text = include_str!("../../PROTOCOL.md");
    let (major, minor) = VERSION;
    assert!(text.contains(&format!("| major, minor << 16: {major}.{minor} |")));
    let shown = |(major, minor): (u16, u16)| format!("{major}.{minor}");
    let (control, segments) = (crate::control::VERSION, crate::layout::SEGMENT_VERSION);
    let (control, segments, directory) = (shown(control), shown(segments), shown(VERSION));
    let all = format!("{control} and {segments} (the directory: {directory})");
    assert!(text.contains(&all), "{all}");
}

#[test]
fn what_is_written_is_read() {
    let mut writer = writer();
    let reader = open(&writer);
    for number in [1, 2, 3_000_000_000] {
        writer.refresh(&picture(number));
        let expected = Picture { whole: true, generation: writer.generation(), ..picture(number) };
        assert_eq!(reader.read(), expected);
        assert_eq!(reader.generation(), writer.generation());
    }
    writer.refresh(&Picture::default());
    let empty = reader.read();
    assert!(empty.whole && empty.agents.is_empty() && empty.lanes.is_empty());
}

#[test]
fn the_machine_is_read_by_itself_and_with_the_rest() {
    let mut writer = writer();
    let reader = open(&writer);
    assert_eq!((reader.machine(), reader.read().machine), (None, None), "nobody has looked yet");
    let warm = MachineEntry {
        decided_ns: 7,
        state: 2,
        heavy: true,
        background: 1,
        slots: [6, 8, 2],
        millicelsius: Some(-1_500),
        cpus: [12, 8, 2],
        running: [1, 2, 3, 4],
        waiting: [5, 6, 7, 8],
        files: 9,
        files_waiting: [10, 11, 12],
        watch_deferred: [13, 14, 15],
        pinning: 3,
    };
    for shown in [warm, MachineEntry { millicelsius: None, heavy: false, ..warm }] {
        writer.show_machine(&shown);
        assert_eq!((reader.machine(), reader.read().machine), (Some(shown), Some(shown)));
    }
    writer.refresh(&picture(3));
    assert_eq!(reader.machine().map(|machine| machine.slots), Some([6, 8, 2]));
}

#[test]
fn nobody_else_can_write_it() {
    let writer = writer();
    let refused = rustix::io::pwrite(writer.as_fd(), b"x", 0);
    assert_eq!(refused, Err(rustix::io::Errno::PERM));
    let loose = rustix::fs::memfd_create("loose", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&loose, DIRECTORY_BYTES as u64).unwrap();
    assert!(matches!(Reader::open(loose), Err(DirectoryError::Segment(_))));
}

#[test]
fn what_has_no_room_is_counted() {
    let mut writer = writer();
    let mut picture = picture(1);
    picture.agents = vec![picture.agents[0].clone(); DIRECTORY_AGENTS_MAX + 3];
    picture.lanes = vec![picture.lanes[0]; DIRECTORY_LANES_MAX + 1];
    picture.left_out.lanes = 5;
    writer.refresh(&picture);
    let read = open(&writer).read();
    assert_eq!(read.agents.len(), DIRECTORY_AGENTS_MAX);
    assert_eq!(read.left_out, LeftOut { agents: 3, topics: 0, lanes: 6 });
}

#[test]
fn a_name_that_is_too_long_is_cut_between_characters() {
    let mut writer = writer();
    let mut picture = picture(1);
    picture.agents[0].name = "ä".repeat(WORD_BYTES_MAX);
    picture.agents[1].name = format!("a{}", "ä".repeat(WORD_BYTES_MAX));
    writer.refresh(&picture);
    let read = open(&writer).read();
    assert_eq!(read.agents[0].name, "ä".repeat(WORD_BYTES_MAX / 2));
    assert_eq!(read.agents[1].name.len(), WORD_BYTES_MAX - 1);
}

#[test]
fn an_entry_that_stays_the_same_is_not_written() {
    let mut writer = writer();
    writer.refresh(&picture(1));
    let version = || writer.words()[PLACES.lanes.start].load(Ordering::Relaxed);
    let before = version();
    let generation = writer.generation();
    writer.refresh(&picture(1));
    let version = writer.words()[PLACES.lanes.start].load(Ordering::Relaxed);
    assert_eq!(version, before);
    assert_eq!(writer.generation(), generation + 2);
}

/// The words of an entry must be of one refresh whenever they are read; those of a picture too where it says so.
#[test]
fn a_reader_never_sees_half_an_entry() {
    const ROUNDS: u32 = 3_000;
    let mut writer = writer();
    writer.refresh(&picture(1));
    let reader = open(&writer);
    let (done, seen) = (AtomicBool::new(false), Counter::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Goes on until the reader saw something, so that the two are sure to meet.
            let mut number = 1;
            while number < ROUNDS || seen.load(Ordering::Relaxed) < 20 {
                number += 1;
                writer.refresh(&picture(number));
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut last = 0;
        while !done.load(Ordering::Relaxed) {
            let found = reader.read();
            check_consistent(&found);
            assert!(found.generation >= last, "refreshes are seen in their order");
            last = found.generation;
            seen.fetch_add(1, Ordering::Relaxed);
        }
    });
    let found = reader.read();
    check_consistent(&found);
    assert!(found.whole);
}

fn check_consistent(found: &Picture) {
    for agent in &found.agents {
        let id = agent.id;
        assert_eq!(*agent, AgentEntry { id, ..picture(number_of(agent)).agents[0].clone() });
    }
    for lane in &found.lanes {
        let expected = picture(lane.depth).lanes[0];
        assert_eq!(*lane, LaneEntry { lane: lane.lane, topic: lane.topic, ..expected });
    }
    for topic in &found.topics {
        assert_eq!(*topic, picture(topic.readers).topics[0]);
    }
    for class in &found.classes {
        assert_eq!(*class, picture(class.lanes).classes[0]);
    }
    if found.whole {
        assert_eq!(found.unreadable, 0);
        let number = number_of(&found.agents[0]);
        let expected = Picture { whole: true, generation: found.generation, ..picture(number) };
        assert_eq!(*found, expected);
    }
}

#[test]
fn an_entry_that_is_written_for_ever_is_given_up() {
    let mut writer = writer();
    writer.refresh(&picture(1));
    let agent = PLACES.agents.start + PLACES.agents.entry;
    writer.words()[agent].fetch_add(1, Ordering::Relaxed);
    let read = open(&writer).read();
    assert_eq!((read.unreadable, read.agents.len(), read.lanes.len()), (1, 3, 19));
    writer.words()[TOTALS_AT].fetch_add(1, Ordering::Relaxed);
    let read = open(&writer).read();
    assert_eq!((read.unreadable, read.agents.len(), read.whole), (1, 0, false));
}

#[test]
fn a_refresh_that_never_ends_gives_a_picture_that_is_not_whole() {
    let mut writer = writer();
    writer.refresh(&picture(1));
    writer.words()[GENERATION_AT].fetch_add(1, Ordering::Relaxed);
    let read = open(&writer).read();
    assert!(!read.whole);
    assert_eq!(read.agents, picture(1).agents);
}

#[test]
fn texts_that_are_none_are_no_entries() {
    let mut writer = writer();
    writer.refresh(&picture(1));
    let text = PLACES.agents.start + 16;
    for bad in [*b"\x1b[2Jevil", *b"\xff\xff\xff\xff\xff\xff\xff\xff"] {
        writer.words()[text].store(u64::from_le_bytes(bad), Ordering::Relaxed);
        let read = open(&writer).read();
        assert_eq!((read.unreadable, read.agents.len()), (1, 3));
    }
}

#[test]
fn another_version_is_refused() {
    for (index, word) in [(0, 0), (0, 2 << 32 | u64::from(u32::from_le_bytes(*b"BLDR"))), (1, 8)] {
        let writer = writer();
        writer.words()[index].store(word, Ordering::Relaxed);
        assert!(Reader::open(writer.as_fd().try_clone_to_owned().unwrap()).is_err());
    }
}

fn image(words: Vec<u64>) -> Vec<AtomicU64> {
    let mut image: Vec<_> = words.into_iter().map(AtomicU64::new).collect();
    image.resize_with(DIRECTORY_BYTES / 8, || AtomicU64::new(0));
    image
}

fn sound_header() -> Vec<u64> {
    let mut writer = writer();
    writer.refresh(&picture(1));
    let header = &writer.words()[..HEADER_WORDS];
    header.iter().map(|word| word.load(Ordering::Relaxed)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_words_behind_a_sound_header_are_read(
        words in prop::collection::vec(any::<u64>(), 1..3_000),
        counts in any::<[u64; 2]>(),
    ) {
        let mut forged = sound_header();
        // Even versions, so that the words are looked at.
        forged.extend(words.iter().enumerate().map(|(index, word)| match index % 16 {
            0 => word & !1,
            _ => *word,
        }));
        forged[TOTALS_AT + 2..TOTALS_AT + 4].copy_from_slice(&counts);
        let image = image(forged);
        let places = places(&image).unwrap();
        let read = read(&image, &places);
        prop_assert!(read.agents.len() <= PLACES.agents.capacity);
        prop_assert!(read.lanes.len() <= PLACES.lanes.capacity);
    }

    #[test]
    fn any_places_are_refused_or_stay_inside(tables in any::<[u64; 8]>(), small in any::<bool>()) {
        let mut forged = sound_header();
        // Small numbers reach further into the checks.
        let tables = tables.map(|word| if small { word & 0x0000_ffff_000f_ffff } else { word });
        forged[TABLES_AT..TABLES_AT + 8].copy_from_slice(&tables);
        forged[TOTALS_AT + 2..TOTALS_AT + 4].copy_from_slice(&[u64::MAX; 2]);
        let image = image(forged);
        if let Ok(places) = places(&image) {
            let read = read(&image, &places);
            prop_assert!(read.lanes.len() <= DIRECTORY_BYTES / 128);
        }
    }

    #[test]
    fn a_place_goes_back_and_forth(
        start in 0usize..2_000,
        entry in 16usize..300,
        capacity in 0usize..60,
    ) {
        let place = Place { start: start * 8, entry, capacity };
        let fits = place.start * 8 >= HEADER_WORDS * 8
            && (place.start + entry * capacity) * 8 <= DIRECTORY_BYTES;
        prop_assert_eq!(Place::from_words(place.to_words(), 16), fits.then_some(place));
    }
}

/// Random enough for tests: no two are equal, here and in other processes.
fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[test]
fn the_mirror_shows_what_the_directory_shows() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = writer();
    let mirror = MirrorWriter::create(place.path(), random).unwrap();
    let file = place.path().join(NAME_FILE);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for number in [5, 6] {
        writer.refresh(&picture(number));
        mirror.write(&writer).unwrap();
        let read = Mirror::in_directory(place.path()).unwrap().read().unwrap();
        assert_eq!(read, open(&writer).read());
        assert!(read.whole);
    }
    let name = mirror.name().to_owned();
    drop(mirror);
    assert!(!file.exists());
    assert!(matches!(Mirror::open(&name), Err(MirrorError::Open { .. })));
}

#[test]
fn a_mirror_that_is_cut_off_is_an_error_and_no_signal() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = writer();
    writer.refresh(&picture(1));
    let mirror = MirrorWriter::create(place.path(), random).unwrap();
    mirror.write(&writer).unwrap();
    let reader = Mirror::open(mirror.name()).unwrap();
    let flags = rustix::shm::OFlags::RDWR;
    let vandal = rustix::shm::open(mirror.name(), flags, rustix::fs::Mode::empty()).unwrap();
    for bytes in [0, 4_096, 8_192] {
        rustix::fs::ftruncate(&vandal, bytes).unwrap();
        assert!(matches!(reader.read(), Err(MirrorError::CutOff { .. })));
        assert!(matches!(Mirror::open(mirror.name()), Err(MirrorError::CutOff { .. })));
    }
    mirror.write(&writer).unwrap();
    assert_eq!(reader.read().unwrap().agents, picture(1).agents, "the router mends it");
}

#[test]
fn a_mirror_full_of_rubbish_is_refused_or_read_and_never_more() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = writer();
    writer.refresh(&picture(1));
    let mirror = MirrorWriter::create(place.path(), random).unwrap();
    mirror.write(&writer).unwrap();
    let reader = Mirror::open(mirror.name()).unwrap();
    let flags = rustix::shm::OFlags::RDWR;
    let vandal = rustix::shm::open(mirror.name(), flags, rustix::fs::Mode::empty()).unwrap();
    for offset in (4_096..DIRECTORY_BYTES as u64).step_by(4_096) {
        rustix::io::pwrite(&vandal, &[0xab; 1_024], offset).unwrap();
    }
    let read = reader.read().unwrap();
    assert!(read.unreadable > 0);
    rustix::io::pwrite(&vandal, &[0xab; 64], 0).unwrap();
    assert!(matches!(reader.read(), Err(MirrorError::Directory(_))));
}

#[test]
fn names_that_are_none_are_not_opened() {
    let uid = rustix::process::geteuid().as_raw();
    let odd = format!("/bolide-directory-{uid}-../../../etc/p");
    for name in ["", "/", "/bolide", "/../etc/passwd", &odd] {
        assert!(matches!(Mirror::open(name), Err(MirrorError::NotOurs { .. })), "{name}");
    }
    let place = tempfile::tempdir().unwrap();
    assert!(matches!(Mirror::in_directory(place.path()), Err(MirrorError::NoName { .. })));
    std::fs::write(place.path().join(NAME_FILE), "x".repeat(10_000)).unwrap();
    assert!(matches!(Mirror::in_directory(place.path()), Err(MirrorError::NoName { .. })));
}

#[test]
fn mirrors_of_the_dead_are_swept_and_those_of_the_living_are_not() {
    let place = tempfile::tempdir().unwrap();
    let living = MirrorWriter::create(place.path(), random).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let left_over = format!("/bolide-directory-{uid}-{:016x}", random().unwrap());
    let flags = rustix::shm::OFlags::CREATE | rustix::shm::OFlags::EXCL | rustix::shm::OFlags::RDWR;
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    drop(rustix::shm::open(&left_over, flags, mode).unwrap());
    let other_place = tempfile::tempdir().unwrap();
    let other = MirrorWriter::create(other_place.path(), random).unwrap();
    let exists = |name: &str| {
        let flags = rustix::shm::OFlags::RDONLY;
        rustix::shm::open(name, flags, rustix::fs::Mode::empty()).is_ok()
    };
    assert!(!exists(&left_over));
    assert!(exists(living.name()) && exists(other.name()));
}
