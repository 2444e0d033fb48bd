//! Jobs of several ranks: how they are started, watched, ended and started again.

mod command;
mod output;
mod restarts;
mod shell;
mod signals;
mod watching;
