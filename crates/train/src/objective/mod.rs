//! Losses with their batch preparation, one file each.

pub mod mlm;
