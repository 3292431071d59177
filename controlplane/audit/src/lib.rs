//! The hash-chained audit log.
#![forbid(unsafe_code)]
