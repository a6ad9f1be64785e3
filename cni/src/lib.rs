//! heddle-cni
