//! Memory that the allocator has kept.

/// Gives free memory back to the system.
///
/// The GNU C library does so by itself only at the end of its heaps, where one small object is
/// enough to keep all. Other C libraries do not keep it.
#[cfg(target_env = "gnu")]
#[expect(
    unsafe_code,
    reason = "no crate wraps malloc_trim(3); it takes no pointer, and every thread may call it"
)]
pub(crate) fn release_free_memory() {
    let kept_at_the_end = 0;
    // SAFETY: it reads and writes nothing but the allocator's own state, under its locks.
    unsafe { nix::libc::malloc_trim(kept_at_the_end) };
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn release_free_memory() {}
