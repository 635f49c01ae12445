//! What is asked about policies offline: which there are and for whom, and who may connect to whom.

mod inquiry;
mod summary;

pub use inquiry::{Answer, Client, DryRunAnswer, Inquiry, NoAnswer, ask};
pub use summary::{PolicySummary, summaries};
