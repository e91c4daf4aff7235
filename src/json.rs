//! JSON files and lines as values of ours.
//!
//! One way to read them all, so that the program has one parser: what control sockets say is read
//! into a [`Value`] first, too, and serde makes code for each type and each source of it.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a whole text.
///
/// # Errors
/// What is not JSON, with line and column, and what is not of this type.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(serde_json::from_slice::<Value>(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_faults_named() {
        assert_eq!(read::<Vec<u16>>(b" [1, 2]\n").unwrap(), [1, 2]);
        let said = |text: &str| read::<Vec<u16>>(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(said("[1,\n2"), "EOF while parsing a list at line 2 column 1");
        assert_eq!(said("[1] 2"), "trailing characters at line 1 column 5");
        assert_eq!(said("[70000]"), "invalid value: integer `70000`, expected u16");
    }
}
