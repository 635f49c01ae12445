//! Policies on whole connections, in a simulated mesh: who reaches the application, who is cut.

mod enforced;
mod judged_again;
mod mesh;
