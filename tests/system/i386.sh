# A 32-bit guest: Debian's kernel for i386, with PAE.
# limit: 150
. /usr/lib/radon/lib.sh
guest_config small 256 $(cmdline radon.guest_cpus) poweroff
sed -i "s,^kernel.*,kernel = '$GUEST/vmlinuz-i386',; s,^ramdisk.*,ramdisk = '$GUEST/initrd-i386'," /run/small.cfg
check userspace guest_up small
expect kernel-and-processors "$(grep userspace $(console_of small))" said small "kernel=.*-686-pae vcpus=$(cmdline radon.guest_cpus) "
check powers-off waitfor 60 gone small
