//! The closed vocabularies: how the engine's words are spelled on the wire.

use ringway_control::proto::workload as wire;
use ringway_engine::snapshot as engine;

pub(super) fn protocol(protocol: engine::TunnelProtocol) -> wire::TunnelProtocol {
    match protocol {
        engine::TunnelProtocol::Tcp => wire::TunnelProtocol::None,
        engine::TunnelProtocol::Hbone => wire::TunnelProtocol::Hbone,
    }
}

pub(super) fn status(health: engine::Health) -> wire::WorkloadStatus {
    match health {
        engine::Health::Healthy => wire::WorkloadStatus::Healthy,
        engine::Health::Unhealthy => wire::WorkloadStatus::Unhealthy,
    }
}

pub(super) fn network_mode(mode: engine::NetworkMode) -> wire::NetworkMode {
    match mode {
        engine::NetworkMode::Standard => wire::NetworkMode::Standard,
        engine::NetworkMode::HostNetwork => wire::NetworkMode::HostNetwork,
    }
}

pub(super) fn workload_type(kind: engine::WorkloadType) -> wire::WorkloadType {
    match kind {
        engine::WorkloadType::Deployment => wire::WorkloadType::Deployment,
        engine::WorkloadType::CronJob => wire::WorkloadType::Cronjob,
        engine::WorkloadType::Pod => wire::WorkloadType::Pod,
        engine::WorkloadType::Job => wire::WorkloadType::Job,
    }
}

pub(super) fn ip_families(families: engine::IpFamilies) -> wire::IpFamilies {
    match families {
        engine::IpFamilies::Automatic => wire::IpFamilies::Automatic,
        engine::IpFamilies::Ipv4 => wire::IpFamilies::Ipv4Only,
        engine::IpFamilies::Ipv6 => wire::IpFamilies::Ipv6Only,
        engine::IpFamilies::Dual => wire::IpFamilies::Dual,
    }
}

pub(super) fn visibility(visibility: engine::Visibility) -> wire::service::Visibility {
    match visibility {
        engine::Visibility::Public => wire::service::Visibility::Public,
        engine::Visibility::Namespace => wire::service::Visibility::Namespace,
    }
}

pub(super) fn scope(scope: engine::Scope) -> wire::load_balancing::Scope {
    match scope {
        engine::Scope::Region => wire::load_balancing::Scope::Region,
        engine::Scope::Zone => wire::load_balancing::Scope::Zone,
        engine::Scope::Subzone => wire::load_balancing::Scope::Subzone,
        engine::Scope::Node => wire::load_balancing::Scope::Node,
        engine::Scope::Cluster => wire::load_balancing::Scope::Cluster,
        engine::Scope::Network => wire::load_balancing::Scope::Network,
    }
}

pub(super) fn mode(mode: engine::LoadBalancerMode) -> wire::load_balancing::Mode {
    match mode {
        engine::LoadBalancerMode::Standard => wire::load_balancing::Mode::UnspecifiedMode,
        engine::LoadBalancerMode::Strict => wire::load_balancing::Mode::Strict,
        engine::LoadBalancerMode::Failover => wire::load_balancing::Mode::Failover,
        engine::LoadBalancerMode::Passthrough => wire::load_balancing::Mode::Passthrough,
    }
}

pub(super) fn health_policy(policy: engine::HealthPolicy) -> wire::load_balancing::HealthPolicy {
    match policy {
        engine::HealthPolicy::OnlyHealthy => wire::load_balancing::HealthPolicy::OnlyHealthy,
        engine::HealthPolicy::AllowAll => wire::load_balancing::HealthPolicy::AllowAll,
    }
}

pub(super) fn app_protocol(protocol: engine::AppProtocol) -> wire::AppProtocol {
    match protocol {
        engine::AppProtocol::Unknown => wire::AppProtocol::Unknown,
        engine::AppProtocol::Http11 => wire::AppProtocol::Http11,
        engine::AppProtocol::Http2 => wire::AppProtocol::Http2,
        engine::AppProtocol::Grpc => wire::AppProtocol::Grpc,
        engine::AppProtocol::Tcp => wire::AppProtocol::Tcp,
        engine::AppProtocol::Tls => wire::AppProtocol::Tls,
    }
}
