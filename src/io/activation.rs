//! What systemd says of the sockets that it hands in: sd_listen_fds(3).
//!
//! Looks at the two variables only. Descriptors that come without them, from a shell or another
//! supervisor, are as good. What a socket is, the socket itself is asked.

use std::ops::Range;

/// Descriptors that are not for us, or not there.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ActivationError {
    #[error("{name} is {value:?}, which is no number")]
    NotANumber { name: &'static str, value: String },
    #[error("LISTEN_PID says that it is for process {for_pid}, and this is process {pid}")]
    OtherProcess { for_pid: u32, pid: u32 },
    #[error("LISTEN_FDS says that there is none")]
    None,
    #[error("LISTEN_FDS says that there are {} to {}", .0.start, .0.end - 1)]
    Others(Range<i32>),
}

debug_as_display!(ActivationError);

/// The variables as they are set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activation {
    /// `LISTEN_PID`
    pub pid: Option<String>,
    /// `LISTEN_FDS`
    pub fds: Option<String>,
}

impl Activation {
    /// Reads the variables of this process.
    #[must_use]
    pub fn of_environment() -> Self {
        let read = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self { pid: read("LISTEN_PID"), fds: read("LISTEN_FDS") }
    }

    /// Checks that a descriptor is one of those that were handed to process `pid`.
    ///
    /// # Errors
    /// Sockets for another process, or not as many.
    pub fn check(&self, fd: i32, pid: u32) -> Result<(), ActivationError> {
        let Some(fds) = &self.fds else {
            return Ok(());
        };
        if let Some(for_pid) = &self.pid {
            let for_pid = number("LISTEN_PID", for_pid)?;
            if for_pid != pid {
                return Err(ActivationError::OtherProcess { for_pid, pid });
            }
        }
        let count = i32::try_from(number("LISTEN_FDS", fds)?).unwrap_or(i32::MAX - FIRST);
        let given = FIRST..FIRST.saturating_add(count);
        match given.contains(&fd) {
            true => Ok(()),
            false if given.is_empty() => Err(ActivationError::None),
            false => Err(ActivationError::Others(given)),
        }
    }
}

fn number(name: &'static str, value: &str) -> Result<u32, ActivationError> {
    value.parse().map_err(|_| ActivationError::NotANumber { name, value: value.to_owned() })
}

/// `SD_LISTEN_FDS_START`
const FIRST: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pid: Option<&str>, fds: Option<&str>, fd: i32) -> Result<(), String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let activation = Activation { pid: own(pid), fds: own(fds) };
        activation.check(fd, 42).map_err(|error| error.to_string())
    }

    #[test]
    fn sockets_for_this_process_are_taken_and_others_not() {
        assert_eq!(check(None, None, 9), Ok(()));
        assert_eq!(check(Some("7"), None, 9), Ok(()));
        assert_eq!(check(Some("42"), Some("2"), 3), Ok(()));
        assert_eq!(check(Some("42"), Some("2"), 4), Ok(()));
        assert_eq!(check(None, Some("1"), 3), Ok(()));
        let refused = |text: &str| Err(text.to_owned());
        assert_eq!(
            check(Some("42"), Some("2"), 5),
            refused("LISTEN_FDS says that there are 3 to 4")
        );
        assert_eq!(check(Some("42"), Some("0"), 3), refused("LISTEN_FDS says that there is none"));
        assert_eq!(
            check(Some("7"), Some("2"), 3),
            refused("LISTEN_PID says that it is for process 7, and this is process 42")
        );
        assert_eq!(
            check(Some("x"), Some("2"), 3),
            refused("LISTEN_PID is \"x\", which is no number")
        );
        assert_eq!(check(None, Some("-1"), 3), refused("LISTEN_FDS is \"-1\", which is no number"));
        assert_eq!(check(None, Some("4294967295"), 3), Ok(()));
    }
}
