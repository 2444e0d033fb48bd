//! Takes the weights that fit from a file: the start of a training from a model that may have another number of predicted
//! frames or another size.

use ssmv_autograd::{tensor_file::TensorFile, trim};

use super::{
    Predictor,
    state::{BATCHES, MEAN, VARIANCE, named},
};
use crate::{Error, Result};

/// The weights to take: running statistics from `model`, parameters from `parameters`, where their names have `prefix`.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// File with the running statistics, of which the parameters' shapes are known too.
    pub model: &'a TensorFile,
    /// File with the parameters.
    pub parameters: &'a TensorFile,
    /// Prefix of the parameters' names in their file.
    pub prefix: &'a str,
}

/// The result of [`adopt`], as lines for the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Number of tensors that were taken, at least in part.
    pub taken: usize,
    /// Number of tensors of the model.
    pub all: usize,
    /// A line for each tensor that was taken in part or not at all, with both shapes.
    pub lines: Vec<String>,
}

/// Sets the tensors of `model` whose shapes the file's have. Tensors with rows for each predicted frame take the rows of the
/// frames that both models have.
///
/// # Errors
/// [`Error::File`] when no parameter fits, or one that is taken has another type or is not finite. After an error the model
/// must not be used.
pub fn adopt(model: &mut Predictor, from: Weights) -> Result<Adopted> {
    let Weights { model: file, parameters: values_in, prefix } = from;
    let mut adopted = Adopted::default();
    let theirs = super::state::frames_out(file);
    let ours = model.preset.frames_out;
    let layout = model.arena.layout().clone();
    let values = model.arena.values_mut::<f32>()?;
    for (parameter, range) in model.parameters.iter().zip(layout.ranges()) {
        let wanted = &parameter.layout.external;
        let stored = format!("{prefix}{}", parameter.name);
        let shape = values_in.get(&stored).map(|info| info.shape.clone());
        let slots = &mut values[range.clone()];
        adopted.all += 1;
        match shape {
            Some(shape) if shape == *wanted => {
                slots.copy_from_slice(&parameter.layout.import(&values_in.read_f32(&stored, &shape)?));
                adopted.taken += 1;
            }
            Some(shape) if per_frame(&parameter.name) && same_frames(&shape, theirs, wanted, ours) => {
                let read = values_in.read_f32(&stored, &shape)?;
                let mut external = parameter.layout.export(slots);
                let shared = read.len().min(external.len());
                external[..shared].copy_from_slice(&read[..shared]);
                slots.copy_from_slice(&parameter.layout.import(&external));
                adopted.taken += 1;
                adopted.lines.push(format!(
                    "{} is taken for {} of {ours} frames: {shape:?} in the file, {wanted:?} in the model",
                    parameter.name,
                    theirs.min(ours)
                ));
            }
            other => adopted.lines.push(not_taken(&parameter.name, other.as_deref(), wanted)),
        }
    }
    if adopted.taken == 0 {
        return Err(Error::file(
            file.path(),
            format!("has no tensor that fits the model `{}`: none could be taken", model.preset.name),
        ));
    }
    for norm in &mut model.norms {
        let channels = [norm.mean.len()];
        let [mean, variance, batches] = [MEAN, VARIANCE, BATCHES].map(|part| named(norm, part));
        adopted.all += 1;
        let fits = [&mean, &variance].map(|name| file.get(name).is_some_and(|info| info.shape == channels));
        if fits != [true, true] {
            let shape = file.get(&mean).map(|info| info.shape.as_slice());
            adopted.lines.push(not_taken(&mean, shape, &channels));
            continue;
        }
        let read = |name| file.read_f32(name, &channels);
        let of_f32 = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
        let (mean, seen) = (of_f32(read(&mean)?), of_f32(read(&variance)?));
        if let Some(value) = seen.iter().find(|v| **v < 0.0) {
            let message = format!("tensor {variance:?} has {value}: a variance is never negative");
            return Err(Error::file(file.path(), message));
        }
        let count = if file.get(&batches).is_some() { file.read_i64(&batches, &[])?[0] } else { 0 };
        (norm.mean, norm.variance, norm.batches) = (mean, seen, count);
        adopted.taken += 1;
    }
    let known = |name: &str| {
        model.parameters.iter().any(|p| p.name == name)
            || model.norms.iter().any(|n| [MEAN, VARIANCE, BATCHES].iter().any(|part| named(n, part) == name))
    };
    for name in file.names().filter(|name| !known(name)) {
        let shape = file.get(name).map(|info| info.shape.as_slice()).unwrap_or_default();
        adopted.lines.push(format!("{name:?} is not used: {shape:?} in the file, not in the model"));
    }
    // The buffers of the converted tensors are not needed any more.
    trim();
    Ok(adopted)
}

/// True for parameters with rows for each predicted frame, all rows of a frame after those of the frame before it.
fn per_frame(name: &str) -> bool {
    name.starts_with("temporal.out_proj.") || name.ends_with(".skip.weight")
}

