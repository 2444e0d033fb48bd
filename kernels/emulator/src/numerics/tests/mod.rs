//! The arithmetic against independent slow models.

mod mma;
