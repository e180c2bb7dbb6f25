//! The reconciler: what the kernel's tables should say, how they differ from what they say, and the loops that keep
//! the two together.

pub mod ring;
