//! heddle-bench
