//! Precision of the CPU's products of f32 tensors.

use std::cell::Cell;

use crate::{DType, Element, Error, Result, simd::bf16};

/// Operands of the products of f32 tensors on the CPU: convolutions, transposed ones included, linear layers and matrix
/// products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// The f32 values themselves.
    #[default]
    F32,
    /// The values rounded to bfloat16 (to the nearest, ties to even), with f32 sums. Convolutions to few
    /// channels, small matrix products and all other operators, the tensors and their gradients stay f32:
    /// `docs/precision.md` has the reasons.
    Bf16,
}

thread_local! {
    static PRODUCTS: Cell<Products> = const { Cell::new(Products::F32) };
}

/// Whether this processor has products of bfloat16 with f32 sums (AVX-512's `vdpbf16ps`).
pub fn bf16_available() -> bool {
    bf16::available()
}

/// Runs `body`, in which this thread's products take such operands: forward and backward passes alike.
///
/// # Errors
/// [`Error::Misuse`] where the processor does not have the instruction; `body` is not run then.
pub fn with_products<R>(products: Products, body: impl FnOnce() -> R) -> Result<R> {
    struct Restore(Products);
    impl Drop for Restore {
        fn drop(&mut self) {
            PRODUCTS.set(self.0);
        }
    }
    if products == Products::Bf16 && !bf16_available() {
        return Err(Error::misuse("with_products", "this processor has no bf16 products (avx512_bf16)"));
    }
    let _restore = Restore(PRODUCTS.replace(products));
    Ok(body())
}

/// Whether the products of this type take bf16 operands now.
pub(crate) fn low<T: Element>() -> bool {
    T::DTYPE == DType::F32 && PRODUCTS.get() == Products::Bf16
}
