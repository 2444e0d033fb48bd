//! Tensor cores: `ldmatrix` and `mma.sync.m16n8k16` (PTX ISA, "Warp-level matrix instructions").

use super::{Asm, F16, F16x2, F32, Operand, Shared, Type, Var};

fn group<'a, T: Type, R: Operand<'a, T>>(registers: &[R]) -> String {
    let names: Vec<_> = registers.iter().map(|r| r.text()).collect();
    format!("{{{}}}", names.join(", "))
}

impl Asm {
    fn ldmatrix<'a, const N: usize>(
        &'a self,
        to: [Var<'a, F16x2>; N],
        row: Shared<'a, F16>,
        transpose: bool,
    ) {
        let transpose = if transpose { ".trans" } else { "" };
        let mnemonic = format!("ldmatrix.sync.aligned.m8n8.x{N}{transpose}.shared.b16");
        self.emit(&mnemonic, &[group(&to), row.address()]);
    }

    /// Four 8×8 matrices of halves; lane l supplies the address of row l mod 8 of matrix l / 8. Register i of lane l
    /// receives elements (l / 4, 2·(l mod 4)) of matrix i and its right neighbour; with `transpose`,
    /// (2·(l mod 4), l / 4) and its lower neighbour.
    pub fn ldmatrix_x4<'a>(&'a self, to: [Var<'a, F16x2>; 4], row: Shared<'a, F16>, transpose: bool) {
        self.ldmatrix(to, row, transpose);
    }

    /// Two 8×8 matrices; lanes 0 to 15 supply the addresses.
    pub fn ldmatrix_x2<'a>(&'a self, to: [Var<'a, F16x2>; 2], row: Shared<'a, F16>, transpose: bool) {
        self.ldmatrix(to, row, transpose);
    }

    /// c ← a·b + c for a 16×16 (row-major), b 16×8 (column-major), c 16×8 in f32. With g = lane / 4 and t = lane mod 4:
    /// c holds (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1); a the pairs at (g, 2t), (g+8, 2t), (g, 2t+8), (g+8, 2t+8);
    /// b the pairs at rows 2t and 2t+8 of column g.
    pub fn mma_m16n8k16<'a, A: Operand<'a, F16x2>, B: Operand<'a, F16x2>>(
        &'a self,
        c: [Var<'a, F32>; 4],
        a: [A; 4],
        b: [B; 2],
    ) {
        let sum = group(&c);
        let mnemonic = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32";
        self.emit(mnemonic, &[sum.clone(), group(&a), group(&b), sum]);
    }
}
