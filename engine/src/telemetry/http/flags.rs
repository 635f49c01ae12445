//! What went wrong with a request, in the letters that people search their logs for.

use std::fmt;

/// One thing that went wrong. Letters and meanings are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ResponseFlag {
    /// `DC`: the client went away before it had its answer.
    DownstreamConnectionTermination,
    /// `DPE`: the client broke HTTP.
    DownstreamProtocolError,
    /// `DR`: the client reset its stream.
    DownstreamRemoteReset,
    /// `UC`: the connection to the backend ended before the answer was whole.
    UpstreamConnectionTermination,
    /// `UF`: no connection to the backend could be had.
    UpstreamConnectionFailure,
    /// `UH`: no endpoint of the backend can be used.
    NoHealthyUpstream,
    /// `UO`: a bound of a circuit breaker was reached.
    UpstreamOverflow,
    /// `URX`: it was tried as often as it may be.
    UpstreamRetryLimitExceeded,
    /// `UT`: the backend took too long.
    UpstreamRequestTimeout,
    /// `UR`: the backend reset the stream.
    UpstreamRemoteReset,
    /// `UPE`: the backend broke HTTP.
    UpstreamProtocolError,
    /// `NR`: no route is for this request.
    NoRoute,
    /// `NC`: the route names a backend that does not exist.
    NoCluster,
    /// `LR`: the stream was reset here.
    LocalReset,
    /// `RL`: a local rate limit was reached.
    RateLimited,
    /// `RLSE`: the rate-limit service failed.
    RateLimitServiceError,
    /// `UAEX`: an external authorizer denied it.
    UnauthorizedExternalService,
    /// `DI`: a delay was injected.
    DelayInjected,
    /// `FI`: an answer was injected.
    FaultInjected,
    /// `IH`: a header has a value that is not allowed.
    InvalidHeader,
    /// `SI`: nothing moved for too long.
    StreamIdleTimeout,
    /// `DT`: the whole of it took too long.
    DurationTimeout,
    /// `OM`: this process has no more room.
    OverloadManager,
    /// `DF`: the backend's name could not be resolved.
    DnsResolutionFailed,
}

impl ResponseFlag {
    const ALL: [Self; 24] = [
        Self::DownstreamConnectionTermination,
        Self::DownstreamProtocolError,
        Self::DownstreamRemoteReset,
        Self::UpstreamConnectionTermination,
        Self::UpstreamConnectionFailure,
        Self::NoHealthyUpstream,
        Self::UpstreamOverflow,
        Self::UpstreamRetryLimitExceeded,
        Self::UpstreamRequestTimeout,
        Self::UpstreamRemoteReset,
        Self::UpstreamProtocolError,
        Self::NoRoute,
        Self::NoCluster,
        Self::LocalReset,
        Self::RateLimited,
        Self::RateLimitServiceError,
        Self::UnauthorizedExternalService,
        Self::DelayInjected,
        Self::FaultInjected,
        Self::InvalidHeader,
        Self::StreamIdleTimeout,
        Self::DurationTimeout,
        Self::OverloadManager,
        Self::DnsResolutionFailed,
    ];

    /// Its letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DownstreamConnectionTermination => "DC",
            Self::DownstreamProtocolError => "DPE",
            Self::DownstreamRemoteReset => "DR",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamConnectionFailure => "UF",
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamOverflow => "UO",
            Self::UpstreamRetryLimitExceeded => "URX",
            Self::UpstreamRequestTimeout => "UT",
            Self::UpstreamRemoteReset => "UR",
            Self::UpstreamProtocolError => "UPE",
            Self::NoRoute => "NR",
            Self::NoCluster => "NC",
            Self::LocalReset => "LR",
            Self::RateLimited => "RL",
            Self::RateLimitServiceError => "RLSE",
            Self::UnauthorizedExternalService => "UAEX",
            Self::DelayInjected => "DI",
            Self::FaultInjected => "FI",
            Self::InvalidHeader => "IH",
            Self::StreamIdleTimeout => "SI",
            Self::DurationTimeout => "DT",
            Self::OverloadManager => "OM",
            Self::DnsResolutionFailed => "DF",
        }
    }
}

/// All that went wrong with one request. `Display` is the log's and the label's form: letters with commas between, or
/// `-`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResponseFlags(u32);

impl ResponseFlags {
    /// Adds one.
    pub fn add(&mut self, flag: ResponseFlag) {
        self.0 |= 1 << flag as u8;
    }

    /// Whether nothing went wrong.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this went wrong.
    pub fn has(self, flag: ResponseFlag) -> bool {
        self.0 & (1 << flag as u8) != 0
    }
}

impl From<ResponseFlag> for ResponseFlags {
    fn from(flag: ResponseFlag) -> Self {
        let mut flags = Self::default();
        flags.add(flag);
        flags
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let mut separator = "";
        for flag in ResponseFlag::ALL.into_iter().filter(|flag| self.has(*flag)) {
            write!(f, "{separator}{}", flag.as_str())?;
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_as_people_search_for_them() {
        let mut flags = ResponseFlags::default();
        assert_eq!(flags.to_string(), "-");
        flags.add(ResponseFlag::UpstreamRetryLimitExceeded);
        flags.add(ResponseFlag::UpstreamConnectionFailure);
        assert_eq!(flags.to_string(), "UF,URX");
        let mut all = ResponseFlags::default();
        ResponseFlag::ALL.into_iter().for_each(|flag| all.add(flag));
        assert_eq!(all.to_string().split(',').count(), ResponseFlag::ALL.len());
    }
}
