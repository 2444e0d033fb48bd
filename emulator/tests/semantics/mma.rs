//! `mma` of every type and shape: matrices of small whole numbers, put into registers as the PTX ISA draws them, against the
//! product of the matrices.

use ssmv_emulator::{Error, LaunchConfig, Memory, Module, Options, args, launch};

/// Bytes of a number of a type, and how to put a whole number into one.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub bits: usize,
    pub encode: fn(i64) -> u64,
    pub decode: fn(u64) -> i64,
    /// The least and the largest to draw.
    pub range: (i64, i64),
}

fn half(x: i64) -> u64 {
    half::f16::from_f32(x as f32).to_bits().into()
}

pub const F16: Kind = Kind {
    name: "f16",
    bits: 16,
    encode: half,
    decode: |b| half::f16::from_bits(b as u16).to_f32() as i64,
    range: (-4, 4),
};
pub const BF16: Kind = Kind {
    name: "bf16",
    bits: 16,
    encode: |x| u64::from((x as f32).to_bits() >> 16),
    decode: |b| f32::from_bits((b as u32) << 16) as i64,
    range: (-4, 4),
};
pub const F32: Kind = Kind {
    name: "f32",
    bits: 32,
    encode: |x| (x as f32).to_bits().into(),
    decode: |b| f32::from_bits(b as u32) as i64,
    range: (-50, 50),
};
pub const TF32: Kind = Kind { name: "tf32", range: (-4, 4), ..F32 };
pub const F64: Kind = Kind {
    name: "f64",
    bits: 64,
    encode: |x| (x as f64).to_bits(),
    decode: |b| f64::from_bits(b) as i64,
    range: (-50, 50),
};
pub const S32: Kind = Kind {
    name: "s32",
    bits: 32,
    encode: |x| u64::from(x as u32),
    decode: |b| (b as i32).into(),
    range: (-500, 500),
};
pub const S8: Kind = Kind {
    name: "s8",
    bits: 8,
    encode: |x| x as u64 & 0xff,
    decode: |b| (b as i8).into(),
    range: (-128, 127),
};
pub const U8: Kind =
    Kind { name: "u8", bits: 8, encode: |x| x as u64 & 0xff, decode: |b| (b as u8).into(), range: (0, 255) };
pub const S4: Kind = Kind {
    name: "s4",
    bits: 4,
    encode: |x| x as u64 & 0xf,
    decode: |b| ((b << 60) as i64) >> 60,
    range: (-8, 7),
};
pub const U4: Kind =
    Kind { name: "u4", bits: 4, encode: |x| x as u64 & 0xf, decode: |b| (b & 0xf) as i64, range: (0, 15) };
pub const B1: Kind =
    Kind { name: "b1", bits: 1, encode: |x| x as u64 & 1, decode: |b| (b & 1) as i64, range: (0, 1) };
/// 1 is 0x38 (e4m3) and 0x3c (e5m2); −2 to 2 are enough.
const E4M3: Kind = Kind {
    name: "e4m3",
    bits: 8,
    encode: |x| [0xc0, 0xb8, 0, 0x38, 0x40][(x + 2) as usize],
    decode: |b| b as i64,
    range: (-2, 2),
};
const E5M2: Kind = Kind { name: "e5m2", encode: |x| [0xc0, 0xbc, 0, 0x3c, 0x40][(x + 2) as usize], ..E4M3 };

/// A matrix of whole numbers, drawn.
pub fn draw(kind: Kind, rows: usize, columns: usize, seed: u64) -> Vec<Vec<i64>> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (least, most) = kind.range;
        least + ((state >> 33) as i64).rem_euclid(most - least + 1)
    };
    (0..rows).map(|_| (0..columns).map(|_| next()).collect()).collect()
}

/// C + A·B, or for bits C + the number of ones in A xor B or A and B.
pub fn expected(a: &[Vec<i64>], b: &[Vec<i64>], c: &[Vec<i64>], bits: Option<&str>) -> Vec<Vec<i64>> {
    let mut d = c.to_vec();
    for (i, row) in d.iter_mut().enumerate() {
        for (j, d) in row.iter_mut().enumerate() {
            *d += (0..b.len())
                .map(|k| match bits {
                    Some("xor") => a[i][k] ^ b[k][j],
                    _ => a[i][k] * b[k][j],
                })
                .sum::<i64>();
        }
    }
    d
}

