//! `rnsnet detach`: a container's network ends.

use super::super::{Action, Argument, Count, Verb, complain};
use super::CTR;
use crate::client::{self, ClientError, Connection, Line};
use crate::control::Named;
use crate::error::Error;

pub(in crate::verbs) const DETACH: Verb = Verb {
    name: "detach",
    aliases: &[],
    about: "Take a container's network away",
    more: "The interface and the published ports go. Returns once they are gone.",
    arguments: &[Argument { count: Count::OneOrMore, ..CTR }],
    options: &[],
    examples: &[("rnsnet detach web", "As when rnsnet is stopped by Ctrl-C.")],
    parse: |typed| Ok(Box::new(Detach { containers: typed.arguments().to_vec() })),
};

#[derive(Debug)]
struct Detach {
    containers: Vec<String>,
}

impl Action for Detach {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let results = self.containers.iter().map(|name| detach(name));
        Ok(complain(results.filter_map(Result::err)))
    }
}

fn detach(name: &str) -> Result<(), Error> {
    for mut found in client::find_all(name)? {
        let named = Named { container: found.named() };
        let _: serde_json::Value = found.ask("detach", &named)?;
        // Of a named network it is gone, and the process stays.
        if found.instance.info.network == crate::control::PRIVATE {
            wait_for_end(name, &mut found.instance.connection, PATIENCE_MS)?;
        }
    }
    Ok(())
}

/// Waits for the end of a connection, which comes with that of the process.
fn wait_for_end(
    name: &str,
    connection: &mut Connection,
    patience_ms: u16,
) -> Result<(), ClientError> {
    let talk = |source| ClientError::Talk { name: name.to_owned(), source };
    while connection.wait(Some(patience_ms)).map_err(talk)? {
        if connection.next_event()? == Line::End {
            return Ok(());
        }
    }
    Err(ClientError::NotEnded { name: name.to_owned(), seconds: patience_ms / 1000 })
}

/// How long the end may take, in milliseconds.
const PATIENCE_MS: u16 = 10_000;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_process_that_does_not_end_is_told_of() {
        let directory = crate::testing::scratch("detach");
        let path = directory.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut connection = Connection::open("web", &path).unwrap().unwrap();
        std::fs::remove_dir_all(directory).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let error = wait_for_end("web", &mut connection, 1).unwrap_err();
        assert_eq!(error.to_string(), "the process of web has not ended within 0 s");
        drop(stream);
        wait_for_end("web", &mut connection, PATIENCE_MS).unwrap();
    }
}
