//! Holds no code: the tests of the whole are the binaries `it` and `tidy` beside this folder.
