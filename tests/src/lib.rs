//! Namespaces, topologies and traffic.
