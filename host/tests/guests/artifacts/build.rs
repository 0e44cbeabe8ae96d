//! Builds the demonstration guest, the examples of grants and of middleware and the test guests as components, with a nested cargo in a
//! folder of its own, and writes their names and files to `guests.rs`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "wasm32-wasip2";

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = here.ancestors().nth(4).expect("host/tests/guests/artifacts lies four levels down").to_owned();
    // The same folder as `cargo xtask run` uses, so that nothing is built twice.
    let target_dir = root.join("target/guests");
    for source in [
        ".cargo",
        "Cargo.toml",
        "Cargo.lock",
        "guest",
        "examples/grants/guest",
        "wit",
        "host/tests/guests/Cargo.toml",
        "host/tests/guests/src",
        "host/tests/guests/p3",
        "examples/middleware",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }

    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo.current_dir(&root).args(["build", "--profile", "guest", "--target", TARGET]);
    cargo.args(["--package", "flexwasm-guest", "--package", "test-guests", "--package", "p3-test-guests"]);
    cargo.args(["--package", "stock-guest", "--package", "grants-guest", "--package", "middleware-examples"]);
    cargo.arg("--target-dir").arg(&target_dir);
    // What the outer cargo set for itself (clippy's wrapper, native flags) must not reach the components.
    for variable in ["RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTDOCFLAGS"]
    {
        cargo.env_remove(variable);
    }
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "building the guests failed; is the target there? Try `rustup target add {TARGET}`");

    let built = target_dir.join(TARGET).join("guest");
    let mut guests = vec![
        ("demonstration".to_owned(), built.join("flexwasm_guest.wasm")),
        ("grants".to_owned(), built.join("grants_guest.wasm")),
        ("stock".to_owned(), built.join("stock_guest.wasm")),
    ];
    let behaviours = |folder: &str| fs::read_dir(root.join(folder)).expect("a folder of test guests");
    let folders = ["host/tests/guests/src/bin", "host/tests/guests/p3/src/bin", "examples/middleware/src/bin"];
    for behaviour in folders.into_iter().flat_map(behaviours) {
        let source = behaviour.expect("an entry").path();
        let name = source.file_stem().expect("a file name").to_string_lossy().into_owned();
        guests.push((name.clone(), built.join(name).with_extension("wasm")));
    }
    guests.sort();
    write(&guests);
}

/// One private constant for each guest: a guest that no test uses is dead code, and so an error.
fn write(guests: &[(String, PathBuf)]) {
    let mut text = String::from(
        "/// Declares a constant with the file of each guest.\n#[macro_export]\nmacro_rules! guests {\n    () => {\n",
    );
    for (name, file) in guests {
        writeln!(text, "        pub(crate) const {}: &str = {:?};", name.to_uppercase(), file.display().to_string())
            .expect("a string");
    }
    text += "    };\n}\n";
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(Path::new(&out).join("guests.rs"), text).expect("OUT_DIR can be written");
}
