#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| radon_fuzz_targets::framebuffer::viewer(data));
