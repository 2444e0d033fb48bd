//! The counters of a launch.

/// Counts of a launch, summed over its blocks. The traffic counts stay 0 without [`Checks::traffic`](crate::Checks).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Instructions, counted once per warp.
    pub warp_instructions: u64,
    /// Instructions, counted once per active lane.
    pub lane_instructions: u64,
    /// Multiply-accumulates of the tensor cores.
    pub tensor_macs: u64,
    /// Block-wide barriers, counted once per warp.
    pub barriers: u64,
    /// Loads and stores of global memory, counted once per warp.
    pub global_requests: u64,
    /// 32-byte sectors that these requests touched.
    pub global_sectors: u64,
    /// The sectors that the same bytes would take if each warp's bytes were contiguous and aligned.
    pub global_sectors_ideal: u64,
    /// Loads and stores of shared memory, counted once per warp.
    pub shared_requests: u64,
    /// Passes over the banks that these requests took: 1 for a request of up to 128 bytes without bank conflicts.
    pub shared_passes: u64,
    /// Passes beyond the number that the distinct bytes need.
    pub bank_conflicts: u64,
}

impl std::ops::AddAssign<&Self> for Report {
    fn add_assign(&mut self, other: &Self) {
        self.warp_instructions += other.warp_instructions;
        self.lane_instructions += other.lane_instructions;
        self.tensor_macs += other.tensor_macs;
        self.barriers += other.barriers;
        self.global_requests += other.global_requests;
        self.global_sectors += other.global_sectors;
        self.global_sectors_ideal += other.global_sectors_ideal;
        self.shared_requests += other.shared_requests;
        self.shared_passes += other.shared_passes;
        self.bank_conflicts += other.bank_conflicts;
    }
}
