//! Configuration, stages, gates, observers and the report: the only room that calls rooms.

pub mod advice;
pub mod config;
pub mod report;
pub mod results;
pub mod tensorboard;
