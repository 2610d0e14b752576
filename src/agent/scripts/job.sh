# Runs one verb of a job's own script. $1 nonce, $2 job directory, $3 verb, $4 the verb's argument.
HANDOVER_FRAME=$1
HANDOVER_UMASK=$(umask)
export HANDOVER_FRAME HANDOVER_UMASK
if cd -- "$2" 2>/dev/null && [ -f run.sh ]; then
  exec sh ./run.sh "$3" "$4"
fi
# It is gone only where it would be seen: a file system that is not mounted, or a directory that cannot be entered, says
# nothing of the jobs in it.
if ! (cd -- "${2%/*}") 2>/dev/null; then
  ho_said=away=above
elif [ -e "$2" ] && ! (cd -- "$2") 2>/dev/null; then
  ho_said=away=closed
else
  ho_said=missing=yes
fi
printf '\n%s begin\n%s %s\n%s end\n' "$1" "$1" "$ho_said" "$1"
