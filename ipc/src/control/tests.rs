//! The codec: back and forth, broken, truncated, from a later version.

use proptest::prelude::*;

use super::fields::{Reader, Writer};
use super::*;
use crate::class::Class;
use crate::limits::{
    FRAME_BYTES, LIST_ENTRIES_MAX, PACKET_BYTES_MAX, PATIENCE_MS_MAX, WORD_BYTES_MAX,
};
use crate::manifest::OwnLimits;

pub(crate) mod fuzz;

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Zäß€.*>]{0,30}"
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(word(), 0..4)
}

fn manifest() -> impl Strategy<Value = AgentManifest> {
    let words = (words(), words(), words(), words());
    ((word(), word(), word(), any::<u8>()), words, any::<[Option<u64>; 5]>()).prop_map(
        |((name, version, category, priority), words, limits)| {
            let (capabilities, tools, subscriptions, tags) = words;
            let [links, bytes, descriptors, messages, passed] = limits;
            let limits = OwnLimits { links, bytes, descriptors, messages, passed };
            AgentManifest {
                name,
                version,
                category,
                priority,
                capabilities,
                tools,
                subscriptions,
                tags,
                limits,
            }
        },
    )
}

fn agent() -> impl Strategy<Value = AgentInfo> {
    (any::<[u32; 3]>(), manifest()).prop_map(|([id, pid, uid], manifest)| AgentInfo {
        id: AgentId(id),
        pid,
        uid,
        manifest,
    })
}

fn terms() -> impl Strategy<Value = Terms> {
    let class = || prop::sample::select(Class::ALL.to_vec());
    let ring = prop::option::of(0..1_000_000u32);
    (class(), class(), ring, word()).prop_map(|(class, wanted, ring, reason)| Terms {
        class,
        wanted,
        ring,
        reason,
    })
}

fn policy() -> impl Strategy<Value = TopicPolicy> {
    prop_oneof![Just(TopicPolicy::Lossless), Just(TopicPolicy::Lossy)]
}

fn to_router() -> impl Strategy<Value = ToRouter> {
    let lane = any::<u32>().prop_map(LaneId);
    prop_oneof![
        (any::<(u16, u16)>(), manifest(), prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(version, manifest, token)| ToRouter::Hello { version, manifest, token }),
        (any::<u32>(), word())
            .prop_map(|(request, filter)| ToRouter::ListAgents { request, filter }),
        (any::<u32>(), word(), terms()).prop_map(|(request, target, terms)| ToRouter::OpenLink {
            request,
            target,
            terms
        }),
        (any::<u32>(), lane.clone(), terms())
            .prop_map(|(request, first, terms)| ToRouter::OpenRoute { request, first, terms }),
        (lane.clone(), terms()).prop_map(|(lane, terms)| ToRouter::AcceptLink { lane, terms }),
        (any::<u32>(), word(), lane.clone(), word()).prop_map(|(request, agent, lane, reason)| {
            ToRouter::Revoke { request, agent, lane, reason }
        }),
        (lane.clone(), word(), cause()).prop_map(|(lane, reason, why)| ToRouter::CloseLink {
            lane,
            reason,
            why
        }),
        (lane.clone(), any::<u64>())
            .prop_map(|(lane, grant)| ToRouter::Grant { lane, grant: GrantId(grant) }),
        (any::<u32>(), word(), policy(), topic_terms()).prop_map(
            |(request, subject, policy, terms)| {
                ToRouter::Publish { request, subject, policy, terms }
            }
        ),
        (lane.clone(), any::<u32>(), word(), cause()).prop_map(|(lane, reader, reason, why)| {
            ToRouter::DropReader { lane, reader: AgentId(reader), reason, why }
        }),
        (any::<u32>(), word())
            .prop_map(|(request, pattern)| ToRouter::Subscribe { request, pattern }),
        lane.prop_map(|lane| ToRouter::JoinTopic { lane }),
        any::<u32>().prop_map(|subscription| ToRouter::Unsubscribe { subscription }),
        any::<u64>().prop_map(|nonce| ToRouter::Pong { nonce }),
        Just(ToRouter::Bye),
        any::<u32>().prop_map(|request| ToRouter::Status { request }),
        any::<u32>().prop_map(|request| ToRouter::Directory { request }),
        (
            any::<[u64; 5]>(),
            prop::collection::vec((word(), any::<u64>()), 0..4),
            prop::collection::vec((word(), word()), 0..4),
            prop::collection::vec((word(), word(), any::<u64>()), 0..4)
        )
            .prop_map(
                |([started, done, failed, cancelled, panicked], errors, facts, figures)| {
                    let figures = figures.into_iter();
                    let figures = figures.map(|(name, label, value)| Figure { name, label, value });
                    let work = WorkReport {
                        running: [started as u32; 4],
                        deferred: [done; 4],
                        cpus: ["0-3,7", "", "8", "8"].map(str::to_owned),
                        ..WorkReport::default()
                    };
                    ToRouter::Report(Report {
                        started,
                        done,
                        failed,
                        cancelled,
                        panicked,
                        errors,
                        facts,
                        work,
                        figures: figures.collect(),
                    })
                }
            ),
    ]
}

