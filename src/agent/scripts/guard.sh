# What sees a job through besides its runner: the guard, which keeps its limits and takes the runner's place when that
# is gone; and a kill that finds nobody there.

# ho_guard_me SLEPT CUT: starts a guard of this process. It knows that the job has run for so many seconds, and cuts an
# export at that second, where there is one.
ho_guard_me() {
  sh ./run.sh guard "$$" "$(ho_process_start $$)" "$1" "$2" </dev/null >>runner.log 2>&1 &
  ho_guard=$!
}

ho_dismiss_guard() {
  if [ -z "$ho_guard" ]; then return; fi
  # One that has been gone for long may have left its number to a stranger. One that is spared finds 'exit'.
  ho_judge guard
  if [ "$ho_alive" = yes ] && [ "$ho_was_pid" = "$ho_guard" ]; then
    # Waited for, so that no shell tells of its end.
    { kill -s KILL "$ho_guard" && wait "$ho_guard"; } 2>/dev/null
  fi
}

# ho_guarded_lives PID START: where processes cannot be told apart, by the number alone.
ho_guarded_lives() {
  [ -n "$1" ] && kill -0 "$1" 2>/dev/null || return 1
  if [ -n "$2" ]; then [ "$(ho_process_start "$1")" = "$2" ]; fi
}

# Several may come at the same time, and none may take another's file for a disk that is full.
ho_note_guard() {
  printf '%s\n' "$ho_me" 2>/dev/null >"guard.$$.part" && mv -f "guard.$$.part" guard && return
  rm -f "guard.$$.part"
  return 1
}

# Whether another guard is noted by now, and lives: of two that came at the same time one stays.
ho_is_replaced() {
  ho_noted=
  { IFS= read -r ho_noted <guard; } 2>/dev/null
  [ "$ho_noted" != "pid=$$" ] || return 1
  ho_judge guard
  [ "$ho_alive" = yes ]
}

# Looks whether the job is to end, in any of its phases, and ends the agent's family then. The runner is spared and
# exports what there is. It sleeps in slices, so that a machine that was suspended loses no time.
ho_main_guard() {
  # With a handler and not ignored: the agent's export, should it come to that, must not inherit it.
  trap 'ho_interrupted=yes' HUP INT TERM PIPE
  ho_spared=$1
  ho_slept=${3:-0}
  ho_cut=${4:-}
  ho_noticed=
  ho_limit=$(ho_param max_time)
  case $ho_limit in
    *[!0-9]*) ho_limit= ;;
  esac
  ho_know_me
  # A substitute that cannot be noted would be followed by another one with every look.
  if ! ho_note_guard && [ -n "${5:-}" ]; then
    rm -f reserve
    ho_note_guard || exit 1
  fi
  ho_missed=0
  while [ -f started ] && ! ho_is_replaced; do
    # In this order: the runner writes 'exit' before it is gone.
    if ho_guarded_lives "$1" "$2"; then
      ho_missed=0
    else
      [ ! -e exit ] || break
      # One look can fail, where no process can be started any more.
      ho_missed=$((ho_missed + 1))
      if [ "$ho_missed" -gt 1 ]; then
        if ho_lock export.lock; then
          ho_inherit
          ho_unlock export.lock
          break
        fi
        # Somebody else is at it, with a guard of its own.
        sleep 1
        ho_slept=$((ho_slept + 1))
        continue
      fi
    fi
    [ ! -e exit ] || break
    if [ -e kill ]; then
      if [ "$(cat phase 2>/dev/null)" = exporting ]; then
        # The agent is done, and its export can be asked for again: one that hangs is cut. After a kill it has a minute;
        # where the kill comes upon it, the grace period.
        ho_noticed=${ho_noticed:-$ho_slept}
        ho_until=$ho_cut
        if [ -z "$ho_until" ]; then ho_until=$((ho_noticed + $(ho_kill_grace))); fi
        if [ "$ho_slept" -ge "$ho_until" ]; then ho_kill_family 1; fi
      else
        ho_yields=yes
        ho_kill_family
        ho_yields=
        ho_cut=$((ho_slept + 60))
      fi
    elif [ -n "$ho_limit" ] && [ "$ho_slept" -ge "$ho_limit" ]; then
      # Where nothing can be written it is ended all the same, and called what it then looks like.
      ho_ask "reason=max-time" "grace=5" || ho_kill_family 5
    fi
    sleep 1
    ho_slept=$((ho_slept + 1))
  done
  exit 0
}

