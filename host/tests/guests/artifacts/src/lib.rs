//! The files of all guests, built by `build.rs`. A test crate calls [`guests!`] once and uses every constant.

include!(concat!(env!("OUT_DIR"), "/guests.rs"));
