#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| arkstream_fuzz::targets::dump::dump_scan(data));
