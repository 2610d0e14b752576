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

# Beside the runner, which waits for its agent: looks whether the job is to end, and ends the agent's family then. The
# runner is spared and exports what there is. It sleeps in slices, so that a machine that was suspended loses no time.
ho_main_guard() {
  trap '' HUP INT
  ho_spared=$PPID
  ho_limit=$(ho_param max_time)
  case $ho_limit in
    *[!0-9]*) ho_limit= ;;
  esac
  ho_slept=0
  ho_cut=
  while kill -0 "$PPID" 2>/dev/null && ! [ -e exit ]; do
    if [ "$(cat phase 2>/dev/null)" = exporting ]; then
      # The agent is done, and its export can be asked for again: one that hangs is cut. After a kill it has a minute;
      # where the kill comes upon it, the grace period.
      if [ -e kill ]; then
        ho_cut=${ho_cut:-$((ho_slept + $(ho_kill_grace)))}
        if [ "$ho_slept" -ge "$ho_cut" ]; then ho_kill_family 1; fi
      fi
    elif [ -e kill ]; then
      ho_kill_family "$(ho_kill_grace)"
      ho_cut=$((ho_slept + 60))
    elif [ -n "$ho_limit" ] && [ "$ho_slept" -ge "$ho_limit" ]; then
      # Where nothing can be written it is ended all the same, and called what it then looks like.
      ho_ask "reason=max-time" "grace=5" || ho_kill_family 5
    fi
    sleep 1
    ho_slept=$((ho_slept + 1))
  done
  exit 0
}

# ho_main_kill REASON GRACE: asks the runner; where it is gone, does what it would do.
ho_main_kill() {
  if [ -f exit ]; then
    ho_say kill ended
    ho_say_file exit exit
    return
  fi
  if mkdir claim 2>/dev/null; then ho_put claim/tombstone killed; fi
  if [ -e claim/tombstone ]; then
    ho_say kill never
    return
  fi
  if ! [ -e kill ] && ! ho_ask "reason=$1" "grace=$2"; then
    ho_say kill unwritable
    return
  fi
  ho_judge started
  case $ho_alive in
    no) ho_kill_in_place ;;
    reboot) ho_say kill reboot ;;
    *) ho_say kill asked ;;
  esac
}

ho_kill_in_place() {
  if ! ho_take_export; then
    ho_say kill asked
    return
  fi
  if ! [ -f exit ]; then
    ho_pid=
    ho_code=
    ho_bytes=
    ho_sum=
    ho_stopped=
    ho_at=$(cat phase 2>/dev/null)
    trap 'ho_interrupted=yes' HUP PIPE TERM INT
    ho_kill_family "$(ho_kill_grace)"
    ho_close_inbox
    # What a cut import left is no result.
    if [ "${ho_at:-importing}" != importing ]; then
      ho_prepare
      if [ -z "$ho_session" ]; then ho_find_session; fi
      ho_export
    fi
    rm -f reserve
    ho_clock
    if ! ho_write_exit "$(ho_kill_reason)"; then
      ho_say kill unwritable
      return
    fi
  fi
  ho_say kill ended
  ho_say_file exit exit
}
