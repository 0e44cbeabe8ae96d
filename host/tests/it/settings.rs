//! The page of settings says what the program does: each key, where it may stand, what it may be, and its default.

use crate::support::{App, flexwasm, guests, output, repository};
use flexwasm::config::builtin::{BUILTIN_KEYS, Builtin};
use flexwasm::config::event::{EVENT_KEYS, Event};
use flexwasm::config::kind::Setting;
use flexwasm::config::settings::{FUNCTION_KEYS, FunctionPatch, HOST_KEYS, HostPatch};
use flexwasm::config::source::{GUEST_KEYS, GuestSettings};
use flexwasm::config::units::{duration, spell_duration};
use std::collections::BTreeMap;
use std::fs;

/// The rows of the page's table by key: scope, meaning and default.
fn rows(page: &str) -> BTreeMap<&str, [&str; 3]> {
    let row = |line| {
        let cells: Vec<&str> = str::split(line, '|').map(str::trim).collect();
        let [_, key, scope, meaning, default, _] = cells[..] else { return None };
        let key = key.strip_prefix('`')?.strip_suffix('`')?;
        HOST_KEYS
            .iter()
            .chain(&FUNCTION_KEYS)
            .chain(&GUEST_KEYS)
            .chain(&EVENT_KEYS)
            .chain(&BUILTIN_KEYS)
            .any(|known| *known == key)
            .then_some(())?;
        Some((key, [scope, meaning, default]))
    };
    page.lines().filter_map(row).collect()
}

/// Whether a cell names a default, perhaps with a condition behind it.
fn names(cell: &str, default: &str) -> bool {
    let value = cell.split([',', ';']).next().unwrap().replace(['`', '"'], "");
    cell == default || value == default || duration(&value).map(spell_duration).as_deref() == Ok(default)
}

#[test]
fn the_page_of_settings_has_each_key_with_its_scope_range_and_default() {
    let page = fs::read_to_string(repository().join("docs/settings.md")).unwrap();
    let rows = rows(&page);
    let table =
        [HostPatch::table(), FunctionPatch::table(), GuestSettings::table(), Event::table(), Builtin::table()].concat();
    let mut keys: Vec<_> = table.iter().map(|setting| setting.key).collect();
    assert_eq!(keys, [&HOST_KEYS[..], &FUNCTION_KEYS, &GUEST_KEYS, &EVENT_KEYS, &BUILTIN_KEYS].concat());
    keys.sort_unstable();
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), keys);
    let wrong = |Setting { key, scope, range, default }: &Setting| {
        let [stands, meaning, standard] = rows[key];
        let wanting = range.iter().filter(|range| !meaning.contains(*range)).cloned();
        let wanting = wanting.chain((stands != *scope).then(|| format!("scope {scope}")));
        let wanting = wanting.chain((!names(standard, default)).then(|| format!("default {default}")));
        wanting.map(|wanting| format!("{key}: {wanting}")).collect::<Vec<_>>()
    };
    let wrong: Vec<String> = table.iter().flat_map(wrong).collect();
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn check_lists_every_key() {
    let app = App::new("{}").function("counter", guests::COUNTER);
    let mut command = flexwasm();
    command.arg("check").arg(app.path());
    let (_, stdout, stderr) = output(command);
    let listed: Vec<_> = stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for key in HOST_KEYS.iter().chain(&FUNCTION_KEYS).chain(&GUEST_KEYS) {
        assert!(listed.contains(key), "{key}: {stdout}{stderr}");
    }
}

#[test]
fn the_help_of_serve_names_the_defaults_of_the_table() {
    let mut command = flexwasm();
    command.args(["serve", "--help"]);
    let (_, help, _) = output(command);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let table = [HostPatch::table(), FunctionPatch::table()].concat();
    let of_flags = [
        ("--reuse", "pool.reuse"),
        ("--timeout", "limits.timeout"),
        ("--memory", "limits.memory"),
        ("--log-level", "log.level"),
    ];
    for (flag, key) in of_flags {
        let (_, words) = help.split_once(&format!("{flag} <")).unwrap_or_else(|| panic!("{flag}: {help}"));
        let (_, default) = words.split_once("[default: ").unwrap();
        let (default, _) = default.split_once(']').unwrap();
        let setting = table.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("{key} is no setting"));
        assert!(names(default, &setting.default), "{flag}: {default}, {key}: {}", setting.default);
    }
}
