//! Fuzz target: what the two sides of the socket say to each other, the handshake first of all.

use super::*;
use crate::fuzz::{Chance, fuzz};
use crate::limits::{STATUS_PIECE_BYTES_MAX, TEXT_BYTES_MAX, TOKEN_BYTES_MAX};

fn text(chance: &mut Chance) -> String {
    let lengths = [0, 1, 5, 30, WORD_BYTES_MAX - 1, WORD_BYTES_MAX];
    let length = *chance.pick(&lengths);
    let letter = *chance.pick(&["a", ".", "*", ">", "Z"]);
    letter.repeat(length)
}

fn texts(chance: &mut Chance) -> Vec<String> {
    let count = *chance.pick(&[0, 1, 3, LIST_ENTRIES_MAX]);
    (0..count).map(|_| text(chance)).collect()
}

fn cause(chance: &mut Chance) -> CloseCause {
    if chance.once_in(2) { CloseCause::Wanted } else { CloseCause::Quarantined }
}

fn manifest(chance: &mut Chance) -> AgentManifest {
    AgentManifest {
        name: text(chance),
        version: text(chance),
        category: text(chance),
        priority: chance.next() as u8,
        capabilities: texts(chance),
        tools: texts(chance),
        subscriptions: texts(chance),
        tags: texts(chance),
        limits: OwnLimits {
            links: chance.once_in(2).then(|| chance.next()),
            passed: chance.once_in(2).then(|| chance.next()),
            ..OwnLimits::default()
        },
    }
}

fn agent(chance: &mut Chance) -> AgentInfo {
    let (id, pid, uid) = (AgentId(chance.next() as u32), 1, chance.next() as u32);
    AgentInfo { id, pid, uid, manifest: manifest(chance) }
}

fn terms(chance: &mut Chance) -> Terms {
    let (class, wanted) = (*chance.pick(&Class::ALL), *chance.pick(&Class::ALL));
    let ring = chance.once_in(2).then(|| chance.next() as u32 >> 1);
    Terms { class, wanted, ring, reason: text(chance) }
}

fn topic_terms(chance: &mut Chance) -> TopicTerms {
    let patience_ms = chance.next() as u32 % (PATIENCE_MS_MAX + 1);
    let slow = [SlowReaders::Wait, SlowReaders::LetGo { patience_ms }];
    TopicTerms { history: chance.next() as u32, slow: *chance.pick(&slow) }
}

fn lineage(chance: &mut Chance) -> Lineage {
    let follows = chance.once_in(2).then(|| LaneId(chance.next() as u32 | 1));
    let resume = chance.once_in(2).then(|| chance.next() >> 1);
    Lineage { epoch: chance.next() as u32, follows, resume }
}

pub(crate) fn to_router(chance: &mut Chance) -> ToRouter {
    let request = chance.number(1) as u32;
    let lane = LaneId(chance.number(1) as u32);
    match chance.below(18) {
        0..=2 => {
            let token = chance.below(TOKEN_BYTES_MAX + 1);
            let token = chance.bytes(token);
            ToRouter::Hello { version: VERSION, manifest: manifest(chance), token }
        }
        3 => ToRouter::ListAgents { request, filter: text(chance) },
        4 => ToRouter::OpenLink { request, target: text(chance), terms: terms(chance) },
        5 => ToRouter::OpenRoute { request, first: lane, terms: terms(chance) },
        6 => ToRouter::AcceptLink { lane, terms: terms(chance) },
        7 => {
            let reason = "r".repeat(chance.below(TEXT_BYTES_MAX + 1));
            ToRouter::CloseLink { lane, reason, why: cause(chance) }
        }
        8 => ToRouter::Grant { lane, grant: GrantId(chance.next()) },
        9 => {
            let (policy, terms) = (TopicPolicy::Lossy, topic_terms(chance));
            ToRouter::Publish { request, subject: text(chance), policy, terms }
        }
        10 => ToRouter::Subscribe { request, pattern: text(chance) },
        11 => ToRouter::JoinTopic { lane },
        12 => {
            let errors = texts(chance).into_iter().map(|kind| (kind, chance.next())).collect();
            ToRouter::Report(Report { errors, started: chance.next(), ..Report::default() })
        }
        13 => ToRouter::Directory { request },
        14 => ToRouter::Revoke { request, agent: text(chance), lane, reason: text(chance) },
        15 => {
            let (reader, reason) = (AgentId(request), text(chance));
            ToRouter::DropReader { lane, reader, reason, why: cause(chance) }
        }
        16 => ToRouter::Unsubscribe { subscription: request },
        _ => ToRouter::Pong { nonce: chance.next() },
    }
}

