//! One table of operators, [`operators`], and the checks that read it.
//!
//! | check | what is compared | with what |
//! | --- | --- | --- |
//! | `tests/gradcheck` | every gradient in f64, over drawn shapes and attributes | central differences |
//! | [`verify`], `ssmv-raw verify` | outputs and gradients of the golden cases, on the CPU or a device | PyTorch's float64 results |
//! | [`selftest`], `ssmv-raw selftest` | outputs and gradients on a device in f16 | the CPU in f32 on the same numbers |
//!
//! `selftest` also runs the golden cases, and short trainings. On a processor with products of bf16, it checks them too.

mod case;
mod compare;
mod draw;
mod evaluate;
mod golden;
pub mod operators;
mod optimiser;
mod parameters;
mod results;
pub mod selftest;
mod short_trainings;
pub mod verify;

pub use case::{Array, Attributes, Case};
pub use compare::{Comparison, Verdict};
pub use draw::Draw;
pub use evaluate::TargetDevice;
pub use operators::{Operator, operators};
