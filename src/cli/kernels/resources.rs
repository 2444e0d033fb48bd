//! `kernels/ptx/resources.tsv`: resources of every kernel of the catalogue according to `ptxas`, kept in the repository.

use std::collections::BTreeMap;
use std::fmt::Write;

use ssmv_kernels::{RESOURCES, Target};

use super::ptxas::Usage;

/// Path of the table in the repository.
pub const TABLE_PATH: &str = "kernels/ptx/resources.tsv";

const VERSION: &str = "# ptxas ";
const HEADINGS: &str = "kernel\ttarget\tregisters\tshared";

/// Registers per thread and bytes of static shared memory per block, for each kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Version of `ptxas` that reported them.
    pub version: String,
    rows: BTreeMap<(String, Target), (u32, u32)>,
}

/// A row that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Name of the kernel.
    pub kernel: String,
    /// Target of the kernel.
    pub target: Target,
    /// Description of the change.
    pub what: String,
}

impl Resources {
    /// An empty table for a version of `ptxas`.
    pub fn new(version: &str) -> Self {
        Self { version: version.to_owned(), rows: BTreeMap::new() }
    }

    /// The built-in table. Malformed lines are ignored.
    pub fn built_in() -> Self {
        Self::parse(RESOURCES)
    }

    fn parse(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            if let Some(version) = line.strip_prefix(VERSION) {
                table.version = version.to_owned();
            }
            let cells: Vec<_> = line.split('\t').collect();
            if let [kernel, target, registers, shared] = cells[..]
                && let (Ok(target), Ok(registers), Ok(shared)) =
                    (target.parse(), registers.parse(), shared.parse())
            {
                table.rows.insert((kernel.to_owned(), target), (registers, shared));
            }
        }
        table
    }

    /// Sets the row of a kernel.
    pub fn set(&mut self, kernel: &str, target: Target, usage: &Usage) {
        self.rows.insert((kernel.to_owned(), target), (usage.registers, usage.shared));
    }

    /// Registers of a thread of the kernel.
    pub fn registers(&self, kernel: &str, target: Target) -> Option<u32> {
        self.rows.get(&(kernel.to_owned(), target)).map(|&(registers, _)| registers)
    }

    /// Differences from `now`, which has the kernels that `concerns` selects.
    pub fn differences(&self, now: &Self, concerns: impl Fn(&str, Target) -> bool) -> Vec<Difference> {
        let keys =
            self.rows.keys().filter(|(kernel, target)| concerns(kernel, *target)).chain(now.rows.keys());
        let keys: std::collections::BTreeSet<_> = keys.collect();
        keys.into_iter()
            .filter_map(|key @ (kernel, target)| {
                let what = match (self.rows.get(key), now.rows.get(key)) {
                    (Some(old), Some(new)) if old == new => return None,
                    (Some((registers, shared)), Some((r, s))) => {
                        format!(
                            "{registers} registers and {shared} bytes of shared memory are now {r} and {s}"
                        )
                    }
                    (None, _) => "is not in the table".to_owned(),
                    (Some(_), None) => "is in the table and no longer in the catalogue".to_owned(),
                };
                Some(Difference { kernel: kernel.clone(), target: *target, what })
            })
            .collect()
    }
}

impl std::fmt::Display for Resources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("{VERSION}{}\n{HEADINGS}\n", self.version);
        for ((kernel, target), (registers, shared)) in &self.rows {
            writeln!(text, "{kernel}\t{target}\t{registers}\t{shared}")?;
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(registers: u32, shared: u32) -> Usage {
        Usage { registers, shared, ..Usage::default() }
    }

    #[test]
    fn a_table_reads_back_as_itself() {
        let mut table = Resources::new("13.0.88");
        table.set("b", Target::Sm90a, &usage(40, 1024));
        table.set("a", Target::Sm80, &usage(8, 0));
        let text = table.to_string();
        assert_eq!(text.lines().next(), Some("# ptxas 13.0.88"));
        assert_eq!(Resources::parse(&text), table);
        assert_eq!(table.registers("a", Target::Sm80), Some(8));
        assert_eq!(table.registers("a", Target::Sm90a), None);
        assert_eq!(Resources::built_in().to_string(), RESOURCES);
    }

    #[test]
    fn every_kind_of_difference_is_reported() {
        let (mut old, mut new) = (Resources::new("1"), Resources::new("1"));
        for (name, before, after) in [
            ("same", Some(8), Some(8)),
            ("more", Some(8), Some(9)),
            ("gone", Some(8), None),
            ("new", None, Some(8)),
        ] {
            before.into_iter().for_each(|n| old.set(name, Target::Sm80, &usage(n, 0)));
            after.into_iter().for_each(|n| new.set(name, Target::Sm80, &usage(n, 0)));
        }
        old.set("elsewhere", Target::Sm90a, &usage(8, 0));
        let found = old.differences(&new, |_, target| target == Target::Sm80);
        let reported: Vec<_> = found.iter().map(|d| format!("{} {}", d.kernel, d.what)).collect();
        let expected = [
            "gone is in the table and no longer in the catalogue",
            "more 8 registers and 0 bytes of shared memory are now 9 and 0",
            "new is not in the table",
        ];
        assert_eq!(reported, expected);
    }
}
