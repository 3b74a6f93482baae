#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| arkstream_fuzz::targets::copy::copy_decode(data));
