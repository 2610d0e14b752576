# Lists the job directories on a host. $1 nonce, $2 the directory of them all.
ho_nonce=$1
ho_begin
ho_is_job() { ! [ -L "$1" ] && [ -f "$1/job.json" ]; }
if cd -- "$2" 2>/dev/null; then
  # Ids sort by time: where there are too many, it is the newest that are told of.
  LC_ALL=C
  export LC_ALL
  ho_more=-5000
  for ho_entry in j*; do
    if ho_is_job "$ho_entry"; then ho_more=$((ho_more + 1)); fi
  done
  if [ "$ho_more" -gt 0 ]; then ho_say more yes; fi
  for ho_entry in j*; do
    if ! ho_is_job "$ho_entry"; then continue; fi
    if [ "$ho_more" -gt 0 ]; then
      ho_more=$((ho_more - 1))
      continue
    fi
    ho_say job "$ho_entry"
  done
fi
ho_end
