# Runs one verb of a job's own script. $1 nonce, $2 job directory, $3 verb, $4 the verb's argument.
HANDOVER_FRAME=$1
HANDOVER_UMASK=$(umask)
export HANDOVER_FRAME HANDOVER_UMASK
if cd -- "$2" 2>/dev/null && [ -f run.sh ]; then
  exec sh ./run.sh "$3" "$4"
fi
printf '\n%s begin\n%s missing=yes\n%s end\n' "$1" "$1" "$1"
