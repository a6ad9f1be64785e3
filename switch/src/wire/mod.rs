//! Headers as bytes: checked views and writers.

pub use heddle_netdev::Mac;
