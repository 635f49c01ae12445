//! The L7 roles: waypoints and gateways.
