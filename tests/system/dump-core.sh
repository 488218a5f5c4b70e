# xl dump-core: slow, for libxc tries each of the million frames below 4 GiB, one by one.
# limit: 420
. /usr/lib/radon/lib.sh
minimal_config dump 16
xl create -q -p /run/dump.cfg
check dump-core xl dump-core dump /tmp/dump.core
expect dump-core-is-elf "no ELF file" [ "$(dd if=/tmp/dump.core bs=1 skip=1 count=3 2> /dev/null)" = ELF ]
rm -f /tmp/dump.core
xl destroy dump
