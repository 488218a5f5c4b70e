# Cpupools: one is made of a processor taken from the first, a busy guest moves there and back, another is born there.
# limit: 180
. /usr/lib/radon/lib.sh
field() { xl cpupool-list | awk -v p="$1" -v f="$2" '$1 == p {print $f}'; }
pool_has() { [ "$(field "$1" 2)/$(field "$1" 5)" = "$2" ]; }
runs_on() { [ "$(xl vcpu-list "$1" | awk 'NR==2 {print $4}')" = "$2" ]; }
guest_config moves 96 1 spin,idle
check create guest_up moves
check cpu-remove xl cpupool-cpu-remove Pool-0 1
expect cpu-removed "$(xl cpupool-list | tail -n +2)" pool_has Pool-0 1/2
check nothing-runs-there waitfor 20 runs_on moves 0
check pool-create xl cpupool-create 'name="other"' 'sched="credit2"' 'cpus=["1"]'
expect pool-created "$(xl cpupool-list | tail -n +2)" pool_has other 1/0
check migrate xl cpupool-migrate moves other
expect migrated "$(xl cpupool-list | tail -n +2)" pool_has other 1/1
check runs-in-its-pool waitfor 20 runs_on moves 1
check rename sh -c 'xl cpupool-rename other second && xl cpupool-list second | grep -q "^second "'
check not-destroyed-with-domains sh -c '! xl cpupool-destroy second'
minimal_config born 16
echo "pool = 'second'" >> /run/born.cfg
xl create -q -p /run/born.cfg
expect born-in-the-pool "$(xl cpupool-list | tail -n +2)" pool_has second 1/2
xl destroy born
check migrate-back xl cpupool-migrate moves Pool-0
check runs-in-the-first-pool waitfor 20 runs_on moves 0
check pool-destroy xl cpupool-destroy second
check cpu-add xl cpupool-cpu-add Pool-0 1
expect as-before "$(xl cpupool-list | tail -n +2)" pool_has Pool-0 2/2
xl destroy moves
