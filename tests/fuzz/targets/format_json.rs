#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| arkstream_fuzz::targets::format::format_json(data));
