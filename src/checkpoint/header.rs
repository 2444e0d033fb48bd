//! The header of a safetensors file, parsed as if an enemy had written it.
//!
//! The format (github.com/huggingface/safetensors): a u64 length, that many bytes of JSON from a tensor's name to
//! its dtype, shape and byte range, then the data, which the ranges must cover without hole or overlap.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// No header of a model that this program knows comes near this many bytes.
pub(super) const MAX_HEADER: u64 = 8 << 20;
/// Bounds what the parsed header takes in memory.
const MAX_TENSORS: usize = 1 << 16;
const MAX_RANK: usize = 8;
/// The bytes of the length before the header.
pub(super) const LENGTH_BYTES: u64 = 8;

/// The element types that a file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Dtype {
    /// IEEE double.
    F64,
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    BF16,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 8 bits.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> u64 {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// What a file says of one tensor; shape and range agree with each other and lie within the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: Dtype,
    /// Row-major shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub(super) start: u64,
    /// Size in bytes.
    pub(super) bytes: u64,
}

/// Names in order, and the free-form metadata.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub tensors: BTreeMap<String, TensorInfo>,
    pub metadata: BTreeMap<String, String>,
}

/// The bytes that `shape` elements of `dtype` take, or `None` past 2⁶⁴.
pub(super) fn byte_size(shape: &[usize], dtype: Dtype) -> Option<u64> {
    shape.iter().try_fold(dtype.size(), |product, &extent| product.checked_mul(extent as u64))
}

/// Parses the JSON of a header; `data_bytes` is what is left of the file behind it.
///
/// # Errors
/// A line that says what is wrong, without the file's name.
pub(super) fn parse(json: &[u8], data_bytes: u64) -> Result<Header, String> {
    if json.first() != Some(&b'{') {
        return Err("the safetensors header does not begin with '{'".into());
    }
    let RawHeader { mut tensors, metadata } =
        serde_json::from_slice(json).map_err(|e| format!("the safetensors header is not valid: {e}"))?;
    tensors.sort_by_key(|(_, raw)| raw.data_offsets);
    let data_start = LENGTH_BYTES + json.len() as u64;
    let mut covered = 0;
    let mut header = Header { tensors: BTreeMap::new(), metadata };
    for (name, raw) in tensors {
        let (start, end) = raw.data_offsets;
        if start != covered || end < start || end > data_bytes {
            return Err(format!(
                "tensor {name:?} lies at bytes {start}..{end} where {covered}..(at most {data_bytes}) was expected: \
                 ranges overlap, leave a hole or pass the end of the file"
            ));
        }
        let bytes = end - start;
        if byte_size(&raw.shape.0, raw.dtype) != Some(bytes) {
            return Err(format!(
                "tensor {name:?} of shape {:?} and dtype {:?} cannot have {bytes} bytes",
                raw.shape.0, raw.dtype
            ));
        }
        covered = end;
        let info = TensorInfo { dtype: raw.dtype, shape: raw.shape.0, start: data_start + start, bytes };
        if let Some((name, _)) = header.tensors.insert(name.clone(), info).map(|old| (name, old)) {
            return Err(format!("tensor {name:?} is there twice"));
        }
    }
    if covered != data_bytes {
        return Err(format!("{} bytes follow the last tensor", data_bytes - covered));
    }
    Ok(header)
}

/// The length, the JSON and its padding for tensors that follow each other in the order given.
pub(super) fn encode<'a>(
    metadata: &BTreeMap<&str, String>,
    tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize])>,
) -> Result<Vec<u8>, String> {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let pairs: Vec<_> = metadata.iter().map(|(k, v)| format!("{}:{}", quote(k), quote(v))).collect();
    let mut json = format!("{{\"__metadata__\":{{{}}}", pairs.join(","));
    let mut offset = 0u64;
    let mut names = std::collections::BTreeSet::new();
    for (name, dtype, shape) in tensors {
        if !names.insert(name) || name == "__metadata__" {
            return Err(format!("tensor {name:?} cannot be written: its name is taken"));
        }
        let end = byte_size(shape, dtype).and_then(|bytes| offset.checked_add(bytes));
        let end = end.ok_or_else(|| format!("tensor {name:?} of shape {shape:?} is too large"))?;
        json += &format!(
            ",{}:{{\"dtype\":\"{dtype:?}\",\"shape\":{shape:?},\"data_offsets\":[{offset},{end}]}}",
            quote(name)
        );
        offset = end;
    }
    json.push('}');
    // The data begins at a multiple of eight bytes, so that a reader may map it.
    while !json.len().is_multiple_of(8) {
        json.push(' ');
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    Ok(bytes)
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (u64, u64),
}

struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object from names to tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let (mut tensors, mut metadata) = (Vec::new(), None);
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        if metadata.replace(map.next_value()?).is_some() {
                            return Err(A::Error::custom("__metadata__ is there twice"));
                        }
                        continue;
                    }
                    if tensors.len() == MAX_TENSORS {
                        return Err(A::Error::custom(format_args!("more than {MAX_TENSORS} tensors")));
                    }
                    tensors.push((name, map.next_value()?));
                }
                Ok(RawHeader { tensors, metadata: metadata.unwrap_or_default() })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A shape of bounded rank, so that a header of commas cannot grow in memory.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Extents;
        impl<'de> Visitor<'de> for Extents {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "at most {MAX_RANK} extents")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut extents: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(extent) = extents.next_element()? {
                    if shape.len() == MAX_RANK {
                        return Err(A::Error::custom(format_args!(
                            "a shape of more than {MAX_RANK} extents"
                        )));
                    }
                    shape.push(extent);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Extents)
    }
}
