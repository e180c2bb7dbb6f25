//! What the allocator keeps.

/// Lets all threads share a few of glibc's arenas; to be called before the first of them starts.
///
/// glibc gives every thread an arena until there are eight for each CPU (`M_ARENA_MAX`, mallopt(3)), and an arena keeps
/// most of what was once in use. So a list of 8,000 flows costs the agent 7 MiB again whenever it is made on another
/// thread than before. Other allocators have no such setting.
pub fn share_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    limit_arenas();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn limit_arenas() {
    const ARENAS: libc::c_int = 2;
    // SAFETY: two numbers; glibc takes its own lock. A refusal changes nothing, and is no reason not to run.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}
