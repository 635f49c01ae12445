//! `ringway-bench confine`: runs a program under a system call filter of the size of a container's.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// What to run, and how confined.
#[derive(Clone, Debug, Args)]
pub struct Confine {
    /// Refuse io_uring, as the profiles of Docker and containerd do.
    #[arg(long)]
    forbid_io_uring: bool,
    /// With which error calls are refused.
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    error: Refusal,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<String>,
}

/// The error of a call that is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Refusal {
    /// As the profiles of containers do it.
    #[default]
    Eperm,
    /// As a kernel without the call.
    Enosys,
    /// As security modules do it.
    Eacces,
}

impl Refusal {
    fn number(self) -> u32 {
        (match self {
            Refusal::Eperm => libc::EPERM,
            Refusal::Enosys => libc::ENOSYS,
            Refusal::Eacces => libc::EACCES,
        }) as u32
    }
}

/// System calls have numbers up to this one (Linux 6.12).
const CALLS_MAX: i64 = 463;

/// What the usual profiles refuse without a capability: rebooting, modules, clocks, mounts, keys.
const REFUSED: [libc::c_long; 14] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
];

const IO_URING: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

impl Confine {
    /// Becomes the program. Returns only when that fails.
    ///
    /// # Errors
    /// When the filter is refused or the program cannot be run.
    pub fn run(&self) -> Result<()> {
        seccompiler::apply_filter(&self.filter()?).context("the kernel refuses the filter")?;
        let [program, arguments @ ..] = &self.command[..] else {
            unreachable!("clap asks for one")
        };
        let error = Command::new(program).args(arguments).exec();
        Err(error).with_context(|| format!("cannot run {program}"))
    }

    /// A list of what is allowed, one comparison for each, as containers have it.
    fn filter(&self) -> Result<BpfProgram> {
        let allowed = (0..=CALLS_MAX).filter(|call| {
            let refused = REFUSED.contains(call);
            !(refused || self.forbid_io_uring && IO_URING.contains(call))
        });
        let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
            allowed.map(|call| (call, Vec::new())).collect();
        let refuse = SeccompAction::Errno(self.error.number());
        let arch: TargetArch = std::env::consts::ARCH.try_into()?;
        Ok(SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_as_long_as_a_containers() {
        let confine = |forbid_io_uring| Confine {
            forbid_io_uring,
            error: Refusal::default(),
            command: Vec::new(),
        };
        let (open, closed) = (confine(false).filter().unwrap(), confine(true).filter().unwrap());
        assert!(open.len() > 400, "{} instructions", open.len());
        assert!(closed.len() < open.len());
    }
}
