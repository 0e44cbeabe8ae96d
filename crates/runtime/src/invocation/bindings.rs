//! What an invocation may have beside its request and its answer, in the words of `wit/bindings.wit`.

#[expect(missing_docs, reason = "generated; the documentation stands in wit/")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package flexwasm:generated;
            world imports { import flexwasm:host/bindings@0.1.0; }
        ",
        world: "flexwasm:generated/imports",
    });
}

pub use generated::flexwasm::host::bindings::{Error, Host, Trigger, Value, add_to_linker};

/// The interface without its version.
pub const INTERFACE: &str = "flexwasm:host/bindings";

/// The bindings of one invocation.
pub trait Bindings: Send + Sync {
    /// What started the function.
    fn trigger(&self) -> Trigger;

    /// What is told beside the payload.
    fn metadata(&self) -> Vec<(String, Value)>;

    /// The value of another input; none if none came.
    ///
    /// # Errors
    /// [`Error::UnknownName`].
    fn input(&self, name: &str) -> Result<Option<Value>, Error>;

    /// Gives an output its value.
    ///
    /// # Errors
    /// Any [`Error`].
    fn set(&self, name: &str, given: Given) -> Result<(), Error>;
}

/// What a guest gives an output.
#[derive(Debug, Clone)]
pub enum Given {
    /// One value.
    One(Value),
    /// Several messages.
    Messages(Vec<Value>),
}