# A runner that waits for its agent lives on where no process can be started for a moment, and its guard does not:
# another one is sent then, which knows by the clock for how long the job has run. One that has not noted itself yet is
# given half a minute.
ho_send_guard() {
  [ ! -f exit ] || return 0
  ho_judge started
  [ "$ho_alive" = yes ] || return 0
  ho_runner=$ho_was_pid
  ho_runner_start=$ho_was_start
  ho_ran=0
  ho_began=$(cat began 2>/dev/null)
  case $ho_began in
    '' | *[!0-9]*) ;;
    *) ho_ran=$(($(date +%s) - ho_began)) ;;
  esac
  ho_judge guard
  case $ho_alive in
    no) ;;
    unknown) if [ -e guard ] || [ "$ho_ran" -le 30 ]; then return; fi ;;
    *) return ;;
  esac
  if [ "$ho_ran" -lt 0 ]; then ho_ran=0; fi
  ho_cut=
  # The guard before it has ended the family.
  if [ -e kill ] && [ "$(cat phase 2>/dev/null)" = exporting ]; then ho_cut=$((ho_ran + 60)); fi
  ho_detach guard "$ho_runner" "$ho_runner_start" "$ho_ran" "$ho_cut" again
}

# The guard in the place of a runner that is gone.
ho_inherit() {
  if [ -e exit ]; then return; fi
  ho_log 'the runner is gone'
  ho_end_in_place "$ho_slept"
  ho_leave_exit "$ho_stopped"
  ho_dismiss_guard
}

# Where the runner and its guard are gone, another guard is sent after the agent that they have left.
ho_send_heir() {
  ho_detach guard '' '' 0 ''
  ho_tries=0
  while [ "$ho_tries" -lt 40 ]; do
    ho_tries=$((ho_tries + 1))
    ho_judge_job .
    if [ "$ho_alive" != no ] || [ -f exit ]; then return; fi
    ho_rest
  done
}

# ho_end_in_place SLEPT: does what the runner would do, but for 'exit'; the lock of the export is held. Sets ho_stopped.
ho_end_in_place() {
  ho_pid=
  ho_code=
  ho_bytes=
  ho_sum=
  ho_stopped=
  ho_guard=
  ho_at=$(cat phase 2>/dev/null)
  ho_at=${ho_at:-importing}
  ho_here=$(sed -n '/^boot=/,$p' started)
  ho_kill_family
  ho_close_inbox
  # What a cut import left is no result.
  if [ "$ho_at" != importing ]; then
    ho_phase exporting
    ho_cut=
    if [ -e kill ]; then ho_cut=$(($1 + 60)); fi
    ho_guard_me "$1" "$ho_cut"
    ho_prepare
    if [ -z "$ho_session" ]; then ho_find_session; fi
    ho_export
  fi
  rm -f reserve
  ho_clock
  ho_is_stopped || ho_stopped=runner-died
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
  if [ -e kill ]; then
    # Asked for again, it can be asked for sooner.
    if [ "$2" -lt "$(ho_kill_grace)" ]; then ho_ask "reason=$(ho_kill_reason)" "grace=$2"; fi
  elif ! ho_ask "reason=$1" "grace=$2"; then
    ho_say kill unwritable
    return
  fi
  ho_judge started
  case $ho_alive in
    no) ho_kill_in_place ;;
    reboot) ho_say kill reboot ;;
    *)
      ho_send_guard
      ho_say kill asked
      ;;
  esac
}

ho_kill_in_place() {
  # Its guard may be at it.
  if ! ho_take_export; then
    ho_say kill asked
    return
  fi
  if ! [ -f exit ]; then
    trap 'ho_interrupted=yes' HUP PIPE TERM INT
    ho_end_in_place 0
    ho_write_exit "$ho_stopped"
    ho_written=$?
    ho_dismiss_guard
    if [ "$ho_written" -ne 0 ]; then
      ho_say kill unwritable
      return
    fi
  fi
  ho_say kill ended
  ho_say_file exit exit
}
