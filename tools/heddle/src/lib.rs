//! heddle-cli
