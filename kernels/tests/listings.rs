//! `kernels/ptx/` holds one listing a family: the shortest of its kernels in the catalogue, for sm_80; of those with tensor
//! cores where there are any.

use std::{collections::BTreeMap, fs, path::PathBuf};

use ssmv_kernels::{Kernel, Target, catalogue};

const RENEW: &str = "renew the listings: SSMV_UPDATE=1 cargo test -p ssmv-kernels --test listings";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("ptx")
}

/// The kernel of each family that is listed; of several the first by name.
fn listed() -> BTreeMap<&'static str, Kernel> {
    let mut families: BTreeMap<&'static str, Kernel> = BTreeMap::new();
    let length =
        |kernel: &Kernel| (!kernel.ptx.contains("mma.sync"), kernel.ptx.lines().count(), kernel.name.clone());
    for kernel in catalogue(Target::Sm80) {
        match families.get(kernel.family) {
            Some(best) if length(best) <= length(&kernel) => {}
            _ => drop(families.insert(kernel.family, kernel)),
        }
    }
    families
}

#[test]
fn listings_are_current() {
    let update = std::env::var_os("SSMV_UPDATE").is_some();
    for (family, kernel) in listed() {
        let path = folder().join(format!("{family}.ptx"));
        if update {
            fs::write(&path, &kernel.ptx).unwrap();
        }
        let listed = fs::read_to_string(&path).unwrap_or_default();
        let differ = kernel.ptx.lines().zip(listed.lines()).position(|(new, old)| new != old);
        let line = differ.unwrap_or(kernel.ptx.lines().count().min(listed.lines().count())) + 1;
        assert!(listed == kernel.ptx, "ptx/{family}.ptx is not {} from line {line} on; {RENEW}", kernel.name);
    }
}

#[test]
fn every_listing_is_a_familys_and_is_explained() {
    let families = listed();
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(family) = name.strip_suffix(".ptx") {
            assert!(families.contains_key(family), "ptx/{name} is of no family; remove it");
        }
    }
    for family in families.keys() {
        assert!(
            readme.contains(&format!("`{family}.ptx`")),
            "ptx/README.md does not say what {family}.ptx is"
        );
    }
}
