//! Redirect rules: how a workload's connections reach the proxy without the workload knowing.
//!
//! The rules live in the workload's network namespace, in a table (nftables) or chains (iptables) of our own, see
//! [`policy`]. They are put in after the listeners are bound and taken away before they close, so that a new
//! connection is always either captured and served or goes direct.
//!
//! **Invariant:** nothing is removed or changed that we did not put there. If the process is killed, the rules stay
//! and connections are refused: nothing goes out in plaintext unnoticed. The next start takes over.

mod iptables;
pub mod ledger;
mod nftables;
pub mod policy;
mod routing;
mod tool;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

pub use self::ledger::Ledger;
pub use self::policy::{APPLICATION_MARK, RedirectMode, RedirectOptions};
pub use self::tool::ToolError;
pub(crate) use self::tool::is_installed as tool_is_installed;

use self::policy::Family;

/// The tool that put the rules in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `nft`.
    Nftables,
    /// `iptables-restore`.
    Iptables,
}

impl std::str::FromStr for Tool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "nftables" => Ok(Self::Nftables),
            "iptables" => Ok(Self::Iptables),
            other => Err(format!("{other:?} is no tool for redirect rules")),
        }
    }
}

impl std::fmt::Display for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        })
    }
}

/// Why there are no rules.
#[derive(Debug)]
pub enum RedirectError {
    /// The namespace could not be entered.
    Namespace(io::Error),
    /// No tool is installed.
    NoTool,
    /// Every tool that is installed failed.
    AllFailed(Vec<ToolError>),
    /// The policy routing could not be put in place.
    Routing(ToolError),
}

impl std::fmt::Display for RedirectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Namespace(error) => write!(
                f,
                "cannot enter the network namespace: {error}; CAP_SYS_ADMIN is needed for it"
            ),
            Self::NoTool => f.write_str(
                "neither nft nor iptables-restore is installed; install the package `nftables` (or `iptables`), or \
                 set `redirect: none` and put the rules in yourself",
            ),
            Self::AllFailed(errors) => {
                f.write_str("the redirect rules could not be installed")?;
                for error in errors {
                    write!(f, "; {error}")?;
                }
                f.write_str("; CAP_NET_ADMIN and the kernel modules nf_tables or ip_tables with nat are needed")
            }
            Self::Routing(ToolError::Missing(_)) => {
                f.write_str("ip is not installed; install the package `iproute2`")
            }
            Self::Routing(error) => write!(
                f,
                "the policy routing could not be put in place: {error}; is `lo` up in the namespace?"
            ),
        }
    }
}

impl std::error::Error for RedirectError {}

/// Rules that are in place; they go when this is dropped, but not when that is because of a panic: how far whoever held
/// them came is not known then, and what a workload opens must rather be refused than go out in the clear.
#[derive(Debug)]
pub struct Redirect {
    namespace: Option<OwnedFd>,
    tool: Option<Tool>,
}

/// Puts the rules into `namespace`, taking over what an earlier process left there.
///
/// # Errors
/// [`RedirectError`]; nothing of ours is then left in the namespace.
pub fn install(namespace: impl AsFd, options: &RedirectOptions) -> Result<Redirect, RedirectError> {
    if options.mode == RedirectMode::None {
        return Ok(Redirect { namespace: None, tool: None });
    }
    let namespace = namespace.as_fd();
    let kept = namespace.try_clone_to_owned().map_err(RedirectError::Namespace)?;
    let tool =
        tool::inside(namespace, || install_here(options)).map_err(RedirectError::Namespace)??;
    Ok(Redirect { namespace: Some(kept), tool: Some(tool) })
}

/// Takes away what an earlier process left in `namespace`; nothing there is fine.
///
/// # Errors
/// When the namespace cannot be entered or a tool refuses.
pub fn remove_leftovers(namespace: impl AsFd) -> Result<(), RedirectError> {
    tool::inside(namespace.as_fd(), remove_here).map_err(RedirectError::Namespace)?
}

impl Redirect {
    /// Rules that a predecessor installed and left in place: they are this process's now, untouched.
    ///
    /// # Errors
    /// When descriptors are short.
    pub fn inherit(namespace: impl AsFd, tool: Option<Tool>) -> io::Result<Self> {
        let namespace = match tool {
            Some(_) => Some(namespace.as_fd().try_clone_to_owned()?),
            None => None,
        };
        Ok(Self { namespace, tool })
    }

    /// The tool in use; `None` where somebody else installs the rules.
    pub fn tool(&self) -> Option<Tool> {
        self.tool
    }

    /// Captures nothing new any more: connections that are opened from now on go direct. Those that are open go on,
    /// as far as they are served.
    ///
    /// # Errors
    /// When a tool refuses; new connections may then still be captured.
    pub fn release(&self) -> Result<(), RedirectError> {
        let (Some(namespace), Some(tool)) = (&self.namespace, self.tool) else { return Ok(()) };
        tool::inside(namespace.as_fd(), || release_here(tool))
            .map_err(RedirectError::Namespace)?
            .map_err(|error| RedirectError::AllFailed(vec![error]))
    }

    /// Takes the rules away. What answers of open connections need goes too, so those should be over.
    ///
    /// # Errors
    /// When a tool refuses; the rules may then still be there.
    pub fn remove(mut self) -> Result<(), RedirectError> {
        match self.namespace.take() {
            Some(namespace) => remove_leftovers(namespace),
            None => Ok(()),
        }
    }

    /// Leaves the rules in place for a successor that takes over.
    pub fn leave(mut self) {
        self.namespace = None;
    }
}

