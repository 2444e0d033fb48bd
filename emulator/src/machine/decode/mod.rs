//! Parsed text → decoded instructions: operands become columns, labels become instruction numbers.
//!
//! Every kernel is decoded with the functions that it reaches, because the layout of shared memory depends on them.
//! `names.rs` holds the module's names, `builder.rs` the state that one kernel's functions share, and `body.rs` one
//! function with its scopes (`scope.rs`), operands (`operands.rs`) and reconvergence points (`reconverge.rs`). Each
//! other file decodes one family of instructions.

mod body;
mod builder;
mod cache;
mod call;
mod compare;
mod control;
mod convert;
mod float;
mod integer;
mod logic;
mod matrix;
mod memory;
mod mma;
mod moves;
mod names;
mod operands;
mod reconverge;
mod scope;
mod special;
mod stack;
mod suffix;
mod video;
mod warp;
mod wmma;

use crate::syntax::Parsed;
use body::Body;
use builder::Builder;

pub(super) use builder::DecodedKernel;
pub(super) use names::ModuleNames;

/// Decodes every kernel of a module, in the text's order, each with its index among the unit's functions. Functions
/// that no kernel calls are decoded too, to report their errors.
pub(super) fn kernels(names: &ModuleNames<'_, '_>) -> Parsed<Vec<(usize, DecodedKernel)>> {
    let unit = names.unit;
    let mut seen = vec![false; unit.functions.len()];
    let mut out = Vec::new();
    for (index, function) in unit.functions.iter().enumerate() {
        if function.entry && function.body.is_some() {
            out.push((index, kernel(names, index, &mut seen)?));
        }
    }
    for (index, function) in unit.functions.iter().enumerate() {
        if !seen[index] && function.body.is_some() {
            kernel(names, index, &mut seen)?;
        }
    }
    Ok(out)
}

/// Decodes the kernel (or function) `root` and all functions that it can call; marks them in `seen`.
fn kernel(names: &ModuleNames<'_, '_>, root: usize, seen: &mut [bool]) -> Parsed<DecodedKernel> {
    let mut builder = Builder::new(names);
    builder.routine(root);
    let mut routines = Vec::new();
    while let Some(function) = builder.wanted(routines.len()) {
        seen[function] = true;
        routines.push(Body::decode(&mut builder, &names.unit.functions[function])?);
    }
    Ok(builder.finish(routines))
}
