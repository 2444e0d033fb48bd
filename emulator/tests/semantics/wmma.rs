//! `wmma`: load, multiply, store, of every type, shape and layout; and where the elements lie in the registers, as ptxas 13.5
//! has it for sm_80.

use super::mma::{B1, BF16, F16, F32, F64, Kind, S4, S8, S32, TF32, U4, U8, draw, expected, run_warp};

/// Words of 64 bits of each matrix' room in the buffers.
const ROOM: usize = 256;

/// A matrix as it lies in memory, its rows (or columns) `stride` elements apart.
fn packed(kind: Kind, matrix: &[Vec<i64>], row_major: bool, stride: usize) -> Vec<u64> {
    let mut out = vec![0u64; ROOM];
    for (i, row) in matrix.iter().enumerate() {
        for (j, x) in row.iter().enumerate() {
            let bit = if row_major { i * stride + j } else { j * stride + i } * kind.bits;
            out[bit / 64] |= (kind.encode)(*x) << (bit % 64);
        }
    }
    out
}

/// Registers of a list, all of a kind of 32 or 64 bits.
fn list(prefix: &str, count: usize) -> String {
    format!("{{{}}}", (0..count).map(|i| format!("%{prefix}{i}")).collect::<Vec<_>>().join(", "))
}

/// A product: A, B, C, D and the shape; registers of A and B.
struct Form {
    a: Kind,
    b: Kind,
    c: Kind,
    d: Kind,
    shape: [usize; 3],
    registers: [usize; 2],
    /// A suffix before or after the types.
    more: &'static str,
}

impl Form {
    fn check(&self, a_row: bool, b_row: bool, c_row: bool, d_row: bool) {
        let &Self { a, b, c, d, shape: [m, n, k], registers: [lefts, rights], more } = self;
        let shape = format!("m{m}n{n}k{k}");
        let layout = |row: bool| if row { "row" } else { "col" };
        // Sums of C and D: 8 registers, of f16 4; in the small shapes 2.
        let sums = |kind: Kind| {
            if m * n == 64 {
                2
            } else if kind.bits == 16 {
                4
            } else {
                8
            }
        };
        let types = if a.name == "f16" {
            format!("{}.{}", d.name, c.name)
        } else {
            format!("{}.{}.{}.{}", d.name, a.name, b.name, c.name)
        };
        let (before, after) = match more {
            "xor" | "and" => (format!(".{more}.popc"), String::new()),
            "rz" => (String::new(), String::new()),
            more => (String::new(), more.to_owned()),
        };
        let rounding = if more == "rz" { ".rz" } else { "" };
        let wide = if a.bits == 64 { "b64" } else { "b32" };
        // C's and D's stride is more than they need; A's and B's is left out where it is the least.
        let (ac, dc) = (if c_row { n } else { m } + 8, if d_row { n } else { m } + 8);
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out)\n{{
.reg .{wide} %a<8>, %b<8>, %c<8>, %d<8>; .reg .b32 %s; .reg .b64 %in, %out;
ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mov.u32 %s, {dc};
wmma.load.a.sync.aligned.{}.{shape}.global.{} {}, [%in];
wmma.load.b.sync.aligned.{}.{shape}.{} {}, [%in+{}];
wmma.load.c.sync.aligned.{}.{shape}.global.{} {}, [%in+{}], {ac};
wmma.mma{before}.sync.aligned.{}.{}.{shape}{rounding}.{types}{after} {}, {}, {}, {};
wmma.store.d.sync.aligned.{}.{shape}.global.{} [%out], {}, %s;
ret;\n}}\n",
            layout(a_row),
            a.name,
            list("a", lefts),
            layout(b_row),
            b.name,
            list("b", rights),
            8 * ROOM,
            layout(c_row),
            c.name,
            list("c", sums(c)),
            16 * ROOM,
            layout(a_row),
            layout(b_row),
            list("d", sums(d)),
            list("a", lefts),
            list("b", rights),
            list("c", sums(c)),
            layout(d_row),
            d.name,
            list("d", sums(d)),
        );
        let (ma, mb, mc) = (draw(a, m, k, 1), draw(b, k, n, 2), draw(c, m, n, 3));
        let mut input = packed(a, &ma, a_row, if a_row { k } else { m });
        input.extend(packed(b, &mb, b_row, if b_row { n } else { k }));
        input.extend(packed(c, &mc, c_row, ac));
        let output = run_warp(&text, &input, ROOM).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let bits = (a.bits == 1).then_some(more);
        let d = Kind { range: c.range, ..d };
        let product = expected(&ma, &mb, &mc, bits);
        assert_eq!(output, packed(d, &product, d_row, dc), "{text}");
    }

    /// In all layouts, or the one of elements below a byte.
    fn check_all(&self) {
        for layouts in 0..16 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|bit| layouts >> bit & 1 == 1);
            if self.a.bits >= 8 || a && !b {
                self.check(a, b, c, d);
            }
        }
    }
}

