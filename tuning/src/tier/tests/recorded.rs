//! Traces of real runs.
