//! The program as people run it: whole runs on a small domain, kills, and bad input.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says what went wrong by failing")]

mod adapter;
mod bad_input;
mod base;
mod buckets;
mod data;
mod domain;
mod faults;
mod labels;
mod memory;
mod plan;
mod resume;
mod runs;
mod sources;
mod versions;
