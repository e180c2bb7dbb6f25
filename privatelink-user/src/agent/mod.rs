//! The reconciler: what the kernel's tables should say, how they differ from what they say, and the loops that keep
//! the two together.

pub mod desired;
pub mod diff;
pub mod index;
pub mod ring;

#[cfg(test)]
mod tests;
