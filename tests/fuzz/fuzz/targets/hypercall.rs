#![no_main]
libfuzzer_sys::fuzz_target!(
    init: radon_fuzz_targets::hypercall::let_machine_go_off(),
    |data: &[u8]| radon_fuzz_targets::hypercall::run(data)
);
