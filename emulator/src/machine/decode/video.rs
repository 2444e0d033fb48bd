//! Video instructions: selectors, masks and second operations (PTX ISA, "Video Instructions").

use super::body::Body;
use super::suffix::Suffixes;
use crate::machine::math::Math32;
use crate::machine::program::{Loc, Op};
use crate::numerics::video::{Compare, MultiplyAdd, Part, Scalar, Second, Simd, Video, VideoOp};
use crate::syntax::{Kind, Operand, Parsed, Type};

/// The operation of a name without its `v` and number; `set` and shifts have more suffixes.
fn operation(name: &str) -> Option<VideoOp> {
    Some(match name {
        "add" => VideoOp::Add,
        "sub" => VideoOp::Sub,
        "absdiff" => VideoOp::AbsDiff,
        "min" => VideoOp::Min,
        "max" => VideoOp::Max,
        "avrg" => VideoOp::Average,
        _ => return None,
    })
}

fn compare(name: &str) -> Option<Compare> {
    Some(match name {
        "eq" => Compare::Equal,
        "ne" => Compare::NotEqual,
        "lt" => Compare::Less,
        "le" => Compare::LessEqual,
        "gt" => Compare::Greater,
        "ge" => Compare::GreaterEqual,
        _ => return None,
    })
}

/// The byte or half that a selector names.
fn part(selector: &str) -> Option<Part> {
    Some(match selector {
        "b0" => Part { shift: 0, bits: 8 },
        "b1" => Part { shift: 8, bits: 8 },
        "b2" => Part { shift: 16, bits: 8 },
        "b3" => Part { shift: 24, bits: 8 },
        "h0" => Part { shift: 0, bits: 16 },
        "h1" => Part { shift: 16, bits: 16 },
        _ => return None,
    })
}

/// A selector's digits, the lowest element first.
fn digits(selector: &str, bits: u32, below: u8) -> Option<Vec<u8>> {
    let digits = selector.strip_prefix(if bits == 16 { 'h' } else { 'b' })?;
    digits.bytes().rev().map(|d| d.checked_sub(b'0').filter(|d| *d < below)).collect()
}

/// Whether an operand is negated, its register, and its selector.
fn selected<'a>(operand: &Operand<'a>) -> (bool, Operand<'a>, Option<&'a str>) {
    let (negated, name) = match operand {
        Operand::Name(name) => (false, *name),
        Operand::Minus(name) => (true, *name),
        other => return (false, other.clone(), None),
    };
    match name.rsplit_once('.') {
        Some((register, selector)) => (negated, Operand::Name(register), Some(selector)),
        None => (negated, Operand::Name(name), None),
    }
}

