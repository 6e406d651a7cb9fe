#!/bin/sh
# The one job script of weft, the same for every job: nothing is filled in. What differs comes as arguments:
#   $1 the Python on this node   $2 the folder with weft's supervisor   $3 the control folder of the job
# The steps themselves stand in job.json in the control folder; no shell reads them.
cd / || exit 1
if [ ! -r "$3/job.json" ]; then
    echo "weft: $3 cannot be read on node $(hostname): the data folder must lie on a file system that all nodes share" >&2
    exit 1
fi
exec "$1" -I -S -X utf8 -c 'import sys; sys.path.append(sys.argv[1]); from executors.slurm_node import main; main(sys.argv[2])' "$2" "$3"
