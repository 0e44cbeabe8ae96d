//! The servers that are compared.

use crate::server::{BESIDE, GUEST, Program};
use serde::Serialize;
use std::net::SocketAddr;
use std::process::Command;

/// The benchmark guest of WASI 0.3, below the project's folder.
pub const GUEST_P3: &str = "target/guests/wasm32-wasip2/guest/bench_guest_p3.wasm";

/// The peer's best settings for a fresh instance per request, found by trying its flags (`-O help`).
const TUNED: &str = "-Opooling-allocator=y,pooling-memory-keep-resident=2097152,pooling-table-keep-resident=65536,\
                     pooling-pagemap-scan=y";

/// One row of the tables.
#[derive(Serialize)]
pub struct Server {
    pub key: &'static str,
    pub name: &'static str,
    #[serde(skip)]
    pub program: Program,
    /// `{beside}`, `{guest}`, `{guest-p3}`, `{tuned}` and `{address}` stand for what their names say, `{port}` for that of the address.
    #[serde(skip)]
    arguments: &'static [&'static str],
    /// Keys of the rows that it is compared with, beside raw hyper.
    pub peers: &'static [&'static str],
}

/// The key of the row that every other is compared with.
pub const FLOOR: &str = "raw";

/// Every row, in the order of the tables.
pub const ALL: &[Server] = &[
    Server { key: FLOOR, name: "raw hyper", program: Program::Raw, arguments: &["{port}"], peers: &[] },
    Server {
        key: "raw-current-thread",
        name: "raw hyper, current thread",
        program: Program::Raw,
        arguments: &["--current-thread", "{port}"],
        peers: &[],
    },
    Server {
        key: "fresh",
        name: "flexwasm, fresh instances",
        program: Program::Flexwasm,
        arguments: &["serve", "{guest}", "--listen", "{address}"],
        peers: &["before", "wasmtime", "wasmtime-tuned"],
    },
    Server {
        key: "warm",
        name: "flexwasm, warm instances",
        program: Program::Flexwasm,
        arguments: &["serve", "{guest}", "--listen", "{address}", "--reuse", "1000000"],
        peers: &["before-warm", "wasmtime-reuse"],
    },
    Server {
        key: "p3",
        name: "flexwasm, WASI 0.3, fresh",
        program: Program::Flexwasm,
        arguments: &["serve", "{guest-p3}", "--listen", "{address}"],
        peers: &["before-p3", "wasmtime-p3-fresh"],
    },
    Server {
        key: "p3-warm",
        name: "flexwasm, WASI 0.3, warm",
        program: Program::Flexwasm,
        arguments: &["serve", "{guest-p3}", "--listen", "{address}", "--reuse", "1000000"],
        peers: &["before-p3-warm", "wasmtime-p3"],
    },
    Server {
        key: "before",
        name: "flexwasm before, fresh instances",
        program: Program::Beside,
        arguments: &["serve", "{beside}/{guest}", "--listen", "{address}"],
        peers: &[],
    },
    Server {
        key: "before-warm",
        name: "flexwasm before, warm instances",
        program: Program::Beside,
        arguments: &["serve", "{beside}/{guest}", "--listen", "{address}", "--reuse", "1000000"],
        peers: &[],
    },
    Server {
        key: "before-p3",
        name: "flexwasm before, WASI 0.3, fresh",
        program: Program::Beside,
        arguments: &["serve", "{beside}/{guest-p3}", "--listen", "{address}"],
        peers: &[],
    },
    Server {
        key: "before-p3-warm",
        name: "flexwasm before, WASI 0.3, warm",
        program: Program::Beside,
        arguments: &["serve", "{beside}/{guest-p3}", "--listen", "{address}", "--reuse", "1000000"],
        peers: &[],
    },
    Server {
        key: "wasmtime",
        name: "wasmtime serve, fresh",
        program: Program::Peer,
        arguments: &["serve", "--addr", "{address}", "-Scli", "{guest}"],
        peers: &[],
    },
    Server {
        key: "wasmtime-tuned",
        name: "wasmtime serve, fresh, tuned pooling",
        program: Program::Peer,
        arguments: &["serve", "--addr", "{address}", "-Scli", "{tuned}", "{guest}"],
        peers: &[],
    },
    Server {
        key: "wasmtime-reuse",
        name: "wasmtime serve, tuned, unlimited reuse",
        program: Program::Peer,
        arguments: &[
            "serve",
            "--addr",
            "{address}",
            "-Scli",
            "{tuned}",
            "--max-instance-reuse-count",
            "1000000000",
            "{guest}",
        ],
        peers: &[],
    },
    Server {
        key: "wasmtime-p3-fresh",
        name: "wasmtime serve, WASI 0.3, fresh, tuned",
        program: Program::Peer,
        arguments: &[
            "serve",
            "--addr",
            "{address}",
            "-Scli",
            "{tuned}",
            "--max-instance-reuse-count",
            "1",
            "--max-instance-concurrent-reuse-count",
            "1",
            "{guest-p3}",
        ],
        peers: &[],
    },
    // 16 requests at the same time and 128 in all for each instance.
    Server {
        key: "wasmtime-p3",
        name: "wasmtime serve, WASI 0.3, its defaults",
        program: Program::Peer,
        arguments: &["serve", "--addr", "{address}", "-Scli", "{guest-p3}"],
        peers: &[],
    },
];

impl Server {
    pub fn named(key: &str) -> &'static Self {
        ALL.iter().find(|server| server.key == key).expect("a key of the list")
    }

    /// The command that starts it. Its standard output is discarded: flexwasm writes a line there for each request.
    pub fn command(&self, address: SocketAddr, smoke: bool) -> Command {
        let mut command = self.program.command(smoke);
        command.args(self.arguments.iter().map(|argument| fill(argument, &address.to_string())));
        command
    }

    /// The same, as a person would write it.
    pub fn spelled(&self) -> String {
        let arguments = self.arguments.iter().map(|argument| fill(argument, "127.0.0.1:8080"));
        [self.program.path().to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
    }
}

fn fill(argument: &str, address: &str) -> String {
    let port = address.rsplit(':').next().unwrap_or_default();
    let known = [
        ("beside", BESIDE),
        ("guest", GUEST),
        ("guest-p3", GUEST_P3),
        ("tuned", TUNED),
        ("address", address),
        ("port", port),
    ];
    known.iter().fold(argument.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}
