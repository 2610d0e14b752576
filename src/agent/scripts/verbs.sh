# What is asked of a job from outside, and the entry.
ho_say_file() {
  while IFS= read -r ho_line; do ho_say "$1.${ho_line%%=*}" "${ho_line#*=}"; done <"$2"
}

ho_main_status() {
  # Judged before 'exit' is read: a runner that ends in between is then seen as ended, not as died.
  ho_judge_job .
  # What a runner left is never left alone: the agent would go on without limits, and its session count as free.
  if [ "$ho_alive" = no ] && ! [ -f exit ]; then ho_send_heir; fi
  ho_say alive "$ho_alive"
  ho_clock
  ho_say clock_ms "$ho_now"
  ho_say claim "$(ho_claimed_by)"
  if [ -f phase ]; then ho_say phase "$(cat phase)"; fi
  for ho_file in events.ndjson stderr.log back.json; do
    if [ -f "$ho_file" ]; then ho_say "size.$ho_file" "$(ho_size "$ho_file")"; fi
  done
  if [ -f started ]; then ho_say_file started started; fi
  if [ -f exit ]; then ho_say_file exit exit; fi
  ho_send_guard
}

ho_say_export() {
  ho_say export 'done'
  ho_say_file exit exit
}

# Waits a minute for the lock, and gives it back at the end.
ho_take_export() {
  ho_tries=0
  until ho_lock export.lock; do
    ho_tries=$((ho_tries + 1))
    if [ "$ho_tries" -gt 60 ]; then return 1; fi
    sleep 1
  done
  trap 'ho_unlock export.lock' EXIT
}

# A result that could not be written is asked for again, when there is room. Whoever asked may be gone before it is
# there: it is made all the same, and the next one who asks waits for it. One of which nothing comes for so many seconds
# is given up, so that it holds nobody else up.
ho_main_export() {
  ho_bound=$1
  case $ho_bound in
    *[!0-9]*) ho_bound= ;;
  esac
  if ! [ -f exit ]; then
    ho_say export refused
    return
  fi
  if ! ho_take_export; then
    ho_say export busy
    return
  fi
  # The one before us may have brought it.
  if [ -f back.json ] && [ -n "$(sed -n 's/^sha256=//p' exit)" ]; then
    ho_say_export
    return
  fi
  ho_pid=
  ho_stopped=
  trap 'ho_interrupted=yes' HUP PIPE
  trap ho_stop TERM INT
  ho_code=$(sed -n 's/^code=//p' exit)
  ho_undelivered=$(sed -n 's/^undelivered=//p' exit)
  ho_at=$(sed -n 's/^phase=//p' exit)
  ho_left=$(sed -n 's/^left=//p' exit)
  ho_prepare
  if [ -z "$ho_stopped" ] && ho_export; then
    ho_clock
    ho_reason=completed
    if [ "${ho_code:-0}" -gt 128 ]; then
      ho_reason=agent-signalled
    elif [ "${ho_code:-0}" -ne 0 ]; then
      ho_reason=agent-failed
    fi
    # A job that was ended stays one that was ended.
    case $(sed -n 's/^reason=//p' exit) in
      killed | max-time | stalled | looping) ho_reason=$(ho_kill_reason) ;;
      runner-died) ho_reason=runner-died ;;
      stopped) ho_reason=stopped ;;
    esac
    if ho_write_exit "$ho_reason"; then
      ho_say_export
      return
    fi
  fi
  ho_say export failed
}

# Takes the session out of this host's agent. Done once is done, for whoever asks again: the agent would answer that
# there is no such session.
ho_main_forget() {
  if [ -f forgotten ]; then
    ho_say forget 'done'
    return
  fi
  ho_prepare
  (ho_agent session delete "$ho_session") </dev/null >forget.log 2>&1
  ho_said=$?
  if [ "$ho_said" -eq 0 ]; then
    ho_put forgotten yes 2>/dev/null
    ho_say forget 'done'
  else
    ho_say forget failed
    ho_say what "$(ho_first_line "$(tail -n 1 forget.log)")"
  fi
}

ho_main_remove() {
  ho_judge_job .
  if [ "$ho_alive" = no ] && ! [ -f exit ]; then ho_send_heir; fi
  case $ho_dir in
    /*/handover/jobs/?*) ;;
    *) ho_alive=foreign ;;
  esac
  case $ho_alive in
    foreign) ho_say remove refused ;;
    yes | elsewhere)
      if [ -f exit ]; then ho_remove; else ho_say remove alive; fi
      ;;
    *) ho_remove ;;
  esac
}
ho_remove() {
  # What was never launched is not launched any more.
  if mkdir claim 2>/dev/null; then ho_put claim/tombstone settled; fi
  cd / || return
  if ho_error=$(ho_remove_job "$ho_dir" 2>&1); then
    ho_say remove 'done'
  else
    ho_say remove failed
    ho_say what "$(ho_first_line "$ho_error")"
  fi
}

# One function, read whole before it starts: 'remove' deletes the file that it is read from.
ho_main() {
  case $0 in
    */*) cd -- "${0%/*}" || exit 1 ;;
  esac
  ho_dir=$(pwd -P)
  case ${1:-} in
    run) ho_main_run ;;
    guard) ho_main_guard "${2:-}" "${3:-}" "${4:-}" "${5:-}" "${6:-}" ;;
  esac
  ho_begin
  case ${1:-} in
    launch) ho_main_launch "${2:-}" ;;
    status) ho_main_status ;;
    settle) ho_main_settle ;;
    bury) ho_main_bury ;;
    kill) ho_main_kill "${2%% *}" "${2##* }" ;;
    export) ho_main_export "${2:-}" ;;
    forget) ho_main_forget ;;
    say) ho_main_say "${2:-}" ;;
    remove) ho_main_remove ;;
    *) ho_say refused "${1:-}" ;;
  esac
  ho_end
  exit 0
}
ho_main "$@"
