//! A wait set in somebody else's event loop: tokio waits for its one descriptor.

use std::time::Duration;

use ipc::class::{ReceivingHalf, SendingHalf};
use ipc::client::{Client, Event, LinkOptions};
use ipc::header::Class;
use ipc::link::Link;
use ipc::ring::Meta;
use ipc::wait::Spin;
use ipc::wait_set::WaitSet;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::world::{Daemon, Options, patience};

const PLAIN: Options = Options { hosted: "", dev: false, drain_seconds: 10, routed: "" };
/// Messages, a third over each lane.
const ROUNDS: u64 = 300;

fn accept(client: &mut Client) -> Link {
    loop {
        if let Some(Event::LinkOffered(offer)) = client.next_event(patience()).unwrap() {
            return client.accept(offer).unwrap();
        }
    }
}

/// The next number on any of the lanes; how often the timer was due meanwhile is added to `ticks`.
async fn next(
    set: &mut AsyncFd<WaitSet>,
    client: &mut Client,
    links: &mut [Link],
    ticks: &mut usize,
) -> Option<u64> {
    let lanes = links.iter_mut().map(|link| link.receiver().raw() as &mut dyn ReceivingHalf);
    let mut lanes: Vec<_> = lanes.collect();
    if set.get_mut().arm(client, &mut lanes).unwrap() {
        set.readable().await.unwrap().clear_ready();
        set.get_mut().disarm(client, &mut lanes).unwrap();
    }
    while client.next_event(std::time::Instant::now()).unwrap().is_some() {}
    let ready = set.get_ref().ready();
    *ticks += ready.timers.len();
    // One at a time: what is left makes the next wait short.
    ready.lanes.iter().find_map(|index| {
        let message = lanes[*index].try_receive().unwrap()?;
        Some(u64::from_le_bytes(message.payload.try_into().unwrap()))
    })
}

#[test]
fn tokio_waits_for_lanes_of_every_class_and_a_timer_by_one_descriptor() {
    let daemon = Daemon::start(&PLAIN);
    let mut client = daemon.client("test.reader");
    let mut writer = daemon.client("test.writer");
    let mut links = Vec::new();
    let mut theirs = Vec::new();
    for class in [Class::Critical, Class::High, Class::Normal] {
        std::thread::scope(|scope| {
            let accepted = scope.spawn(|| accept(&mut client));
            theirs.push(writer.open_link("test.reader", LinkOptions { class }).unwrap());
            links.push(accepted.join().unwrap());
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let mut set = WaitSet::new(Spin::None).unwrap();
        set.every(Duration::from_micros(500)).unwrap();
        #[allow(deprecated, reason = "the set keeps its descriptor as long as it lives, and what takes its place is unsafe")]
        let mut set = AsyncFd::with_interest(set, Interest::READABLE).unwrap();
        let sender = std::thread::spawn(move || {
            for number in 0..ROUNDS {
                let link = &mut theirs[usize::try_from(number).unwrap() % 3];
                let when = ipc::lane::WhenFull::WaitUntil(patience());
                link.sender().raw().send(Meta::default(), &number.to_le_bytes(), when).unwrap();
                if number % 7 == 0 {
                    std::thread::yield_now();
                }
            }
            (writer, theirs)
        });
        let (mut found, mut ticks) = (Vec::new(), 0);
        while found.len() < ROUNDS as usize || ticks == 0 {
            found.extend(next(&mut set, &mut client, &mut links, &mut ticks).await);
        }
        let alive = sender.join().unwrap();
        for class in 0..3 {
            let of_one = found.iter().copied().filter(|number| number % 3 == class);
            let expected = (0..ROUNDS).filter(|number| number % 3 == class);
            assert!(of_one.eq(expected), "what came over one lane came in order, each once");
        }
        drop(alive);
    });
}
