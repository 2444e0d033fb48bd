//! The common form of all objects of a context.

/// An object of a context: a raw handle that `Drop` releases.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident($raw:ty), $destroy:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            pub(super) context: std::sync::Arc<super::Context>,
            pub(super) raw: $raw,
        }

        // SAFETY: the driver's functions take its handles from any thread.
        unsafe impl Send for $name {}
        // SAFETY: the same.
        unsafe impl Sync for $name {}

        impl Drop for $name {
            fn drop(&mut self) {
                if self.context.enter().is_ok() {
                    // SAFETY: the handle is live and has no other owner; the driver lets work that uses it finish.
                    unsafe { super::$destroy(self.raw) };
                }
            }
        }
    };
}