impl<'m, 'a> Body<'_, 'm, 'a> {
    /// `vadd`, `vadd2`, `vadd4` and similar instructions.
    pub(super) fn video(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let (name, elements) = match name.strip_suffix(['2', '4']) {
            Some(short) if name.ends_with('2') => (short, 2),
            Some(short) => (short, 4),
            None => (name, 1),
        };
        let name = name.strip_prefix('v').unwrap_or(name);
        if name == "mad" && elements == 1 {
            return self.video_mad(s);
        }
        // The comparison's result is unsigned, and it has no type of its own.
        let (set, shift) = (name == "set", matches!(name, "shl" | "shr"));
        let signed = if set {
            [false, self.video_type(s)?, self.video_type(s)?]
        } else {
            [self.video_type(s)?, self.video_type(s)?, self.video_type(s)?]
        };
        let wrap = s.take("wrap");
        let clamp = s.take("clamp");
        if shift != (wrap || clamp) || wrap && clamp || shift && signed[2] {
            return Err(s.unknown());
        }
        let op = match name {
            "shl" => Some(VideoOp::ShiftLeft { wrap }),
            "shr" => Some(VideoOp::ShiftRight { wrap }),
            "set" => s.take_parsed(compare).map(VideoOp::Set),
            name => operation(name),
        };
        let saturate = s.take("sat");
        let simd = elements > 1;
        let Some(op) =
            op.filter(|op| !(simd && shift || !simd && *op == VideoOp::Average || set && saturate))
        else {
            return Err(s.unknown());
        };
        if simd {
            return self.video_simd(op, 32 / elements, signed, saturate, s);
        }
        let second = s.take_any(&["add", "min", "max"]).map(|name| match name {
            "add" => Second::Add,
            "min" => Second::Min,
            _ => Second::Max,
        });
        let (to, a, b, c) = match s.all() {
            [to, a, b] if second.is_none() => (to, a, b, None),
            [to, a, b, c] => (to, a, b, Some(c)),
            _ => return self.fail(format!("a video instruction with {} operands", s.count())),
        };
        let (to, to_part) = self.video_part(to)?;
        let (a, a_part) = self.video_part(a)?;
        let (b, b_part) = self.video_part(b)?;
        if (second.is_some() || to_part != Part::WHOLE) != c.is_some()
            || second.is_some() && to_part != Part::WHOLE
        {
            return self
                .fail("a third operand is for a second operation, or for a part of the result, not both");
        }
        let parts = [to_part, a_part, b_part];
        let video = Video::Scalar(Scalar { op, signed, parts, saturate, second });
        self.emit_video(video, &to, [&a, &b], c)
    }

    /// Parses `.u32` or `.s32`: whether it is signed.
    fn video_type(&self, s: &mut Suffixes<'m, 'a>) -> Parsed<bool> {
        let ty = s.ty()?;
        match (ty.kind, ty.bits) {
            (Kind::Signed, 32) => Ok(true),
            (Kind::Unsigned, 32) => Ok(false),
            _ => Err(s.unknown()),
        }
    }

    /// An operand that may have a selector of a byte or a half.
    fn video_part(&self, operand: &Operand<'a>) -> Parsed<(Operand<'a>, Part)> {
        match selected(operand) {
            (true, ..) => self.fail("only vmad has negated operands"),
            (_, register, selector) => Ok((register, self.part_of(selector)?)),
        }
    }

    fn part_of(&self, selector: Option<&str>) -> Parsed<Part> {
        match selector.map(|selector| part(selector).ok_or(selector)) {
            None => Ok(Part::WHOLE),
            Some(Ok(part)) => Ok(part),
            Some(Err(selector)) => {
                self.fail(format!(".{selector} does not name a byte or a half: .b0 to .b3, .h0, .h1"))
            }
        }
    }

    fn emit_video(
        &mut self,
        video: Video,
        to: &Operand<'a>,
        [a, b]: [&Operand<'a>; 2],
        c: Option<&Operand<'a>>,
    ) -> Parsed<()> {
        let mut from = [self.value(a, Type::B32)?, self.value(b, Type::B32)?, Loc::ZERO];
        if let Some(c) = c {
            from[2] = self.value(c, Type::B32)?;
        }
        let to = self.to(to, Type::B32)?;
        self.emit(Op::Math32(Math32::Video(video), to, from));
        Ok(())
    }

    fn video_mad(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        // The result's type is irrelevant: the result is signed if a factor is, or if something is negated.
        self.video_type(s)?;
        let signed = [self.video_type(s)?, self.video_type(s)?];
        let (plus_one, saturate) = (s.take("po"), s.take("sat"));
        let scale = match s.take_any(&["shr7", "shr15"]) {
            Some("shr7") => 7,
            Some(_) => 15,
            None => 0,
        };
        let [to, a, b, c] = s.operands()?;
        let mut negated = [false; 3];
        let mut parts = [Part::WHOLE; 3];
        let mut registers = Vec::new();
        for (at, operand) in [a, b, c].into_iter().enumerate() {
            let (minus, register, selector) = selected(operand);
            negated[at] = minus;
            parts[at] = self.part_of(selector)?;
            if selector.is_some() && at == 2 {
                return self.fail("the addend of vmad has no selector");
            }
            registers.push(register);
        }
        let (negate_product, negate_addend) = (negated[0] != negated[1], negated[2]);
        if plus_one && negated.contains(&true) || negate_product && negate_addend {
            return self.fail("one of a·b and c may be negated, and none with .po");
        }
        let video = Video::MultiplyAdd(MultiplyAdd {
            signed,
            parts: [parts[0], parts[1]],
            negate_product,
            negate_addend,
            plus_one,
            saturate,
            scale,
        });
        self.emit_video(video, to, [&registers[0], &registers[1]], Some(&registers[2]))
    }

    fn video_simd(
        &mut self,
        op: VideoOp,
        bits: u32,
        signed: [bool; 3],
        saturate: bool,
        s: &mut Suffixes<'m, 'a>,
    ) -> Parsed<()> {
        let accumulate = s.take("add");
        if accumulate && saturate {
            return Err(s.unknown());
        }
        let elements = 32 / bits;
        let [to, a, b, c] = s.operands()?;
        let (to_minus, to, mask) = selected(to);
        let (a_minus, a, a_pick) = selected(a);
        let (b_minus, b, b_pick) = selected(b);
        if to_minus || a_minus || b_minus {
            return self.fail("only vmad has negated operands");
        }
        let mask = match mask {
            None => Some((1 << elements) - 1),
            Some(mask) => digits(mask, bits, elements as u8).and_then(|digits| {
                // Elements are named from the highest to the lowest, each once.
                let rising = digits.windows(2).all(|pair| pair[0] < pair[1]);
                rising.then(|| digits.iter().fold(0u8, |mask, element| mask | 1 << element))
            }),
        };
        let pick = |selector: Option<&str>, first: u8| match selector {
            None => Some(std::array::from_fn(|element| first + element as u8)),
            Some(selector) => {
                let digits = digits(selector, bits, 2 * elements as u8)?;
                let mut picks = [0; 4];
                picks.get_mut(..digits.len())?.copy_from_slice(&digits);
                (digits.len() == elements as usize).then_some(picks)
            }
        };
        let (Some(mask), Some(first), Some(second)) = (mask, pick(a_pick, 0), pick(b_pick, elements as u8))
        else {
            return self
                .fail(format!("the mask or selector does not fit {elements} elements of {bits} bits"));
        };
        let video = Simd { op, bits, signed, picks: [first, second], mask, saturate, accumulate };
        self.emit_video(Video::Simd(video), &to, [&a, &b], Some(c))
    }
}
