//! `kernels/ptx/` holds one listing a family, for sm_80: the shortest of the kernels whose name starts as said here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use ssmv_kernels::{Kernel, Target, catalogue};

/// Each family, and how the names of the kernels start that are good to read.
const LISTED: [(&str, &str); 21] = [
    ("pointwise", "silu_f16"),
    ("reduce", "sum_rows_f16_1600"),
    ("grad_norm", "grad_norm_f16"),
    ("optimiser_step", "optimiser_step"),
    ("adamw", "adamw_f16_copy"),
    ("keep_unless_skipped", "keep_unless_skipped"),
    ("average", "average"),
    ("digest", "digest"),
    ("gemm", "gemm_kk"),
    ("conv", "conv_fprop_n160_16x16_c64_o64"),
    ("max_pool", "max_pool_forward_f16_160x32"),
    ("upsample", "upsample_backward_f16_16x8"),
    ("layout", "permute_f16_16x64"),
    ("loss", "loss_mse_forward_f16_n1003"),
    ("batch_norm", "batch_norm_train_residual_relu_f16"),
    ("layer_norm", "layer_norm_forward_f16_1000x64"),
    ("softmax", "softmax_forward_f16_1000x64"),
    ("causal_conv1d", "causal_conv1d_forward_f16"),
    ("selective_scan", "selective_scan_forward_f16"),
    ("reduce_copy", "reduce_copy_sum_both"),
    ("isa_test", "isa_test_together"),
];

const RENEW: &str = "renew the listings: SSMV_UPDATE=1 cargo test -p ssmv-kernels --test listings";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("ptx")
}

/// The kernel of each family that is listed; of several as short the first by name.
fn listed() -> BTreeMap<&'static str, Kernel> {
    let all = catalogue(Target::Sm80);
    let families: BTreeSet<_> = all.iter().map(|kernel| kernel.family).collect();
    let named: BTreeSet<_> = LISTED.iter().map(|(family, _)| *family).collect();
    assert_eq!(families, named, "LISTED in tests/listings.rs and the catalogue have different families");
    let shortest = |(family, start): (&'static str, &str)| {
        let candidates =
            all.iter().filter(|kernel| kernel.family == family && kernel.name.starts_with(start));
        let kernel = candidates.min_by_key(|kernel| (kernel.ptx.lines().count(), &kernel.name));
        (family, kernel.unwrap_or_else(|| panic!("no kernel of {family} starts with {start}")).clone())
    };
    LISTED.into_iter().map(shortest).collect()
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
