//! Policies on whole connections, in a simulated mesh: who reaches the application, who is cut; and whose
//! records are kept.

mod enforced;
mod judged_again;
mod mesh;
mod storm;
