//! Why io_uring can not be used on this host.

use std::io;

/// The sysctl that forbids io_uring (kernel 6.6 and later).
const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

/// Why io_uring can not be used on this host, and what would change that.
#[derive(Debug, thiserror::Error)]
pub enum UringReason {
    /// The sysctl forbids it, to all or to processes without privilege.
    #[error("kernel.io_uring_disabled is {0}; run: sysctl -w kernel.io_uring_disabled=0")]
    Sysctl(u8),
    /// A seccomp filter or a security module forbids it.
    #[error(
        "a seccomp filter or security module forbids it (EPERM); allow io_uring_setup, \
         io_uring_enter and io_uring_register in the container's or service's profile"
    )]
    Forbidden,
    /// The kernel does not have it, or a filter says so.
    #[error("the kernel has no io_uring (ENOSYS); use one built with CONFIG_IO_URING")]
    Missing,
    /// Its memory is beyond the limit.
    #[error("its rings need more locked memory than is allowed; raise the limit (ulimit -l)")]
    Memory,
    /// Something else.
    #[error("the kernel refused it with \"{0}\"; use the mio port")]
    Other(io::Error),
}

impl UringReason {
    /// What an error of `io_uring_setup` or `io_uring_register` means on this host.
    pub(crate) fn of(error: io::Error) -> Self {
        let disabled = std::fs::read_to_string(DISABLED).ok();
        Self::explain(error, disabled.and_then(|text| text.trim().parse().ok()))
    }

    fn explain(error: io::Error, disabled: Option<u8>) -> Self {
        match (error.raw_os_error(), disabled) {
            (Some(libc::EPERM | libc::EACCES), Some(level @ 1..)) => Self::Sysctl(level),
            (Some(libc::EPERM | libc::EACCES), _) => Self::Forbidden,
            (Some(libc::ENOSYS), _) => Self::Missing,
            (Some(libc::ENOMEM), _) => Self::Memory,
            _ => Self::Other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(errno: i32, disabled: Option<u8>) -> String {
        UringReason::explain(io::Error::from_raw_os_error(errno), disabled).to_string()
    }

    #[test]
    fn each_cause_is_told_apart_and_says_what_to_do() {
        assert!(text(libc::EPERM, Some(2)).contains("io_uring_disabled is 2"));
        assert!(text(libc::EPERM, Some(0)).contains("seccomp"));
        assert!(text(libc::EPERM, None).contains("seccomp"));
        assert!(text(libc::ENOSYS, Some(0)).contains("CONFIG_IO_URING"));
        assert!(text(libc::ENOMEM, None).contains("ulimit -l"));
        assert!(text(libc::EINVAL, None).contains("Invalid argument"));
    }
}
