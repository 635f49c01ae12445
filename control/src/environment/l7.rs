//! A waypoint or gateway as a control plane deploys it: the same variables as a node proxy's, a few of its own, and other
//! places for roots and token.

use std::path::Path;

use super::reader::{Mistake, Origin};
use super::{Environment, EnvironmentError, Setting, ZtunnelConfig};
use crate::grpc::{Roots, TokenSource};
use crate::source::{Mode, OriginalSource};

/// Where the control plane's deployments mount what is for discovery alone.
const DISCOVERY_ROOTS: &str = "./var/run/secrets/xds/root-cert.pem";
const DISCOVERY_TOKEN: &str = "./var/run/secrets/xds-tokens/xds-token";

/// Everything such a process is told.
#[derive(Clone, Debug)]
pub struct L7Config {
    /// What it has in common with a node proxy.
    pub process: ZtunnelConfig,
    /// The Gateway that it is one of.
    pub gateway: String,
    /// Its pod.
    pub pod: String,
    /// The namespace of both.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
}

impl Environment {
    /// Reads it for a waypoint or gateway.
    ///
    /// # Errors
    /// Every mistake, when there is one.
    pub fn read_l7(self) -> Result<L7Config, EnvironmentError> {
        let config = self.read()?;
        let missing = |variable: &str, what: &str| Mistake {
            variable: variable.to_owned(),
            value: None,
            message: format!("is not set: it names {what}"),
        };
        let node = &config.node;
        let rows = [
            ("GATEWAY", "the Gateway whose waypoint or gateway this is", &config.gateway),
            ("POD_NAME", "the pod of this process", &node.pod_name),
            ("POD_NAMESPACE", "the namespace of that pod and the Gateway", &node.pod_namespace),
            ("SERVICE_ACCOUNT", "who this process is", &node.service_account),
        ];
        let absent = rows.iter().filter(|(.., value)| value.is_none());
        let mut mistakes: Vec<_> = absent.map(|(name, what, _)| missing(name, what)).collect();
        if config.discovery.is_none() {
            mistakes
                .push(missing("XDS_ADDRESS", "the control plane, without which nothing is served"));
        }
        let [Some(gateway), Some(pod), Some(namespace), Some(service_account)] =
            rows.map(|(.., value)| value.clone())
        else {
            return Err(EnvironmentError { mistakes });
        };
        if !mistakes.is_empty() {
            return Err(EnvironmentError { mistakes });
        }
        let process = of_l7(config);
        Ok(L7Config { process, gateway, pod, namespace, service_account })
    }
}

/// Nothing is captured, and nobody's names are answered.
fn of_l7(mut config: ZtunnelConfig) -> ZtunnelConfig {
    config.mode = Mode::Dedicated;
    config.original_source = OriginalSource::Never;
    config.packet_mark = None;
    config.dns = None;
    config.on_demand = false;
    config.socks5 = false;
    let is_default = |config: &ZtunnelConfig, name: &str| {
        let setting = config.settings.iter().find(|setting| setting.name == name);
        setting.is_none_or(|setting| !matches!(setting.origin, Origin::Variable(_)))
    };
    if let Some(limit) = config.cpu_limit
        && config.settings.iter().any(|setting| {
            setting.name == "ZTUNNEL_WORKER_THREADS" && setting.origin == Origin::Computed
        })
    {
        config.worker_threads = limit.max(1);
        note(&mut config.settings, "ZTUNNEL_WORKER_THREADS", limit.max(1).to_string(), "CPU_LIMIT");
    }
    let (own_roots, own_token) =
        (is_default(&config, "XDS_ROOT_CA"), is_default(&config, "AUTH_TOKEN"));
    let Some(discovery) = &mut config.discovery else { return config };
    if own_roots && Path::new(DISCOVERY_ROOTS).exists() {
        discovery.roots = Roots::File(DISCOVERY_ROOTS.into());
    }
    if own_token && Path::new(DISCOVERY_TOKEN).exists() {
        discovery.token = Some(TokenSource::File(DISCOVERY_TOKEN.into()));
    }
    let (roots, token) = (discovery.roots.clone(), discovery.token.clone());
    if let Roots::File(path) = roots {
        shown(&mut config.settings, "XDS_ROOT_CA", path.display().to_string());
    }
    if let Some(TokenSource::File(path)) = token {
        shown(&mut config.settings, "xdsToken", path.display().to_string());
    }
    config
}

fn note(settings: &mut Vec<Setting>, name: &str, value: String, variable: &str) {
    shown(settings, name, value);
    if let Some(setting) = settings.iter_mut().find(|setting| setting.name == name) {
        setting.origin = Origin::Variable(variable.to_owned());
    }
}

/// What a setting came to after all.
fn shown(settings: &mut Vec<Setting>, name: &str, value: String) {
    match settings.iter_mut().find(|setting| setting.name == name) {
        Some(setting) => setting.value = value,
        None => settings.push(Setting { name: name.to_owned(), value, origin: Origin::Default }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment {
            variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            mesh_file: "/nowhere".into(),
            token_file: "/nowhere".into(),
            cpus: 64,
        }
    }

    /// What istiod gives the container of a waypoint.
    const OF_ISTIOD: &[(&str, &str)] = &[
        ("POD_NAME", "wp-7d9c"),
        ("POD_NAMESPACE", "shop"),
        ("NAMESPACE", "shop"),
        ("INSTANCE_IP", "10.0.0.9"),
        ("SERVICE_ACCOUNT", "wp"),
        ("CPU_LIMIT", "3"),
        ("GATEWAY", "wp"),
        ("CLUSTER_ID", "Kubernetes"),
        ("TRUST_DOMAIN", "cluster.local"),
        ("XDS_ADDRESS", "istiod.istio-system.svc:15012"),
        ("CA_ADDRESS", "istiod.istio-system.svc:15012"),
        ("RUST_BACKTRACE", "1"),
    ];

    #[test]
    fn what_istiod_passes_is_understood() {
        let config = environment(OF_ISTIOD).read_l7().unwrap();
        assert_eq!((&*config.gateway, &*config.pod), ("wp", "wp-7d9c"));
        assert_eq!((&*config.namespace, &*config.service_account), ("shop", "wp"));
        let process = &config.process;
        assert_eq!((process.mode, process.worker_threads), (Mode::Dedicated, 3));
        assert!(process.dns.is_none() && process.packet_mark.is_none());
        let uri = process.discovery.as_ref().unwrap().uri.to_string();
        assert_eq!(uri, "https://istiod.istio-system.svc:15012");
        assert_eq!(process.listen.readiness.unwrap().port(), 15021);
        assert_eq!(process.listen.metrics.unwrap().port(), 15020);
    }

    #[test]
    fn a_number_of_threads_wins_over_the_limit() {
        let mut variables = OF_ISTIOD.to_vec();
        variables.push(("ZTUNNEL_WORKER_THREADS", "7"));
        assert_eq!(environment(&variables).read_l7().unwrap().process.worker_threads, 7);
    }

    #[test]
    fn everything_that_is_missing_is_told_at_once() {
        let error = environment(&[("XDS_ADDRESS", "")]).read_l7().unwrap_err().to_string();
        for name in ["GATEWAY", "POD_NAME", "POD_NAMESPACE", "SERVICE_ACCOUNT", "XDS_ADDRESS"] {
            assert!(error.contains(name), "{name}: {error}");
        }
    }
}