fn cause() -> impl Strategy<Value = CloseCause> {
    prop_oneof![Just(CloseCause::Wanted), Just(CloseCause::Quarantined)]
}

fn topic_terms() -> impl Strategy<Value = TopicTerms> {
    let slow = prop_oneof![
        Just(SlowReaders::Wait),
        (0..=PATIENCE_MS_MAX).prop_map(|patience_ms| SlowReaders::LetGo { patience_ms }),
    ];
    (any::<u32>(), slow).prop_map(|(history, slow)| TopicTerms { history, slow })
}

fn lineage() -> impl Strategy<Value = Lineage> {
    let follows = prop::option::of((1..=u32::MAX).prop_map(LaneId));
    (any::<u32>(), follows, prop::option::of(0..u64::MAX))
        .prop_map(|(epoch, follows, resume)| Lineage { epoch, follows, resume })
}

fn from_router() -> impl Strategy<Value = FromRouter> {
    let lane = any::<u32>().prop_map(LaneId);
    let id = any::<u32>().prop_map(AgentId);
    prop_oneof![
        (any::<(u16, u16)>(), id.clone(), any::<u64>(), any::<u8>()).prop_map(
            |(version, agent, instance, bits)| {
                let classes = ClassSet::from_bits(bits);
                FromRouter::Welcome { version, agent, instance, classes }
            }
        ),
        any::<(u32, u32)>().prop_map(|(request, count)| FromRouter::Revoked { request, count }),
        (any::<u32>(), word(), word()).prop_map(|(request, code, message)| FromRouter::Refused {
            request,
            code,
            message
        }),
        (any::<u32>(), any::<bool>(), prop::collection::vec(agent(), 0..4))
            .prop_map(|(request, more, agents)| FromRouter::Agents { request, more, agents }),
        (lane.clone(), agent(), terms()).prop_map(|(lane, from, terms)| FromRouter::LinkOffered {
            lane,
            from,
            terms
        }),
        (lane.clone(), agent(), agent().prop_map(Box::new), terms()).prop_map(
            |(lane, from, target, terms)| FromRouter::RouteWanted { lane, from, target, terms }
        ),
        (any::<u32>(), lane.clone(), agent(), terms()).prop_map(|(request, lane, peer, terms)| {
            FromRouter::LinkReady { request, lane, peer, terms }
        }),
        (lane.clone(), word(), word()).prop_map(|(lane, code, reason)| FromRouter::LinkClosed {
            lane,
            code,
            reason
        }),
        (lane.clone(), any::<u64>())
            .prop_map(|(lane, grant)| FromRouter::Granted { lane, grant: GrantId(grant) }),
        (any::<u32>(), lane.clone(), any::<u32>())
            .prop_map(|(request, lane, epoch)| FromRouter::Published { request, lane, epoch }),
        any::<u32>().prop_map(|request| FromRouter::Subscribed { request }),
        any::<u32>().prop_map(|request| FromRouter::Directory { request }),
        (any::<u32>(), lane.clone(), word(), policy(), agent(), topic_terms(), lineage()).prop_map(
            |(request, lane, subject, policy, from, terms, lineage)| FromRouter::TopicFound {
                request,
                lane,
                subject,
                policy,
                from,
                terms,
                lineage
            }
        ),
        (lane.clone(), id.clone())
            .prop_map(|(lane, reader)| FromRouter::ReaderExpected { lane, reader }),
        (lane.clone(), id.clone())
            .prop_map(|(lane, reader)| FromRouter::ReaderJoined { lane, reader }),
        (lane, id).prop_map(|(lane, reader)| FromRouter::ReaderLeft { lane, reader }),
        any::<u64>().prop_map(|nonce| FromRouter::Ping { nonce }),
        Just(FromRouter::Draining),
        (any::<u32>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(request, more, piece)| FromRouter::Status { request, more, piece }),
    ]
}

