# radon-consoled: guests of radon-domain and of xl, seen and typed to by its own clients and by Debian's xl.
# limit: 240
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh

CONSOLED=/usr/local/sbin/radon-consoled
daemon() { $CONSOLED --log=guest --log-dir=/var/log/xen/console --pid-file=/run/xen/xenconsoled.pid; }
history() { $CONSOLED history $1 > /run/history.$1; }
history_has() { history $1 && grep -q "$2" /run/history.$1; }
# lines_with FILE TEXT: how many lines have it.
lines_with() { grep -c "$2" $1; }

check create up talk shell
check listed sh -c "$CONSOLED list | grep -q ' talk$'"
check terminal-in-store sh -c "[ -c \$(xenstore-read /local/domain/$(domid talk)/console/tty) ]"

# Two at once: both see the history and what either types, and the guest's shell answers.
waitfor 60 history_has talk '# '
{ echo 'echo an$((40 + 2))swer'; waitfor 30 grep -q also43 /run/one; } | $CONSOLED attach talk > /run/one &
first=$!
{ waitfor 30 grep -q an42swer /run/two; echo 'echo also$((40 + 3))'; waitfor 30 grep -q also43 /run/two; } | $CONSOLED attach talk > /run/two
wait $first
for view in one two; do
    expect $view-sees-history "$(head -c 300 /run/$view)" grep -q "GUEST userspace" /run/$view
    expect $view-sees-both-answers "$(tail -n 3 /run/$view)" [ $(lines_with /run/$view ^an42swer) = 1 -a $(lines_with /run/$view ^also43) = 1 ]
done
check history-has-it history_has talk ^also43

# Killed while the guest writes: it writes on, and nothing is missing or there twice.
{ echo 'for i in 1 2 3 4 5 6 7 8 9; do echo "tick $i $(seq -s . 400)"; usleep 150000; done; echo ticked$((1))'; waitfor 30 grep -q "^tick 2 " /run/three; } | $CONSOLED attach talk > /run/three
kill -9 $(cat /run/xen/xenconsoled.pid)
expect killed "it runs" waitfor 10 sh -c '! kill -0 $(cat /run/xen/xenconsoled.pid)'
usleep 500000
check restart daemon
check guest-goes-on waitfor 60 history_has talk ^ticked1
seen=$(sed -n 's/^tick \([0-9]\) 1\.2\..*\.399\.400.*/\1/p' /run/history.talk | tr '\n' ' ')
expect nothing-lost-or-doubled "$seen" [ "$seen" = "1 2 3 4 5 6 7 8 9 " ]
# At any moment: under steady output, ten times over.
echo 'i=0; while [ $i -lt 600 ]; do i=$((i + 1)); echo "step $i end"; usleep 10000; done; echo stepped$((1))' > /run/keys
{ cat /run/keys; waitfor 30 grep -q "^step 2 end" /run/four; } | $CONSOLED attach talk > /run/four
for round in 1 2 3 4 5 6 7 8 9 10; do
    kill -9 $(cat /run/xen/xenconsoled.pid)
    waitfor 10 sh -c '! kill -0 $(cat /run/xen/xenconsoled.pid)'
    daemon || break
    usleep 100000
done
expect restarts "round $round" [ $round = 10 ]
check guest-goes-on-again waitfor 60 history_has talk ^stepped1
seen=$(sed -n 's/^step \([0-9]*\) end.*/\1/p' /run/history.talk | sort -n | uniq | wc -l)
all=$(grep -c '^step [0-9]* end' /run/history.talk)
expect every-step-once "$seen different ones, $all in all" [ $seen = 600 -a $all = 600 ]

# Debian's own client.
{
    waitfor 30 grep -q hello /run/talk.out
    printf 'echo he$((1))llo\n'
    waitfor 30 grep -q he1llo /run/talk.out
    printf '\035'
} | (sleep 0; timeout 120 script -qfc "xl console talk" /run/talk.out > /dev/null 2>&1; echo $? > /run/talk.status) &
debian=$!
waitfor 30 [ -e /run/talk.out ]
{ echo 'echo hello'; waitfor 30 grep -q he1llo /run/five; } | $CONSOLED attach talk > /run/five
wait $debian
expect xl-console "$(tail -n 3 /run/talk.out)" grep -q he1llo /run/talk.out
expect xl-console-left "$(cat /run/talk.status)" [ "$(cat /run/talk.status)" != 143 ]

# The history outlives the domain, and goes on in the next one.
check reboot $VM reboot talk
check second-life waitfor 90 said_times talk "GUEST userspace" 2
history talk
expect both-lives "$(lines_with /run/history.talk 'GUEST userspace')" [ "$(lines_with /run/history.talk 'GUEST userspace')" = 2 ]
uuid=$($VM list | awk '$1 == "talk" {print $2}')
check destroy $VM destroy talk
check unmapped traceless
history $uuid
expect history-of-a-halted-vm "$(tail -n 1 /run/history.$uuid)" [ "$(lines_with /run/history.$uuid 'GUEST userspace')" = 2 ]
check forget $CONSOLED forget $uuid
history $uuid
expect forgotten "$(ls -l /run/history.$uuid)" [ ! -s /run/history.$uuid ]
$VM delete talk

# A guest of xl's.
guest_config theirs 192 1 poweroff
check xl-guest guest_up theirs
check xl-guest-goes waitfor 30 gone theirs
