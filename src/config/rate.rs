//! How much a container may get and send each second: `--rate down=10mbit,up=5mbit`.
//!
//! Written in the units of tc(8): `bit`, `kbit`, `mbit`, `gbit` and `tbit` are powers of a thousand
//! of bits, `kibit` and so on of 1,024, `bps`, `kbps` and so on the same in bytes. Down is towards the
//! container. The rate is of Ethernet frames, with all headers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most of each direction, in bits each second; `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    /// Towards the container.
    pub down: Option<u64>,
    /// From the container.
    pub up: Option<u64>,
}

/// A text that is no [`Rate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum RateError {
    #[error("expected down=RATE,up=RATE or RATE for both, with a RATE as 10mbit, 1mbps or none")]
    Syntax,
    #[error("out of range: 8kbit to 1tbit; without a unit it is bits")]
    Range,
}

impl Rate {
    /// What `--rate` is, for the help.
    pub const HELP: &str = "How much the container may get and send each second at the most: down=RATE,up=RATE, or \
         RATE for both, with a RATE from 8kbit to 1tbit, as 10mbit or 1mbps (bytes), or none.";

    /// No limit.
    pub const UNLIMITED: Self = Self { down: None, up: None };

    /// Whether there is none.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
    pub fn is_unlimited(&self) -> bool {
        *self == Self::UNLIMITED
    }

    /// This one, and the other's directions where this has none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { down: self.down.or(other.down), up: self.up.or(other.up) }
    }

    /// Changes the directions that a text is about: `down=10mbit`, `up=none`, or `1gbit` for both.
    ///
    /// # Errors
    /// A text that says nothing, or what cannot be.
    pub fn set(&mut self, text: &str) -> Result<(), RateError> {
        let mut said = Self::UNLIMITED;
        let (mut down, mut up) = (false, false);
        for part in text.split(',') {
            let (direction, rate) = match part.split_once('=') {
                Some((direction, rate)) => (Some(direction), one(rate)?),
                None => (None, one(part)?),
            };
            let twice = match direction {
                Some("down") => std::mem::replace(&mut down, true),
                Some("up") => std::mem::replace(&mut up, true),
                Some(_) => return Err(RateError::Syntax),
                None => std::mem::replace(&mut down, true) | std::mem::replace(&mut up, true),
            };
            if twice {
                return Err(RateError::Syntax);
            }
            if direction != Some("up") {
                said.down = rate;
            }
            if direction != Some("down") {
                said.up = rate;
            }
        }
        if down {
            self.down = said.down;
        }
        if up {
            self.up = said.up;
        }
        Ok(())
    }
}

/// One direction; `None` for `none`.
fn one(text: &str) -> Result<Option<u64>, RateError> {
    if text == "none" {
        return Ok(None);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_lowercase();
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    let bits = match (unit.as_str(), known) {
        ("", _) => 1,
        (_, Some((_, bits))) => *bits,
        (_, None) => return Err(RateError::Syntax),
    };
    if number.is_empty() {
        return Err(RateError::Syntax);
    }
    let rate = number.parse::<u64>().ok().and_then(|number| number.checked_mul(bits));
    let rate = rate.filter(|rate| (LEAST..=MOST).contains(rate));
    rate.map(Some).ok_or(RateError::Range)
}

/// A frame of 64 KiB takes a minute.
const LEAST: u64 = 8_000;
const MOST: u64 = 1_000_000_000_000;

/// What tc(8) understands, the first five from the smallest for [`Rate`]'s `Display`.
const UNITS: [(&str, u64); 14] = [
    ("bit", 1),
    ("kbit", 1_000),
    ("mbit", 1_000_000),
    ("gbit", 1_000_000_000),
    ("tbit", 1_000_000_000_000),
    ("kibit", 1 << 10),
    ("mibit", 1 << 20),
    ("gibit", 1 << 30),
    ("bps", 8),
    ("kbps", 8_000),
    ("mbps", 8_000_000),
    ("gbps", 8_000_000_000),
    ("kibps", 8 << 10),
    ("mibps", 8 << 20),
];

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let mut rate = Self::UNLIMITED;
        rate.set(text).map(|()| rate)
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for Rate {
    /// As it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directions = [("down", self.down), ("up", self.up)];
        let mut comma = "";
        for (name, rate) in directions {
            let Some(rate) = rate else { continue };
            let decimal = UNITS.iter().take(5).rev();
            let exact = decimal.copied().find(|(_, bits)| rate.is_multiple_of(*bits));
            let (unit, bits) = exact.unwrap_or(("bit", 1));
            write!(f, "{comma}{name}={}{unit}", rate / bits)?;
            comma = ",";
        }
        if comma.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // H1
    #[test]
    fn rates_are_read_in_the_units_of_tc() {
        for (text, down, up) in [
            ("down=10mbit,up=5mbit", Some(10_000_000), Some(5_000_000)),
            ("up=512kbit", None, Some(512_000)),
            ("1gbit", Some(1_000_000_000), Some(1_000_000_000)),
            ("down=2MBps", Some(16_000_000), None),
            ("64000", Some(64_000), Some(64_000)),
            ("down=1Mibit", Some(1 << 20), None),
            ("none", None, None),
        ] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!(rate, Rate { down, up }, "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate), "{text}");
        }
        for (text, error) in [
            ("", RateError::Syntax),
            ("down=", RateError::Syntax),
            ("left=1mbit", RateError::Syntax),
            ("10mb", RateError::Syntax),
            ("mbit", RateError::Syntax),
            ("-1mbit", RateError::Syntax),
            ("down=1mbit,down=2mbit", RateError::Syntax),
            ("1mbit,up=2mbit", RateError::Syntax),
            ("7kbit", RateError::Range),
            ("0", RateError::Range),
            ("2tbit", RateError::Range),
            ("99999999999999999999", RateError::Range),
        ] {
            assert_eq!(text.parse::<Rate>(), Err(error), "{text}");
        }
        assert_eq!(
            Rate { down: Some(1_500_000), up: Some(8_001) }.to_string(),
            "down=1500kbit,up=8001bit"
        );
        assert_eq!(Rate::UNLIMITED.to_string(), "none");
    }

    // H4
    #[test]
    fn a_change_of_one_direction_leaves_the_other() {
        let mut rate: Rate = "down=10mbit,up=5mbit".parse().unwrap();
        rate.set("down=50mbit").unwrap();
        assert_eq!(rate.to_string(), "down=50mbit,up=5mbit");
        rate.set("up=none").unwrap();
        assert_eq!(rate.to_string(), "down=50mbit");
        assert!(rate.set("down=1,up=1mbit").is_err());
        assert_eq!(rate.or("1gbit".parse().unwrap()).to_string(), "down=50mbit,up=1gbit");
        rate.set("none").unwrap();
        assert!(rate.is_unlimited());
    }
}
