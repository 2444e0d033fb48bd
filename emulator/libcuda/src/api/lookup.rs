//! Start, version, codes in words, and functions by name.

use std::ffi::{c_char, c_int};

use super::{Entry, entries};
use crate::{
    code::{Code, fail},
    driver::{driver, initialise},
    ffi::{In, Out, string},
    settings::Settings,
};

/// `CU_GET_PROC_ADDRESS_SUCCESS`, `_SYMBOL_NOT_FOUND`, `_VERSION_NOT_SUFFICIENT`.
const FOUND: u32 = 0;
const NOT_FOUND: u32 = 1;
const TOO_OLD: u32 = 2;

/// The function of a name without its version suffix, in its newest form that a program of `version` knows.
fn find(name: &str, version: u32, driver: u32) -> Result<&'static Entry, u32> {
    let base = |entry: &Entry| match entry.name.rsplit_once("_v") {
        Some((base, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => base,
        _ => entry.name,
    };
    let mut named = entries().filter(|entry| base(entry) == name || entry.name == name).peekable();
    if named.peek().is_none() {
        return Err(NOT_FOUND);
    }
    named.filter(|entry| entry.since <= version.min(driver)).max_by_key(|entry| entry.since).ok_or(TOO_OLD)
}

fn look_up(
    symbol: In<c_char>,
    function: Out<*const ()>,
    version: c_int,
    status: Out<u32>,
) -> crate::code::Outcome {
    let name = string("the function's name", symbol)?;
    let driver = Settings::from_environment()?.version;
    match find(&name, version.unsigned_abs(), driver) {
        Ok(entry) => {
            status.set_if_asked(FOUND)?;
            function.set(entry.address)
        }
        Err(why) => {
            function.set(std::ptr::null())?;
            status.set_if_asked(why)?;
            // Programs look up what they may never call: no sentence for the log.
            Err(crate::code::Failure::new(Code::NOT_FOUND, ""))
        }
    }
}

api! {
    cuInit since 2000 (flags: u32) {
        if flags != 0 {
            return fail!(INVALID_VALUE, "flags {flags}: 0 is expected");
        }
        initialise()
    }

    cuDriverGetVersion since 2020 (version: Out<c_int>) {
        // Allowed before cuInit.
        version.set(Settings::from_environment()?.version as c_int)
    }

    cuGetErrorName since 6000 (code: u32, text: Out<*const c_char>) {
        match Code(code).texts() {
            Some((name, _)) => text.set(name.as_ptr().cast()),
            None => {
                text.set(std::ptr::null())?;
                fail!(INVALID_VALUE, "{code} is not an error code")
            }
        }
    }

    cuGetErrorString since 6000 (code: u32, text: Out<*const c_char>) {
        match Code(code).texts() {
            Some((_, words)) => text.set(words.as_ptr().cast()),
            None => {
                text.set(std::ptr::null())?;
                fail!(INVALID_VALUE, "{code} is not an error code")
            }
        }
    }

    cuGetProcAddress since 11030 (symbol: In<c_char>, function: Out<*const ()>, version: c_int, _flags: u64) {
        look_up(symbol, function, version, Out::nowhere())
    }

    cuGetProcAddress_v2 since 12000 (
        symbol: In<c_char>, function: Out<*const ()>, version: c_int, _flags: u64, status: Out<u32>,
    ) {
        look_up(symbol, function, version, status)
    }

    cuProfilerStart since 4000 () { driver().map(drop) }

    cuProfilerStop since 4000 () { driver().map(drop) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_form_that_the_program_knows_is_found() {
        let name = |name, version, driver| find(name, version, driver).map(|entry| entry.name);
        assert_eq!(name("cuMemAlloc", 12080, 12080), Ok("cuMemAlloc_v2"));
        assert_eq!(name("cuGetProcAddress", 12080, 12080), Ok("cuGetProcAddress_v2"));
        assert_eq!(name("cuGetProcAddress", 11080, 12080), Ok("cuGetProcAddress"));
        assert_eq!(name("cuGetProcAddress", 13000, 11080), Ok("cuGetProcAddress"));
        assert_eq!(name("cuLibraryLoadData", 12080, 11080), Err(TOO_OLD));
        assert_eq!(name("cuNothing", 12080, 12080), Err(NOT_FOUND));
    }

    #[test]
    fn names_are_there_once() {
        let mut names: Vec<&str> = entries().map(|entry| entry.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
