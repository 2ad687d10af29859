//! Tags by hand, finding by made-up directories; the machine's own interpreter is not needed.