/// Runs one warp of `text` with one buffer of input and one of output, both of 64-bit words; the output's words.
pub fn run_warp(text: &str, input: &[u64], output: usize) -> Result<Vec<u64>, Error> {
    let memory = Memory::new(1 << 20);
    let module = Module::parse("tensor", text)?.load(&memory)?;
    let (from, to) = (memory.alloc(input.len() * 8)?, memory.alloc(output * 8)?);
    memory.write(from, &input.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
    memory.fill(to, 0, output * 8)?;
    let config = LaunchConfig { grid: [1; 3], block: [32, 1, 1], shared: 0 };
    launch(&memory, &module, "k", &config, &args![from, to], &Options::default())?;
    let mut bytes = vec![0; output * 8];
    memory.read(to, &mut bytes)?;
    Ok(bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect())
}

/// A shape with its types: A, B, the accumulators, rows and products; what else stands in the name.
struct Form(Kind, Kind, Kind, usize, usize, &'static str);

/// Which register and which bit of it a lane holds an element of A in (row, k), of B (column, k) or of the accumulators in,
/// and which lane.
fn place(kind: Kind, rows: usize, row: usize, k: usize) -> (usize, usize, usize) {
    // 4 lanes a row, with 32 bits each (of f64 64); then 8 rows further; then further along k.
    let per = (32 / kind.bits).max(1);
    let lane = row % 8 * 4 + k / per % 4;
    (lane, k / per / 4 * (rows / 8) + row / 8, k % per * kind.bits)
}

fn sum_place(kind: Kind, row: usize, column: usize) -> (usize, usize, usize) {
    let lane = row % 8 * 4 + column / 2;
    if kind.bits == 16 { (lane, row / 8, column % 2 * 16) } else { (lane, row / 8 * 2 + column % 2, 0) }
}

impl Form {
    fn name(&self) -> String {
        let Self(a, b, c, rows, k, more) = self;
        let (satfinite, popc) = if more.ends_with("popc") { ("", *more) } else { (*more, "") };
        format!(
            "mma.sync.aligned.m{rows}n8k{k}.row.col{satfinite}.{}.{}.{}.{}{popc}",
            c.name, a.name, b.name, c.name
        )
    }

    /// The kernel: 16 words of 64 bits a lane, A's registers from 0 on, B's from 8, C's from 12.
    fn text(&self, [lefts, rights, sums]: [usize; 3]) -> String {
        let wide = self.0.bits == 64;
        let mut body = String::new();
        let mut list = |prefix: &str, count: usize, at: usize| {
            let names: Vec<String> = (0..count).map(|i| format!("%{prefix}{i}")).collect();
            if prefix != "d" {
                for (i, name) in names.iter().enumerate() {
                    let ty = if wide { "b64" } else { "b32" };
                    body += &format!("ld.global.{ty} {name}, [%in+{}]; ", 8 * (at + i));
                }
            }
            format!("{{{}}}", names.join(", "))
        };
        let (a, b, c, d) =
            (list("a", lefts, 0), list("b", rights, 8), list("c", sums, 12), list("d", sums, 0));
        let ty = if wide { "b64" } else { "b32" };
        let stores: String = (0..sums).map(|i| format!("st.global.{ty} [%out+{}], %d{i}; ", 8 * i)).collect();
        format!(
            ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out)\n{{
.reg .{ty} %a<8>, %b<4>, %c<4>, %d<4>; .reg .b32 %t; .reg .b64 %in, %out, %o;
ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mov.u32 %t, %tid.x; mul.wide.u32 %o, %t, 128;
add.u64 %in, %in, %o; add.u64 %out, %out, %o;
{body}
{} {d}, {a}, {b}, {c};
{stores}
ret;\n}}\n",
            self.name()
        )
    }

    fn check(&self) {
        let &Self(a_kind, b_kind, c_kind, rows, k, more) = self;
        let (a, b, c) = (draw(a_kind, rows, k, 1), draw(b_kind, k, 8, 2), draw(c_kind, rows, 8, 3));
        let bits = ["xor", "and"].into_iter().find(|op| more.contains(op));
        let tiles = k / (4 * (32 / a_kind.bits).max(1));
        let counts = [rows / 8 * tiles, tiles, rows / 8 * if c_kind.bits == 16 { 1 } else { 2 }];
        let mut input = vec![0u64; 32 * 16];
        for k in 0..k {
            for (row, a) in a.iter().enumerate() {
                let (lane, register, bit) = place(a_kind, rows, row, k);
                input[16 * lane + register] |= (a_kind.encode)(a[k]) << bit;
            }
            for (column, &b) in b[k].iter().enumerate() {
                let (lane, register, bit) = place(b_kind, 8, column, k);
                input[16 * lane + 8 + register] |= (b_kind.encode)(b) << bit;
            }
        }
        for (row, c) in c.iter().enumerate() {
            for (column, c) in c.iter().enumerate() {
                let (lane, register, bit) = sum_place(c_kind, row, column);
                input[16 * lane + 12 + register] |= (c_kind.encode)(*c) << bit;
            }
        }
        let output = run_warp(&self.text(counts), &input, 32 * 16).unwrap_or_else(|e| panic!("{e}"));
        for (row, expected) in expected(&a, &b, &c, bits).iter().enumerate() {
            for (column, expected) in expected.iter().enumerate() {
                let (lane, register, bit) = sum_place(c_kind, row, column);
                let found = (c_kind.decode)(output[16 * lane + register] >> bit);
                assert_eq!(found, *expected, "{} ({row}, {column})", self.name());
            }
        }
    }
}

/// Accumulators of f16 hold whole numbers up to 2048.
const SHORT: Kind = Kind { range: (-50, 50), ..F16 };

#[test]
fn floats() {
    for form in [
        Form(F16, F16, F32, 16, 8, ""),
        Form(F16, F16, F32, 16, 16, ""),
        Form(F16, F16, SHORT, 16, 8, ""),
        Form(F16, F16, SHORT, 16, 16, ""),
        Form(BF16, BF16, F32, 16, 8, ""),
        Form(BF16, BF16, F32, 16, 16, ""),
        Form(TF32, TF32, F32, 16, 4, ""),
        Form(TF32, TF32, F32, 16, 8, ""),
        Form(E4M3, E4M3, F32, 16, 16, ""),
        Form(E4M3, E5M2, F32, 16, 32, ""),
        Form(E5M2, E4M3, SHORT, 16, 16, ""),
        Form(E5M2, E5M2, SHORT, 16, 32, ""),
        Form(F64, F64, F64, 8, 4, ""),
        Form(F64, F64, F64, 16, 4, ""),
        Form(F64, F64, F64, 16, 8, ""),
        Form(F64, F64, F64, 16, 16, ""),
    ] {
        form.check();
    }
}

#[test]
fn integers_and_bits() {
    for form in [
        Form(S8, S8, S32, 8, 16, ""),
        Form(S8, U8, S32, 16, 16, ""),
        Form(U8, S8, S32, 16, 32, ".satfinite"),
        Form(U8, U8, S32, 16, 32, ""),
        Form(S4, S4, S32, 8, 32, ""),
        Form(S4, U4, S32, 16, 32, ""),
        Form(U4, U4, S32, 16, 64, ".satfinite"),
        Form(U4, S4, S32, 16, 64, ""),
        Form(B1, B1, S32, 8, 128, ".xor.popc"),
        Form(B1, B1, S32, 16, 128, ".and.popc"),
        Form(B1, B1, S32, 16, 256, ".xor.popc"),
    ] {
        form.check();
    }
}

#[test]
fn what_no_chip_has_is_refused() {
    for (form, counts) in [
        (Form(F16, F16, F32, 16, 4, ""), [1, 1, 4]),
        (Form(F16, BF16, F32, 16, 8, ""), [2, 1, 4]),
        (Form(TF32, TF32, F32, 8, 4, ""), [1, 1, 2]),
        (Form(S8, S4, S32, 16, 16, ""), [2, 1, 4]),
        (Form(F16, F16, F32, 16, 8, ".satfinite"), [2, 1, 4]),
        (Form(B1, B1, S32, 8, 128, ""), [1, 1, 2]),
    ] {
        let error = run_warp(&form.text(counts), &[0; 512], 512).expect_err("refused").to_string();
        assert_eq!(error, format!("tensor:10: unknown instruction `{}`", form.name()));
    }
    let few = Form(F16, F16, F32, 16, 16, "").text([3, 2, 4]);
    let error = run_warp(&few, &[0; 512], 512).expect_err("too few registers").to_string();
    assert_eq!(error, "tensor:10: expected 4 registers, not 3");
}
