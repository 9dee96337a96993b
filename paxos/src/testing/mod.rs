//! A cluster of replicas in one thread, for golden scripts, random tests and simulators.
