//! The interfaces that guests are written against, as this flexwasm gives them.

use crate::config::Function;
use crate::config::function_json::Trigger;
use std::fs;
use std::io;
use std::path::Path;

/// The files of these.
macro_rules! files {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../../../wit/", $name)))),*] };
}
/// The files of the repository's folder `wit`, without those for WASI 0.3: names and texts.
pub const FILES: &[(&str, &str)] = files!(
    "bindings.wit" "diagnostics.wit" "worlds.wit" "deps/LICENSE" "deps/cli.wit" "deps/clocks.wit" "deps/config.wit"
    "deps/filesystem.wit" "deps/http.wit" "deps/io.wit" "deps/keyvalue-draft2.wit" "deps/keyvalue.wit" "deps/random.wit" "deps/sockets.wit"
);

/// Writes them below `folder`, which is made.
///
/// # Errors
/// The first step that failed.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder.join("deps"))?;
    FILES.iter().try_for_each(|(name, text)| fs::write(folder.join(name), text))
}

/// What a guest in JavaScript or Python can import: the world `guest`, and what its function has beside that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct World {
    /// Those of `event-guest`: the function is called with envelopes.
    pub bindings: bool,
    /// Those of `state-guest`: the function is granted configuration or a store.
    pub stores: bool,
}

impl World {
    /// Its name.
    pub const NAME: &str = "app";

    /// That of this function.
    pub fn of(function: &Function) -> Self {
        let grants = &function.grants;
        Self {
            bindings: function.trigger == Trigger::Envelope,
            stores: !(grants.config.is_empty() && grants.keyvalue.is_empty()),
        }
    }

    /// The file that has it beside [`FILES`].
    pub fn file(self) -> (&'static str, String) {
        let also = [(self.bindings, "event-guest"), (self.stores, "state-guest")];
        let also: String =
            also.into_iter().filter(|(has, _)| *has).map(|(_, name)| format!("  include {name};\n")).collect();
        ("app.wit", format!("world {} {{\n  include guest;\n{also}}}\n", Self::NAME))
    }
}

#[cfg(test)]
mod tests {
    use super::FILES;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    #[test]
    fn no_interface_is_left_out() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
        let mut found = BTreeSet::new();
        for folder in ["", "deps/"] {
            for entry in fs::read_dir(root.join(folder)).expect("a folder") {
                let name = entry.expect("an entry").file_name().into_string().expect("a name");
                if name.ends_with(".wit") {
                    found.insert(format!("{folder}{name}"));
                }
            }
        }
        let embedded = FILES.iter().map(|(name, _)| (*name).to_owned()).filter(|name| name.ends_with(".wit"));
        assert_eq!(embedded.collect::<BTreeSet<_>>(), found);
    }
}
