//! Why a command did not do what it was asked, and the exit code that says so.

use std::io;
use std::path::PathBuf;

use stoq_control::ClientError;
use stoq_pki::PkiError;
use stoq_trustchain::TrustError;
use stoq_tuning::TuneError;
use thiserror::Error;

/// A command's failure.
#[derive(Debug, Error)]
pub enum Failure {
    /// The daemon answered with a refusal, or with something that is no answer.
    #[error("{0}")]
    Refused(String),
    /// What was asked for can not be done with these arguments, files or this host.
    #[error("{0}")]
    Usage(String),
    /// There is no daemon, or it stopped answering.
    #[error("{0}")]
    Unreachable(String),
    /// Who reads our output closed it (`stoqctl status | head`): nothing is wrong.
    #[error("the reader of the output closed it")]
    OutputClosed,
}

impl Failure {
    /// The exit code, part of the interface for scripts.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
        }
    }

    /// A failure to write to `path`.
    pub fn writing(path: PathBuf, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Usage(format!(
                "{}: expected to write it, got: {error}; choose another file",
                path.display()
            )),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        match error {
            ClientError::Unreachable { .. } | ClientError::Io(_) => Self::Unreachable(text),
            ClientError::Line(_) | ClientError::Refused(_) => Self::Refused(text),
        }
    }
}

impl From<hypermesh_api::ClientError> for Failure {
    fn from(error: hypermesh_api::ClientError) -> Self {
        use hypermesh_api::ClientError as Error;
        let text = error.to_string();
        match error {
            Error::Unreachable { .. } | Error::Broken(_) => Self::Unreachable(text),
            Error::Malformed { .. } | Error::Refused(_) => Self::Refused(text),
        }
    }
}

impl From<PkiError> for Failure {
    fn from(error: PkiError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<TrustError> for Failure {
    fn from(error: TrustError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<TuneError> for Failure {
    fn from(error: TuneError) -> Self {
        Self::Usage(error.to_string())
    }
}
