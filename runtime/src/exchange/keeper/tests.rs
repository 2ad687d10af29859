//! Journals on a real directory: opened, closed, removed, and what waits for the disk.

use ipc::header::AgentId;

use std::path::Path;

use super::*;
use crate::exchange::log::AppendError;
use crate::exchange::priority::Priority;
use crate::exchange::queue::{Agent, ItemId, NEVER, Options, Output, Put};
use crate::limits::JOURNAL_RETRY_INTERVAL;

/// One life of the exchange, without its links.
struct Life {
    keeper: Keeper,
    queues: Queues,
    names: Names,
    out: Output,
}

impl Life {
    fn begin(home: &Path) -> Self {
        let mut life = Self {
            keeper: Keeper::new(home.join("exchange/queues")),
            queues: Queues::default(),
            names: Names::default(),
            out: Output::default(),
        };
        life.keeper.open_all(&mut life.queues, &mut life.names, 1);
        life
    }

    fn declare(&mut self, name: &str, durable: Durable) -> Result<QueueId, String> {
        let options = Options { durable, ..Options::default() };
        let id = self.queues.declare(name, Some(options)).unwrap();
        if self.keeper.make(&self.queues, id, name, 1).unwrap() {
            self.settled(name)?;
        }
        Ok(id)
    }

    /// Waits until something is under way no more.
    fn settled(&mut self, name: &str) -> Result<(), String> {
        assert!(self.keeper.is_under_way(name));
        loop {
            let Life { keeper, queues, names, .. } = self;
            if let Some(settled) = keeper.take_settled(queues, names, 2) {
                assert_eq!(settled.name, name);
                assert!(!self.keeper.is_under_way(name));
                return settled.result;
            }
            std::thread::yield_now();
        }
    }

    /// Stores an item and writes that down; what is to be told.
    fn put(&mut self, id: QueueId, item: u64) -> Vec<Effect> {
        let put = Put {
            request: item,
            sender: Agent { name: self.names.number("sender"), id: AgentId(1) },
            item: ItemId(item),
            priority: Priority::new(5).unwrap(),
            dedup: None,
            deadline_ns: NEVER,
            wait_until_ns: 0,
            payload: [1; 8].into(),
        };
        let out = &mut self.out;
        self.queues.with(id, |queue| queue.put(put, 1, out)).unwrap();
        let (records, queues) = (&mut self.out.records, &mut self.queues);
        assert!(self.keeper.write(records, queues, &self.names, 1).is_empty());
        self.out.effects.drain(..).map(|(_, effect)| effect).collect()
    }

    fn ready(&self, name: &str) -> Option<u64> {
        let queue = self.queues.get(self.queues.find(name)?)?;
        Some(queue.view().ready_count)
    }

    fn close(&mut self, id: QueueId) -> Closing {
        let error = JournalError::Append(AppendError::NoSpace);
        self.keeper.close(id, &mut self.queues, &error).unwrap()
    }

    fn reopen(&mut self, name: &str) -> Option<Result<(), String>> {
        let begun = self.keeper.reopen(name, &mut self.names, 2)?;
        Some(begun.and_then(|()| self.settled(name)))
    }
}

