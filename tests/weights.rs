//! Weights of other trainings and programs, as a user gives them.

mod program;

use std::fs;
use std::path::Path;

use program::{done, refused, run};
use ssmv_autograd::tensor_file::{TensorFile, save_tensors};

const TRAIN: &str = "train --preset nano --batch-size 2 --sequences 4 --eval-sequences 2";

fn weights(run: &Path) -> TensorFile {
    let folders = fs::read_dir(run.join("checkpoints")).unwrap();
    let newest = folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).max().unwrap();
    TensorFile::open(newest.join("model.safetensors")).unwrap()
}

fn values(file: &TensorFile, name: &str) -> Vec<f32> {
    file.read(name).unwrap().values::<f32>().unwrap().to_vec()
}

#[test]
fn a_training_starts_from_weights_as_far_as_they_fit() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    done(folder, &format!("{TRAIN} --steps 2 --out first"));
    // So small a step leaves the weights as they were.
    let still = "--steps 1 --lr 1e-12 --weight-decay 0 --warmup 0 --seed 9";
    let output = run(folder, &format!("{TRAIN} {still} --init first --out second"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("tensors are taken") && !stderr.contains("is not taken"), "{stderr}");
    let [first, second] = ["first", "second"].map(|run| weights(&folder.join(run)));
    for name in first.names().filter(|name| !name.contains("running_") && !name.ends_with("tracked")) {
        for (a, b) in values(&first, name).iter().zip(values(&second, name)) {
            assert!((a - b).abs() < 1e-6, "{name}: {a} became {b}");
        }
    }
    // The run goes on after its start is gone.
    fs::rename(folder.join("first"), folder.join("gone")).unwrap();
    done(folder, "train --resume second --steps 2");

    // Of a file with some tensors, those are taken and the others named.
    let whole = weights(&folder.join("gone"));
    let tensors: Vec<_> = whole.names().filter(|name| name.starts_with("encoder.")).collect();
    let tensors: Vec<_> = tensors
        .iter()
        .filter(|n| !n.ends_with("tracked"))
        .map(|n| (format!("module.{n}"), whole.read(n).unwrap()))
        .collect();
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    save_tensors(folder.join("encoder.safetensors"), &named).unwrap();
    let output = run(folder, &format!("{TRAIN} {still} --init encoder.safetensors --out third"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("is not taken: not in the file"), "{stderr}");
    let third = weights(&folder.join("third"));
    let name = "encoder.stem.weight";
    let name = if whole.get(name).is_some() {
        name
    } else {
        whole.names().find(|n| n.starts_with("encoder.")).unwrap()
    };
    for (a, b) in values(&whole, name).iter().zip(values(&third, name)) {
        assert!((a - b).abs() < 1e-6, "{name}");
    }

    refused(&run(folder, &format!("--quiet {TRAIN} --init none --out x")), 1, &["none"]);
    refused(&run(folder, "--quiet train --resume second --init gone"), 2, &["--init", "--resume"]);
    let other = ssmv_autograd::Tensor::new([1], &[0f32]).unwrap();
    save_tensors(folder.join("other.safetensors"), &[("x", &other)]).unwrap();
    refused(
        &run(folder, &format!("--quiet {TRAIN} --init other.safetensors --out x")),
        1,
        &["no tensor that fits", "nano"],
    );
    fs::write(folder.join("model.pt"), b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.").unwrap();
    refused(&run(folder, &format!("--quiet {TRAIN} --init model.pt --out x")), 1, &["pickle", "torch.load("]);
    assert!(!folder.join("x").exists());
}

#[test]
fn wrapped_and_sharded_weights_are_evaluated_like_plain_ones() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    done(folder, &format!("{TRAIN} --steps 1 --out run"));
    let whole = weights(&folder.join("run"));
    let names: Vec<_> = whole.names().filter(|name| !name.ends_with("tracked")).map(str::to_owned).collect();
    let tensors: Vec<_> = names.iter().map(|n| (format!("_orig_mod.{n}"), whole.read(n).unwrap())).collect();
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let (one, two) = named.split_at(named.len() / 2);
    fs::create_dir(folder.join("sharded")).unwrap();
    let mut map = serde_json::Map::new();
    for (file, part) in [("a.safetensors", one), ("b.safetensors", two)] {
        save_tensors(folder.join("sharded").join(file), part).unwrap();
        map.extend(part.iter().map(|(name, _)| ((*name).to_owned(), file.into())));
    }
    let index = serde_json::json!({ "weight_map": map });
    fs::write(folder.join("sharded/model.safetensors.index.json"), index.to_string()).unwrap();
    let json = |path: &str| -> serde_json::Value {
        let text = done(folder, &format!("eval --checkpoint {path} --sequences 3 --roll-out 2 --json"));
        serde_json::from_str(&text).unwrap()
    };
    let [plain, sharded, index] =
        ["run", "sharded", "sharded/model.safetensors.index.json"].map(|path| json(path)["next"].clone());
    assert_eq!(plain, sharded);
    assert_eq!(plain, index);
}
