# The main job: a guest made by xl reaches its userspace and powers itself off.
# limit: 240
. /usr/lib/radon/lib.sh
check info xl info
check list xl list
guest_config first $(cmdline radon.guest_memory) $(cmdline radon.guest_cpus) poweroff
check guest-userspace guest_up first
check guest-powers-off waitfor 60 gone first