#[test]
fn what_a_synced_queue_tells_waits_for_the_disk_in_order() {
    let home = tempfile::tempdir().unwrap();
    let mut life = Life::begin(home.path());
    let id = life.declare("work", Durable::Synced).unwrap();
    for item in 1..=3 {
        for effect in life.put(id, item) {
            assert!(life.keeper.hold(id, Told::Effect(effect)).is_none());
        }
    }
    assert!(life.keeper.is_holding());
    let mut ready = Vec::new();
    while life.keeper.is_holding() {
        assert!(life.keeper.release(&mut ready, &mut life.queues).is_empty());
        std::thread::yield_now();
    }
    let told = ready.iter().map(|(_, told)| match told {
        Told::Effect(Effect::PutAnswered { item, .. }) => item.0,
        other => panic!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_stored_queue_and_one_in_memory_tell_at_once() {
    let home = tempfile::tempdir().unwrap();
    let mut life = Life::begin(home.path());
    for (name, durable) in [("stored", Durable::Stored), ("memory", Durable::No)] {
        let id = life.declare(name, durable).unwrap();
        for effect in life.put(id, 1) {
            assert!(life.keeper.hold(id, Told::Effect(effect)).is_some());
        }
    }
    drop(life);
    let life = Life::begin(home.path());
    assert_eq!((life.ready("stored"), life.ready("memory")), (Some(1), None));
}

#[test]
fn a_closed_queue_gives_back_what_it_held_and_opens_again_when_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let mut life = Life::begin(home.path());
    let id = life.declare("work", Durable::Synced).unwrap();
    for effect in life.put(id, 1) {
        assert!(life.keeper.hold(id, Told::Effect(effect)).is_none());
    }
    let closing = life.close(id);
    assert_eq!((closing.held.len(), life.keeper.is_holding()), (1, false));
    assert_eq!(life.ready("work"), None);
    assert!(matches!(life.reopen("work"), Some(Err(_))), "not at once");
    life.keeper.closed.get_mut("work").unwrap().tried -= JOURNAL_RETRY_INTERVAL;
    // The log's thread lets go of the directory when it is done.
    while !matches!(life.reopen("work"), Some(Ok(()))) {
        if let Some(closed) = life.keeper.closed.get_mut("work") {
            closed.tried -= JOURNAL_RETRY_INTERVAL;
        }
    }
    assert_eq!(life.ready("work"), Some(1));
    assert!(life.reopen("other").is_none(), "it was never closed");
}

#[test]
fn a_removed_queue_leaves_nothing_and_leftovers_are_deleted() {
    let home = tempfile::tempdir().unwrap();
    let mut life = Life::begin(home.path());
    let id = life.declare("work", Durable::Stored).unwrap();
    let queues = home.path().join("exchange/queues");
    life.queues.remove(id).unwrap();
    let (held, begun) = life.keeper.remove(id).unwrap();
    assert!(held.is_empty() && begun.is_ok());
    life.settled("work").unwrap();
    std::fs::create_dir(queues.join(".removed-1-1")).unwrap();
    // Made by a life that ended before the first picture was complete.
    std::fs::create_dir(queues.join("unfinished")).unwrap();
    let life = Life::begin(home.path());
    assert_eq!(life.queues.iter().count(), 0);
    assert_eq!(std::fs::read_dir(&queues).unwrap().count(), 0);
}

#[test]
fn the_state_of_a_queue_that_was_not_opened_is_not_touched() {
    let home = tempfile::tempdir().unwrap();
    let mut first = Life::begin(home.path());
    let id = first.declare("work", Durable::Stored).unwrap();
    first.put(id, 1);
    let mut second = Life {
        keeper: Keeper::new(home.path().join("exchange/queues")),
        queues: Queues::default(),
        names: Names::default(),
        out: Output::default(),
    };
    let refused = second.declare("work", Durable::Stored);
    assert!(refused.unwrap_err().contains("which was not opened"));
    drop((first, second));
    assert_eq!(Life::begin(home.path()).ready("work"), Some(1));
}

#[test]
fn a_queue_is_read_again_where_somebody_of_a_name_in_it_came_meanwhile() {
    let home = tempfile::tempdir().unwrap();
    let mut life = Life::begin(home.path());
    let id = life.declare("work", Durable::Stored).unwrap();
    life.put(id, 1);
    drop(life);
    // A life in which nobody called `sender` has come yet.
    let mut life = Life {
        keeper: Keeper::new(home.path().join("exchange/queues")),
        queues: Queues::default(),
        names: Names::default(),
        out: Output::default(),
    };
    life.keeper.note_closed("work", "a test");
    life.keeper.closed.get_mut("work").unwrap().tried -= JOURNAL_RETRY_INTERVAL;
    life.keeper.reopen("work", &mut life.names, 2).unwrap().unwrap();
    let sender = life.names.number("sender");
    assert_eq!(life.settled("work"), Ok(()));
    assert_eq!((life.ready("work"), life.names.find("sender")), (Some(1), Some(sender)));
    let queue = life.queues.get(life.queues.find("work").unwrap()).unwrap();
    assert!(queue.names().all(|name| name == sender));
}
