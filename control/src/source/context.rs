//! What the readers of one load share.

use super::names::{Names, Shared};
use super::objects::Template;

/// What is shared between the objects of a load.
#[derive(Default)]
pub(crate) struct Context {
    pub(crate) names: Names,
    pub(crate) templates: Shared<Template>,
}
