# Guests with several processors, busy ones beside each other, and more virtual processors than real ones.
# limit: 200
. /usr/lib/radon/lib.sh
guest_config two 128 2 spin,idle
check two-vcpus guest_up two
guest_config four 128 4 idle
check four-vcpus-beside-a-busy-guest guest_up four
expect four-seen "$(grep userspace $(console_of four))" said four "vcpus=4 "
cputime() { xl list two | awk 'NR==2 {print int($NF * 10)}'; }
a=$(cputime)
sleep 3
b=$(cputime)
expect cpu-time-counts "a busy guest's CPU time went from $a to $b tenths of a second in 3 s" [ $((b - a)) -gt 5 ]
xl pause two
a=$(cputime)
sleep 2
expect paused-uses-nothing "CPU time went on while paused" [ "$(cputime)" = "$a" ]
xl destroy two
xl destroy four
