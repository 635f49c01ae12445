//! Where a workload's connection goes.

use std::net::SocketAddr;
use std::sync::Arc;

use ringway_protocols::hbone::Authority;
use ringway_protocols::identity::Identity;

use super::chance::Chance;
use super::inbound::is_part_of;
use super::refusal::Refusal;
use super::upstream::{Found, Purpose, Query, Upstream};
use crate::snapshot::{Service, Snapshot, TunnelProtocol, Workload};

/// Where a connection goes, and for whom it counts.
#[derive(Clone, Debug)]
pub struct Route {
    /// What to dial, and how.
    pub next_hop: NextHop,
    /// The workload that is dialled: the destination, or the waypoint or gateway on the way. None outside the mesh.
    /// Name it to [`outbound_except`] when the dial fails.
    pub destination_workload: Option<Arc<Workload>>,
    /// The service that the client meant, waypoint or not.
    pub destination_service: Option<Arc<Service>>,
}

/// What to dial, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// An HBONE tunnel.
    Tunnel {
        /// The proxy at the other end.
        peer: SocketAddr,
        /// Who that may be: one of these.
        expected: Arc<[Identity]>,
        /// What to ask it for.
        authority: Authority,
    },
    /// An HBONE tunnel to what joins another network to ours, and inside it one to whoever the gateway chooses.
    DoubleTunnel {
        /// The gateway.
        gateway: SocketAddr,
        /// Who that may be: one of these.
        expected: Arc<[Identity]>,
        /// What to ask for, of both.
        authority: Authority,
        /// Who may answer behind the gateway: one of these.
        expected_inside: Arc<[Identity]>,
    },
    /// A workload of the mesh that has no proxy before it.
    Direct {
        /// Its address.
        address: SocketAddr,
    },
    /// Where the client was going: outside the mesh.
    PassThrough {
        /// That address.
        address: SocketAddr,
    },
}

/// Decides where `source`'s connection to `destination` goes.
///
/// # Errors
/// [`Refusal`] when it may go nowhere. It is never sent in plaintext or past a waypoint instead.
pub fn outbound(
    snapshot: &Snapshot,
    source: &Workload,
    destination: SocketAddr,
    random: u64,
) -> Result<Route, Refusal> {
    outbound_except(snapshot, source, destination, random, &[])
}

/// Decides again, after the workloads in `except` were dialled in vain: the
/// [`destination_workload`](Route::destination_workload)s of the routes before.
///
/// # Errors
/// [`Refusal`] when nothing else is left to try. The error of the first dial then says more.
pub fn outbound_except(
    snapshot: &Snapshot,
    source: &Workload,
    destination: SocketAddr,
    random: u64,
    except: &[Arc<Workload>],
) -> Result<Route, Refusal> {
    let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
    if destination.ip().is_loopback() && snapshot.settings().is_own_port(destination.port()) {
        return Err(Refusal::SelfCall);
    }
    let mut query = Query { snapshot, source, except, chance: Chance::new(random) };

    // First who is meant: here a workload goes before a service of the same address...
    let network = source.network();
    let workload = snapshot.workload_by_address(network, destination.ip());
    let service = match workload {
        Some(_) => None,
        None => snapshot.service_by_vip(network, destination.ip(), source.namespace()),
    };
    if let Some(service) = service
        && let Some(gateway) = query.waypoint_of(service)
    {
        let waypoint = query.waypoint(gateway, destination)?;
        return through_waypoint(&mut query, &waypoint, destination, Some(service));
    }

    // ...then who serves: here a service goes before a workload of the same address.
    let mut found = query.upstream(network, destination, Purpose::Destination);
    if !matches!(found, Found::Upstream(_))
        && let Some(workload) = workload
    {
        // An address of the mesh stays in the mesh, whatever a service of that address says.
        found = query.workload(workload, destination);
    }
    let upstream = match found {
        Found::Upstream(upstream) => upstream,
        Found::Nothing if service.is_some() || workload.is_some() => {
            return Err(Refusal::NoHealthyUpstream { destination });
        }
        Found::Nothing | Found::Passthrough => return Ok(pass_through(destination, service)),
    };

    if service.is_none() && upstream.workload.network() != network {
        return Err(Refusal::NoServiceForTarget { destination });
    }
    if service.is_none()
        && let Some(gateway) = upstream.workload.waypoint()
        && !is_part_of(snapshot, gateway, source)
    {
        let waypoint = query.waypoint(gateway, destination)?;
        return through_waypoint(&mut query, &waypoint, destination, upstream.service);
    }
    match service {
        Some(service) if !query.is_on_our_network(upstream.workload) => {
            through_network_gateway(&mut query, &upstream, destination, service)
        }
        _ => to_workload(&mut query, &upstream),
    }
}

/// Decides where a waypoint sends what is for this port of `service`: to an endpoint that is none of `except`, never to
/// another waypoint.
///
/// # Errors
/// [`Refusal`] when there is no endpoint that can be used.
#[cfg(feature = "waypoint")]
pub fn behind_waypoint(
    snapshot: &Snapshot,
    source: &Workload,
    service: &Arc<Service>,
    port: u16,
    random: u64,
    except: &[Arc<Workload>],
) -> Result<Route, Refusal> {
    let mut query = Query { snapshot, source, except, chance: Chance::new(random) };
    let vip = service.vip_for(source.network());
    let vip = vip.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    let destination = SocketAddr::new(vip, port);
    match query.endpoint(service, destination, Purpose::Destination) {
        Found::Upstream(upstream) if query.is_on_our_network(upstream.workload) => {
            to_workload(&mut query, &upstream)
        }
        Found::Upstream(upstream) => {
            through_network_gateway(&mut query, &upstream, destination, service)
        }
        Found::Passthrough if !vip.is_unspecified() => Ok(pass_through(destination, Some(service))),
        Found::Passthrough | Found::Nothing => Err(Refusal::NoHealthyUpstream { destination }),
    }
}

