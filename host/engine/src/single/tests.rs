//! Recognising files.
