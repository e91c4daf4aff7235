//! What a network that spans hosts has of this one: the socket between the hosts, and the file that
//! says who is where, which is followed while the network runs.
//!
//! The socket is bound whether or not its address is there, which may come and go. The file is read
//! where it was found at the start, by its directory, which is held open: whoever serves has no other
//! files any more.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::config::{self, OverlayHost, overlay::Span};
use crate::network::definition::Definition;
use crate::network::overlay::{Overlay, OverlayError};
use crate::sys::datagram;
use crate::sys::fd::{Entry, directory_of};
use crate::sys::interfaces::Interfaces;
use crate::sys::sock;

/// Why a network cannot span its hosts.
#[derive(thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum UnderlayError {
    #[error(transparent)]
    File(#[from] OverlayError),
    #[error("cannot bind UDP port {} of {}, by which the hosts of the network talk", .0.port(), .0.ip())]
    Bind(SocketAddr, #[source] io::Error),
}

debug_as_display!(UnderlayError);

/// The network between the hosts, as this one has it.
#[derive(Debug)]
pub struct Underlay {
    /// Bound to this host's address.
    pub(super) socket: Option<OwnedFd>,
    overlay: Overlay,
    span: Span,
    path: PathBuf,
    file: Entry,
    hosts: Vec<OverlayHost>,
    /// What was told of the file that could not be used.
    complaint: Option<String>,
    /// Whether this host had its address when that was last looked at.
    there: bool,
}

impl Underlay {
    /// Opens what a network's definition names. Returns it with what the engine has to know.
    ///
    /// # Errors
    /// A file that cannot be used, a port that is taken.
    pub fn open(
        overlay: &Overlay,
        definition: &Definition,
    ) -> Result<(Self, config::Overlay), UnderlayError> {
        let hosts = overlay.read(definition)?;
        let failed = |source| OverlayError::Read { file: overlay.hosts.clone(), source };
        // Links lead nowhere once files are gone.
        let path = Path::new(&overlay.hosts).canonicalize().map_err(failed)?;
        let file = Entry::at(&path).map_err(failed)?;
        let Overlay { vni, local, port, .. } = *overlay;
        let address = SocketAddr::new(local, port);
        let socket = sock::udp_bind(address, true)
            .and_then(|socket| datagram::expect_bursts(&socket).map(|()| socket))
            .map_err(|source| UnderlayError::Bind(address, source))?;
        let underlay = Self {
            socket: Some(socket),
            overlay: overlay.clone(),
            span: overlay.span(definition),
            path,
            file,
            hosts: hosts.clone(),
            complaint: None,
            there: true,
        };
        Ok((underlay, config::Overlay { vni, local, port, hosts }))
    }

    /// The directory that the file is in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        directory_of(&self.path)
    }

    /// Reads the file again. Returns the hosts if they are others than before; what is wrong with it
    /// is told once.
    pub(super) fn read_again(&mut self) -> Option<&[OverlayHost]> {
        let Overlay { hosts: file, .. } = &self.overlay;
        let read = self.file.read();
        let read = read.map_err(|source| OverlayError::Read { file: file.clone(), source });
        match read.and_then(|bytes| self.overlay.parse(bytes, &self.span)) {
            Ok(hosts) => {
                self.complaint = None;
                if hosts == self.hosts {
                    return None;
                }
                log::info!("{file}: the network spans {} hosts now", hosts.len());
                self.hosts = hosts;
                Some(&self.hosts)
            }
            Err(error) => {
                let told = error.told();
                if self.complaint.as_ref() != Some(&told) {
                    log::warn!("{told}; what it said before is still true");
                    self.complaint = Some(told);
                }
                None
            }
        }
    }

    /// Looks whether this host has its address, and tells if that has changed.
    pub(super) fn note(&mut self, interfaces: &Interfaces) {
        let local: IpAddr = self.overlay.local;
        let there = interfaces.has(local);
        if there != self.there {
            self.there = there;
            if there {
                log::info!("{local} is there: other hosts can be reached");
            } else {
                log::warn!("{local} is not there: no other host can be reached until it is");
            }
        }
    }
}
