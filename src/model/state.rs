//! State of a model with PyTorch's names and layouts, as of `state_dict()` and `load_state_dict(strict=True)`.

use std::borrow::Cow;

use ssmv_autograd::{ArenaLayout, Element, dispatch, tensor_file::TensorFile, trim};

use super::{
    Predictor, Preset, outline,
    parameters::{Parameter, RunningStatistics},
};
use crate::{Error, Result, checkpoint::Entry};

/// PyTorch's names for the running statistics of a batch normalisation.
pub(super) const MEAN: &str = "running_mean";
pub(super) const VARIANCE: &str = "running_var";
pub(super) const BATCHES: &str = "num_batches_tracked";

/// All parameters and running statistics of a model. Each tensor is converted when it is written.
///
/// # Errors
/// None for a model made by [`Predictor`].
pub fn export(model: &Predictor) -> Result<Vec<Entry<'_>>> {
    let layout = model.arena.layout();
    let mut entries = dispatch!(model.arena.dtype(), T => {
        slices(&model.parameters, layout, "", model.arena.values::<T>()?)?
    });
    for norm in &model.norms {
        let channels = [norm.mean.len()];
        let f32s = |values: &[f64]| values.iter().map(|&v| v as f32).collect();
        entries.push(Entry::f32(named(norm, MEAN), &channels, move || Cow::Owned(f32s(&norm.mean))));
        entries.push(Entry::f32(named(norm, VARIANCE), &channels, move || Cow::Owned(f32s(&norm.variance))));
        entries.push(Entry::i64_scalar(named(norm, BATCHES), norm.batches));
    }
    Ok(entries)
}

/// Sets a model's parameters and running statistics from a file. `num_batches_tracked` may be missing and is 0 then.
///
/// # Errors
/// [`Error::File`] when a tensor is missing, unknown, of another shape or not finite, or a variance is negative. Names
/// and shapes are checked before anything is set; after any later error the model must not be used.
pub fn import(model: &mut Predictor, file: &TensorFile) -> Result<()> {
    fits(&model.preset, &model.parameters, &model.norms, file)?;
    let layout = model.arena.layout().clone();
    dispatch!(model.arena.dtype(), T => {
        fill(&model.parameters, &layout, "", file, model.arena.values_mut::<T>()?)?;
    });
    for norm in &mut model.norms {
        let channels = [norm.mean.len()];
        let read =
            |part| Ok::<_, Error>(file.read_f32(&named(norm, part), &channels)?.into_iter().map(f64::from));
        let (mean, variance) = (read(MEAN)?.collect(), read(VARIANCE)?.collect::<Vec<f64>>());
        if let Some(value) = variance.iter().find(|v| **v < 0.0) {
            let message =
                format!("tensor {:?} has {value}: a variance is never negative", named(norm, VARIANCE));
            return Err(Error::file(file.path(), message));
        }
        let batches = named(norm, BATCHES);
        let batches = if file.get(&batches).is_some() { file.read_i64(&batches, &[])?[0] } else { 0 };
        (norm.mean, norm.variance, norm.batches) = (mean, variance, batches);
    }
    // The buffers of the converted tensors are not needed any more.
    trim();
    Ok(())
}

/// Values in the layout of the parameters' arena (moments, averaged weights) as tensors with the name `prefix` + the
/// parameter's name, in PyTorch's layouts.
///
/// # Errors
/// [`Error::Failure`] when `values` is not as long as the arena.
pub fn export_arena<'a>(
    parameters: &'a [Parameter],
    layout: &ArenaLayout,
    prefix: &str,
    values: &'a [f32],
) -> Result<Vec<Entry<'a>>> {
    slices(parameters, layout, prefix, values)
}

/// The reverse of [`export_arena`]; the gaps between parameters are zero.
///
/// # Errors
/// [`Error::File`] when a tensor is missing, of another shape or not finite.
pub fn import_arena(
    parameters: &[Parameter],
    layout: &ArenaLayout,
    prefix: &str,
    file: &TensorFile,
) -> Result<Vec<f32>> {
    let mut values = vec![0.0; layout.len()];
    fill(parameters, layout, prefix, file, &mut values)?;
    trim();
    Ok(values)
}

/// The preset of a file, from the names and shapes of its tensors.
///
/// # Errors
/// [`Error::File`] when no preset fits; the message describes the difference from the nearest one.
pub fn recognise(file: &TensorFile) -> Result<Preset> {
    let mut nearest: Option<(usize, &str, Error)> = None;
    for preset in super::PRESETS {
        let preset = sized(preset, file);
        let (parameters, norms) = outline(&preset);
        let Err(e) = fits(&preset, &parameters, &norms, file) else {
            return Ok(preset);
        };
        let alike =
            parameters.iter().filter(|p| file.get(&p.name).is_some_and(|i| i.shape == p.layout.external));
        let alike = alike.count();
        if nearest.as_ref().is_none_or(|(most, ..)| alike > *most) {
            nearest = Some((alike, preset.name, e));
        }
    }
    match nearest {
        Some((1.., name, Error::File { message, .. })) => {
            let message = format!("does not fit any preset; the nearest is `{name}`, but {message}");
            Err(Error::file(file.path(), message))
        }
        _ => Err(Error::file(file.path(), "has no tensors of this program's predictor")),
    }
}

