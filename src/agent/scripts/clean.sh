# Removes the directory of a check, or of a job that was never launched. $1 nonce, $2 the directory.
ho_nonce=$1
ho_begin
case $2 in
  /*/handover/check/?*) rm -rf -- "$2" && ho_say removed yes ;;
  /*/handover/jobs/?*)
    # Whoever holds the claim decides: with it in our hand, or buried, nothing can be launched in there.
    ho_ours=no
    if [ ! -d "$2" ] || [ -e "$2/claim/tombstone" ]; then
      ho_ours=yes
    elif mkdir -- "$2/claim" 2>/dev/null; then
      ho_ours=yes
      (printf 'settled\n' >"$2/claim/tombstone") 2>/dev/null
    fi
    if [ "$ho_ours" = yes ]; then ho_remove_job "$2" && ho_say removed yes; fi
    ;;
esac
ho_end