/// As [`behind_waypoint`], to the endpoint that `choose` names among those that can be reached; these are the nearest ones
/// by the service's own word, or if `everywhere`, all.
///
/// # Errors
/// [`Refusal`] when there is no endpoint that can be used.
#[cfg(feature = "waypoint")]
pub fn chosen_behind_waypoint(
    snapshot: &Snapshot,
    source: &Workload,
    service: &Arc<Service>,
    port: u16,
    random: u64,
    everywhere: bool,
    choose: impl FnOnce(&[&Arc<Workload>]) -> Option<usize>,
) -> Result<Route, Refusal> {
    let mut query = Query { snapshot, source, except: &[], chance: Chance::new(random) };
    let vip = service.vip_for(source.network());
    let vip = vip.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    let destination = SocketAddr::new(vip, port);
    let mut found = query.endpoints(service, destination, everywhere);
    if found.is_empty() {
        // Why, and whether a name is to be resolved, is said there.
        return behind_waypoint(snapshot, source, service, port, random, &[]);
    }
    let workloads: Vec<_> = found.iter().map(|upstream| upstream.workload).collect();
    let Some(chosen) = choose(&workloads).filter(|chosen| *chosen < found.len()) else {
        return Err(Refusal::NoHealthyUpstream { destination });
    };
    let upstream = found.swap_remove(chosen);
    match query.is_on_our_network(upstream.workload) {
        true => to_workload(&mut query, &upstream),
        false => through_network_gateway(&mut query, &upstream, destination, service),
    }
}

/// Decides where a waypoint sends what is for this port of a workload: to its proxy if it has one.
///
/// # Errors
/// [`Refusal`] when it cannot be reached.
#[cfg(feature = "waypoint")]
pub fn workload_behind_waypoint(
    snapshot: &Snapshot,
    source: &Workload,
    uid: &str,
    destination: SocketAddr,
) -> Result<Route, Refusal> {
    let mut query = Query { snapshot, source, except: &[], chance: Chance::new(0) };
    let known = snapshot.workload_by_uid(uid);
    match known.map(|workload| query.workload(workload, destination)) {
        Some(Found::Upstream(upstream)) => to_workload(&mut query, &upstream),
        _ => Err(Refusal::NoHealthyUpstream { destination }),
    }
}

fn pass_through(address: SocketAddr, service: Option<&Arc<Service>>) -> Route {
    Route {
        next_hop: NextHop::PassThrough { address },
        destination_workload: None,
        destination_service: service.cloned(),
    }
}

/// Through a tunnel to the waypoint, which is told where the client was going.
fn through_waypoint<'a>(
    query: &mut Query<'a>,
    waypoint: &Upstream<'a>,
    destination: SocketAddr,
    service: Option<&Arc<Service>>,
) -> Result<Route, Refusal> {
    if !query.is_on_our_network(waypoint.workload) {
        return match service {
            Some(service) => through_network_gateway(query, waypoint, destination, service),
            None => Err(Refusal::NoServiceForTarget { destination }),
        };
    }
    let ip = query.address(waypoint)?;
    Ok(Route {
        next_hop: NextHop::Tunnel {
            peer: SocketAddr::new(ip, waypoint.port),
            expected: waypoint.expected(),
            authority: Authority::Address(destination),
        },
        destination_workload: Some(Arc::clone(waypoint.workload)),
        destination_service: service.cloned(),
    })
}

/// Through a tunnel to what joins the network of `upstream` to ours, and in it another to an endpoint of the service:
/// which one, is chosen there.
fn through_network_gateway<'a>(
    query: &mut Query<'a>,
    upstream: &Upstream<'a>,
    destination: SocketAddr,
    service: &Arc<Service>,
) -> Result<Route, Refusal> {
    let gateway = query.network_gateway(upstream.workload, destination)?;
    let expected_inside = upstream.expected_of_service();
    if expected_inside.is_empty() {
        let service = upstream.service.unwrap_or(service);
        return Err(Refusal::NoIdentities { service: service.id.clone() });
    }
    let authority = Authority::hostname(service.hostname(), destination.port())
        .map_err(|_| Refusal::HostnameNotAsked { hostname: service.hostname().into() })?;
    Ok(Route {
        next_hop: NextHop::DoubleTunnel {
            gateway: SocketAddr::new(query.address(&gateway)?, gateway.port),
            expected: gateway.expected(),
            authority,
            expected_inside,
        },
        destination_workload: Some(Arc::clone(gateway.workload)),
        destination_service: Some(Arc::clone(service)),
    })
}

/// To the workload itself: through its proxy if it has one.
fn to_workload<'a>(query: &mut Query<'a>, upstream: &Upstream<'a>) -> Result<Route, Refusal> {
    let address = SocketAddr::new(query.address(upstream)?, upstream.port);
    let next_hop = match upstream.workload.protocol() {
        TunnelProtocol::Hbone => NextHop::Tunnel {
            peer: SocketAddr::new(address.ip(), query.snapshot.settings().hbone_port),
            expected: upstream.expected(),
            authority: Authority::Address(address),
        },
        TunnelProtocol::Tcp => NextHop::Direct { address },
    };
    Ok(Route {
        next_hop,
        destination_workload: Some(Arc::clone(upstream.workload)),
        destination_service: upstream.service.cloned(),
    })
}
