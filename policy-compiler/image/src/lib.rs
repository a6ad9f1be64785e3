//! Policy image.