/// The preset for frames of the side, and with the number of predicted frames, that the file's tensors have; unchanged
/// where they have none that a model could have.
pub fn sized(preset: &Preset, file: &TensorFile) -> Preset {
    let Some([_, latent]) = file.get("temporal.in_proj.weight").map(|info| info.shape.as_slice()) else {
        return *preset;
    };
    // The latent is the map that the decoder starts from: start × start × channels.
    let start = (latent / preset.decoder[0]).isqrt();
    let size = start.checked_mul(1 << (preset.decoder.len() - 1)).unwrap_or(0);
    preset.with(size, frames_out(file)).unwrap_or(*preset)
}

/// The number of predicted frames of a file's model, from its shapes; 0 if they have none.
pub(super) fn frames_out(file: &TensorFile) -> usize {
    let shape = |name: &str| file.get(name).map(|info| info.shape.as_slice());
    match (shape("temporal.in_proj.weight"), shape("temporal.out_proj.weight")) {
        (Some([_, latent]), Some([rows, _])) => rows.checked_div(*latent).unwrap_or(0),
        _ => 0,
    }
}

/// Checks that a file has every tensor of a model in its shape, and no other.
fn fits(
    preset: &Preset,
    parameters: &[Parameter],
    norms: &[RunningStatistics],
    file: &TensorFile,
) -> Result<()> {
    let fail = |message: String| Err(Error::file(file.path(), message));
    let mut wanted: Vec<(String, Vec<usize>)> =
        parameters.iter().map(|p| (p.name.clone(), p.layout.external.clone())).collect();
    for norm in norms {
        wanted.extend([MEAN, VARIANCE].map(|part| (named(norm, part), vec![norm.mean.len()])));
    }
    for (name, shape) in &wanted {
        match file.get(name) {
            None => return fail(format!("tensor {name:?} of preset `{}` is missing", preset.name)),
            Some(info) if info.shape != *shape => {
                let message = format!("has shape {:?}; preset `{}` has {shape:?}", info.shape, preset.name);
                return fail(format!("tensor {name:?} {message}"));
            }
            Some(_) => {}
        }
    }
    let known: std::collections::HashSet<String> =
        wanted.into_iter().map(|(name, _)| name).chain(norms.iter().map(|n| named(n, BATCHES))).collect();
    match file.names().find(|name| !known.contains(*name)) {
        Some(name) => fail(format!("tensor {name:?} is not one of preset `{}`", preset.name)),
        None => Ok(()),
    }
}

pub(super) fn named(norm: &RunningStatistics, part: &str) -> String {
    format!("{}.{part}", norm.name)
}

/// One entry for each parameter; `values` have the layout of the arena.
fn slices<'a, T: Element>(
    parameters: &'a [Parameter],
    layout: &ArenaLayout,
    prefix: &str,
    values: &'a [T],
) -> Result<Vec<Entry<'a>>> {
    if values.len() != layout.len() || parameters.len() != layout.ranges().len() {
        let message = format!("{} values do not fit an arena of {}", values.len(), layout.len());
        return Err(Error::Failure(message));
    }
    let entry = |(parameter, range): (&'a Parameter, &std::ops::Range<usize>)| {
        let values = &values[range.clone()];
        let name = format!("{prefix}{}", parameter.name);
        Entry::f32(name, &parameter.layout.external, move || {
            let external = parameter.layout.export(values);
            Cow::Owned(external.into_iter().map(|v| v.to_f64() as f32).collect())
        })
    };
    Ok(parameters.iter().zip(layout.ranges()).map(entry).collect())
}