/// A packet with a correct frame around any bytes, so that the fields are reached.
fn framed() -> impl Strategy<Value = Vec<u8>> {
    (0u16..150, prop::collection::vec(any::<u8>(), 0..600)).prop_map(|(number, body)| {
        let mut packet = Vec::new();
        packet.extend(MAGIC.to_le_bytes());
        packet.extend(VERSION.0.to_le_bytes());
        packet.extend(VERSION.1.to_le_bytes());
        packet.extend(number.to_le_bytes());
        packet.extend([0, 0]);
        packet.extend((body.len() as u32).to_le_bytes());
        packet.extend(body);
        packet
    })
}

fn with_length(mut packet: Vec<u8>) -> Vec<u8> {
    let length = (packet.len() - FRAME_BYTES) as u32;
    packet[12..16].copy_from_slice(&length.to_le_bytes());
    packet
}

proptest! {
    #[test]
    fn messages_to_the_router_come_back_equal(message in to_router()) {
        prop_assert_eq!(ToRouter::decode(&message.encode().unwrap()), Ok(message));
    }

    #[test]
    fn messages_from_the_router_come_back_equal(message in from_router()) {
        prop_assert_eq!(FromRouter::decode(&message.encode().unwrap()), Ok(message));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(ToRouter::decode(&bytes).is_err());
        prop_assert!(FromRouter::decode(&bytes).is_err());
    }

    #[test]
    fn random_fields_never_panic(packet in framed()) {
        let _ = ToRouter::decode(&packet);
        let _ = FromRouter::decode(&packet);
    }

    #[test]
    fn truncated_fields_are_an_error(message in to_router(), cut in any::<prop::sample::Index>()) {
        let packet = message.encode().unwrap();
        let length = cut.index(packet.len());
        prop_assert!(ToRouter::decode(&packet[..length]).is_err());
        if (FRAME_BYTES..packet.len()).contains(&length) {
            let result = ToRouter::decode(&with_length(packet[..length].to_vec()));
            // Cut before its terms or its cause, a message is one of the version before them.
            let is_older = match &result {
                Ok(
                    ToRouter::OpenLink { terms, .. }
                    | ToRouter::OpenRoute { terms, .. }
                    | ToRouter::AcceptLink { terms, .. },
                ) => *terms == Terms::default(),
                // Or only before what stands behind those.
                Ok(publish @ ToRouter::Publish { terms, .. }) => {
                    *terms == TopicTerms::default() || *publish == message
                }
                Ok(ToRouter::CloseLink { why, .. } | ToRouter::DropReader { why, .. }) => {
                    *why == CloseCause::Wanted
                }
                Ok(ToRouter::Report(report)) => report.figures.is_empty(),
                _ => false,
            };
            let is_told = matches!(result, Err(DecodeError::Truncated { .. }));
            prop_assert!(is_older || is_told, "{:?}", result);
        }
    }

    #[test]
    fn unknown_trailing_bytes_are_skipped(message in from_router(), tail in any::<[u8; 5]>()) {
        let mut packet = message.encode().unwrap();
        packet.extend(tail);
        prop_assert_eq!(FromRouter::decode(&with_length(packet)), Ok(message));
    }
}

