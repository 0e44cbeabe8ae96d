//! What people do with an app before it is deployed: it is made, its guests are built, watched and packed.
//!
//! The source of a function's guest lies beside its `function.json`, or, where there is none, in the folder `guest` of the app. What
//! lies there tells the language ([`sources`]). Nothing else has to be configured.

pub mod build;
pub mod leash;
pub mod pack;
pub mod scaffold;
pub mod sources;
pub mod watch;
mod wit;
