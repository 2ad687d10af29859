//! Deaths of the exchange while it keeps records in a log: whatever was acknowledged is there, in order and once; what was
//! asked for and not answered is there whole or not at all.

use ipc::client::Client;
use ipc::exchange::log::{Entry, LogError, Logs, Options, Start};
use ipc::exchange::queue::Durable;
use ipc::link::CallError;

use super::bus::{Bus, patience};
use super::exchanges::{Gone, Ledger};

/// Records of one life.
const RECORDS: u64 = 8;
/// More than all of them.
const READ_BYTES: u32 = 1_000_000;

impl From<LogError> for Gone {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Call(CallError::Ended { ended: ipc::lane::Ended::PeerGone, .. }) => Self,
            LogError::Client(error) => error.into(),
            other => panic!("{other}"),
        }
    }
}

/// Appends numbered records one after the other.
pub(crate) fn serve_log(bus: &Bus, ledger: &mut Ledger) -> Result<(), Gone> {
    let mut client = bus.client("test.writer");
    let mut logs = Logs::open(&mut client)?;
    let log = ledger.queue("records");
    logs.make(&log, Options::default(), patience())?;
    for number in 0..RECORDS {
        ledger.append_asked = number + 1;
        let payload = number.to_le_bytes();
        let position = match ledger.durable {
            Durable::Synced => logs.append_synced(&log, &payload, patience())?,
            _ => logs.append(&log, &payload, patience())?,
        };
        assert_eq!(position, number);
        ledger.appended = number + 1;
    }
    Ok(())
}

/// What is in the log after the death.
pub(crate) fn settle_log(client: &mut Client, ledger: &Ledger) {
    if ledger.append_asked == 0 {
        return;
    }
    let mut logs = Logs::open(client).unwrap();
    let log = ledger.queue("records");
    let entries = logs.read(&log, Start::First, READ_BYTES, patience()).unwrap();
    let mut there = 0u64;
    for entry in entries.iter() {
        match entry {
            Entry::Begin { position } => assert_eq!(position, 0),
            Entry::Record(record) => {
                assert_eq!((record.position, record.payload), (there, &there.to_le_bytes()[..]));
                there += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let (asked, told) = (ledger.append_asked, ledger.appended);
    assert!((told..=asked).contains(&there), "{told} of {asked} were told, {there} are there");
    client.decline(logs.link().lane(), "done").unwrap();
}
