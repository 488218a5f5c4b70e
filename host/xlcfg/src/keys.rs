//! Names that xl knows (xl.cfg(5) of Xen 4.17) and that are not served: with the reason.

/// Why a setting is not served; `None` if xl does not know it either.
pub fn reason(name: &str) -> Option<&'static str> {
    const REASONS: &[(&str, &[&str])] = &[
        (
            "guests are PVH, which have no firmware and no emulated devices",
            &[
                "bios",
                "bios_path_override",
                "boot",
                "mmio_hole",
                "vkb_device",
                "pvshim",
                "pvshim_cmdline",
                "pvshim_extra",
                "pvshim_path",
                "firmware_override",
                "hdtype",
                "device_model_version",
                "device_model_override",
                "device_model_stubdomain_override",
                "device_model_args",
                "device_model_user",
                "stubdomain_kernel",
                "stubdomain_cmdline",
                "stubdomain_ramdisk",
                "stubdomain_memory",
                "serial",
                "usb",
                "usbdevice",
                "usbversion",
                "soundhw",
                "vendor_device",
                "xen_platform_pci",
                "vga",
                "videoram",
                "stdvga",
                "gfx_passthru",
                "rdm",
                "rdm_mem_boundary",
                "smbios_firmware",
                "acpi_firmware",
                "ms_vm_genid",
                "viridian",
                "spice",
                "spicehost",
                "spiceport",
                "spicetls_port",
                "spicedisable_ticketing",
                "spicepasswd",
                "spiceagent_mouse",
                "spicevdagent",
                "spice_clipboard_sharing",
                "spiceusbredirection",
                "spice_image_compression",
                "spice_streaming_video",
                "mca_caps",
            ],
        ),
        (
            "there is no passthrough of devices yet",
            &[
                "pci",
                "pci_permissive",
                "pci_msitranslate",
                "pci_seize",
                "pci_power_mgmt",
                "ioports",
                "irqs",
                "iomem",
                "dtdev",
                "passthrough",
                "usbctrl",
                "usbdev",
                "dm_restrict",
            ],
        ),
        (
            "the text console is shown by radon console, a framebuffer (vfb) by radon console --vnc",
            &[
                "vnc",
                "vnclisten",
                "vncviewer",
                "display",
                "xauthority",
                "vncdisplay",
                "vncunused",
                "vncpasswd",
                "sdl",
                "opengl",
                "nographic",
                "keymap",
                "vkb",
                "channel",
            ],
        ),
        (
            "the kernel is a file in the host's folder for them",
            &["bootloader", "bootloader_args", "firmware"],
        ),
        (
            "vCPUs are placed by the hypervisor's scheduler; set what can be set with xl in dom0",
            &[
                "cpus",
                "cpus_soft",
                "cpu_weight",
                "cap",
                "pool",
                "vnuma",
                "tsc_mode",
                "nx",
                "max_event_channels",
                "device_tree",
                "timer_mode",
                "hpet",
                "vpt_align",
                "max_grant_frames",
                "max_maptrack_frames",
                "max_grant_version",
                "nomigrate",
                "vmtrace_buf_kb",
                "vpmu",
                "shadow_memory",
                "cpuid",
                "msr_relaxed",
                "altp2m",
                "altp2mhvm",
                "nestedhvm",
                "pae",
                "apic",
                "acpi_s3",
                "acpi_s4",
                "acpi_laptop_slate",
                "acpi",
                "e820_host",
                "localtime",
                "rtc_timeoffset",
                "tee",
                "gic_version",
                "vuart",
                "seclabel",
                "init_seclabel",
                "device_model_stubdomain_seclabel",
                "driver_domain",
                "port",
                "xend_suspend_evtchn_compat",
                "oos",
            ],
        ),
        (
            "only disks and network interfaces are served",
            &["p9", "pvcalls", "vtpm", "vdispl", "vsnd", "vif2"],
        ),
        ("what follows a crash is set by on_crash", &["on_watchdog", "on_soft_reset"]),
    ];
    REASONS.iter().find(|(_, names)| names.contains(&name)).map(|(reason, _)| *reason)
}

/// Settings that may be there with the value that says what Radon does anyhow.
pub fn is_as_served(name: &str, value: &str) -> bool {
    matches!(
        (name, value),
        ("vnc" | "sdl" | "spice" | "nestedhvm" | "vpmu" | "localtime" | "usb" | "altp2m", "0")
            | ("nographic" | "hap" | "acpi" | "apic" | "pae", "1")
            | ("builder", "generic")
            | ("tsc_mode", "default")
            | ("pvh", "1")
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_and_unknown() {
        assert!(super::reason("vnc").is_some() && super::reason("pci").is_some());
        assert_eq!(super::reason("colour"), None);
        assert!(super::is_as_served("vnc", "0") && !super::is_as_served("vnc", "1"));
    }
}
