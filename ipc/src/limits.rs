//! Every bound of the bus, with its unit and its reason.
