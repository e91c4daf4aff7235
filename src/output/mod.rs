//! What verbs print: text on standard output, tables as Docker prints them, and what a `--format`
//! makes of values.
//!
//! Errors are not told here but by `error::report`.

mod list;
mod table;
mod template;
mod value;

use std::io::{self, Write as _};

pub use list::{Column, Format, json, json_indented};
pub use table::Table;
pub use template::{Template, TemplateError};
pub use value::{Value, ValueOfError};

/// Standard output that cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct OutputError {
    source: io::Error,
}

/// Writes `text` to standard output. A reader that has gone away, as in `rnsnet ps | head -1`, is
/// no failure.
///
/// # Errors
/// What the system reports: a full disk, say.
pub fn print(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(OutputError { source }),
        _ => Ok(()),
    }
}

/// What a template sees of a value.
///
/// # Errors
/// As [`Value::of`].
pub fn value_of(value: &impl serde::Serialize) -> Result<Value, TemplateError> {
    Value::of(value).map_err(|error| TemplateError::Value(error.to_string()))
}
