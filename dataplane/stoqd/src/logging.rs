//! Logs to standard error: lines for people, or one JSON object a line. Set up once by the daemon;
//! a reload changes the level.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat, LogLevel};

/// Changes the level while the daemon runs.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<LevelFilter, Registry>);

impl Level {
    /// Writes from this level on.
    ///
    /// # Errors
    /// When logging was torn down.
    pub fn set(&self, level: LogLevel) -> Result<(), reload::Error> {
        self.0.reload(filter(level))
    }
}

/// Sets up logging for the whole process.
///
/// # Errors
/// When that was done before.
pub fn start(log: &Log) -> Result<Level, TryInitError> {
    let (level, handle) = reload::Layer::new(filter(log.level));
    let stderr = io::stderr;
    let lines: Box<dyn Layer<_> + Send + Sync> = match log.format {
        LogFormat::Plain => fmt::layer().with_writer(stderr).with_ansi(false).boxed(),
        LogFormat::Json => fmt::layer().with_writer(stderr).json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(level).with(lines).try_init()?;
    Ok(Level(handle))
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_can_be_changed_and_logging_starts_once() {
        let log = Log { level: LogLevel::Warn, format: LogFormat::Json };
        let level = start(&log).unwrap();
        assert!(!tracing::enabled!(tracing::Level::INFO));
        level.set(LogLevel::Debug).unwrap();
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert!(start(&log).is_err());
    }
}
