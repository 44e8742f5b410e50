//! Points: places of the service whose behaviour can be overridden.