#[test]
fn version_is_the_lower_minor_of_equal_majors() {
    assert_eq!(negotiate((VERSION.0, u16::MAX)), Some(VERSION));
    assert_eq!(negotiate((VERSION.0, 0)), Some((VERSION.0, 0)));
    assert_eq!(negotiate((VERSION.0 + 1, 0)), None);
}

#[test]
fn other_major_is_named_in_the_error() {
    let mut packet = ToRouter::Bye.encode().unwrap();
    packet[4] = 9;
    assert_eq!(ToRouter::decode(&packet), Err(DecodeError::Version { got: (9, VERSION.1) }));
}

#[test]
fn unknown_type_says_whether_it_may_be_skipped() {
    let mut packet = ToRouter::Bye.encode().unwrap();
    packet[8] = 99;
    packet[10] = 1;
    assert_eq!(
        ToRouter::decode(&packet),
        Err(DecodeError::UnknownType { number: 99, optional: true })
    );
}

#[test]
fn too_long_word_is_refused_on_both_sides() {
    let filter = "x".repeat(WORD_BYTES_MAX + 1);
    let message = ToRouter::ListAgents { request: 1, filter };
    assert!(matches!(message.encode(), Err(EncodeError::TooLong { field: "filter", .. })));

    let mut packet = ToRouter::ListAgents { request: 1, filter: String::new() }.encode().unwrap();
    packet[FRAME_BYTES + 4..].copy_from_slice(&200u16.to_le_bytes());
    packet.extend([b'x'; 200]);
    let result = ToRouter::decode(&with_length(packet));
    assert!(matches!(result, Err(DecodeError::TooLong { field: "filter", got: 200, .. })));
}

#[test]
fn control_characters_are_refused() {
    let target = "a\u{1b}[2J".into();
    let message = ToRouter::OpenLink { request: 1, target, terms: Terms::default() };
    assert_eq!(
        ToRouter::decode(&message.encode().unwrap()),
        Err(DecodeError::Text { field: "target" })
    );
}

#[test]
fn limits_of_an_old_manifest_are_none_and_unknown_ones_are_passed_over() {
    let limits = OwnLimits { links: Some(3), ..OwnLimits::default() };
    let manifest = AgentManifest { name: "one".to_owned(), limits, ..AgentManifest::default() };
    let mut fields = Writer::new();
    structures::write_manifest(&mut fields, &manifest).unwrap();
    let bytes = fields.into_bytes();
    let read = |bytes: &[u8]| structures::read_manifest(&mut Reader::new(bytes));
    assert_eq!(read(&bytes), Ok(manifest.clone()));
    let old = &bytes[..bytes.len() - 10];
    let none = AgentManifest { limits: OwnLimits::default(), ..manifest.clone() };
    assert_eq!(read(old), Ok(none));
    // One that is named twice, and one of a later version.
    let mut newer = old.to_vec();
    newer.push(4);
    for (number, value) in [(1, 9), (1, 3), (1, 5), (77, 1u64)] {
        newer.push(number);
        newer.extend(value.to_le_bytes());
    }
    assert_eq!(read(&newer), Ok(manifest));
    newer.pop();
    assert_eq!(read(&newer), Err(DecodeError::Truncated { field: "limits" }));
}

