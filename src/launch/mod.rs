//! Starting the ranks of a job, and what a rank learns from whoever started it.

pub mod environment;
