//! YAML: the text of files, the values in it, and readers that ask values for what they should be.

pub(crate) mod fields;
mod mappings;
pub(crate) mod reader;
pub(crate) mod scalars;
mod syntax;
pub(crate) mod text;
pub(crate) mod value;

pub(crate) use mappings::report_duplicate;
