//! Array sizes, for kernels that count elements in 32 bits.

use crate::{Error, Result};

/// The number of elements of an array of `shape`, below 2³¹.
///
/// # Errors
/// An array that is empty or too large, as an error of `family`.
pub(crate) fn elements(family: &'static str, shape: &[u32]) -> Result<u32> {
    let count = shape.iter().fold(1u64, |count, &n| count.saturating_mul(n.into()));
    match count {
        0 => Err(Error::new(family, format!("{shape:?} has no elements: every size must be at least 1"))),
        1..0x8000_0000 => Ok(count as u32),
        _ => Err(Error::new(family, format!("{shape:?} has 2³¹ elements or more: cut the batch"))),
    }
}

#[cfg(test)]
mod tests {
    use super::elements;

    #[test]
    fn elements_are_counted_below_2_to_the_31() {
        assert_eq!(elements("f", &[]).unwrap(), 1);
        assert_eq!(elements("f", &[2, 3, 5]).unwrap(), 30);
        assert_eq!(elements("f", &[1 << 30, 1]).unwrap(), 1 << 30);
        let refused = |shape: &[u32]| elements("f", shape).unwrap_err().message;
        assert!(refused(&[3, 0]).contains("no elements"));
        assert!(refused(&[1 << 16, 1 << 15]).contains("2³¹"));
        assert!(refused(&[u32::MAX; 4]).contains("2³¹"));
        assert!(refused(&[u32::MAX, u32::MAX, u32::MAX, 0]).contains("no elements"));
    }
}
