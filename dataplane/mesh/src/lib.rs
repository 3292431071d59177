//! Signed objects of a mesh, which both planes read.
#![forbid(unsafe_code)]
