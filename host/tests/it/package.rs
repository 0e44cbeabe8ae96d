//! The package that `cargo xtask package --for-tests` made, and packages that Azure could not start: X1, X2, and the plan's own conditions.

use crate::support::{Host, PACKAGE, SECRET, free_port, output, repository};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use zip::write::SimpleFileOptions;
use zip::{System, ZipArchive, ZipWriter};

/// A file of a package.
#[derive(Clone)]
struct Entry {
    name: String,
    mode: u32,
    system: System,
    content: Vec<u8>,
}

pub fn package() -> PathBuf {
    let package = repository().join(PACKAGE);
    assert!(package.exists(), "there is no package to test: make it with `cargo xtask package --for-tests`");
    package
}

fn entries() -> Vec<Entry> {
    let mut archive = ZipArchive::new(File::open(package()).unwrap()).unwrap();
    let count = archive.len();
    let read = |index| {
        let mut file = archive.by_index(index).unwrap();
        let (name, mode) = (file.name().unwrap().into_owned(), file.unix_mode().unwrap());
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        Entry { name, mode, system: file.system(), content }
    };
    (0..count).map(read).collect()
}

fn write(path: &Path, entries: &[Entry]) {
    let mut archive = ZipWriter::new(File::create(path).unwrap());
    for Entry { name, mode, system, content } in entries {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file(name, options.unix_permissions(*mode).system(*system)).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap();
}

fn check(package: &Path) -> (bool, String, String) {
    let mut command = crate::support::flexwasm();
    command.args(["check", "--package"]).arg(package);
    let (status, stdout, stderr) = output(command);
    (status.success(), stdout, stderr)
}

#[test]
#[ignore = "needs target/package-test/flexwasm.zip: cargo xtask test"]
fn x1_x2_the_package_is_in_order() {
    let (fine, stdout, stderr) = check(&package());
    assert!(fine, "{stderr}");
    for words in ["flexwasm 0755 ", "http_trigger/guest.cwasm compiled for every processor"] {
        assert!(stdout.contains(words), "{words} is not in {stdout}");
    }
    assert!(stdout.lines().any(|line| line.split_whitespace().eq(["pool.size", "32"])), "{stdout}");
    let mut command = crate::support::flexwasm();
    command.args(["check", "--json", "--package"]).arg(package());
    let (status, json, _) = output(command);
    // A line for each key is what deploy.sh reads.
    assert!(status.success() && json.lines().any(|line| line == r#"    "perInstanceConcurrency": 32,"#), "{json}");
    assert!(json.lines().any(|line| line == r#"    "requestBodySizeLimit": 104857600,"#), "{json}");
    let names: Vec<_> = entries().into_iter().map(|entry| entry.name).collect();
    let wanted =
        ["flexwasm", "host.json", "http_trigger/function.json", "http_trigger/guest.cwasm", "http_trigger/guest.wasm"];
    assert_eq!(names, wanted);
    let package = package();
    let arguments = ["check", "--package", package.to_str().unwrap()];
    crate::standalone::ends_though_nobody_takes_its_output(&arguments, &repository());
}

/// What is done to the files of the package, and the words of the one line that names it.
type Case = (&'static str, fn(&mut Vec<Entry>), &'static [&'static str]);

fn find<'a>(entries: &'a mut [Entry], name: &str) -> &'a mut Entry {
    entries.iter_mut().find(|entry| entry.name == name).unwrap()
}

fn remove(entries: &mut Vec<Entry>, name: &str) {
    entries.retain(|entry| entry.name != name);
}

fn add(entries: &mut Vec<Entry>, name: &str, content: &[u8]) {
    entries.push(Entry { name: name.to_owned(), mode: 0o644, system: System::Unix, content: content.to_owned() });
}

fn edit(entries: &mut [Entry], name: &str, change: impl FnOnce(&mut Value)) {
    let file = find(entries, name);
    let mut document = serde_json::from_slice(&file.content).unwrap();
    change(&mut document);
    file.content = document.to_string().into_bytes();
}

/// The guest of the package, compiled for processors like this one.
fn compiled_here(entries: &mut [Entry]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let guest = folder.path().join("guest.wasm");
    fs::write(&guest, &find(entries, "http_trigger/guest.wasm").content).unwrap();
    let mut command = crate::support::flexwasm();
    command.arg("compile").arg(&guest);
    assert!(output(command).0.success());
    fs::read(folder.path().join("guest.cwasm")).unwrap()
}

const CASES: &[Case] = &[
    (
        "overlap",
        |files| {
            let route = r#"{"scriptFile": "guest.wasm", "bindings": [
                {"type": "httpTrigger", "direction": "in", "name": "req", "authLevel": "function", "route": "{any}"},
                {"type": "http", "direction": "out", "name": "res"}]}"#;
            add(files, "wide/function.json", route.as_bytes());
            for file in ["guest.wasm", "guest.cwasm"] {
                let content = find(files, &format!("http_trigger/{file}")).content.clone();
                add(files, &format!("wide/{file}"), &content);
            }
        },
        &["http_trigger", "wide", "authLevel"],
    ),
    ("mode", |files| find(files, "flexwasm").mode = 0o644, &["flexwasm: has mode 100644", "100755"]),
    ("owner", |files| find(files, "flexwasm").mode = 0o744, &["flexwasm: has mode 100744", "100755"]),
    ("unreadable", |files| find(files, "flexwasm").mode = 0o700, &["flexwasm: has mode 100700", "neither its owner"]),
    ("private", |files| find(files, "host.json").mode = 0o640, &["host.json: has mode 100640", "neither its owner"]),
    ("windows", |files| find(files, "flexwasm").system = System::Dos, &["flexwasm: has no mode", "no Unix"]),
    (
        "folder",
        |files| files.iter_mut().for_each(|file| file.name = format!("app/{}", file.name)),
        &["host.json: is in the folder app", "pack what is in that folder"],
    ),
    ("host.json", |files| remove(files, "host.json"), &["host.json: is missing"]),
    ("executable", |files| remove(files, "flexwasm"), &["flexwasm: is named by", "is not in the package"]),
    (
        "path",
        |files| {
            edit(files, "host.json", |host| {
                host["customHandler"]["description"]["defaultExecutablePath"] = "./flexwasm".into()
            })
        },
        &["host.json: customHandler.description.defaultExecutablePath = \"./flexwasm\"", "bare name"],
    ),
    (
        "dynamic",
        |files| find(files, "flexwasm").content = fs::read("/bin/sh").unwrap(),
        &["flexwasm: needs libraries", "statically"],
    ),
    (
        "script",
        |files| find(files, "flexwasm").content = b"#!/bin/sh\n".to_vec(),
        &["flexwasm: is no executable of Linux"],
    ),
    ("secrets", |files| add(files, "local.settings.json", b"{}"), &["local.settings.json: ", "leave it out"]),
    (
        "backslash",
        |files| add(files, r"http_trigger\more.txt", b""),
        &[r"not a path with slashes below the package (http_trigger\more.txt)"],
    ),
    ("absolute", |files| add(files, "/etc/motd", b""), &["not a path with slashes below the package (/etc/motd)"]),
    ("outside", |files| add(files, "../outside", b""), &["leads out of it (../outside)"]),
    (
        "route",
        |files| edit(files, "http_trigger/function.json", |file| file["bindings"][0]["route"] = "admin/x".into()),
        &["http_trigger/function.json: bindings.route = \"admin/x\"", "begins with admin"],
    ),
    (
        "version",
        |files| edit(files, "host.json", |host| host["version"] = "1.0".into()),
        &["host.json: version = \"1.0\""],
    ),
    (
        "pool",
        |files| {
            edit(files, "host.json", |host| {
                drop(host["extensions"]["http"].as_object_mut().unwrap().remove("maxConcurrentRequests"))
            })
        },
        &["host.json: extensions.http.maxConcurrentRequests: is not set"],
    ),
    (
        "compiled",
        |files| remove(files, "http_trigger/guest.cwasm"),
        &["http_trigger/guest.cwasm: is missing", "flexwasm compile --portable"],
    ),
    (
        "processor",
        |files| {
            let content = compiled_here(files);
            find(files, "http_trigger/guest.cwasm").content = content;
        },
        &["http_trigger/guest.cwasm: is for processors like the one that compiled it", "--portable"],
    ),
    (
        "damage",
        |files| find(files, "http_trigger/guest.cwasm").content[1000] ^= 1,
        &["http_trigger/guest.cwasm: is damaged", "--portable"],
    ),
];

#[test]
#[ignore = "needs target/package-test/flexwasm.zip: cargo xtask test"]
fn x1_x2_what_azure_could_not_start_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (entries, zip) = (entries(), folder.path().join("changed.zip"));
    for (case, change, words) in CASES {
        let mut changed = entries.clone();
        change(&mut changed);
        write(&zip, &changed);
        let (fine, _, stderr) = check(&zip);
        assert!(!fine, "{case}");
        assert_eq!(stderr.lines().count(), 1, "{case}: {stderr}");
        for word in *words {
            assert!(stderr.contains(word), "{case}: {word} is not in {stderr}");
        }
    }
}

#[test]
#[ignore = "needs target/package-test/flexwasm.zip: cargo xtask test"]
fn any_mode_that_azure_can_start_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, zip) = (entries(), folder.path().join("changed.zip"));
    for mode in [0o555, 0o775] {
        find(&mut files, "flexwasm").mode = mode;
        write(&zip, &files);
        let (fine, _, stderr) = check(&zip);
        assert!(fine, "{mode:o}: {stderr}");
    }
}

