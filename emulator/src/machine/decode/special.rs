//! Special registers (PTX ISA, "Special Registers").
//!
//! They describe a device with one multiprocessor whose performance counters stay 0, without graphs or reserved shared
//! memory, and with clusters of one block.

use super::body::Body;
use crate::machine::program::{Loc, Logic, Op, Pred, Special, Value};
use crate::syntax::{Kind, Parsed, Type, component};

/// The most resident warps of a multiprocessor of an A100 or H100.
const WARPS: u64 = 64;

/// The source of a special register's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A column of the warp.
    Column(Special),
    /// A constant of all lanes.
    Constant(u64),
    /// The warp's instruction counter.
    Clock,
    /// The counter's upper 32 bits.
    ClockHigh,
    /// A predicate that is false.
    False,
}

/// A special register: its source, and the widths at which it may be read.
pub(super) type Reading = (Source, &'static [u32]);

/// The special register with this name.
pub(super) fn named(name: &str) -> Option<Reading> {
    let name = name.strip_prefix('%')?;
    if let Some((vector, element)) = name.split_once('.') {
        return element_of(vector, component(element)?);
    }
    if let Some(number) = name.strip_prefix("envreg") {
        return numbered(number, 32, &[32]);
    }
    if let Some(counter) = name.strip_prefix("pm") {
        return match counter.strip_suffix("_64") {
            Some(number) => numbered(number, 8, &[64]),
            None => numbered(counter, 8, &[32]),
        };
    }
    Some(match name {
        "laneid" => (Source::Column(Special::Lane), &[32]),
        "lanemask_eq" => (Source::Column(Special::MaskEq), &[32]),
        "lanemask_le" => (Source::Column(Special::MaskLe), &[32]),
        "lanemask_lt" => (Source::Column(Special::MaskLt), &[32]),
        "lanemask_ge" => (Source::Column(Special::MaskGe), &[32]),
        "lanemask_gt" => (Source::Column(Special::MaskGt), &[32]),
        "warpid" => (Source::Column(Special::Warp), &[32]),
        "nwarpid" => (Source::Constant(WARPS), &[32]),
        "smid" | "cluster_ctarank" => (Source::Constant(0), &[32]),
        "nsmid" | "cluster_nctarank" => (Source::Constant(1), &[32]),
        "gridid" => (Source::Constant(0), &[16, 32, 64]),
        "current_graph_exec" => (Source::Constant(0), &[64]),
        "clock" | "globaltimer_lo" => (Source::Clock, &[32]),
        "clock_hi" | "globaltimer_hi" => (Source::ClockHigh, &[32]),
        "clock64" | "globaltimer" => (Source::Clock, &[64]),
        "dynamic_smem_size" => (Source::Column(Special::DynamicShared), &[32]),
        "total_smem_size" | "aggr_smem_size" => (Source::Column(Special::TotalShared), &[32]),
        "reserved_smem_offset_begin"
        | "reserved_smem_offset_end"
        | "reserved_smem_offset_cap"
        | "reserved_smem_offset_0"
        | "reserved_smem_offset_1" => (Source::Constant(0), &[32]),
        "is_explicit_cluster" => (Source::False, &[1]),
        _ => return None,
    })
}

/// A special register of `%envreg0`… or `%pm0`…, which is always 0.
fn numbered(number: &str, count: u32, widths: &'static [u32]) -> Option<Reading> {
    let canonical = number == "0" || !number.starts_with('0');
    let known = canonical && number.parse::<u32>().is_ok_and(|n| n < count);
    known.then_some((Source::Constant(0), widths))
}

/// An element of a special register that is a vector of four; the last is 0.
fn element_of(vector: &str, lane: u8) -> Option<Reading> {
    use Special::{CtaidX, CtaidY, CtaidZ, NctaidX, NctaidY, NctaidZ, NtidX, NtidY, NtidZ, TidX, TidY, TidZ};
    let (columns, widths): (_, &[u32]) = match vector {
        "tid" => ([TidX, TidY, TidZ], &[16, 32]),
        "ntid" => ([NtidX, NtidY, NtidZ], &[16, 32]),
        "ctaid" => ([CtaidX, CtaidY, CtaidZ], &[16, 32]),
        "nctaid" => ([NctaidX, NctaidY, NctaidZ], &[16, 32]),
        "clusterid" => ([CtaidX, CtaidY, CtaidZ], &[32]),
        "nclusterid" => ([NctaidX, NctaidY, NctaidZ], &[32]),
        "cluster_ctaid" => return Some((Source::Constant(0), &[32])),
        "cluster_nctaid" => return Some((Source::Constant(u64::from(lane < 3)), &[32])),
        _ => return None,
    };
    let column = columns.get(usize::from(lane)).copied();
    Some((column.map_or(Source::Constant(0), Source::Column), widths))
}

impl Body<'_, '_, '_> {
    /// The column of a special register that is read as `ty`.
    pub(super) fn special(&mut self, name: &str, (source, widths): Reading, ty: Type) -> Parsed<Loc> {
        if !widths.contains(&ty.width()) || ty.kind == Kind::Float {
            let widths: Vec<String> = widths.iter().map(u32::to_string).collect();
            let kind = if ty.kind == Kind::Float { "as a float" } else { "" };
            return self.fail(format!(
                "{name} has {} bits and cannot be read with {} bits {kind}",
                widths.join(" or "),
                ty.width()
            ));
        }
        let wide = ty.width() == 64;
        Ok(match source {
            Source::Column(special) if ty.width() == 16 => {
                let low = self.scratch()?;
                let from = [Loc::special(special), Loc::ZERO, Loc::ZERO];
                self.emit(Op::Lane32(crate::machine::lanes::lanes!(|a, _, _| a & 0xffff), low, from));
                low
            }
            Source::Column(special) => Loc::special(special),
            Source::Constant(bits) if wide => self.builder.constant64(bits),
            Source::Constant(bits) => self.builder.constant32(bits as u32),
            Source::Clock => {
                let loc = self.column(ty)?;
                self.emit(Op::Clock(Value::new(loc, wide)));
                loc
            }
            Source::ClockHigh => {
                let (count, low, high) = (self.temporary(Type::B64)?, self.scratch()?, self.scratch()?);
                let count = Loc::register(count.index);
                self.emit(Op::Clock(Value::new(count, true)));
                self.emit(Op::Unpack([low, high], count));
                high
            }
            Source::False => return self.fail(format!("{name} is a predicate")),
        })
    }

    /// All four elements of a special register that is a vector.
    pub(super) fn special_vector(&mut self, name: &str, ty: Type) -> Parsed<Option<Vec<Loc>>> {
        let Some(vector) = name.strip_prefix('%') else { return Ok(None) };
        let mut out = Vec::new();
        for lane in 0..4 {
            let Some(reading) = element_of(vector, lane) else { return Ok(None) };
            out.push(self.special(name, reading, ty)?);
        }
        Ok(Some(out))
    }

    /// The predicate of a special register that is one.
    pub(super) fn special_predicate(&mut self, name: &str) -> Parsed<Option<Pred>> {
        if !matches!(named(name), Some((Source::False, _))) {
            return Ok(None);
        }
        let register = self.temporary(Type::PREDICATE)?;
        let to = Pred { index: register.index as u32, negated: false };
        self.emit(Op::Predicate(Logic::Not, to, [Pred::NONE; 2]));
        Ok(Some(to))
    }
}
