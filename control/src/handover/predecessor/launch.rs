//! How a successor is started: as this process was.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::super::{PROTOCOL, VARIABLE};

/// How a successor is started: as this process was.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Launch {
    /// As this process was started. Called at its start, before the file can be replaced.
    ///
    /// # Errors
    /// Without `/proc`.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let called = arguments.next().map(PathBuf::from);
        let program = path_of_this_program(&std::env::current_exe()?, called.as_deref());
        Ok(Self { program, arguments: arguments.collect() })
    }

    /// With another program.
    pub(crate) fn with_program(mut self, program: Option<PathBuf>) -> Self {
        self.program = program.unwrap_or(self.program);
        self
    }

    /// The file that is started.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn spawn(&self, channel: OwnedFd) -> io::Result<Child> {
        Command::new(&self.program)
            .args(&self.arguments)
            .env(VARIABLE, PROTOCOL.to_string())
            // It names this process; the successor answers the watchdog from the moment it is the main one.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(channel))
            .spawn()
    }
}

/// The path this program was called by, when that leads to its file: a link that is changed later then leads to the
/// new one. Otherwise the file itself.
fn path_of_this_program(file: &Path, called: Option<&Path>) -> PathBuf {
    let by_path = called.filter(|called| called.components().count() > 1);
    let absolute = by_path.and_then(|called| std::path::absolute(called).ok());
    absolute
        .filter(|path| fs::canonicalize(path).is_ok_and(|leads_to| leads_to == file))
        .unwrap_or_else(|| file.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Launch {
        /// Of this program, with these arguments.
        pub(in super::super) fn of<const N: usize>(program: PathBuf, arguments: [&str; N]) -> Self {
            Self { program, arguments: arguments.map(OsString::from).to_vec() }
        }
    }

    #[test]
    fn a_link_is_followed_anew_and_a_name_is_not_looked_up_again() {
        let home = tempfile::TempDir::new().unwrap();
        let (file, link, other) =
            (home.path().join("ringway-1"), home.path().join("ringway"), home.path().join("other"));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        //  called as                    started next time
        for (called, want) in [
            (Some(&*link), &link),
            (Some(&*file), &file),
            (Some(&*other), &file),
            (Some(Path::new("ringway")), &file),
            (None, &file),
        ] {
            assert_eq!(path_of_this_program(&file, called), *want, "{called:?}");
        }
    }
}
