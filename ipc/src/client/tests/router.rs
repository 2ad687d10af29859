//! A router for tests: introduces agents to each other, without tokens and policy, on one thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::class::{Class, ClassSet};
use crate::control::{
    AgentInfo, CloseCause, FromRouter, Lineage, Terms, ToRouter, TopicPolicy, TopicTerms, VERSION,
};
use crate::directory::{RouterEntry, Writer};
use crate::header::{AgentId, LaneId};
use crate::segment::{ControlWriter, LaneState, check_cursor, check_region, check_slots};
use crate::socket::{Connection, Listener, ReceiveError};

/// Runs until it is dropped.
pub(super) struct Router {
    pub(super) path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _place: tempfile::TempDir,
}

struct Agent {
    connection: Connection,
    info: Option<AgentInfo>,
    subscriptions: Vec<(u32, String)>,
}

struct LinkState {
    lane: LaneId,
    request: u32,
    opener: AgentId,
    acceptor: AgentId,
    control: ControlWriter,
}

struct Topic {
    lane: LaneId,
    subject: String,
    policy: TopicPolicy,
    writer: AgentId,
    slots: OwnedFd,
    region: OwnedFd,
    control: ControlWriter,
    readers: Vec<AgentId>,
}

struct State {
    agents: Vec<Agent>,
    links: Vec<LinkState>,
    topics: Vec<Topic>,
    next: u32,
    classes: ClassSet,
}

impl Router {
    pub(super) fn start() -> Self {
        Self::allowing(ClassSet::LINKS)
    }

    pub(super) fn allowing(classes: ClassSet) -> Self {
        let place = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&place.path().join("run"), "bus").unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || run(&listener, &stop, classes)
        });
        let path = place.path().join("run/bus");
        Self { path, stop, thread: Some(thread), _place: place }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn run(listener: &Listener, stop: &AtomicBool, classes: ClassSet) {
    let (agents, links, topics) = (Vec::new(), Vec::new(), Vec::new());
    let mut state = State { agents, links, topics, next: 0, classes };
    while !stop.load(Ordering::Relaxed) {
        let connections = state.agents.iter().map(|agent| agent.connection.as_fd());
        let mut polled: Vec<_> = connections
            .chain([listener.as_fd()])
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let slice = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        poll(&mut polled, Some(&slice)).unwrap();
        while let Some(connection) = listener.accept().unwrap() {
            state.agents.push(Agent { connection, info: None, subscriptions: Vec::new() });
        }
        state.serve();
    }
}

fn id_of(agent: &Agent) -> AgentId {
    agent.info.as_ref().map_or(AgentId(0), |info| info.id)
}

fn fds(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}