pub(crate) fn from_router(chance: &mut Chance) -> FromRouter {
    let request = chance.number(1) as u32;
    let lane = LaneId(chance.number(1) as u32);
    match chance.below(17) {
        0 => {
            let (instance, classes) = (chance.next(), ClassSet::from_bits(chance.next() as u8));
            FromRouter::Welcome { version: VERSION, agent: AgentId(1), instance, classes }
        }
        1 => FromRouter::Refused { request, code: text(chance), message: text(chance) },
        2 => {
            // Large ones would not fit into one packet.
            let agents = (0..chance.below(2)).map(|_| agent(chance)).collect();
            FromRouter::Agents { request, more: chance.once_in(2), agents }
        }
        3 => FromRouter::LinkOffered { lane, from: agent(chance), terms: terms(chance) },
        4 => FromRouter::LinkReady { request, lane, peer: agent(chance), terms: terms(chance) },
        5 => FromRouter::LinkClosed { lane, code: text(chance), reason: text(chance) },
        6 => FromRouter::Granted { lane, grant: GrantId(chance.number(1)) },
        7 => FromRouter::Published { request, lane, epoch: chance.next() as u32 },
        8 => FromRouter::Subscribed { request },
        9 => {
            let (subject, policy) = (text(chance), TopicPolicy::Lossless);
            let (from, terms, lineage) = (agent(chance), topic_terms(chance), lineage(chance));
            FromRouter::TopicFound { request, lane, subject, policy, from, terms, lineage }
        }
        10 => FromRouter::ReaderJoined { lane, reader: AgentId(chance.next() as u32) },
        11 => FromRouter::ReaderLeft { lane, reader: AgentId(chance.next() as u32) },
        12 => FromRouter::Ping { nonce: chance.next() },
        13 => {
            let piece = chance.below(STATUS_PIECE_BYTES_MAX + 1);
            FromRouter::Status { request, more: chance.once_in(2), piece: chance.bytes(piece) }
        }
        14 => FromRouter::Directory { request },
        15 => FromRouter::Revoked { request, count: chance.next() as u32 },
        _ => FromRouter::Draining,
    }
}

/// Changes a packet; most of the time its frame still says how long it is, so that the fields are reached.
pub(crate) fn damage(chance: &mut Chance, mut packet: Vec<u8>) -> Vec<u8> {
    if chance.once_in(4) {
        chance.mutate(&mut packet);
        packet.truncate(PACKET_BYTES_MAX);
        return packet;
    }
    let mut fields = packet.split_off(FRAME_BYTES);
    chance.mutate(&mut fields);
    fields.truncate(PACKET_BYTES_MAX - FRAME_BYTES);
    packet.extend(fields);
    with_length(packet)
}

/// What a message of an earlier version does not say, and one of this version does: a report's work and figures take the most.
const UNSAID_BYTES_MAX: usize = 128;

#[test]
fn what_is_taken_for_a_message_can_be_said_again() {
    fuzz(4_000, |chance| {
        let packet = to_router(chance).encode().unwrap();
        let packet = damage(chance, packet);
        if let Ok(message) = ToRouter::decode(&packet) {
            assert!(message.descriptors() <= crate::limits::DESCRIPTORS_PER_PACKET_MAX);
            let again = message.encode().unwrap();
            assert!(again.len() <= packet.len().max(FRAME_BYTES) + UNSAID_BYTES_MAX);
            assert_eq!(ToRouter::decode(&again), Ok(message));
        }
        let Ok(packet) = from_router(chance).encode() else { return };
        let packet = damage(chance, packet);
        if let Ok(message) = FromRouter::decode(&packet) {
            let again = message.encode().unwrap();
            assert!(again.len() <= packet.len() + UNSAID_BYTES_MAX);
            assert_eq!(FromRouter::decode(&again), Ok(message));
        }
    });
}
