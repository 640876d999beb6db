//! Which threads wait for which: the operating system's own word for it.

/// Where compilers stand. What serves comes first.
pub(crate) const COMPILING: i32 = 10;

/// Where guests stand that compute for long.
pub(crate) const SPINNING: i32 = 15;

/// Lets this thread wait for those that are more urgent: the higher the number, up to 19, the longer.
///
/// Only Linux has priorities of threads; elsewhere this would be the whole process's, so nothing is done.
pub(crate) fn step_back(nice: i32) {
    if cfg!(target_os = "linux") {
        // Whoever has stepped back further already stays there.
        let _further = rustix::process::setpriority_process(None, nice);
    }
}
