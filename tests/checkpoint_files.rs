//! Checkpoints as files: what is written is what is read, and what is damaged or hostile is an error.

use proptest::prelude::*;
use safetensors::{Dtype as D, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use ssmv_autograd::tensor_file::{Dtype, TensorFile};
use ssmv_raw::checkpoint::{Checkpoint, Contents, Entry, write};
use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct State {
    step: u64,
    generator: Vec<u32>,
}

const WEIGHT: [f32; 6] = [1.0, -2.5, 3.0e-38, 0.1, -0.0, f32::MAX];

fn write_small(parent: &Path, step: u64) -> PathBuf {
    let contents = Contents {
        preset: "nano",
        model: vec![
            Entry::f32("encoder.conv.weight", &[2, 3], || Cow::Borrowed(&WEIGHT)),
            Entry::f32("a \"quoted\"\n name", &[1], || Cow::Owned(vec![5.0])),
            Entry::i64_scalar("encoder.bn.num_batches_tracked", -3),
            Entry::f32("empty", &[0, 4], || Cow::Owned(vec![])),
        ],
        optimizer: vec![Entry::f32("m.encoder.conv.weight", &[6], || Cow::Borrowed(&WEIGHT))],
    };
    write(parent, step, &contents, &State { step, generator: vec![1, 2] }, None).unwrap()
}

/// A model file's bytes with a tensor of each given dtype, as the reference implementation writes them.
fn reference(tensors: &[(&str, D, &[usize], &[u8])]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, d, shape, data)| (*name, TensorView::new(*d, shape.to_vec(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// A file of a header and `data` bytes.
fn raw(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

fn open_bytes(folder: &Path, bytes: &[u8]) -> ssmv_raw::Result<Checkpoint> {
    let path = folder.join("bare.safetensors");
    fs::write(&path, bytes).unwrap();
    Checkpoint::open(path)
}

/// Reads all that a file says it has.
fn read_all(file: &TensorFile) -> ssmv_autograd::Result<()> {
    file.names().map(str::to_string).try_for_each(|name| {
        let info = file.get(&name).unwrap();
        match info.dtype {
            Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16 => file.read_f32(&name, &info.shape).map(drop),
            Dtype::I64 => file.read_i64(&name, &info.shape).map(drop),
            _ => Ok(()),
        }
    })
}

#[test]
fn reads_what_was_written() {
    let run = tempfile::tempdir().unwrap();
    let folder = write_small(&run.path().join("checkpoints"), 800);
    assert!(folder.ends_with("checkpoints/step-00000800"));
    let ways = [
        run.path().to_path_buf(),
        run.path().join("checkpoints"),
        folder.clone(),
        folder.join("model.safetensors"),
    ];
    for way in ways {
        let checkpoint = Checkpoint::open(&way).unwrap();
        assert_eq!((checkpoint.preset(), checkpoint.step()), (Some("nano"), Some(800)));
        assert_eq!(checkpoint.state::<State>().unwrap(), State { step: 800, generator: vec![1, 2] });
        assert!(checkpoint.state::<Vec<u8>>().unwrap_err().to_string().contains("state.json"));
        let model = checkpoint.model();
        let weight = model.read_f32("encoder.conv.weight", &[2, 3]).unwrap();
        assert!(weight.iter().zip(WEIGHT).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!(model.read_f32("a \"quoted\"\n name", &[1]).unwrap(), [5.0]);
        assert_eq!(model.read_f32("empty", &[0, 4]).unwrap(), [0.0; 0]);
        assert_eq!(model.read_i64("encoder.bn.num_batches_tracked", &[]).unwrap(), [-3]);
        let optimizer = checkpoint.optimizer().unwrap();
        assert_eq!(optimizer.names().collect::<Vec<_>>(), ["m.encoder.conv.weight"]);
        assert_eq!(optimizer.read_f32("m.encoder.conv.weight", &[6]).unwrap(), WEIGHT);
    }
}

#[test]
fn the_reference_implementation_reads_it() {
    let run = tempfile::tempdir().unwrap();
    let bytes = fs::read(write_small(run.path(), 1).join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let weight = tensors.tensor("encoder.conv.weight").unwrap();
    assert_eq!((weight.dtype(), weight.shape()), (D::F32, &[2, 3][..]));
    assert_eq!(weight.data(), bytemuck::cast_slice::<f32, u8>(&WEIGHT));
    let scalar = tensors.tensor("encoder.bn.num_batches_tracked").unwrap();
    assert_eq!(
        (scalar.dtype(), scalar.shape(), scalar.data()),
        (D::I64, &[][..], &(-3i64).to_le_bytes()[..])
    );
}

#[test]
fn reads_bare_files_of_any_float() {
    let folder = tempfile::tempdir().unwrap();
    let double = [0.5f64, -3.0].map(f64::to_le_bytes).concat();
    let bytes = reference(&[
        ("double", D::F64, &[2], &double),
        ("half", D::F16, &[2], &[0x00, 0x3c, 0x00, 0xc0]),
        ("brain", D::BF16, &[1], &[0x80, 0xbf]),
    ]);
    let checkpoint = open_bytes(folder.path(), &bytes).unwrap();
    let model = checkpoint.model();
    assert_eq!(model.read_f32("double", &[2]).unwrap(), [0.5, -3.0]);
    assert_eq!(model.read_f32("half", &[2]).unwrap(), [1.0, -2.0]);
    assert_eq!(model.read_f32("brain", &[1]).unwrap(), [-1.0]);
    assert_eq!((checkpoint.preset(), checkpoint.step()), (None, None));
    assert!(checkpoint.optimizer().unwrap_err().to_string().contains("only weights"));
}

#[test]
fn errors_name_the_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = reference(&[
        ("nan", D::F32, &[2], &[0, 0, 0, 0, 0, 0, 0xc0, 0x7f]),
        ("wide", D::F64, &[1], &1e300f64.to_le_bytes()),
        ("whole", D::I64, &[1], &[0; 8]),
    ]);
    let checkpoint = open_bytes(folder.path(), &bytes).unwrap();
    for (name, shape, word) in [
        ("nan", &[2][..], "NaN at element 1"),
        ("nan", &[1, 2], "[1, 2] was expected"),
        ("wide", &[1], "inf"),
        ("whole", &[1], "I64"),
        ("absent", &[1], "missing"),
    ] {
        let message = checkpoint.model().read_f32(name, shape).unwrap_err().to_string();
        assert!(message.contains(&format!("{name:?}")) && message.contains(word), "{message}");
        assert!(message.contains("bare.safetensors"), "{message}");
    }
}

#[test]
fn every_flipped_byte_is_seen() {
    let run = tempfile::tempdir().unwrap();
    let folder = write_small(run.path(), 1);
    let mut flips = 0u32;
    for name in ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"] {
        let path = folder.join(name);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            flips = flips.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bad[at] ^= 1 << (flips >> 29);
            fs::write(&path, &bad).unwrap();
            let message = Checkpoint::open(&folder).expect_err("a flipped bit").to_string();
            assert!(message.contains(name), "{message}");
        }
        for bad in [&good[..good.len() - 1], &[&good[..], b"\n"].concat(), b""] {
            fs::write(&path, bad).unwrap();
            assert!(Checkpoint::open(&folder).unwrap_err().to_string().contains(name));
        }
        fs::remove_file(&path).unwrap();
        assert!(Checkpoint::open(&folder).unwrap_err().to_string().contains(name));
        fs::write(&path, &good).unwrap();
        Checkpoint::open(&folder).unwrap();
    }
}

#[test]
fn hostile_headers_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = |name: &str, shape: &str, from: u64, to: u64| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let one = |shape: &str, from, to| format!("{{{}}}", tensor("a", shape, from, to));
    let two = |a: String, b: String| format!("{{{a},{b}}}");
    let many = vec!["1"; 100_000].join(",");
    let cases = [
        ("nothing", vec![]),
        ("seven bytes", vec![0; 7]),
        ("a header past the file", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
        ("a header past the file by one", [&3u64.to_le_bytes()[..], b"{}"].concat()),
        ("no JSON", raw("{", 0)),
        ("no object", raw("[]", 0)),
        ("space before the object", raw(" {}", 0)),
        ("no UTF-8", [&4u64.to_le_bytes()[..], b"{\"\xff\""].concat()),
        ("trailing bytes", raw("{}", 1)),
        ("data past the end", raw(&one("[2]", 0, 8), 4)),
        ("data that begins late", raw(&one("[1]", 4, 8), 8)),
        ("a range backwards", raw(&one("[1]", 4, 0), 4)),
        ("a range near 2^64", raw(&one("[1]", u64::MAX - 3, u64::MAX), 4)),
        ("another product", raw(&one("[2,1]", 0, 4), 4)),
        ("a product of 2^64", raw(&one("[4294967296,4294967296]", 0, 0), 0)),
        ("a negative extent", raw(&one("[-1]", 0, 4), 4)),
        ("a fraction", raw(&one("[1.0]", 0, 4), 4)),
        ("a long shape", raw(&one(&format!("[{many}]"), 0, 4), 4)),
        ("one name twice", raw(&two(tensor("a", "[1]", 0, 4), tensor("a", "[1]", 4, 8)), 8)),
        ("one empty name twice", raw(&two(tensor("a", "[0]", 0, 0), tensor("a", "[1]", 0, 4)), 4)),
        ("overlap", raw(&two(tensor("a", "[2]", 0, 8), tensor("b", "[1]", 4, 8)), 8)),
        ("the same range", raw(&two(tensor("a", "[1]", 0, 4), tensor("b", "[1]", 0, 4)), 4)),
        ("a hole", raw(&two(tensor("a", "[1]", 0, 4), tensor("b", "[1]", 8, 12)), 12)),
        ("a strange dtype", raw(&one("[1]", 0, 4).replace("F32", "F33"), 4)),
        ("metadata twice", raw(r#"{"__metadata__":{},"__metadata__":{}}"#, 0)),
        ("metadata of numbers", raw(r#"{"__metadata__":{"a":1}}"#, 0)),
        ("deep nesting", raw(&format!("{{\"a\":{}", "[".repeat(100_000)), 0)),
        ("a pickle", b"PK\x03\x04 and so on".to_vec()),
    ];
    for (what, bytes) in cases {
        let message = open_bytes(folder.path(), &bytes).expect_err(what).to_string();
        assert!(message.contains("bare.safetensors") && !message.contains('\n'), "{what}: {message}");
    }
    open_bytes(folder.path(), &raw(&one("[1]", 0, 4), 4)).unwrap();
    open_bytes(folder.path(), &raw("{}", 0)).unwrap();
}

#[test]
fn paths_that_are_no_checkpoint_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| Checkpoint::open(path).unwrap_err().to_string();
    assert!(message(&folder.path().join("absent")).contains("absent"));
    assert!(message(folder.path()).contains("has no checkpoint"));
    assert!(message(Path::new("/dev/zero")).contains("not a file"));
    let step = write_small(folder.path(), 1);
    fs::remove_file(step.join("manifest.json")).unwrap();
    assert!(message(&step).contains("has no manifest.json"));
    assert!(Checkpoint::open(step.join("model.safetensors")).is_ok(), "the weights alone");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let empty = Contents { preset: "nano", model: vec![], optimizer: vec![] };
    assert!(write(&file, 1, &empty, &0, None).unwrap_err().to_string().contains("/file: cannot write"));
}

#[test]
fn a_manifest_cannot_lead_out_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let step = write_small(folder.path(), 1);
    let path = step.join("manifest.json");
    let manifest = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"state.json\"", "\"../../state.json\""),
        ("\"version\": 1", "\"version\": 2"),
        ("ssmv-raw c", "c"),
    ] {
        assert!(manifest.contains(from));
        fs::write(&path, manifest.replacen(from, to, 1)).unwrap();
        assert!(Checkpoint::open(&step).unwrap_err().to_string().contains("manifest.json"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        if let Ok(checkpoint) = open_bytes(folder.path(), &bytes) {
            let _ = read_all(checkpoint.model());
        }
    }

    #[test]
    fn random_headers_never_panic(header in r#"\{("[ab]":\{"dtype":"(F32|F16|I64|BOOL)","shape":\[[0-9]{1,20}(,[0-9])?\],"data_offsets":\[[0-9]{1,20},[0-9]{1,20}\]\},?){0,3}\}"#, data in 0usize..40) {
        let folder = tempfile::tempdir().unwrap();
        if let Ok(checkpoint) = open_bytes(folder.path(), &raw(&header, data)) {
            let _ = read_all(checkpoint.model());
        }
    }

    /// What this reader takes, the reference implementation takes with the same names and shapes.
    #[test]
    fn mutated_files_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = reference(&[
            ("a", D::F32, &[2, 2], &[0; 16]),
            ("b", D::F16, &[3], &[0; 6]),
            ("c", D::I64, &[], &[0; 8]),
        ]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(checkpoint) = open_bytes(folder.path(), &bytes) {
            let _ = read_all(checkpoint.model());
            let reference = SafeTensors::deserialize(&bytes).unwrap();
            for name in checkpoint.model().names() {
                let want = reference.tensor(name).unwrap();
                prop_assert_eq!(want.shape(), &checkpoint.model().get(name).unwrap().shape);
            }
        }
    }
}
