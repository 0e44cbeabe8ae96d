//! Generated from `wit/`: the host's side of our one interface of our own.
#![expect(missing_docs, reason = "generated; the documentation stands in wit/diagnostics.wit")]

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package flexwasm:generated;
        world imports { import flexwasm:host/diagnostics@0.1.0; }
    ",
    world: "flexwasm:generated/imports",
});
