# radon-consoled: guests of radon-domain and of xl, seen and typed to by its own clients and by Debian's xl.
# limit: 420
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh

CONSOLED=/usr/local/sbin/radon-consoled
daemon() { $CONSOLED --log=all --log-dir=/var/log/xen/console --pid-file=/run/xen/xenconsoled.pid; }
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
check hypervisors-log waitfor 20 grep -q "(XEN)" /var/log/xen/console/hypervisor.log
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

# A framebuffer, seen by Debian's vncsnapshot, and typed to.
SHOWN=/run/radon-vnc.pid
screen_up() {
    radon-vnc --pid-file=$SHOWN -v && $VM create --kernel $GUEST/vmlinuz-whole --initrd $GUEST/initrd-whole --memory 256 \
        --cmdline "console=hvc0 quiet radon.do=screen" --vfb screen && waitfor 120 history_has screen "GUEST painted 800,600"
}
# pixel X Y: its colour in the last snapshot, red, green, blue.
pixel() { dd if=/run/shot.ppm bs=1 skip=$((15 + ($2 * 800 + $1) * 3)) count=3 2> /dev/null | od -An -tu1 | tr -s ' '; }
# is X Y RED GREEN BLUE: about that colour; JPEG is not exact.
is() { set -- $3 $4 $5 $(pixel $1 $2); [ $# = 6 ] && [ $((($1 - $4) * ($1 - $4) + ($2 - $5) * ($2 - $5) + ($3 - $6) * ($3 - $6))) -lt 100 ]; }
snapshot() { vncsnapshot -quiet -quality 100 127.0.0.1:1 /run/shot.jpg > /run/shot.log 2>&1 && djpeg -pnm /run/shot.jpg > /run/shot.ppm; }
three_colours() { snapshot && is 400 150 255 0 0 && is 790 350 0 255 0 && is 20 590 0 0 255; }
seen() { echo "$(head -c 15 /run/shot.ppm | tr '\n' ' ')$(pixel 400 150),$(pixel 790 350),$(pixel 20 590) $(tail -n 2 /run/shot.log)"; }
# typed TEXT: a viewer that types a line, and stays until the guest's other console shows what came of it.
typed() {
    {
        printf 'RFB 003.008\n\001\001'
        for code in $(printf '%s' "$1" | od -An -v -to1); do printf "\\004\\001\\000\\000\\000\\000\\000\\$code\\004\\000\\000\\000\\000\\000\\000\\$code"; done
        printf '\004\001\000\000\000\000\377\015\004\000\000\000\000\000\377\015'
        waitfor 30 history_has screen "$2"
    } | nc 127.0.0.1 5901 > /dev/null
    history_has screen "$2"
}
check screen-up screen_up
expect screen-listed "$(radon-vnc list)" sh -c "radon-vnc list | grep ' screen$'"
radon-vnc forward screen --listen 127.0.0.1:5901 > /run/forward.log 2>&1 &
forward=$!
check screen-forwarded waitfor 10 grep -q 'vncviewer 127.0.0.1::5901' /run/forward.log
waitfor 20 three_colours
expect screen-seen "$(seen)" three_colours
check screen-typed typed 'echo ScReEn-$((40+2)) > /dev/hvc0' ^ScReEn-42
# Its successor goes on with the same guest.
kill -9 $(cat $SHOWN)
waitfor 10 sh -c "! kill -0 $(cat $SHOWN)"
check screen-restart radon-vnc --pid-file=$SHOWN -v
check screen-taken-up-again waitfor 20 snapshot
check screen-typed-again typed 'cat /tmp/picture > /dev/fb0; echo again$((1)) > /dev/hvc0' ^again1
expect screen-seen-again "$(seen)" waitfor 10 three_colours
# The guest goes, and comes back.
check screen-reboot $VM reboot screen
check screen-second-life waitfor 120 said_times screen "GUEST painted" 2
expect screen-seen-in-second-life "$(seen)" waitfor 20 three_colours
check screen-destroy $VM destroy screen
check screen-traceless traceless
expect screen-gone "$(radon-vnc list)" [ -z "$(radon-vnc list)" ]
$VM delete screen
# Made and taken away with a kill at each step.
check screen-define $VM create --halted --kernel $GUEST/waiting --memory 16 --vfb=1024x768 cut
is_halted() { halted $1 || $VM destroy $1; }
is_started() { halted $1 && $VM start $1 || runs $1; }
killed start cut is_halted
check screen-destroy-after-start $VM destroy cut
killed destroy cut is_started
expect screen-traceless-at-the-end "$(traces | tr '\n' ' ')" traceless
$VM delete cut
kill $forward $(cat $SHOWN)
