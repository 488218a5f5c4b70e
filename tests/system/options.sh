# Options of the hypervisor's command line that show only in dom0. They are given by the boot of the same name in xtask's system.rs.
# limit: 120
. /usr/lib/radon/lib.sh
check text-behind-dashes grep -q " radon.extra=yes" /proc/cmdline
xl vcpu-list 0 > /run/vcpus
pinned() { [ "$(awk 'NR>1 {print $4 "=" $7}' /run/vcpus | tr '\n' ' ')" = "0=0 1=1 " ]; }
expect dom0_vcpus_pin "$(tail -n +2 /run/vcpus | tr '\n' ';')" pinned
limit=$(xentop -b -i 1 | awk '$1 == "Domain-0" {print $7}')
expect dom0_mem-max "xentop's maximum is $limit KiB" [ "$limit" = $((1100 * 1024)) ]
check sched_ratelimit_us sh -c 'xl sched-credit2 -s | grep -q "ratelimit=2000us"'
check cpuid sh -c '! grep -q "^flags.* rdrand" /proc/cpuinfo'
check dom0-cpuid sh -c '! grep -q "^flags.* aes" /proc/cpuinfo'
check xsave sh -c '! grep -q "^flags.* xsave" /proc/cpuinfo'
modprobe msr
# An MSR that no processor has.
expect msr-relaxed "reading it failed" [ "$(dd if=/dev/cpu/0/msr bs=8 count=1 skip=$((0xc0dead00 / 8)) 2> /dev/null | wc -c)" = 8 ]

xl dmesg > /run/dmesg
check console_timestamps grep -q '^(XEN) \[ *[0-9]*\.[0-9]\{6\}\] ' /run/dmesg
check unknown-feature-warns grep -q 'no CPU feature "nonsense"' /run/dmesg
check no-effect-warns grep -q '"ucode=scan" ignored' /run/dmesg
check unknown-option-warns grep -q 'unknown command line option "frobnicate"' /run/dmesg
check copying-dma-is-noted grep -q "copies all DMA (swiotlb=force)" /run/dmesg
echo "words of dom0 itself" > /dev/console
check console_to_ring sh -c 'xl dmesg | grep -q "words of dom0 itself"'
# More than the ring has without the option.
for i in 1 2 3 4 5 6 7 8; do dmesg | tail -c 12000 > /dev/console; done
xl dmesg > /run/dmesg
expect conring_size "xl dmesg has $(wc -c < /run/dmesg) bytes" [ $(wc -c < /run/dmesg) -gt 100000 ]
check conring_size-keeps-the-start grep -q "Console ring: 256kB" /run/dmesg

minimal_config big 1600
xl create -q -p /run/big.cfg
check low_mem_virq_limit sh -c 'xl dmesg | grep -q "Free memory is low"'
xl destroy big
check watchdog-is-quiet sh -c '! xl dmesg | grep -q "not been heard of"'
