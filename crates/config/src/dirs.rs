//! `grants.dirs`: folders of the app that a guest may read.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// A folder of the app, and where a guest finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The folder itself, with every link followed.
    pub path: PathBuf,
    /// Its path for the guest: `/` and the path inside the app.
    pub guest_path: String,
}

/// Finds the granted folders below `root`.
///
/// # Errors
/// Each entry that cannot be granted, with what to write instead.
pub fn find(root: &Path, granted: &[String]) -> Result<Vec<Folder>, Vec<(String, String)>> {
    let (mut folders, mut problems) = (Vec::<Folder>::new(), Vec::new());
    for entry in granted {
        match folder(root, entry) {
            Ok(folder) => {
                let overlap =
                    |other: &&Folder| folder.path.starts_with(&other.path) || other.path.starts_with(&folder.path);
                match folders.iter().find(overlap) {
                    Some(other) => problems.push((
                        entry.clone(),
                        format!("overlaps with {:?}: grant one of the two", other.guest_path.trim_start_matches('/')),
                    )),
                    None => folders.push(folder),
                }
            }
            Err(remedy) => problems.push((entry.clone(), remedy)),
        }
    }
    if problems.is_empty() { Ok(folders) } else { Err(problems) }
}

fn folder(root: &Path, entry: &str) -> Result<Folder, String> {
    let mut names = Vec::new();
    for component in Path::new(entry).components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().expect("a part of text is text")),
            Component::CurDir => {}
            _ => return Err("must be a folder inside the app, such as \"http_trigger/data\"".to_owned()),
        }
    }
    if names.is_empty() {
        let why = "is the app itself, with host.json and local.settings.json: name a folder in it";
        return Err(why.to_owned());
    }
    let unreadable = |error| format!("cannot be read ({error}): create the folder in the app, or remove the grant");
    let path = fs::canonicalize(root.join(entry)).map_err(unreadable)?;
    if !path.starts_with(fs::canonicalize(root).map_err(unreadable)?) {
        return Err("is a link that leads out of the app: copy into the app what the guest shall read".to_owned());
    }
    if !path.is_dir() {
        return Err("is a file: name the folder that holds it".to_owned());
    }
    Ok(Folder { path, guest_path: format!("/{}", names.join("/")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn remedies(root: &Path, granted: &[&str]) -> Vec<String> {
        let granted: Vec<String> = granted.iter().map(ToString::to_string).collect();
        find(root, &granted).err().into_iter().flatten().map(|(_, remedy)| remedy).collect()
    }

    #[test]
    fn only_a_folder_that_is_really_in_the_app() {
        let app = tempfile::tempdir().expect("a folder");
        let root = app.path();
        fs::create_dir_all(root.join("one/data")).expect("a folder");
        fs::write(root.join("one/file"), "").expect("a file");
        symlink("/etc", root.join("out")).expect("a link");
        symlink("one/data", root.join("in")).expect("a link");

        let found = find(root, &["./one/data/".to_owned()]).expect("it is there");
        let path = fs::canonicalize(root).expect("it is there").join("one/data");
        assert_eq!(found, [Folder { path: path.clone(), guest_path: "/one/data".to_owned() }]);
        assert_eq!(
            find(root, &["in".to_owned()]).expect("it is there")[0],
            Folder { path, guest_path: "/in".to_owned() }
        );

        for (entry, words) in [
            ("/etc", "a folder inside the app"),
            ("one/../..", "a folder inside the app"),
            ("", "the app itself"),
            (".", "the app itself"),
            ("one/none", "cannot be read"),
            ("one/file", "is a file"),
            ("out", "leads out of the app"),
        ] {
            let [remedy] = &remedies(root, &[entry])[..] else { panic!("{entry:?} must be refused") };
            assert!(remedy.contains(words), "{entry:?}: {remedy}");
        }
    }

    #[test]
    fn no_folder_is_granted_twice() {
        let app = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(app.path().join("one/data")).expect("a folder");
        symlink("one", app.path().join("two")).expect("a link");
        for granted in [["one", "one/data"], ["one/data", "one"], ["one", "two"]] {
            let overlap = format!("overlaps with {:?}: grant one of the two", granted[0]);
            assert_eq!(remedies(app.path(), &granted), [overlap]);
        }
    }
}
