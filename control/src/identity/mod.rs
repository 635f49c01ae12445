//! Who the workloads of this host are, and the proof of it.
//!
//! [`embedded_ca`] is the certificate authority for meshes that have no other; [`store`] keeps one valid leaf for
//! every enrolled identity and renews it long before it expires; `private_key` reads and writes
//! keys and leaves no copy; [`revocation`] reads the lists of certificates that are not accepted any more;
//! [`certificate`] describes certificates to people.
//!
//! **Invariant:** the private key of a workload is made in this process and is never written anywhere.

pub mod certificate;
pub mod certifier;
pub mod embedded_ca;
pub mod istio_ca;
pub(crate) mod private_key;
pub mod revocation;
pub mod store;
pub mod workload_api;

pub use certificate::CertificateSummary;
pub use certifier::{Authority, Certifier, IstioAuthority};
pub use embedded_ca::{CaError, CaOptions, EmbeddedCa};
pub use istio_ca::{IstioCa, IstioCaConfig};
pub use revocation::{RevocationError, RevocationFiles};
pub use store::{CredentialChange, IdentityStatus, IdentityStore};
pub use workload_api::WorkloadApi;