#[test]
fn long_lists_of_agents_come_in_several_packets() {
    let words = vec!["w".repeat(WORD_BYTES_MAX); LIST_ENTRIES_MAX];
    let manifest = AgentManifest {
        name: "n".repeat(WORD_BYTES_MAX),
        capabilities: words.clone(),
        tools: words,
        ..AgentManifest::default()
    };
    let agents: Vec<_> = (0..9)
        .map(|id| AgentInfo { id: AgentId(id), pid: 1, uid: 2, manifest: manifest.clone() })
        .collect();
    let packets = FromRouter::encode_agents(7, &agents).unwrap();
    assert!(packets.len() > 1);
    let mut seen = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        assert!(packet.len() <= PACKET_BYTES_MAX);
        let FromRouter::Agents { request: 7, more, agents } = FromRouter::decode(packet).unwrap()
        else {
            panic!("another message");
        };
        assert_eq!(more, index + 1 < packets.len());
        seen.extend(agents);
    }
    assert_eq!(seen, agents);
    assert_eq!(FromRouter::encode_agents(7, &[]).unwrap().len(), 1);
}

#[test]
fn who_does_not_know_the_directory_may_skip_it() {
    let packets = [
        ToRouter::Directory { request: 1 }.encode().unwrap(),
        FromRouter::Directory { request: 1 }.encode().unwrap(),
    ];
    for packet in packets {
        assert_eq!(packet[10..12], FLAG_OPTIONAL.to_le_bytes());
    }
    assert_eq!(ToRouter::Bye.encode().unwrap()[10..12], [0, 0]);
}

#[test]
fn topics_of_peers_that_know_nothing_of_history_and_lineage_are_understood() {
    let terms = TopicTerms { history: 7, slow: SlowReaders::LetGo { patience_ms: 9 } };
    let (subject, policy) = ("a.b".to_owned(), TopicPolicy::Lossy);
    let shortened = |mut packet: Vec<u8>, bytes: usize| {
        packet.truncate(packet.len() - bytes);
        let length = (packet.len() - 16) as u32;
        packet[12..16].copy_from_slice(&length.to_le_bytes());
        packet
    };
    let message = ToRouter::Publish { request: 1, subject: subject.clone(), policy, terms };
    let old = ToRouter::decode(&shortened(message.encode().unwrap(), 9 + 2));
    let terms = TopicTerms::default();
    assert_eq!(old, Ok(ToRouter::Publish { request: 1, subject, policy, terms }));
    let message = FromRouter::Published { request: 1, lane: LaneId(2), epoch: 3 };
    let old = FromRouter::decode(&shortened(message.encode().unwrap(), 4));
    assert_eq!(old, Ok(FromRouter::Published { request: 1, lane: LaneId(2), epoch: 0 }));
}

#[test]
fn a_close_of_an_earlier_version_says_that_it_was_wanted() {
    let (lane, reason, why) = (LaneId(3), "done".to_owned(), CloseCause::Quarantined);
    let packet = ToRouter::CloseLink { lane, reason: reason.clone(), why }.encode().unwrap();
    let mut earlier = packet[..packet.len() - 1].to_vec();
    let length = (earlier.len() - FRAME_BYTES) as u32;
    earlier[12..16].copy_from_slice(&length.to_le_bytes());
    let why = CloseCause::Wanted;
    assert_eq!(ToRouter::decode(&earlier), Ok(ToRouter::CloseLink { lane, reason, why }));
}

#[test]
fn what_a_later_version_adds_to_the_terms_of_a_topic_is_skipped() {
    let terms = TopicTerms { history: 7, slow: SlowReaders::LetGo { patience_ms: 9 } };
    let (subject, policy) = ("a.b".to_owned(), TopicPolicy::Lossy);
    let message = ToRouter::Publish { request: 1, subject, policy, terms };
    let mut packet = message.encode().unwrap();
    // The last field is a block of no bytes; a later one has three, and something stands behind it.
    packet.truncate(packet.len() - 2);
    packet.extend([3, 0, 1, 2, 3, 4]);
    assert_eq!(ToRouter::decode(&with_length(packet.clone())), Ok(message.clone()));
    packet.truncate(packet.len() - 6);
    assert_eq!(ToRouter::decode(&with_length(packet.clone())), Ok(message), "one of before 1.3");
    packet.extend([3, 0, 1]);
    let torn = ToRouter::decode(&with_length(packet));
    assert!(matches!(torn, Err(DecodeError::Truncated { .. })), "{torn:?}");
}
