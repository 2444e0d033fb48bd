//! Building blocks of tensor-core kernels: swizzled tiles in shared memory, copies that fill them, fragments with their
//! register map, a pipeline of stages, and an epilogue that converts accumulators to rows.

mod choose;
mod chunk;
mod copy;
mod epilogue;
mod fragment;
mod gather;
mod pipeline;
mod product;
pub mod reduce;
mod shape;
mod shared;

pub use copy::{Matrix, TileCopy};
pub use epilogue::{COLUMNS, Staging};
pub use fragment::{Accumulators, FragmentLoads, Role};
pub use gather::{Gather, GatherCopy, Part};
pub use pipeline::Pipeline;
pub use product::{BlockTile, Product, Source};
pub use shape::TileShape;
pub use shared::{Major, SharedTile};
