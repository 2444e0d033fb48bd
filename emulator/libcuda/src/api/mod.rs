//! The functions that programs call, by subject. Each takes its arguments from C, and its code goes back; the sentence of
//! a failure goes to the `log`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    code::{Code, Failure, Outcome},
    log,
};

/// Exports functions of the driver API: name, the CUDA version that had it first, arguments, what it does.
macro_rules! api {
    ($($name:ident since $since:literal ($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "` of the CUDA driver API.")]
            ///
            /// # Safety
            /// As cuda.h says: pointers are null or point to live values of their type.
            #[unsafe(no_mangle)]
            #[allow(non_snake_case)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                crate::api::call(stringify!($name), || $body)
            }
        )*

        /// The functions of this file, for look-ups by name.
        pub(super) const TABLE: &[crate::api::Entry] = &[$(crate::api::Entry {
            name: stringify!($name),
            since: $since,
            address: $name as *const (),
        }),*];
    };
}

pub mod context;
pub mod copy;
pub mod device;
pub mod event;
pub mod graph;
pub mod launch;
pub mod lookup;
pub mod memory;
pub mod module;
pub mod stream;

/// A function that programs can look up.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its name in the library.
    pub name: &'static str,
    /// The CUDA version that had it first, as 12080 for 12.8.
    pub since: u32,
    /// Address of the function.
    pub address: *const (),
}

/// All functions of the library, file by file.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    let tables = [
        context::TABLE,
        copy::TABLE,
        device::TABLE,
        event::TABLE,
        graph::TABLE,
        launch::TABLE,
        lookup::TABLE,
        memory::TABLE,
        module::TABLE,
        stream::TABLE,
    ];
    tables.into_iter().flatten()
}

/// Runs the body of a function; returns its code. A panic must not reach C.
fn call(name: &'static str, body: impl FnOnce() -> Outcome) -> u32 {
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        Err(Failure::new(Code::UNKNOWN, "the emulated driver panicked, which is a defect of it"))
    });
    let code = match &outcome {
        Ok(()) => Code::SUCCESS,
        Err(failure) => failure.code,
    };
    match outcome {
        Err(Failure { message, .. }) if !message.is_empty() => {
            log::write(&format!("{name}: {}: {message}", code.name()));
        }
        _ if log::traces() => log::write(&format!("{name}: {}", code.name())),
        _ => {}
    }
    code.0
}
