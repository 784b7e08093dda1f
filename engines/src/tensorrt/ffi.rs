//! The table of functions of `shim.cpp`, as Rust sees it.
#![allow(missing_docs)]

use std::ffi::{c_char, c_void};

/// What a call returns; `shim.cpp` has the same numbers.
pub const OK: i32 = 0;
pub const NOT_A_MODEL: i32 = 2;
pub const STOPPED: i32 = 5;

#[repr(C)]
pub struct Library {
    _private: [u8; 0],
}
#[repr(C)]
pub struct Builder {
    _private: [u8; 0],
}
#[repr(C)]
pub struct Bytes {
    _private: [u8; 0],
}
#[repr(C)]
pub struct Engine {
    _private: [u8; 0],
}

#[repr(C)]
pub struct Port {
    pub name: *const c_char,
    pub element_type: i32,
    pub dimension_count: i32,
    pub dimensions: [i64; 8],
}

pub type Log = extern "C" fn(severity: i32, message: *const c_char);
pub type Progress = extern "C" fn(user: *mut c_void, phase: *const c_char, step: i32, steps: i32) -> i32;
pub type Factory = unsafe extern "C" fn(logger: *mut c_void, version: i32) -> *mut c_void;
pub type ParserFactory =
    unsafe extern "C" fn(network: *mut c_void, logger: *mut c_void, version: i32) -> *mut c_void;

#[repr(C)]
pub struct Functions {
    pub header_version: i32,
    pub is_rtx: i32,
    pub open: unsafe extern "C" fn(
        builder: Option<Factory>,
        runtime: Option<Factory>,
        Option<ParserFactory>,
        version: i32,
        Log,
    ) -> *mut Library,
    pub close: unsafe extern "C" fn(*mut Library),
    pub last_error: unsafe extern "C" fn(*const Library) -> *const c_char,
    pub parse: unsafe extern "C" fn(*mut Library, *const c_void, usize, *mut *mut Builder) -> i32,
    pub free_builder: unsafe extern "C" fn(*mut Builder),
    pub port_count: unsafe extern "C" fn(*const Builder, outputs: i32) -> i32,
    pub port: unsafe extern "C" fn(*const Builder, outputs: i32, at: i32, *mut Port) -> i32,
    pub limit_workspace: unsafe extern "C" fn(*mut Builder, bytes: u64),
    pub set_target: unsafe extern "C" fn(*mut Builder, capability: i32) -> i32,
    pub set_timing_cache: unsafe extern "C" fn(*mut Builder, *const c_void, usize) -> i32,
    pub timing_cache: unsafe extern "C" fn(*mut Builder, *mut *mut Bytes) -> i32,
    pub build: unsafe extern "C" fn(*mut Builder, Progress, *mut c_void, *mut *mut Bytes) -> i32,
    pub bytes_data: unsafe extern "C" fn(*const Bytes) -> *const c_void,
    pub bytes_size: unsafe extern "C" fn(*const Bytes) -> usize,
    pub free_bytes: unsafe extern "C" fn(*mut Bytes),
    pub load: unsafe extern "C" fn(*mut Library, *const c_void, usize, *mut *mut Engine) -> i32,
    pub free_engine: unsafe extern "C" fn(*mut Engine),
    pub engine_port_count: unsafe extern "C" fn(*const Engine) -> i32,
    pub engine_port: unsafe extern "C" fn(*const Engine, at: i32, *mut Port, is_input: *mut i32) -> i32,
    pub bind: unsafe extern "C" fn(*mut Engine, port: *const c_char, address: *mut c_void) -> i32,
    pub enqueue: unsafe extern "C" fn(*mut Engine, stream: *mut c_void) -> i32,
}

include!(concat!(env!("OUT_DIR"), "/families.rs"));
