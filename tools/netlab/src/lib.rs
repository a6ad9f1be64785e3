//! heddle-netlab