#[test]
#[ignore = "needs target/package-test/flexwasm.zip: cargo xtask test"]
fn what_func_packs_is_accepted() {
    let mut files = entries();
    // Top-level files first, no folders.
    files.sort_by_key(|file| (file.name.contains('/'), file.name.clone()));
    let folder = tempfile::tempdir().unwrap();
    let zip = folder.path().join("func.zip");
    fs::write(&zip, func_zip(&files)).unwrap();
    let (fine, stdout, stderr) = check(&zip);
    assert!(fine, "{stderr}");
    assert!(stdout.contains("flexwasm 0777 ") && stdout.contains("host.json 0666 "), "{stdout}");
    // What is the executable is told by its name, so it is not compared with the app's own files.
    let app = folder.path().join("app");
    for Entry { name, content, .. } in files.iter().filter(|file| file.name != "flexwasm") {
        let path = app.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::create_dir_all(app.join("dist")).unwrap();
    fs::rename(&zip, app.join("dist/flexwasm.zip")).unwrap();
    let mut command = crate::support::flexwasm();
    command.current_dir(&app).arg("doctor");
    let (_, stdout, _) = output(command);
    assert!(stdout.contains("ok      package: dist/flexwasm.zip holds this app"), "{stdout}");
}

/// A zip byte by byte as the Core Tools write it: made by Unix, the executable 100777, everything else 100666.
fn func_zip(files: &[Entry]) -> Vec<u8> {
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for Entry { name, content, .. } in files {
        let mode: u32 = if name == "flexwasm" { 0o100_777 } else { 0o100_666 };
        let offset = u32::try_from(zip.len()).unwrap();
        // Needs version 2.0, no flags, stored, 1 January 1980.
        let mut common = Vec::new();
        for field in [20_u16, 0, 0, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        let size = u32::try_from(content.len()).unwrap();
        for field in [crc32(content), size, size] {
            common.extend(field.to_le_bytes());
        }
        common.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        common.extend([0, 0]);
        zip.extend(b"PK\x03\x04");
        zip.extend(&common);
        zip.extend(name.as_bytes());
        zip.extend(content);
        directory.extend(b"PK\x01\x02");
        // Made by version 2.0 of the format, on Unix.
        directory.extend([20, 3]);
        directory.extend(&common);
        // No comment, first disk, no internal attributes.
        directory.extend([0; 6]);
        directory.extend((mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (count, start) = (u16::try_from(files.len()).unwrap(), u32::try_from(zip.len()).unwrap());
    let size = u32::try_from(directory.len()).unwrap();
    zip.extend(directory);
    zip.extend(b"PK\x05\x06\0\0\0\0");
    zip.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    zip.extend([size.to_le_bytes(), start.to_le_bytes()].concat());
    zip.extend([0, 0]);
    zip
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
#[ignore = "needs target/package-test/flexwasm.zip: cargo xtask test"]
fn what_costs_streaming_is_said() {
    let mut files = entries();
    edit(&mut files, "host.json", |host| {
        host["customHandler"]["enableForwardingHttpRequest"] = true.into();
        drop(host["customHandler"].as_object_mut().unwrap().remove("enableProxyingHttpRequest"));
    });
    let folder = tempfile::tempdir().unwrap();
    let zip = folder.path().join("forwarding.zip");
    write(&zip, &files);
    let (fine, stdout, stderr) = check(&zip);
    assert!(fine, "{stderr}");
    assert!(stdout.contains("note: host.json: customHandler.enableProxyingHttpRequest is not true"), "{stdout}");
    assert!(!check(&package()).1.contains("note: "));
}

#[test]
#[ignore = "needs target/package-test/flexwasm.zip: cargo xtask test"]
fn what_is_no_package_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let zip = folder.path().join("odd.zip");
    let refused = |words: &str| {
        let (fine, _, stderr) = check(&zip);
        assert!(!fine);
        assert!(stderr.contains(words) && stderr.contains("flexwasm package"), "{stderr}");
    };
    refused("cannot be read");
    fs::write(&zip, "no zip").unwrap();
    refused("is no zip");
    let content = fs::read(package()).unwrap();
    fs::write(&zip, &content[..content.len() / 2]).unwrap();
    refused("is no zip");
    // In the middle of the executable's compressed bytes.
    let mut damaged = content;
    damaged[1_000_000] ^= 1;
    fs::write(&zip, damaged).unwrap();
    refused("cannot be unpacked at flexwasm");
}

/// Runs `$1` of the folder `$0`, as /srv, without a privilege, where only /tmp can be written to, which is empty.
const PLAN: &str = r#"
set -e
mount --bind "$0" /srv
mount -t tmpfs -o mode=1777 tmpfs /tmp
awk '{ print $5 }' /proc/self/mountinfo | sort -u | grep -v -e '^/proc' -e '^/tmp$' | while read -r place; do
  mount -o remount,bind,ro "$place" || exit 1
done
cd /srv
exec unshare --user --map-user=1000 --map-group=1000 "./$1"
"#;

#[test]
#[ignore = "needs target/package-test/flexwasm.zip and unshare: cargo xtask test"]
fn the_package_runs_as_on_the_plan() {
    let app = tempfile::tempdir().unwrap();
    let mut host = on_the_plan(&package(), app.path());

    let response = host.get("/api/http_trigger?name=Ada&delay=0.05");
    assert_eq!(response.status, 200, "{}", response.text());
    let receipt: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(receipt["message"], "Hello, Ada!");
    assert_eq!(receipt["host"]["azure_instance"], "0--container");
    assert_eq!(receipt["guest"]["pool_size"], 32);
    host.line(&["loaded", "http_trigger/guest.cwasm"]);

    let written: Vec<_> = fs::read_dir(format!("/proc/{}/root/tmp", host.id())).unwrap().collect();
    let names: Vec<_> = written.into_iter().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["flexwasm-1000"]);
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    let log = host.log();
    assert!(!log.iter().any(|line| line.contains("WARN") || line.contains("ERROR")), "{log:?}");
    assert!(!log.concat().contains(SECRET));
}

/// Unpacks a package into the folder `app`, and starts it as the plan does.
pub fn on_the_plan(package: &Path, app: &Path) -> Host {
    let mut unzipped = ZipArchive::new(File::open(package).unwrap()).unwrap();
    // With the modes that the zip gives.
    unzipped.extract(app).unwrap();
    let port = free_port();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", PLAN]).arg(app).arg("flexwasm");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    // flex-deploy.md §3.4: there is no WEBSITE_INSTANCE_ID.
    command.envs([
        ("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string().as_str()),
        ("WEBSITE_SKU", "FlexConsumption"),
        ("WEBSITE_SITE_NAME", "my-app"),
        ("WEBSITE_HOSTNAME", "my-app.azurewebsites.net"),
        ("WEBSITE_OWNER_NAME", "someone"),
        ("REGION_NAME", "East Asia"),
        ("CONTAINER_NAME", "0--container"),
        ("LEGION_SERVICE_HOST", "10.0.0.1"),
        ("FUNCTIONS_TARGET_GROUP", "http"),
        ("FUNCTIONS_ALWAYSREADY_INSTANCE", "0"),
        ("HOME", "/home"),
        ("AzureWebJobsStorage", SECRET),
    ]);
    let host = Host::spawn(command, port);
    host.probe();
    host
}