impl State {
    fn serve(&mut self) {
        let mut index = 0;
        while index < self.agents.len() {
            match self.agents[index].connection.receive() {
                Ok(packet) => {
                    let message = ToRouter::decode(&packet.bytes).unwrap();
                    assert_eq!(message.descriptors(), packet.descriptors.len());
                    self.handle(index, message, packet.descriptors);
                }
                Err(ReceiveError::WouldBlock) => index += 1,
                Err(_) => {
                    let gone = id_of(&self.agents.remove(index));
                    self.forget(gone);
                }
            }
        }
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn tell(&self, to: AgentId, message: &FromRouter, descriptors: &[BorrowedFd<'_>]) {
        assert_eq!(message.descriptors(), descriptors.len());
        if let Some(agent) = self.agents.iter().find(|agent| id_of(agent) == to) {
            // It may have died meanwhile.
            let _ = agent.connection.send(&message.encode().unwrap(), descriptors);
        }
    }

    fn info(&self, id: AgentId) -> AgentInfo {
        let mut infos = self.agents.iter().filter_map(|agent| agent.info.clone());
        infos.find(|info| info.id == id).unwrap()
    }

    fn find(&self, word: &str) -> Vec<AgentInfo> {
        let infos = self.agents.iter().filter_map(|agent| agent.info.clone());
        infos
            .filter(|info| {
                let manifest = &info.manifest;
                let tool = manifest.tools.iter().any(|tool| tool == word);
                word.is_empty() || manifest.name == word || tool
            })
            .collect()
    }

    fn handle(&mut self, index: usize, message: ToRouter, descriptors: Vec<OwnedFd>) {
        let me = id_of(&self.agents[index]);
        match message {
            ToRouter::Hello { manifest, .. } => {
                let id = AgentId(self.number());
                let peer = self.agents[index].connection.peer_credentials().unwrap();
                let info = AgentInfo { id, pid: peer.pid, uid: peer.uid, manifest };
                self.agents[index].info = Some(info);
                let welcome = FromRouter::Welcome {
                    version: VERSION,
                    agent: id,
                    instance: 42,
                    classes: self.classes,
                };
                self.tell(id, &welcome, &[]);
                self.tell(id, &FromRouter::Ping { nonce: 5 }, &[]);
            }
            ToRouter::ListAgents { request, filter } => {
                for packet in FromRouter::encode_agents(request, &self.find(&filter)).unwrap() {
                    self.agents[index].connection.send(&packet, &[]).unwrap();
                }
            }
            ToRouter::OpenLink { request, target, terms } => {
                self.open(me, (request, terms), &target, &descriptors);
            }
            ToRouter::AcceptLink { lane, terms } => {
                check_side(&descriptors);
                let link = self.links.iter().find(|link| link.lane == lane).unwrap();
                let (request, peer) = (link.request, self.info(me));
                let ready = FromRouter::LinkReady { request, lane, peer, terms: terms.clone() };
                let mut all = fds(&descriptors);
                all.push(link.control.as_fd());
                let process = self.process(me);
                all.extend((terms.class == Class::High).then_some(process.as_fd()));
                self.tell(link.opener, &ready, &all);
            }
            ToRouter::CloseLink { lane, reason, why } => self.close(me, lane, &reason, why),
            ToRouter::Grant { lane, grant } => {
                let link = self.links.iter().find(|link| link.lane == lane).unwrap();
                let peer = if link.opener == me { link.acceptor } else { link.opener };
                self.tell(peer, &FromRouter::Granted { lane, grant }, &fds(&descriptors));
            }
            ToRouter::Publish { request, subject, policy, .. } => {
                self.publish(me, request, subject, policy, descriptors);
            }
            ToRouter::Subscribe { request, pattern } => {
                self.agents[index].subscriptions.push((request, pattern));
                self.tell(me, &FromRouter::Subscribed { request }, &[]);
                for topic in 0..self.topics.len() {
                    self.announce(topic);
                }
            }
            ToRouter::JoinTopic { lane } => {
                check_cursor(descriptors[0].as_fd()).unwrap();
                let topic = self.topics.iter_mut().find(|topic| topic.lane == lane).unwrap();
                topic.readers.push(me);
                let writer = topic.writer;
                let joined = FromRouter::ReaderJoined { lane, reader: me };
                self.tell(writer, &joined, &fds(&descriptors));
            }
            ToRouter::Pong { nonce } => assert_eq!(nonce, 5),
            ToRouter::OpenRoute { .. } => panic!("these tests have no exchange"),
            ToRouter::Bye
            | ToRouter::Report(_)
            | ToRouter::Revoke { .. }
            | ToRouter::DropReader { .. }
            | ToRouter::Unsubscribe { .. } => {}
            ToRouter::Directory { request } => {
                let router = RouterEntry { instance: 42, pid: 1, started_ns: 2 };
                let directory = Writer::create(router).unwrap();
                self.tell(me, &FromRouter::Directory { request }, &[directory.as_fd()]);
            }
            ToRouter::Status { request } => {
                let piece = b"{}".to_vec();
                self.tell(me, &FromRouter::Status { request, more: false, piece }, &[]);
            }
        }
    }

    fn process(&self, of: AgentId) -> OwnedFd {
        let agent = self.agents.iter().find(|agent| id_of(agent) == of).unwrap();
        agent.connection.peer_process().unwrap()
    }

    fn open(
        &mut self,
        me: AgentId,
        (request, terms): (u32, Terms),
        target: &str,
        descriptors: &[OwnedFd],
    ) {
        check_side(descriptors);
        let Some(acceptor) = self.find(target).first().map(|info| info.id) else {
            let (code, message) = ("no-such-target".into(), format!("nobody is `{target}`"));
            return self.tell(me, &FromRouter::Refused { request, code, message }, &[]);
        };
        let lane = LaneId(self.number());
        let control = ControlWriter::create().unwrap();
        control.set_epoch(lane.0);
        let is_high = terms.class == Class::High;
        let offered = FromRouter::LinkOffered { lane, from: self.info(me), terms };
        let mut all = fds(descriptors);
        all.push(control.as_fd());
        let process = self.process(me);
        all.extend(is_high.then_some(process.as_fd()));
        self.tell(acceptor, &offered, &all);
        self.links.push(LinkState { lane, request, opener: me, acceptor, control });
    }

    fn publish(
        &mut self,
        writer: AgentId,
        request: u32,
        subject: String,
        policy: TopicPolicy,
        descriptors: Vec<OwnedFd>,
    ) {
        check_slots(descriptors[0].as_fd()).unwrap();
        check_region(descriptors[1].as_fd()).unwrap();
        let [slots, region] = <[OwnedFd; 2]>::try_from(descriptors).unwrap();
        let lane = LaneId(self.number());
        let control = ControlWriter::create().unwrap();
        let published = FromRouter::Published { request, lane, epoch: 1 };
        self.tell(writer, &published, &[control.as_fd()]);
        let readers = Vec::new();
        self.topics.push(Topic { lane, subject, policy, writer, slots, region, control, readers });
        self.announce(self.topics.len() - 1);
    }

    /// Tests subscribe to one exact subject.
    fn announce(&self, topic: usize) {
        let topic = &self.topics[topic];
        for agent in &self.agents {
            for (request, pattern) in &agent.subscriptions {
                if *pattern != topic.subject || topic.readers.contains(&id_of(agent)) {
                    continue;
                }
                let found = FromRouter::TopicFound {
                    request: *request,
                    lane: topic.lane,
                    subject: topic.subject.clone(),
                    policy: topic.policy,
                    from: self.info(topic.writer),
                    terms: TopicTerms::default(),
                    lineage: Lineage::default(),
                };
                let all = [topic.slots.as_fd(), topic.region.as_fd(), topic.control.as_fd()];
                self.tell(id_of(agent), &found, &all);
            }
        }
    }

    fn close(&mut self, me: AgentId, lane: LaneId, reason: &str, why: CloseCause) {
        let Some(index) = self.links.iter().position(|link| link.lane == lane) else { return };
        let link = self.links.remove(index);
        let (state, code) = match why {
            CloseCause::Wanted => (LaneState::Closed, "closed"),
            CloseCause::Quarantined => (LaneState::Quarantined, "quarantined"),
        };
        link.control.set(state);
        let peer = if link.opener == me { link.acceptor } else { link.opener };
        let (code, reason) = (code.to_owned(), reason.to_owned());
        self.tell(peer, &FromRouter::LinkClosed { lane, code, reason }, &[]);
    }

    /// What a router does when an agent has died.
    fn forget(&mut self, gone: AgentId) {
        let links = std::mem::take(&mut self.links);
        for link in links {
            if link.opener != gone && link.acceptor != gone {
                self.links.push(link);
                continue;
            }
            link.control.set(LaneState::PeerGone);
            let peer = if link.opener == gone { link.acceptor } else { link.opener };
            let (code, reason) = ("peer-gone".into(), "it died".into());
            self.tell(peer, &FromRouter::LinkClosed { lane: link.lane, code, reason }, &[]);
        }
        for topic in self.topics.iter().filter(|topic| topic.writer == gone) {
            topic.control.set(LaneState::PeerGone);
        }
        self.topics.retain(|topic| topic.writer != gone);
        for topic in &self.topics {
            if topic.readers.contains(&gone) {
                let left = FromRouter::ReaderLeft { lane: topic.lane, reader: gone };
                self.tell(topic.writer, &left, &[]);
            }
        }
    }
}

fn check_side(descriptors: &[OwnedFd]) {
    check_slots(descriptors[0].as_fd()).unwrap();
    check_cursor(descriptors[1].as_fd()).unwrap();
    check_region(descriptors[2].as_fd()).unwrap();
}
