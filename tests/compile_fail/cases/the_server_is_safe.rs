// in: server/src
//! The server has no unsafe code, and no part of it can allow itself any.

#![allow(unsafe_code)] // fails: E0453
#![deny(unsafe_code)] // compiles

pub fn case(number: &u32) -> u32 {
    unsafe { *std::ptr::from_ref(number) } // fails: unsafe_code
    *number // compiles
}