impl Drop for Redirect {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("redirect rules stay where they are: a job broke");
            return;
        }
        if let Some(namespace) = self.namespace.take()
            && let Err(error) = remove_leftovers(namespace)
        {
            tracing::warn!(%error, "redirect rules could not be removed");
        }
    }
}

/// Runs on a thread inside the namespace.
fn install_here(options: &RedirectOptions) -> Result<Tool, RedirectError> {
    let ipv6 = options.ipv6 && ipv6_usable();
    let options = RedirectOptions {
        ipv6,
        marks_accepted: options.marks_accepted && accept_marks(ipv6),
        ..options.clone()
    };
    // The routes first: an answer to a dial of ours that finds the rules without them leaves by the wrong
    // interface.
    let routed = options
        .families()
        .iter()
        .try_for_each(|family| routing::install(*family).map_err(RedirectError::Routing));
    let installed = routed.and_then(|()| install_rules(&options));
    if installed.is_err() {
        let _ = remove_here();
    }
    installed
}

fn install_rules(options: &RedirectOptions) -> Result<Tool, RedirectError> {
    let candidates: &[Tool] = match options.mode {
        RedirectMode::Nftables => &[Tool::Nftables],
        RedirectMode::Iptables => &[Tool::Iptables],
        RedirectMode::Auto | RedirectMode::None => &[Tool::Nftables, Tool::Iptables],
    };
    let mut errors = Vec::new();
    for tool in candidates {
        let installed = match tool {
            Tool::Nftables => install_nftables(options),
            Tool::Iptables => install_iptables(options),
        };
        match installed {
            Ok(()) => return Ok(*tool),
            Err(error) => errors.push(error),
        }
    }
    if errors.iter().all(|error| matches!(error, ToolError::Missing(_))) {
        return Err(RedirectError::NoTool);
    }
    Err(RedirectError::AllFailed(errors))
}

fn install_nftables(options: &RedirectOptions) -> Result<(), ToolError> {
    let install = |options: &RedirectOptions| {
        tool::run("nft", &["-f", "-"], &nftables::install_script(options))
    };
    install(options).or_else(|error| match error {
        // Perhaps because of the one thing that not every kernel has.
        ToolError::Failed { .. } => {
            install(&RedirectOptions { sockets_known: false, ..options.clone() })
        }
        error => Err(error),
    })?;
    // An earlier process may have used the other tool; redirected twice is redirected wrongly.
    remove_iptables()
}

fn install_iptables(options: &RedirectOptions) -> Result<(), ToolError> {
    for family in options.families() {
        let saved = iptables_save(*family)?;
        let script = iptables::install_script(options, *family, &saved);
        iptables_restore(*family, &script)?;
    }
    remove_nftables()
}

/// Runs on a thread inside the namespace.
fn remove_here() -> Result<(), RedirectError> {
    let removed = [remove_nftables(), remove_iptables()];
    routing::remove(Family::V4);
    routing::remove(Family::V6);
    let errors: Vec<_> = removed.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() { Ok(()) } else { Err(RedirectError::AllFailed(errors)) }
}

/// Runs on a thread inside the namespace.
fn release_here(tool: Tool) -> Result<(), ToolError> {
    match tool {
        Tool::Nftables => tool::run("nft", &["-f", "-"], &nftables::release_script()).map(drop),
        Tool::Iptables => {
            for family in [Family::V4, Family::V6] {
                // Where only one family was captured, the other has no chains of ours.
                let saved = iptables_save(family).unwrap_or_default();
                if iptables::remove_script(&saved).is_some() {
                    iptables_restore(family, &iptables::release_script())?;
                }
            }
            Ok(())
        }
    }
}

fn remove_nftables() -> Result<(), ToolError> {
    if !tool::is_installed("nft") {
        return Ok(());
    }
    tool::run("nft", &["-f", "-"], &nftables::remove_script()).map(drop)
}

fn remove_iptables() -> Result<(), ToolError> {
    for family in [Family::V4, Family::V6] {
        if !tool::is_installed(save_tool(family)) {
            continue;
        }
        // Where the kernel has no such tables, nothing of ours can be in them.
        let Ok(saved) = iptables_save(family) else { continue };
        if let Some(script) = iptables::remove_script(&saved) {
            iptables_restore(family, &script)?;
        }
    }
    Ok(())
}

fn iptables_save(family: Family) -> Result<String, ToolError> {
    tool::run(save_tool(family), &[], "")
}

fn iptables_restore(family: Family, script: &str) -> Result<(), ToolError> {
    let tool = match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    };
    tool::run(tool, &["-w", "10", "--noflush"], script).map(drop)
}

fn save_tool(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-save",
        Family::V6 => "ip6tables-save",
    }
}

/// Has sockets of the calling thread's namespace take over the mark of what they accept, and the kernel's own answers
/// (a refusal, for one) that of what they answer. It stays when the rules go: where nothing is marked, it does nothing.
fn accept_marks(ipv6: bool) -> bool {
    let set = |name: &str| std::fs::write(format!("/proc/sys/net/{name}"), "1").is_ok();
    set("ipv4/tcp_fwmark_accept")
        && set("ipv4/fwmark_reflect")
        && (!ipv6 || set("ipv6/fwmark_reflect"))
}

/// Whether IPv6 works in the namespace of the calling thread: procfs shows each thread its own.
fn ipv6_usable() -> bool {
    match std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6") {
        Ok(disabled) => disabled.trim() != "1",
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}