const SHAPES: [[usize; 3]; 3] = [[16, 16, 16], [32, 8, 16], [8, 32, 16]];
/// Whole numbers that f16 holds.
const SHORT: Kind = Kind { range: (-50, 50), ..F16 };

#[test]
fn halves() {
    for shape in SHAPES {
        for (c, d) in [(F32, F32), (SHORT, SHORT), (F32, SHORT), (SHORT, F32)] {
            Form { a: F16, b: F16, c, d, shape, registers: [8, 8], more: "" }.check_all();
        }
    }
    for (shape, registers) in SHAPES.into_iter().zip([[4, 4], [8, 2], [2, 8]]) {
        Form { a: BF16, b: BF16, c: F32, d: F32, shape, registers, more: "" }.check_all();
    }
}

#[test]
fn other_floats() {
    Form { a: TF32, b: TF32, c: F32, d: F32, shape: [16, 16, 8], registers: [4, 4], more: "" }.check_all();
    for more in ["", "rz"] {
        Form { a: F64, b: F64, c: F64, d: F64, shape: [8, 8, 4], registers: [1, 1], more }.check_all();
    }
}

#[test]
fn integers_and_bits() {
    for (a, b, more) in [(S8, S8, ""), (U8, U8, ".satfinite")] {
        for (shape, registers) in SHAPES.into_iter().zip([[2, 2], [4, 1], [1, 4]]) {
            Form { a, b, c: S32, d: S32, shape, registers, more }.check_all();
        }
    }
    for (kind, more) in [(S4, ""), (U4, ".satfinite")] {
        Form { a: kind, b: kind, c: S32, d: S32, shape: [8, 8, 32], registers: [1, 1], more }.check_all();
    }
    for more in ["xor", "and"] {
        Form { a: B1, b: B1, c: S32, d: S32, shape: [8, 8, 128], registers: [1, 1], more }.check_all();
    }
}

/// Each lane's registers after a load of a matrix whose element in row i, column j is 64·i + j.
fn registers(
    load: &str,
    kind: Kind,
    rows: usize,
    columns: usize,
    row_major: bool,
    count: usize,
) -> Vec<Vec<u32>> {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out)\n{{
.reg .b32 %a<8>, %t; .reg .b64 %in, %out, %o;
ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mov.u32 %t, %tid.x; mul.wide.u32 %o, %t, 64; add.u64 %out, %out, %o;
{load} {}, [%in];
{}
ret;\n}}\n",
        list("a", count),
        (0..count).map(|i| format!("st.global.u32 [%out+{}], %a{i}; ", 8 * i)).collect::<String>(),
    );
    let matrix: Vec<Vec<i64>> =
        (0..rows).map(|i| (0..columns).map(|j| (64 * i + j) as i64).collect()).collect();
    let input = packed(kind, &matrix, row_major, if row_major { columns } else { rows });
    let output = run_warp(&text, &input, 256).unwrap_or_else(|e| panic!("{e}\n{text}"));
    output.chunks(8).map(|lane| lane[..count].iter().map(|&x| x as u32).collect()).collect()
}

