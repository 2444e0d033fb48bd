//! The little that a launch must know of PTX text before the driver compiles it: for which device it is, and what
//! arguments its kernels take. A launch with too few arguments would make the driver read past their end.

use super::driver::{Argument, DeviceInfo};
use crate::{Error, Result};

/// What stands outside the bodies of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// `.version`: the oldest PTX that has all its instructions.
    pub version: (u32, u32),
    /// `.target`, such as `sm_90a`.
    pub target: String,
    /// Kernels, each with the bytes of its parameters.
    pub entries: Vec<(String, Vec<usize>)>,
}

impl Header {
    /// Reads a module that is meant for a device.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the device can never run it, or when it is not ASCII text.
    pub fn of(name: &str, ptx: &str, device: &DeviceInfo) -> Result<Self> {
        if let Some(at) = ptx.find('\0') {
            return Err(Error::misuse(name, format!("the PTX has a zero byte at {at}")));
        }
        if let Some((line, c)) =
            ptx.lines().zip(1..).find_map(|(text, n)| Some((n, text.chars().find(|c| !c.is_ascii())?)))
        {
            let message = format!(
                "line {line} of the PTX has {c:?}; drivers r570 to r580 refuse text that is not ASCII"
            );
            return Err(Error::misuse(name, message));
        }
        let header = Self::read(ptx);
        header.check_target(name, device)?;
        Ok(header)
    }

