//! The small closed vocabularies of workloads and services, spelled as files and dumps spell them.

/// Defines an enum whose every value has one spelling, in files as in `config_dump`.
macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $spelling:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$value_doc])* $value,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &[$name] = &[$($name::$value),+];

            /// The spelling in files and dumps.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$value => $spelling,)+ }
            }

            /// Reads the spelling back, whatever its case.
            pub fn from_spelling(text: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|value| value.as_str().eq_ignore_ascii_case(text))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

vocabulary! {
    /// How a workload is reached.
    TunnelProtocol {
        /// As it is: no proxy of the mesh stands before it.
        #[default]
        Tcp = "TCP",
        /// Through its proxy's HBONE port.
        Hbone = "HBONE",
    }
}

vocabulary! {
    /// Whether a workload says it is ready.
    Health {
        /// It is.
        #[default]
        Healthy = "Healthy",
        /// It is not; only services that allow all use it.
        Unhealthy = "Unhealthy",
    }
}

vocabulary! {
    /// Whose address a workload has.
    NetworkMode {
        /// Its own.
        #[default]
        Standard = "Standard",
        /// Its host's, which therefore says nothing about the workload.
        HostNetwork = "HostNetwork",
    }
}

vocabulary! {
    /// What made the workload.
    WorkloadType {
        /// A deployment, or anything else that runs for long.
        #[default]
        Deployment = "deployment",
        /// A cron job.
        CronJob = "cronjob",
        /// A bare pod.
        Pod = "pod",
        /// A job.
        Job = "job",
    }
}

vocabulary! {
    /// What an application tunnel writes before the first byte.
    ApplicationTunnelProtocol {
        /// Nothing: it only changes the port.
        #[default]
        None = "NONE",
        /// A PROXY protocol header.
        Proxy = "PROXY",
    }
}

vocabulary! {
    /// How endpoints are narrowed down before one is chosen by chance.
    LoadBalancerMode {
        /// Not at all.
        #[default]
        Standard = "Standard",
        /// To those that match every routing preference.
        Strict = "Strict",
        /// To those that match the most routing preferences in order.
        Failover = "Failover",
        /// None is chosen: traffic goes where it was going.
        Passthrough = "Passthrough",
    }
}

vocabulary! {
    /// Something two workloads may have in common; a routing preference.
    Scope {
        /// The region of the locality.
        #[default]
        Region = "Region",
        /// The zone of the locality.
        Zone = "Zone",
        /// The subzone of the locality.
        Subzone = "Subzone",
        /// The host.
        Node = "Node",
        /// The cluster.
        Cluster = "Cluster",
        /// The network.
        Network = "Network",
    }
}

vocabulary! {
    /// Which workloads are endpoints.
    HealthPolicy {
        /// Those that say they are ready.
        #[default]
        OnlyHealthy = "OnlyHealthy",
        /// All.
        AllowAll = "AllowAll",
    }
}

vocabulary! {
    /// Which addresses of its workloads a service uses.
    IpFamilies {
        /// Any.
        #[default]
        Automatic = "Automatic",
        /// IPv4 only.
        Ipv4 = "IPv4",
        /// IPv6 only.
        Ipv6 = "IPv6",
        /// Both.
        Dual = "Dual",
    }
}

impl IpFamilies {
    /// Whether the service uses this address.
    pub fn allows(self, ip: std::net::IpAddr) -> bool {
        match self {
            IpFamilies::Automatic | IpFamilies::Dual => true,
            IpFamilies::Ipv4 => ip.is_ipv4(),
            IpFamilies::Ipv6 => ip.is_ipv6(),
        }
    }
}

vocabulary! {
    /// Who sees a service.
    Visibility {
        /// Everybody.
        #[default]
        Public = "Public",
        /// Clients of its own namespace.
        Namespace = "Namespace",
    }
}

vocabulary! {
    /// What is spoken on a service's port, if that is known.
    AppProtocol {
        /// Not known.
        #[default]
        Unknown = "Unknown",
        /// HTTP/1.1.
        Http11 = "Http11",
        /// HTTP/2.
        Http2 = "Http2",
        /// gRPC.
        Grpc = "Grpc",
        /// Anything over TCP.
        Tcp = "Tcp",
        /// TLS, not ours.
        Tls = "Tls",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_reads_back() {
        for &scope in Scope::ALL {
            assert_eq!(Scope::from_spelling(&scope.to_string()), Some(scope));
        }
        assert_eq!(TunnelProtocol::from_spelling("hbone"), Some(TunnelProtocol::Hbone));
        assert_eq!(TunnelProtocol::from_spelling("HBONE "), None);
    }
}
