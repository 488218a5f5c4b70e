# A domain's life under xl: create, look, pause, rename, console, reboot, shutdown, crash, destroy.
# limit: 300
. /usr/lib/radon/lib.sh
cpus=$(cmdline radon.guest_cpus)
guest_config life 128 $cpus idle
check create guest_up life
check list xl list life
check list-long sh -c 'xl list -l life | grep -q "\"name\": \"life\""'
id=$(xl domid life)
expect domid "xl domid says '$id'" [ "${id:-0}" -gt 0 ]
expect domname "xl domname $id says '$(xl domname $id)'" [ "$(xl domname $id)" = life ]
expect guest-cpus "$(grep userspace $(console_of life))" said life "vcpus=$cpus "
check vcpu-list sh -c "[ \$(xl vcpu-list life | tail -n +2 | wc -l) = $cpus ]"
check rename sh -c 'xl rename life living && [ "$(xl domname '$id')" = living ] && xl rename living life'
xl pause life
expect pause "state is $(state life)" in_state life p
xl unpause life
check unpause waitfor 20 sh -c '! xl list life | grep -q -- "-p-"'

# xl reboot: the guest restarts as a new domain of the same name.
xl reboot life
rebooted() { now=$(xl domid life) && [ -n "$now" ] && [ "$now" != "$id" ]; }
check reboot waitfor 60 rebooted
userspaces() { [ "$(grep -c 'GUEST userspace' $(console_of life))" = 2 ]; }
check reboot-userspace waitfor 120 userspaces
xl shutdown life
check shutdown waitfor 60 gone life

guest_config self 128 1 reboot "on_reboot = 'destroy'"
create self
check guest-reboots-itself waitfor 120 gone self

guest_config boom 128 1 crash "on_crash = 'preserve'"
create boom
check crash-preserved waitfor 120 in_state boom c
check destroy xl destroy boom
expect destroyed "still there" gone boom

# create -c shows the console from the first line on, and ends with the guest.
guest_config seen 128 1 poweroff
timeout 120 xl create -c /run/seen.cfg < /dev/null > /run/seen.out 2>&1
expect create-c "$(tail -n 2 /run/seen.out)" grep -q "GUEST userspace" /run/seen.out

guest_config talk 128 1 shell
guest_up talk
# xl's console wants a terminal: script gives it one. What is typed comes back; Ctrl-] leaves.
: > /run/talk.out
(printf 'echo ans""wer\r'; waitfor 30 grep -q answer /run/talk.out; printf '\035') |
    timeout 120 script -qfc "xl console talk" /run/talk.out > /dev/null 2>&1
expect console-left "timed out" [ $? != 143 ]
expect console "$(tail -n 2 /run/talk.out)" grep -q answer /run/talk.out
check sysrq sh -c 'xl sysrq talk h'
check sysrq-heard guest_says talk "sysrq: HELP" 20
check trigger xl trigger talk nmi
check trigger-heard guest_says talk NMI 20
check destroy-running xl destroy talk
