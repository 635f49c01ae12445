//! The tokens of node proxies: one file per node, in place of what a kubelet would project.
//!
//! A token says who the caller is: the service account of the node proxies, on one node. Files outlive the plane, so
//! that one that was killed and comes back knows its callers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// The folder of the files, in the plane's directory.
pub const TOKENS_FOLDER: &str = "tokens";

/// The namespace of node proxies.
pub(crate) const PROXY_NAMESPACE: &str = "istio-system";

/// Who may call.
pub(crate) struct Tokens {
    callers: BTreeMap<String, Caller>,
}

/// Who calls, as its token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The node it runs on, or what stands for it in the journal.
    pub(crate) node: String,
    /// The Gateway whose process it is; none: it is a node proxy.
    pub(crate) gateway: Option<GatewayCaller>,
}

/// A Gateway whose processes may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayCaller {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who its processes are.
    pub service_account: String,
}

impl GatewayCaller {
    /// The file of its token, and what it is called in the journal.
    pub(crate) fn file(&self) -> String {
        format!("{}~{}", self.namespace, self.name)
    }
}

impl Tokens {
    /// Reads or makes the tokens of `nodes` and of the processes of `gateways`.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub(crate) fn open(
        directory: &Path,
        nodes: &[String],
        gateways: &[GatewayCaller],
    ) -> Result<Tokens> {
        let folder = directory.join(TOKENS_FOLDER);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let mut callers = BTreeMap::new();
        let nodes = nodes.iter().map(|node| Caller { node: node.clone(), gateway: None });
        let gateways = gateways
            .iter()
            .map(|gateway| Caller { node: gateway.file(), gateway: Some(gateway.clone()) });
        for caller in nodes.chain(gateways) {
            let path = folder.join(&caller.node);
            if !path.exists() {
                fs::write(&path, random_token()?)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            let token = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            callers.insert(token.trim().to_owned(), caller);
        }
        Ok(Tokens { callers })
    }

    /// Who sent `headers`, if that one may call, and names the right cluster.
    ///
    /// # Errors
    /// `Unauthenticated`, and as little why as istiod tells.
    pub(crate) fn check(&self, headers: &MetadataMap, cluster: &str) -> Result<Caller, Status> {
        let refused = || Status::unauthenticated("authentication failure");
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let token = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let caller = token.and_then(|token| self.callers.get(token)).ok_or_else(refused)?;
        if text("clusterid") != Some(cluster) {
            return Err(refused());
        }
        Ok(caller.clone())
    }
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 24];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_nodes_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let nodes = ["host-a".to_owned(), "host-b".to_owned()];
        let open = || Tokens::open(directory.path(), &nodes, &[]).unwrap();
        open();
        let token = fs::read_to_string(directory.path().join("tokens/host-b")).unwrap();
        let mut headers = MetadataMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        headers.insert("clusterid", "east".parse().unwrap());
        assert_eq!(
            open().check(&headers, "east").unwrap(),
            Caller { node: "host-b".to_owned(), gateway: None }
        );
        assert!(open().check(&headers, "west").is_err(), "another cluster");
        headers.insert("authorization", "Bearer guessed".parse().unwrap());
        assert!(open().check(&headers, "east").is_err(), "another token");
    }
}
