//! heddle-bpf