/// Reads each parameter's tensor into its place in `values`.
fn fill<T: Element>(
    parameters: &[Parameter],
    layout: &ArenaLayout,
    prefix: &str,
    file: &TensorFile,
    values: &mut [T],
) -> Result<()> {
    for (parameter, range) in parameters.iter().zip(layout.ranges()) {
        let external = file.read_f32(&format!("{prefix}{}", parameter.name), &parameter.layout.external)?;
        let internal = parameter.layout.import(&external);
        let slots = &mut values[range.clone()];
        slots.iter_mut().zip(internal).for_each(|(slot, v)| *slot = T::from_f64(f64::from(v)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ssmv_autograd::DType;

    use super::*;
    use crate::checkpoint::{Checkpoint, Contents, write};

    fn saved<'a>(folder: &std::path::Path, model: &'a Predictor, optimizer: Vec<Entry<'a>>) -> Checkpoint {
        let contents = Contents { preset: model.preset.name, model: export(model).unwrap(), optimizer };
        Checkpoint::open(write(folder, 1, &contents, &0, None).unwrap()).unwrap()
    }

    #[test]
    fn what_is_exported_comes_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let preset = Preset::find("nano").unwrap();
        let mut model = Predictor::new(preset, 3, DType::F32).unwrap();
        for (i, norm) in model.norms.iter_mut().enumerate() {
            norm.mean.iter_mut().for_each(|m| *m = f64::from(i as f32 * 0.1));
            norm.batches = i as i64;
        }
        let moments: Vec<f32> = (0..model.arena.layout().len()).map(|i| i as f32).collect();
        let layout = model.arena.layout().clone();
        let optimizer = export_arena(&model.parameters, &layout, "m.", &moments).unwrap();
        let checkpoint = saved(folder.path(), &model, optimizer);
        assert_eq!(recognise(checkpoint.model()).unwrap().name, "nano");

        let mut other = Predictor::zeros(preset, DType::F32).unwrap();
        import(&mut other, checkpoint.model()).unwrap();
        assert_eq!(other.arena.values::<f32>().unwrap(), model.arena.values::<f32>().unwrap());
        assert_eq!(other.norms, model.norms);

        let back = import_arena(&model.parameters, &layout, "m.", checkpoint.optimizer().unwrap()).unwrap();
        for range in layout.ranges() {
            assert_eq!(back[range.clone()], moments[range.clone()]);
        }
        let in_use: usize = layout.ranges().iter().map(|r| r.len()).sum();
        assert_eq!(back.iter().filter(|v| **v != 0.0).count(), in_use - 1);
        assert!(export_arena(&model.parameters, &layout, "m.", &moments[1..]).is_err());
        assert!(import_arena(&model.parameters, &layout, "v.", checkpoint.optimizer().unwrap()).is_err());
    }

    #[test]
    fn other_sizes_are_recognised_by_shape() {
        let folder = tempfile::tempdir().unwrap();
        for (i, (name, size, frames_out)) in
            [("nano", 32, 2), ("nano", 48, 5), ("nano", 64, 1), ("tiny", 32, 3)].into_iter().enumerate()
        {
            let preset = Preset::find(name).unwrap().with(size, frames_out).unwrap();
            let model = Predictor::new(&preset, 0, DType::F32).unwrap();
            let checkpoint = saved(&folder.path().join(i.to_string()), &model, Vec::new());
            assert_eq!(recognise(checkpoint.model()).unwrap(), preset);
            import(&mut Predictor::zeros(&preset, DType::F32).unwrap(), checkpoint.model()).unwrap();
        }
    }

    #[test]
    fn a_file_of_another_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let nano = Predictor::new(Preset::find("nano").unwrap(), 0, DType::F32).unwrap();
        let mut tiny = Predictor::zeros(Preset::find("tiny").unwrap(), DType::F32).unwrap();
        let checkpoint = saved(folder.path(), &nano, Vec::new());
        let error = import(&mut tiny, checkpoint.model()).unwrap_err().to_string();
        assert!(error.contains("preset `tiny`"), "{error}");

        let with = |change: &dyn Fn(&mut Vec<Entry>)| {
            let mut entries = export(&nano).unwrap();
            change(&mut entries);
            let contents = Contents { preset: "nano", model: entries, optimizer: Vec::new() };
            let checkpoint = Checkpoint::open(write(folder.path(), 2, &contents, &0, None).unwrap()).unwrap();
            let mut model = Predictor::zeros(&nano.preset, DType::F32).unwrap();
            import(&mut model, checkpoint.model()).map_err(|e| e.to_string())
        };
        with(&|entries| entries.retain(|e| !e.name.ends_with(BATCHES))).unwrap();
        let error = with(&|entries| entries.retain(|e| e.name != "decoder.out.bias")).unwrap_err();
        assert!(error.contains("\"decoder.out.bias\" of preset `nano` is missing"), "{error}");
        let extra = |entries: &mut Vec<Entry>| entries.push(Entry::i64_scalar("decoder.extra", 1));
        assert!(with(&extra).unwrap_err().contains("\"decoder.extra\" is not one of preset"));
        let negative = |entries: &mut Vec<Entry>| {
            let entry = entries.iter_mut().find(|e| e.name.ends_with(VARIANCE)).unwrap();
            let (name, shape) = (entry.name.clone(), entry.shape.clone());
            let count = shape.iter().product();
            *entry = Entry::f32(name, &shape, move || Cow::Owned(vec![-1.0; count]));
        };
        assert!(with(&negative).unwrap_err().contains("never negative"));
    }
}
