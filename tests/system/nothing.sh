# No test: for measuring how long the start takes.
# limit: 10
. /usr/lib/radon/lib.sh
pass nothing
