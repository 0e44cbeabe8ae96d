//! What every test uses: the test kit, and the guests.

pub use testkit::*;

/// The files of the guests.
pub mod guests {
    test_guests_artifacts::guests!();
}

/// A component with something bad in a `place` of `component.wat`: `start`, `handle` or `more`.
pub fn component(place: &str, instructions: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(repository().join("host/tests/wat/component.wat")).unwrap();
    wat::parse_str(text.replace(&format!("(; {place} ;)"), instructions)).unwrap()
}
