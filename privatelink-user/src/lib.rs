//! The agent, the control plane and the command line.
