# Leaves a detached process behind, as a runner is, or looks whether it lives and ends it.
# $1 nonce, $2 leave or look, $3 its process id, $4 its start time.
ho_nonce=$1
ho_begin
case $2 in
  leave)
    if command -v setsid >/dev/null 2>&1; then
      setsid sleep 60 </dev/null >/dev/null 2>&1 &
    else
      nohup sleep 60 </dev/null >/dev/null 2>&1 &
    fi
    ho_say pid "$!"
    ho_say start "$(ho_process_start "$!")"
    ;;
  look)
    # What ends an account's processes at logout takes a moment.
    sleep 1
    if [ -n "$4" ] && [ "$(ho_process_start "$3")" = "$4" ]; then
      kill "$3" 2>/dev/null
      ho_say lives yes
    else
      ho_say lives no
    fi
    ;;
esac
ho_end