/// True if the shapes have the same rows for each of their frames, and the same other extents.
fn same_frames(theirs: &[usize], frames: usize, ours: &[usize], our_frames: usize) -> bool {
    let rows = |shape: &[usize], frames: usize| {
        shape.first().filter(|rows| frames > 0 && rows.is_multiple_of(frames)).map(|rows| rows / frames)
    };
    let same = rows(theirs, frames).is_some_and(|rows_of_one| rows(ours, our_frames) == Some(rows_of_one));
    same && theirs.get(1..) == ours.get(1..)
}

fn not_taken(name: &str, theirs: Option<&[usize]>, ours: &[usize]) -> String {
    match theirs {
        Some(shape) => format!("{name} is not taken: {shape:?} in the file, {ours:?} in the model"),
        None => format!("{name} is not taken: not in the file, {ours:?} in the model"),
    }
}

#[cfg(test)]
mod tests {
    use ssmv_autograd::DType;

    use super::*;
    use crate::{
        checkpoint::{Checkpoint, Contents, write},
        model::{Preset, state::export},
    };

    fn nano(size: usize, frames_out: usize, seed: u64) -> Predictor {
        let preset = Preset::find("nano").unwrap().with(size, frames_out).unwrap();
        Predictor::new(&preset, seed, DType::F32).unwrap()
    }

    /// The checkpoint of `from` taken into `into`.
    fn take(from: &Predictor, into: &mut Predictor) -> Result<Adopted> {
        let folder = tempfile::tempdir().unwrap();
        let contents = Contents { preset: from.preset.name, model: export(from).unwrap(), optimizer: vec![] };
        let checkpoint = Checkpoint::open(write(folder.path(), 1, &contents, &0, None).unwrap()).unwrap();
        let model = checkpoint.model();
        adopt(into, Weights { model, parameters: model, prefix: "" })
    }

    /// A parameter in PyTorch's layout.
    fn external(model: &Predictor, name: &str) -> Vec<f32> {
        let index = model.parameters.iter().position(|p| p.name == name).unwrap();
        let range = model.arena.layout().ranges()[index].clone();
        model.parameters[index].layout.export(&model.arena.values::<f32>().unwrap()[range])
    }

    #[test]
    fn all_of_the_same_model_is_taken() {
        let (mut from, mut into) = (nano(32, 2, 1), nano(32, 2, 2));
        from.norms[0].mean[0] = 0.25;
        let adopted = take(&from, &mut into).unwrap();
        assert_eq!((adopted.taken, &adopted.lines[..]), (adopted.all, &[][..]));
        assert_eq!(into.arena.values::<f32>().unwrap(), from.arena.values::<f32>().unwrap());
        assert_eq!(into.norms, from.norms);
    }

    #[test]
    fn another_number_of_frames_takes_the_rows_of_both() {
        for (theirs, ours) in [(2, 5), (5, 2)] {
            let (from, mut into) = (nano(32, theirs, 1), nano(32, ours, 2));
            let before = nano(32, ours, 2);
            let adopted = take(&from, &mut into).unwrap();
            assert_eq!(adopted.taken, adopted.all);
            assert_eq!(
                adopted.lines.len(),
                2 + before.parameters.iter().filter(|p| p.name.ends_with("skip.weight")).count()
            );
            for parameter in &before.parameters {
                let name = parameter.name.as_str();
                let [old, given, now] = [&before, &from, &into].map(|model| external(model, name));
                let shared = given.len().min(old.len());
                assert_eq!(now[..shared], given[..shared], "{name}");
                assert_eq!(now[shared..], old[shared..], "{name}");
            }
        }
    }

    #[test]
    fn another_size_takes_all_but_what_reads_and_writes_the_latent() {
        let (from, mut into) = (nano(32, 2, 1), nano(48, 2, 2));
        let adopted = take(&from, &mut into).unwrap();
        let names = [
            "encoder.head.weight",
            "encoder.head.bias",
            "temporal.in_proj.weight",
            "temporal.out_proj.weight",
            "temporal.out_proj.bias",
        ];
        assert_eq!(adopted.lines.len(), names.len(), "{:?}", adopted.lines);
        for name in names {
            assert!(adopted.lines.iter().any(|line| line.starts_with(&format!("{name} is not taken: ["))));
        }
        assert_eq!(adopted.taken, adopted.all - names.len());
        assert_eq!(external(&into, "decoder.out.weight"), external(&from, "decoder.out.weight"));
    }

    #[test]
    fn a_file_of_which_nothing_fits_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let one = ssmv_autograd::Tensor::new([1], &[1f32]).unwrap();
        let path = folder.path().join("other.safetensors");
        ssmv_autograd::tensor_file::save_tensors(&path, &[("w", &one)]).unwrap();
        let model = &TensorFile::open(&path).unwrap();
        let from = Weights { model, parameters: model, prefix: "" };
        let error = adopt(&mut nano(32, 2, 0), from).unwrap_err().to_string();
        assert!(error.contains("other.safetensors") && error.contains("none could be taken"), "{error}");
    }
}
