//! Lists of agents in packets: as many as fit into each.
//!
//! Not here: one agent (`structures`), and the packets themselves (`codec`).

use super::codec::{DecodeError, EncodeError};
use super::fields::{Reader, Writer};
use super::structures::{read_agent, write_agent};
use super::{AgentInfo, FromRouter};
use crate::limits::{AGENTS_PER_PACKET_MAX, FRAME_BYTES, PACKET_BYTES_MAX};

pub(super) fn write_agents(
    out: &mut Writer,
    request: u32,
    more: bool,
    agents: &[AgentInfo],
) -> Result<(), EncodeError> {
    let (got, max) = (agents.len(), AGENTS_PER_PACKET_MAX);
    if got > max {
        return Err(EncodeError::TooLong { field: "agents", got, max });
    }
    out.u32(request);
    out.u8(more.into());
    out.u16(got as u16);
    agents.iter().try_for_each(|agent| write_agent(out, agent))
}

pub(super) fn read_agents(fields: &mut Reader<'_>) -> Result<FromRouter, DecodeError> {
    let request = fields.u32("request")?;
    let more = fields.u8("more")? != 0;
    let count = usize::from(fields.u16("agents")?);
    if count > AGENTS_PER_PACKET_MAX {
        let (got, max) = (count, AGENTS_PER_PACKET_MAX);
        return Err(DecodeError::TooLong { field: "agents", got, max });
    }
    let agents = (0..count).map(|_| read_agent(fields)).collect::<Result<_, _>>()?;
    Ok(FromRouter::Agents { request, more, agents })
}

/// How many of the first agents fit in one packet.
pub(super) fn agents_that_fit(agents: &[AgentInfo]) -> Result<usize, EncodeError> {
    let mut scratch = Writer::new();
    let room = PACKET_BYTES_MAX - FRAME_BYTES - 7;
    for (index, agent) in agents.iter().take(AGENTS_PER_PACKET_MAX).enumerate() {
        write_agent(&mut scratch, agent)?;
        if scratch.len() > room {
            return Ok(index);
        }
    }
    Ok(agents.len().min(AGENTS_PER_PACKET_MAX))
}
