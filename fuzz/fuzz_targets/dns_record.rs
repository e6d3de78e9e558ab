#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| spf_milter_fuzz::checks::run("dns_record", octets));
