//! What can go wrong inside the engine, and the one place where it becomes the error that crosses crates.

use std::path::PathBuf;

use easel_core::ErrorKind;

/// The result of everything in the engine that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure inside the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of a model is missing or cannot be read.
    #[error("{file} of the model cannot be read")]
    File {
        /// The file, relative to the model's folder.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A JSON file of a model cannot be understood.
    #[error("{file} of the model is not what it should be: {reason}")]
    Config {
        /// The file, relative to the model's folder.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A model asks for something that this engine does not have.
    #[error("{file} of the model has {key} = {value}; this engine has {allowed}")]
    Unsupported {
        /// The file, relative to the model's folder.
        file: String,
        /// The key in it.
        key: String,
        /// Its value.
        value: String,
        /// What would be possible.
        allowed: String,
    },
    /// A file of weights is something else, is broken, or cannot be used as it is.
    #[error("{file} cannot be used: {reason}")]
    Damaged {
        /// The file, relative to the model's folder.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor is missing or has another shape than the config says.
    #[error("weights of the model: {tensor} {reason}")]
    Weights {
        /// The tensor's name in the file.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The noise levels asked for are not possible.
    #[error("{0}")]
    Noise(String),
    /// A sampler or schedule by that name is not here.
    #[error("{what} {name:?} is not here; it must be {allowed}")]
    Name {
        /// `sampler` or `schedule`.
        what: &'static str,
        /// The name as it was given.
        name: String,
        /// What it may be.
        allowed: String,
    },
    /// An option of the request cannot be understood.
    #[error("{message}")]
    Option {
        /// The option's name.
        name: &'static str,
        /// What it must be.
        message: String,
    },
    /// The model came to numbers that are not a picture.
    #[error("the model came to {what} instead of a picture")]
    NotAPicture {
        /// What it came to.
        what: &'static str,
    },
    /// The tokenizer could not be built or used.
    #[error("the tokenizer of the model: {0}")]
    Tokenizer(String),
    /// A picture could not be encoded.
    #[error("the picture could not be encoded as {format}")]
    Encode {
        /// The file format.
        format: easel_core::ImageFormat,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A tensor operation failed.
    #[error("a tensor operation failed")]
    Tensor(#[from] candle_core::Error),
    /// The folder of models cannot be listed.
    #[error("the folder of models {} cannot be listed", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A model's folder is gone, or never was.
    #[error("model {0:?} is not here")]
    NoModel(String),
    /// The device's thread has ended.
    #[error("the engine has stopped")]
    Stopped,
    /// The request itself is over: its deadline passed, or the caller has gone.
    #[error("{0}")]
    Over(easel_core::Error),
}

impl From<Error> for easel_core::Error {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let kind = match &error {
            Error::Over(over) => return over.clone(),
            Error::Noise(_) => return Self::invalid("steps", message),
            Error::Name { what, .. } => return Self::invalid(*what, message),
            Error::Option { name, .. } => return Self::invalid(*name, message),
            Error::NoModel(_) => ErrorKind::ModelNotFound,
            Error::Stopped => ErrorKind::NotReady,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::File { .. }
            | Error::Config { .. }
            | Error::Damaged { .. }
            | Error::Weights { .. }
            | Error::Tokenizer(_)
            | Error::Folder { .. } => ErrorKind::NotReady,
            Error::NotAPicture { .. } | Error::Encode { .. } | Error::Tensor(_) => ErrorKind::Internal,
        };
        Self::new(kind, message).with_source(error)
    }
}
