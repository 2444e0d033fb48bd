//! The header of an .npy file.

use std::path::Path;

use crate::{Error, Result};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Maximum length of the header text in bytes; the same as in NumPy's reader.
const MAX_TEXT: usize = 65_536;
/// Maximum number of dimensions.
const MAX_DIMS: usize = 8;
/// Maximum length of an accepted header in bytes.
pub const MAX_HEADER: usize = MAX_TEXT + 12;

/// Element types that can be read, all little-endian. This program writes bytes and single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// `|b1`: 0 or 1.
    Bool,
    /// `|u1`: bytes, 0 is black and 255 white.
    U8,
    /// `<u2`.
    U16,
    /// `<i2`.
    I16,
    /// `<i4`.
    I32,
    /// `<i8`.
    I64,
    /// `<f2`: half precision.
    F16,
    /// `<f4`: single precision, 0 is black and 1 white.
    F32,
    /// `<f8`: double precision.
    F64,
}

impl Dtype {
    const ALL: [Self; 9] =
        [Self::Bool, Self::U8, Self::U16, Self::I16, Self::I32, Self::I64, Self::F16, Self::F32, Self::F64];

    /// Size of an element in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// NumPy's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    fn descr(self) -> &'static str {
        match self {
            Self::Bool => "|b1",
            Self::U8 => "|u1",
            Self::U16 => "<u2",
            Self::I16 => "<i2",
            Self::I32 => "<i4",
            Self::I64 => "<i8",
            Self::F16 => "<f2",
            Self::F32 => "<f4",
            Self::F64 => "<f8",
        }
    }

    /// The type of a header's `descr`. Types of one byte have no order; without one, an order is the machine's own, and so
    /// taken as little-endian.
    fn of_descr(descr: &str) -> Option<Self> {
        let of = |dtype: &&Self| {
            let name = &dtype.descr()[1..];
            let orders: &[&str] = if dtype.size() == 1 { &["|", "<", ">", "=", ""] } else { &["<", "=", ""] };
            orders.iter().any(|order| descr.strip_prefix(order) == Some(name))
        };
        Self::ALL.iter().find(of).copied().or((descr == "B").then_some(Self::U8))
    }

    /// Appends the elements of `bytes` to `values`, rounded to single precision.
    pub fn decode(self, bytes: &[u8], values: &mut Vec<f32>) {
        fn each<const N: usize>(bytes: &[u8], values: &mut Vec<f32>, of: impl Fn([u8; N]) -> f32) {
            values.extend(bytes.as_chunks::<N>().0.iter().map(|&element| of(element)));
        }
        match self {
            Self::Bool => each(bytes, values, |[b]| f32::from(u8::from(b != 0))),
            Self::U8 => each(bytes, values, |[b]| f32::from(b)),
            Self::U16 => each(bytes, values, |b| f32::from(u16::from_le_bytes(b))),
            Self::I16 => each(bytes, values, |b| f32::from(i16::from_le_bytes(b))),
            Self::I32 => each(bytes, values, |b| i32::from_le_bytes(b) as f32),
            Self::I64 => each(bytes, values, |b| i64::from_le_bytes(b) as f32),
            Self::F16 => each(bytes, values, |b| half::f16::from_le_bytes(b).to_f32()),
            Self::F32 => each(bytes, values, f32::from_le_bytes),
            Self::F64 => each(bytes, values, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

/// Header of an .npy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Type of the elements.
    pub dtype: Dtype,
    /// Sizes, the first varies slowest (C order).
    pub shape: Vec<usize>,
    /// Offset of the elements in the file, in bytes.
    pub start: usize,
}

impl Header {
    /// Reads the header at the beginning of `bytes`, versions 1, 2 and 3; messages use `name`.
    ///
    /// # Errors
    /// [`Error::File`] when it is not an .npy header, or one of another type or of Fortran order.
    pub fn parse(bytes: &[u8], name: &Path) -> Result<Self> {
        let bad = |what: &str| Error::file(name, format!("is not an .npy file that can be read: {what}"));
        let Some((magic, rest)) = bytes.split_first_chunk::<6>() else {
            return Err(bad("it is too short"));
        };
        if magic != MAGIC {
            return Err(bad("it does not start with \\x93NUMPY"));
        }
        let (version, rest) = rest.split_first().ok_or_else(|| bad("it is too short"))?;
        let rest = rest.get(1..).ok_or_else(|| bad("it is too short"))?;
        let (length, prefix) = match version {
            1 => (rest.first_chunk().map(|b| usize::from(u16::from_le_bytes(*b))), 10),
            2 | 3 => (rest.first_chunk().map(|b| u32::from_le_bytes(*b) as usize), 12),
            _ => return Err(bad(&format!("version {version} is unknown"))),
        };
        let length =
            length.filter(|&length| length <= MAX_TEXT).ok_or_else(|| bad("its header is too long"))?;
        let text = bytes.get(prefix..prefix + length).ok_or_else(|| bad("its header is cut short"))?;
        let text = std::str::from_utf8(text).map_err(|_| bad("its header is not text"))?;
        let fields = Parser { rest: text }.fields().ok_or_else(|| bad("its header is not {'descr': …}"))?;
        let (Some(descr), Some(fortran), Some(shape)) = (fields.descr, fields.fortran_order, fields.shape)
        else {
            return Err(bad("descr, fortran_order or shape is missing in its header"));
        };
        let dtype = Dtype::of_descr(descr).ok_or_else(|| {
            let message = match descr.starts_with('>') {
                true => "is big-endian; save array.astype(array.dtype.newbyteorder('<')) instead".to_owned(),
                false => format!(
                    "has elements of type {descr:?}; save it as uint8, uint16, float16, float32 or float64"
                ),
            };
            Error::file(name, message)
        })?;
        if fortran {
            return Err(Error::file(name, "is in Fortran order; save numpy.ascontiguousarray(a) instead"));
        }
        Ok(Self { dtype, shape, start: prefix + length })
    }

    /// Checks that a file of `length` bytes contains exactly this array; returns the number of elements.
    ///
    /// # Errors
    /// [`Error::File`] when it does not, or a size is 0.
    pub fn check_length(&self, length: u64, name: &Path) -> Result<usize> {
        if self.shape.is_empty() || self.shape.contains(&0) {
            return Err(Error::file(name, format!("is empty: its shape is {:?}", self.shape)));
        }
        let elements = self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let bytes = elements.and_then(|n| n.checked_mul(self.dtype.size()));
        let end = bytes.and_then(|bytes| bytes.checked_add(self.start));
        match (elements, end) {
            (Some(elements), Some(end)) if end as u64 == length => Ok(elements),
            _ => Err(Error::file(
                name,
                format!("has {length} bytes, which does not match its shape {:?}; copy it again", self.shape),
            )),
        }
    }

    /// The header of an array as NumPy writes it (version 1.0, padded so that the elements start at a multiple of 64).
    pub fn bytes(dtype: Dtype, shape: &[usize]) -> Vec<u8> {
        let mut sizes = shape.iter().map(|s| format!("{s}, ")).collect::<String>();
        if shape.len() > 1 {
            sizes.truncate(sizes.len() - 2);
        }
        let mut text = format!(
            "{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
            dtype.descr(),
            sizes.trim_end()
        );
        let padded = (10 + text.len() + 1).next_multiple_of(64);
        text.extend(std::iter::repeat_n(' ', padded - 10 - text.len() - 1));
        text.push('\n');
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }
}

/// The dictionary of a header, each entry at most once.
#[derive(Default)]
struct Fields<'a> {
    descr: Option<&'a str>,
    fortran_order: Option<bool>,
    shape: Option<Vec<usize>>,
}

/// Parser of the Python literal in a header. `None` is a syntax error.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn fields(mut self) -> Option<Fields<'a>> {
        let mut fields = Fields::default();
        self.expect('{')?;
        while !self.take('}') {
            let key = self.string()?;
            self.expect(':')?;
            let fresh = match key {
                "descr" => fields.descr.replace(self.string()?).is_none(),
                "fortran_order" => fields.fortran_order.replace(self.boolean()?).is_none(),
                "shape" => fields.shape.replace(self.shape()?).is_none(),
                _ => false,
            };
            if !fresh {
                return None;
            }
            if !self.take(',') {
                self.expect('}')?;
                break;
            }
        }
        self.rest.trim_matches(['\0', ' ', '\t', '\r', '\n']).is_empty().then_some(fields)
    }

    fn take(&mut self, sign: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, sign: char) -> Option<()> {
        self.take(sign).then_some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = if self.take('\'') { '\'' } else { self.expect('"').map(|()| '"')? };
        let (text, rest) = self.rest.split_once(quote)?;
        self.rest = rest;
        Some(text)
    }

    fn boolean(&mut self) -> Option<bool> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Some(value);
            }
        }
        None
    }

    fn shape(&mut self) -> Option<Vec<usize>> {
        let mut sizes = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            self.rest = self.rest.trim_start();
            let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = self.rest.split_at(digits);
            // Python 2 wrote long integers with an L.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            sizes.push(number.parse().ok()?);
            if sizes.len() > MAX_DIMS {
                return None;
            }
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Some(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Header> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        Header::parse(&bytes, Path::new("x.npy"))
    }

    #[test]
    fn what_is_written_is_read() {
        for shape in [vec![7], vec![20, 10_000, 64, 64], vec![1, 2, 3, 4, 5]] {
            for dtype in [Dtype::U8, Dtype::F32] {
                let bytes = Header::bytes(dtype, &shape);
                assert_eq!(bytes.len() % 64, 0);
                let header = Header::parse(&bytes, Path::new("x")).unwrap();
                assert_eq!(header, Header { dtype, shape: shape.clone(), start: bytes.len() });
            }
        }
    }

    #[test]
    fn headers_of_other_writers() {
        let ok = |text: &str| parse(text).unwrap().shape;
        assert_eq!(ok("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }\n"), [3]);
        assert_eq!(ok("{\"shape\":(2L,3L),\"descr\":\"B\",\"fortran_order\":False}"), [2, 3]);
        assert_eq!(ok("{'descr': '<f4', 'fortran_order': False, 'shape': ()}"), [0usize; 0]);
    }

    #[test]
    fn refuses_the_rest() {
        for (text, says) in [
            ("{'descr': '<c8', 'fortran_order': False, 'shape': (3,)}", "save it as uint8"),
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (3,)}", "big-endian"),
            ("{'descr': '|u1', 'fortran_order': True, 'shape': (3,)}", "Fortran"),
            ("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (3,)}", "descr"),
            ("{'descr': '|u1', 'fortran_order': False}", "is missing"),
            ("{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (3,)}", "header"),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (-3,)}", "header"),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}", "header"),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", "header"),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (3,)} import os", "header"),
            ("", "header"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.starts_with("x.npy: ") && message.contains(says), "{text}: {message}");
        }
        let huge =
            parse("{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2)}").unwrap();
        assert!(huge.check_length(1 << 40, Path::new("x")).is_err());
        let empty = parse("{'descr': '|u1', 'fortran_order': False, 'shape': (4, 0)}").unwrap();
        assert!(empty.check_length(empty.start as u64, Path::new("x")).is_err());
    }
}
