//! Two processes: this program is started again with a variable set, and its standard input is the socket.

use std::process::{Child, Command, Stdio};

use super::*;

/// Says which part the other process plays; set only there.
const ROLE_VARIABLE: &str = "BOLIDE_TEST_BATCH";
const BYTES: usize = 8 * PAGE;

fn start(role: &str) -> (Child, Connection) {
    let (here, there) = Connection::pair().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "batch::tests::process::other_process", "--quiet"])
        .env(ROLE_VARIABLE, role)
        .stdin(Stdio::from(copy(there.as_fd())))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (child, here)
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn descriptors<const COUNT: usize>(socket: &Connection) -> [OwnedFd; COUNT] {
    socket.receive().unwrap().descriptors.try_into().unwrap()
}

/// Makes the lender's side over a socket. The page is that of whoever plays the router.
fn lender(socket: &Connection, page: OwnedFd) -> (Sender, Pool) {
    let mut sender = Sender::for_link(LaneOptions::default()).unwrap();
    let mut pool = Pool::create(3, BYTES).unwrap();
    let given = [sender.slots_fd(), sender.region_fd(), pool.as_fd()];
    socket.send(b"lender", &given).unwrap();
    let [cursor, returns] = descriptors(socket);
    sender.set_control(page.try_clone().unwrap()).unwrap();
    sender.attach(READER, cursor, None).unwrap();
    pool.attach(READER, returns, Some(page)).unwrap();
    (sender, pool)
}

fn borrower(socket: &Connection, page: OwnedFd) -> (Receiver, Borrower) {
    let [slots, region, memory] = descriptors(socket);
    let cursor = Receiver::new_cursor(Spin::Adaptive).unwrap();
    let borrower = Borrower::open(memory, BYTES).unwrap();
    socket.send(b"borrower", &[cursor.as_fd(), borrower.returns_fd()]).unwrap();
    (Receiver::for_link(LENDER, slots, region, page, cursor).unwrap(), borrower)
}

fn lend_pages(sender: &mut Sender, pool: &mut Pool) {
    for fill in 0..8 {
        let mut loan = pool.loan(PAGE, WhenFull::Reject).unwrap();
        loan.fill(fill);
        let carry = |line: &[u8]| sender.send(Meta::default(), line, WhenFull::Reject);
        pool.lend(loan, &[READER], carry).map_err(|unsent| unsent.error).unwrap();
    }
}

fn take_pages(receiver: &mut Receiver, borrower: &mut Borrower) -> Vec<Lent> {
    (0..8)
        .map(|fill| {
            let message = receiver.receive(Some(later())).unwrap();
            let lent = borrower.take(message.payload).unwrap();
            assert_eq!(all(&lent), vec![fill; PAGE]);
            lent
        })
        .collect()
}

/// Not a test by itself: the other process of the tests below.
#[test]
fn other_process() {
    let Ok(role) = std::env::var(ROLE_VARIABLE) else { return };
    let socket = Connection::from(copy(std::io::stdin().as_fd()));
    let [page] = descriptors(&socket);
    if role == "borrower" {
        let (mut receiver, mut borrower) = borrower(&socket, page);
        let mut held = take_pages(&mut receiver, &mut borrower);
        held.truncate(5);
        socket.send(b"held", &[]).unwrap();
        // Until it is killed, or the first process is gone.
        let _ = socket.receive();
        drop(held);
    } else {
        let (mut sender, mut pool) = lender(&socket, page);
        let mut draft = Draft::create(PAGE).unwrap();
        draft.bytes_mut().fill(42);
        lend_pages(&mut sender, &mut pool);
        socket.send(b"lent", &[draft.freeze().unwrap().as_fd()]).unwrap();
        let _ = socket.receive();
    }
}

#[test]
fn process_that_borrowed_and_was_killed_gives_everything_back() {
    let (child, socket) = start("borrower");
    let control = ControlWriter::create().unwrap();
    socket.send(b"page", &[control.as_fd()]).unwrap();
    let (mut sender, mut pool) = lender(&socket, copy(control.as_fd()));
    lend_pages(&mut sender, &mut pool);
    assert_eq!(socket.receive().unwrap().bytes, b"held");
    assert_eq!((pool.collect(), pool.out()), (3, 5));
    kill(child);
    assert!(socket.receive().is_err(), "it hung up");
    assert_eq!((pool.collect(), pool.out()), (0, 5), "nobody has said so yet");
    // What a router does then.
    control.set(LaneState::PeerGone);
    assert_eq!((pool.collect(), pool.out(), pool.readers()), (5, 0, 0));
    assert!(pool.loan(BYTES, WhenFull::Reject).is_ok());
}

#[test]
fn payloads_of_a_process_that_was_killed_stay_readable() {
    let (child, socket) = start("lender");
    let control = ControlWriter::create().unwrap();
    socket.send(b"page", &[control.as_fd()]).unwrap();
    let (mut receiver, mut borrower) = borrower(&socket, copy(control.as_fd()));
    let [frozen] = descriptors(&socket);
    kill(child);
    control.set(LaneState::PeerGone);
    let held = take_pages(&mut receiver, &mut borrower);
    assert_eq!(held.len(), 8);
    drop(held);
    assert_eq!(&Frozen::open(frozen, PAGE).unwrap()[..], vec![42; PAGE]);
}