#[test]
fn elements_lie_where_the_compiler_has_them() {
    let raw16 = Kind { encode: |x| x as u64 & 0xffff, ..F16 };
    let raw32 = Kind { encode: |x| x as u64, ..F32 };
    let pair = |row: usize, column: usize, step: usize| {
        (64 * row + column) as u32 | ((64 * row + column + step) as u32) << 16
    };
    for (lane, found) in
        registers("wmma.load.a.sync.aligned.row.m16n16k16.global.f16", raw16, 16, 16, true, 8)
            .into_iter()
            .enumerate()
    {
        let (g, t) = (lane / 4, lane % 4 * 2);
        let four = [pair(g, t, 1), pair(g + 8, t, 1), pair(g, t + 8, 1), pair(g + 8, t + 8, 1)];
        assert_eq!(found, [four, four].concat(), "lane {lane}");
    }
    for (lane, found) in
        registers("wmma.load.b.sync.aligned.col.m16n16k16.global.f16", raw16, 16, 16, false, 8)
            .into_iter()
            .enumerate()
    {
        let (g, t) = (lane / 4, lane % 4 * 2);
        let at = |k: usize, column: usize| pair(k, column, 64);
        let four = [at(t, g), at(t + 8, g), at(t, g + 8), at(t + 8, g + 8)];
        assert_eq!(found, [four, four].concat(), "lane {lane}");
    }
    for (lane, found) in registers("wmma.load.c.sync.aligned.row.m8n32k16.global.f32", raw32, 8, 32, true, 8)
        .into_iter()
        .enumerate()
    {
        let (g, t) = (lane / 4, lane % 4 * 2);
        let at = |row: usize, column: usize| (64 * row + column) as u32;
        let expected: Vec<u32> = (0..4).flat_map(|i| [at(t, g + 8 * i), at(t + 1, g + 8 * i)]).collect();
        assert_eq!(found, expected, "lane {lane}");
    }
}

#[test]
fn what_no_chip_has_is_refused() {
    let kernel = |line: &str| {
        format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out)\n{{
.reg .b32 %a<8>; .reg .b64 %in; ld.param.u64 %in, [in];\n{line}\nret;\n}}\n"
        )
    };
    for (line, message) in [
        (
            "wmma.load.a.sync.aligned.row.m16n8k16.f16 {%a0}, [%in];",
            "unknown instruction `wmma.load.a.sync.aligned.row.m16n8k16.f16`",
        ),
        (
            "wmma.load.a.sync.aligned.m16n16k16.f16 {%a0}, [%in];",
            "unknown instruction `wmma.load.a.sync.aligned.m16n16k16.f16`",
        ),
        ("wmma.load.a.sync.aligned.row.m16n16k16.f16 {%a0, %a1}, [%in];", "expected 8 registers, not 2"),
        (
            "wmma.load.a.sync.aligned.col.m8n8k32.s4 {%a0}, [%in];",
            "unknown instruction `wmma.load.a.sync.aligned.col.m8n8k32.s4`",
        ),
        (
            "wmma.load.c.sync.aligned.row.m16n16k8.f16 {%a0}, [%in];",
            "unknown instruction `wmma.load.c.sync.aligned.row.m16n16k8.f16`",
        ),
        ("wmma.store.d.sync.aligned.row.m16n16k16.f32 [%in], {%a0, %a1};", "expected 8 registers, not 2"),
        (
            "wmma.mma.sync.aligned.row.col.m8n8k128.s32.b1.b1.s32 {%a0, %a1}, {%a2}, {%a3}, {%a4, %a5};",
            "unknown instruction `wmma.mma.sync.aligned.row.col.m8n8k128.s32.b1.b1.s32`",
        ),
    ] {
        let error = run_warp(&kernel(line), &[0; 16], 16).expect_err(line).to_string();
        assert_eq!(error, format!("tensor:7: {message}"), "{line}");
    }
    // A warp with fewer than 32 lanes, and a matrix that ends too soon.
    let part = kernel(
        "{ .reg .pred %p; .reg .b32 %t; mov.u32 %t, %tid.x; setp.lt.u32 %p, %t, 9;\n@%p wmma.load.a.sync.aligned.row.m16n16k16.s8 {%a0, %a1}, [%in]; }",
    );
    let error = run_warp(&part, &[0; 64], 1).expect_err("a part of a warp").to_string();
    assert!(error.starts_with("k:8: ") && error.contains("it needs all 32 lanes"), "{error}");
    let short = kernel("wmma.load.a.sync.aligned.row.m16n16k16.s8 {%a0, %a1}, [%in], 32;");
    let error = run_warp(&short, &[0; 40], 1).expect_err("a short buffer").to_string();
    assert!(error.starts_with("k:7: ") && error.contains("out of bounds"), "{error}");
}
