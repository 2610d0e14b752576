# The end of a job before its time: asked for by the file 'kill', or by the time limit.

# ho_kill_value NAME: a value of 'kill', which a client on another machine may have written.
ho_kill_value() { sed -n "s/^$1=//p" kill 2>/dev/null | sed -n '1p'; }

ho_kill_reason() {
  case $(ho_kill_value reason) in
    max-time) printf 'max-time\n' ;;
    stalled) printf 'stalled\n' ;;
    looping) printf 'looping\n' ;;
    *) printf 'killed\n' ;;
  esac
}

ho_kill_grace() {
  ho_grace=$(ho_kill_value grace)
  case $ho_grace in
    '' | *[!0-9]* | ?????*) ho_grace=5 ;;
  esac
  printf '%s\n' "$ho_grace"
}

# Whether the job is to end; ho_stopped says why.
ho_is_stopped() {
  if [ -z "$ho_stopped" ] && [ -e kill ]; then ho_stopped=$(ho_kill_reason); fi
  [ -n "$ho_stopped" ]
}

# ho_ask REASON GRACE: writes 'kill'. On a full disk the room that is kept for 'exit' is given up for it.
ho_ask() {
  ho_put kill "$(printf '%s\n%s' "$1" "$2")" 2>/dev/null && return
  rm -f kill.part reserve
  ho_put kill "$(printf '%s\n%s' "$1" "$2")" 2>/dev/null && return
  rm -f kill.part
  return 1
}
