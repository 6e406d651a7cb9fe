# Run one step of a task inside the step's own image: busybox sh /weft/run STEP
#
# The image gives the step's programs and nothing else: all that is used here is busybox's, called by its path. What
# is run and with what environment stands in /weft/steps/STEP, made by the stage-in container (weft.staging.stepfiles).
# The evidence is left in /weft/state/STEP: started, stdout, stderr, exit (written by rename), and go, which lets the
# next step run.
set -u
step=$1
home=/weft
box=$home/busybox
here=$home/state/$step
if [ "$step" = 0 ]; then gate=$home/staged; else gate=$home/state/$((step - 1))/go; fi
[ -e "$gate" ] || exit 0

trap 'kill -9 -1; exit 143' TERM INT
exec 3>&1
: >"$here/started"
: >"$here/stdout"
: >"$here/stderr"

finish() {
    echo "$1" >"$here/exit.part"
    $box mv "$here/exit.part" "$here/exit"
    if [ "$1" = 0 ] || [ "$ignore_error" = 1 ]; then : >"$here/go"; fi
    exit "$1"
}

refuse() {
    echo "weft: $2" | $box tee -a "$here/stderr" >&3
    finish "$1"
}

# Sets workdir, stdin, stdout, stderr, ignore_error, the step's environment as "$@" in the form of env, and argv below.
. "$home/steps/$step"

if [ -n "$workdir" ]; then
    $box mkdir -p "$workdir" 2>/dev/null
    cd "$workdir" 2>/dev/null || refuse 126 "the workdir $workdir is not in the image, and no input, output or volume makes it"
fi
[ -r "$stdin" ] || refuse 126 "stdin $stdin cannot be read"

# What a step names a path for goes there alone; the rest is kept, and shown line by line in the container's log.
if [ -n "$stdout" ]; then
    : >"$stdout" || refuse 126 "stdout $stdout cannot be written"
    out=$stdout
else
    out=$here/.out
    $box mkfifo "$out"
    $box tee "$here/stdout" <"$out" | $box awk '{ print "1|" $0; fflush() }' >&3 &
    teeing_out=$!
fi
if [ -n "$stderr" ]; then
    : >"$stderr" || refuse 126 "stderr $stderr cannot be written"
    err=$stderr
else
    err=$here/.err
    $box mkfifo "$err"
    $box tee "$here/stderr" <"$err" | $box awk '{ print "2|" $0; fflush() }' >&3 &
    teeing_err=$!
fi

run "$stdin" "$out" "$err" &
running=$!
wait "$running"
code=$?
# What the step left running holds the pipes; it gets a second, and ends with this container.
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    kill -0 "${teeing_out:-$running}" 2>/dev/null || kill -0 "${teeing_err:-$running}" 2>/dev/null || break
    $box usleep 50000
done
finish "$code"
