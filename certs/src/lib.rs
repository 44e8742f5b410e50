//! Who a certificate stands for.
