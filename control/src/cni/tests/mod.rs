//! The whole protocol: the machine alone, and with a fake agent on a real socket.

mod agent;
mod machine;
