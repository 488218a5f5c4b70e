# What xl says about the machine.
# limit: 90
. /usr/lib/radon/lib.sh
xl info > /run/info
for key in xen_version xen_commandline nr_cpus total_memory free_memory virt_caps xen_scheduler xen_caps; do
    check info-$key grep -q "^$key *: *[^ ]" /run/info
done
expect info-version "$(grep ^xen_version /run/info)" grep -q "^xen_version *: 4.17" /run/info
expect info-hap "$(grep ^virt_caps /run/info)" grep -q "^virt_caps.*hvm.*hap" /run/info
check info-topology sh -c 'xl info -n | grep -q "^cpu_topology"'
check list sh -c 'xl list | grep -q "^Domain-0 .* r"'
check vcpu-list-dom0 sh -c "[ \$(xl vcpu-list 0 | tail -n +2 | wc -l) = $(nproc) ]"
check dmesg sh -c 'xl dmesg | grep -q -i dom0'
check dma-warning sh -c 'xl dmesg | grep -q "WARNING: no IOMMU is in use"'
check dma-warning-names-the-cure sh -c 'xl dmesg | grep -q "add \"swiotlb=force\""'
check uptime sh -c 'xl uptime | grep -q "^Domain-0"'
check cpupool-list sh -c 'xl cpupool-list | grep -q "^Pool-0 .*credit2"'
check xentop sh -c 'xentop -b -i 1 | grep -q Domain-0'
check sched-credit2 sh -c 'xl sched-credit2 | grep -q "Domain-0 .* 256"'
check debug-keys xl debug-keys h
check hypervisor-sysfs grep -q 4 /sys/hypervisor/version/major
check uuid-dom0 sh -c '[ "$(cat /sys/hypervisor/uuid)" = 00000000-0000-0000-0000-000000000000 ]'
# The clock is the machine's, and moves as it should.
a=$(date +%s)
sleep 5
b=$(date +%s)
expect clock-moves "5 s of sleep took $((b - a)) s" [ $((b - a)) -ge 5 -a $((b - a)) -le 7 ]
