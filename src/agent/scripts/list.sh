# Lists the job directories on a host. $1 nonce, $2 the directory of them all.
ho_nonce=$1
ho_begin
if cd -- "$2" 2>/dev/null; then
  ho_count=0
  for ho_entry in j*; do
    if [ -L "$ho_entry" ] || ! [ -f "$ho_entry/job.json" ]; then continue; fi
    ho_count=$((ho_count + 1))
    if [ "$ho_count" -gt 5000 ]; then
      ho_say more yes
      break
    fi
    ho_say job "$ho_entry"
  done
fi
ho_end
