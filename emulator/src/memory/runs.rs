//! A warp's access as runs of lanes with contiguous addresses.

use super::access::{Access, LANES};

/// Lanes with successive numbers that access successive addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Index of the first lane.
    pub lane: usize,
    pub lanes: usize,
    /// Address of the first lane.
    pub address: usize,
    /// Number of bytes per lane.
    pub bytes: usize,
}

/// The runs of an access, lowest lane first.
pub(super) struct Runs<'a> {
    access: Access<'a>,
    /// Mask of the lanes that follow.
    rest: u32,
    whole: bool,
}

impl Run {
    /// One lane of an access.
    pub fn one(access: Access<'_>, lane: usize) -> Self {
        // An address that does not fit the host is outside the block's memory too.
        let address = usize::try_from(access.addresses[lane]).unwrap_or(usize::MAX);
        Self { lane, lanes: 1, address, bytes: access.bytes as usize }
    }
}

impl<'a> Runs<'a> {
    #[inline]
    pub fn new(access: Access<'a>) -> Self {
        Self::known(access, access.contiguous().is_some())
    }

    /// `whole`: whether the access is known to be contiguous.
    #[inline]
    pub fn known(access: Access<'a>, whole: bool) -> Self {
        Self { access, rest: access.mask, whole }
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    #[inline]
    fn next(&mut self) -> Option<Run> {
        if self.rest == 0 {
            return None;
        }
        let Access { addresses, bytes, .. } = self.access;
        let lane = self.rest.trailing_zeros() as usize;
        let mut end = if self.whole { LANES } else { lane + 1 };
        while end < LANES
            && self.rest >> end & 1 != 0
            && addresses[end] == addresses[end - 1].wrapping_add(bytes.into())
        {
            end += 1;
        }
        self.rest &= u32::MAX.unbounded_shl(end as u32);
        Some(Run { lanes: end - lane, ..Run::one(self.access, lane) })
    }
}
