//! Training: schedules, loss scaling, interruption and what is watched.

pub mod collapse;
pub mod interrupt;
pub mod loss_scale;
pub mod schedule;
