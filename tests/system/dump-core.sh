# xl dump-core. Slow: libxc tries each of the 983040 frames below 3.75 GiB, one by one.
# limit: 900
. /usr/lib/radon/lib.sh
minimal_config dump 16
echo "cmdline = 'needle-in-the-guest'" >> /run/dump.cfg
xl create -q -p /run/dump.cfg
check dump-core xl dump-core dump /tmp/dump.core
size=$(stat -c %s /tmp/dump.core)
# At least the guest's 16 MiB; and its domain goes on living.
expect dump-core-size "$size bytes" [ "${size:-0}" -gt $((16 << 20)) ]
expect dump-core-is-elf "no ELF file" [ "$(dd if=/tmp/dump.core bs=1 skip=1 count=3 2> /dev/null)" = ELF ]
# busybox's grep looks at a line up to its first NUL only.
tr '\000' '\n' < /tmp/dump.core > /tmp/dump.lines
for section in .note.Xen .xen_prstatus .xen_pages .xen_pfn; do
    check dump-core-section$section grep -q -x -F $section /tmp/dump.lines
done
check dump-core-holds-the-memory grep -q needle-in-the-guest /tmp/dump.lines
check dump-core-leaves-the-guest xl domid dump
rm -f /tmp/dump.core /tmp/dump.lines
xl destroy dump
