#![cfg_attr(not(any(test, feature = "testing")), no_std)]
//! What the kernel programs and the agent share.