    /// Reads a module. What cannot be understood is left out: the driver's compiler will say what is wrong with it.
    fn read(ptx: &str) -> Self {
        let text = without_comments(ptx);
        let mut header = Self::default();
        let word_after = |directive: &str| {
            let rest = &text[text.find(directive)? + directive.len()..];
            rest.split(|c: char| c.is_whitespace() || c == ',').find(|word| !word.is_empty())
        };
        if let Some((major, minor)) = word_after(".version").and_then(|word| word.split_once('.')) {
            header.version = (major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
        }
        header.target = word_after(".target").unwrap_or_default().to_owned();
        for rest in text.split(".entry").skip(1) {
            let name_ends = rest.find(['(', '{']).unwrap_or(rest.len());
            let (name, list) = rest.split_at(name_ends);
            let list =
                list.strip_prefix('(').and_then(|list| list.split_once(')')).map_or("", |(list, _)| list);
            let sizes = list.split(',').filter(|declaration| !declaration.trim().is_empty()).map(bytes);
            if let Some(sizes) = sizes.collect::<Option<Vec<usize>>>() {
                header.entries.push((name.trim().to_owned(), sizes));
            }
        }
        header
    }

    /// An error when the device can never run the module.
    fn check_target(&self, name: &str, device: &DeviceInfo) -> Result<()> {
        let (major, minor) = device.capability;
        let Some(number) = self.target.strip_prefix("sm_") else { return Ok(()) };
        let exact = number.ends_with(|c: char| c.is_ascii_alphabetic());
        let Ok(wanted) = number.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse::<u32>() else {
            return Ok(());
        };
        let has = major * 10 + minor;
        if has == wanted || !exact && has > wanted {
            return Ok(());
        }
        Err(Error::misuse(
            name,
            format!("the kernel is for {}, and {} is sm_{has}; use its sm_80 form", self.target, device.name),
        ))
    }

    /// The bytes of a kernel's parameters.
    pub fn parameters(&self, kernel: &str) -> Result<Vec<usize>> {
        let entry = self.entries.iter().find(|(name, _)| name == kernel);
        entry.map(|(_, sizes)| sizes.clone()).ok_or_else(|| {
            let known: Vec<&str> = self.entries.iter().map(|(name, _)| name.as_str()).collect();
            let known = if known.is_empty() { "no kernels".to_owned() } else { known.join(", ") };
            Error::misuse(kernel, format!("the module has no such kernel; it has {known}"))
        })
    }
}

/// An error unless the arguments fit the parameters' number and sizes.
pub(super) fn check_arguments(kernel: &str, parameters: &[usize], arguments: &[Argument]) -> Result<()> {
    if parameters.len() != arguments.len() {
        let message = format!("{} arguments given for {} parameters", arguments.len(), parameters.len());
        return Err(Error::misuse(format!("launch {kernel}"), message));
    }
    for (i, (&expected, argument)) in parameters.iter().zip(arguments).enumerate() {
        let (_, given) = argument.bytes();
        if given != expected {
            let message =
                format!("argument {i} ({argument:?}) has {given} bytes, and the parameter {expected}");
            return Err(Error::misuse(format!("launch {kernel}"), message));
        }
    }
    Ok(())
}

/// Bytes of a parameter from its declaration: `.param .align 8 .b8 name[16]`, `.param .u64 name`.
fn bytes(declaration: &str) -> Option<usize> {
    let element = declaration.split_whitespace().find_map(|word| match word {
        ".u8" | ".s8" | ".b8" => Some(1),
        ".u16" | ".s16" | ".b16" | ".f16" => Some(2),
        ".u32" | ".s32" | ".b32" | ".f32" | ".f16x2" => Some(4),
        ".u64" | ".s64" | ".b64" | ".f64" => Some(8),
        _ => None,
    })?;
    match declaration.split_once('[') {
        None => Some(element),
        Some((_, count)) => count.split(']').next()?.trim().parse::<usize>().ok()?.checked_mul(element),
    }
}

fn without_comments(ptx: &str) -> String {
    let mut text = String::with_capacity(ptx.len());
    let mut rest = ptx;
    while let Some(at) = rest.find('/') {
        let (before, comment) = rest.split_at(at);
        text.push_str(before);
        let end = match comment.as_bytes().get(1) {
            Some(b'/') => comment.find('\n').unwrap_or(comment.len()),
            Some(b'*') => comment[2..].find("*/").map_or(comment.len(), |end| end + 4),
            _ => {
                text.push('/');
                1
            }
        };
        rest = &comment[end..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::driver::Address;

    const MODULE: &str = "// .entry not_this(.param .u32 x)
        .version 7.0
        .target sm_80, debug /* .entry nor_this() */
        .address_size 64
        .visible .entry first(
            .param .u64 .ptr .global .align 16 x, // the input
            .param .align 8 .b8 pair[16],
            .param .f32 a, .param .u16 h
        )
        .reqntid 128 { ret; }
        .entry bare { ret; }
        .entry none() { ret; }";

    #[test]
    fn versions_targets_and_parameters_are_found() {
        let header = Header::read(MODULE);
        assert_eq!(header.version, (7, 0));
        assert_eq!(header.target, "sm_80");
        assert_eq!(header.parameters("first").unwrap(), [8, 16, 4, 2]);
        assert!(
            header.parameters("bare").unwrap().is_empty() && header.parameters("none").unwrap().is_empty()
        );
        let error = header.parameters("second").unwrap_err().to_string();
        assert!(error.contains("second") && error.contains("first, bare, none"), "{error}");
    }

    #[test]
    fn text_that_some_drivers_refuse_is_refused() {
        let device = DeviceInfo {
            ordinal: 0,
            name: "H200".into(),
            memory: 1 << 37,
            capability: (9, 0),
            multiprocessors: 132,
            l2_bytes: 50 << 20,
            shared_per_block: 227 << 10,
            driver: (13, 0),
            pci: String::new(),
        };
        Header::of("first", MODULE, &device).unwrap();
        let error =
            Header::of("first", &MODULE.replace("the input", "√input"), &device).unwrap_err().to_string();
        assert_eq!(
            error,
            "first: line 6 of the PTX has '√'; drivers r570 to r580 refuse text that is not ASCII"
        );
    }

    #[test]
    fn broken_text_is_no_panic() {
        for at in (0..MODULE.len()).filter(|&at| MODULE.is_char_boundary(at)) {
            Header::read(&MODULE[..at]);
            Header::read(&MODULE[at..]);
        }
        assert_eq!(Header::read("/*/ .entry x /"), Header::default());
        assert!(Header::read(".entry k(.param .b8 x[99999999999999999999])").entries.is_empty());
    }

    #[test]
    fn arguments_must_fit() {
        let pointer = Argument::Pointer(Address(256));
        check_arguments("k", &[8, 4], &[pointer, 1.0f32.into()]).unwrap();
        let few = check_arguments("k", &[8, 4], &[pointer]).unwrap_err().to_string();
        assert_eq!(few, "launch k: 1 arguments given for 2 parameters");
        let wrong = check_arguments("k", &[8, 4], &[pointer, 1u64.into()]).unwrap_err().to_string();
        assert!(wrong.contains("argument 1") && wrong.contains("8 bytes, and the parameter 4"), "{wrong}");
    }
}
