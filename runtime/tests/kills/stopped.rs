//! No timer decides that a peer is dead: a process that is stopped for longer than every bound of the bus is still there
//! when it goes on.
